"""The selectors on a pool of a million: seconds, processor seconds and memory, each really run in a process of its own.

    OMP_NUM_THREADS=2 python -m benchmarks.selectors_scale                        # all that read features or logits
    OMP_NUM_THREADS=2 python -m benchmarks.selectors_scale coreset badge --rows 50000 200000 1000000

2,500 images are labelled and 10,000 picked (at most a twentieth and a fifth of the pool), from 1,000,000 x 512 features
in a file that is mapped (float16 with --half: the pool hands selectors float32). Every result is a line of `--results`;
what has one is not run again, so that the table grows over days. `--limit` minutes of processor time end a selector:
its line then has no seconds. Memory is the process's peak, the features that it read included. What reads stochastic
passes, pixels or a loss is not here: it costs what so many images cost. Prints the table, then `figure <name> <value>`,
one a line.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.selectors import Ours
from harness.api import Images, Pool
from harness.seeding import generator

SELECTORS: dict[str, Ours] = {
    name: Ours(name)
    for name in (
        *("random", "margin", "entropy", "least_confidence", "representative_random", "direct", "cdal_cs", "falcun"),
        *("coreset", "free_sel", "badge", "typiclust", "kmeans", "drop_query", "alfa_mix", "cluster_margin"),
        *("uncertain_gcn", "core_gcn", "max_herding", "uncertainty_herding", "active_ft", "bait", "refine"),
        *("schedule", "cdal_rl", "ual"),
    )
} | {"probcover": Ours("probcover", delta=1.1), "dcom": Ours("dcom", delta=1.1)}
DIM, CLASSES, CLUSTERS, LABELED = 512, 10, 200, 2_500
BLOCK = 10_000


def write_pool(folder: Path, rows: int, half: bool) -> Path:
    """Features of so many rows, mixtures of normal distributions, and logits: a linear function of them."""
    target = folder / f"pool_{rows}{'_half' if half else ''}"
    if (target / "logits.npy").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((CLUSTERS, DIM), dtype=np.float32)
    weight = rng.standard_normal((DIM, CLASSES), dtype=np.float32) * 3 / DIM**0.5
    logits = np.empty((rows, CLASSES), dtype=np.float32)
    dtype = np.float16 if half else np.float32
    features = np.lib.format.open_memmap(target / "features.npy", "w+", dtype=dtype, shape=(rows, DIM))
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        part = centers[rng.integers(CLUSTERS, size=count)] + rng.standard_normal((count, DIM), dtype=np.float32)
        features[start : start + count] = part
        logits[start : start + count] = part @ weight
    features.flush()
    np.save(target / "logits.npy", logits)
    return target


@dataclass(frozen=True)
class Mapped:
    """A `PoolModel`: the arrays of a folder and a linear last layer."""

    folder: Path

    def features(self) -> Tensor:
        array = np.load(self.folder / "features.npy", mmap_mode="c")  # private: what writes into it changes no file
        return torch.from_numpy(array).float()

    penultimate = features

    def logits(self) -> Tensor:
        return torch.from_numpy(np.load(self.folder / "logits.npy"))

    def last_layer(self, penultimate: Tensor) -> Tensor:
        rng = np.random.default_rng(0)
        rng.standard_normal((CLUSTERS, DIM), dtype=np.float32)
        return penultimate @ torch.from_numpy(rng.standard_normal((DIM, CLASSES), dtype=np.float32) * 3 / DIM**0.5)


def pool_of(folder: Path) -> Pool:
    """The pool of a folder; a twentieth of it is labelled where that is less than 2,500."""
    model = Mapped(folder)
    logits = model.logits()
    order = torch.randperm(len(logits), generator=generator(0, "benchmark"))
    labeled, unlabeled = (part.sort().values for part in order.tensor_split([min(LABELED, len(logits) // 20)]))
    return Pool(
        images=Images(torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(len(logits), 1, 1, 1)),
        labeled=labeled,
        unlabeled=unlabeled,
        labels=logits[labeled].argmax(dim=1),
        num_classes=CLASSES,
        model=model,
    )


def select(folder: Path, name: str, threads: int, limit: float) -> dict[str, float]:
    """Seconds of one selection, those of the processor, and the process's peak in gigabytes."""
    torch.set_num_threads(threads)
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 5))
    pool = pool_of(folder)
    budget = min(10_000, len(pool.unlabeled) // 5)
    started, used = time.perf_counter(), time.process_time()
    picks = SELECTORS[name](pool, budget)
    measured = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - used,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }
    assert len(picks.unique()) == budget, "the picks are not distinct"
    assert torch.isin(picks, pool.unlabeled).all(), "a pick is not an unlabelled image"
    return measured


def commit() -> str:
    """That of the checkout, with a plus where files differ from it."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], capture_output=True, check=False, encoding="utf-8"
    )
    return said.stdout.strip()


def run(folder: Path, name: str, threads: int, limit: float) -> dict[str, object]:
    """A line of the results; a selector that was ended has no seconds in it."""
    before = {"threads": threads, "commit": commit(), "load_before": os.getloadavg()[0]}
    parent, child = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_send, args=(child, folder, name, threads, limit))
    process.start()
    child.close()
    try:
        measured = parent.recv()
    except EOFError:  # it was ended: of too much time, or of too much memory
        measured = {}
    process.join()
    return before | {"exit": process.exitcode, **measured}


def _send(child: Connection, folder: Path, name: str, threads: int, limit: float) -> None:
    child.send(select(folder, name, threads, limit))


def table(lines: list[dict]) -> list[str]:
    """What has been measured, in Markdown."""
    rows = [
        "| selector | rows | processor seconds | seconds | peak | load before | commit |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        values = (
            "ended | | "
            if "seconds" not in line
            else (f"{line['cpu_seconds']:.0f} | {line['seconds']:.0f} | {line['gigabytes']:.1f} GB")
        )
        rows.append(f"| {line['name']} | {line['rows']:,} | {values} | {line['load_before']:.0f} | {line['commit']} |")
    return rows


def main() -> None:
    """Runs the selectors named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="selector", help=f"of {', '.join(SELECTORS)}; all if none is named")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--half", action="store_true", help="keep the features as float16")
    parser.add_argument("--folder", type=Path, help="where pools are kept for the next run (2 GB for a million)")
    parser.add_argument("--results", type=Path, help="JSON lines: read, and a line appended for each new result")
    parser.add_argument("--limit", type=float, default=60.0, help="minutes of processor time for each selector")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(SELECTORS)):
        parser.error(f"no selector {unknown[0]!r}; known: {', '.join(SELECTORS)}")
    if min(args.rows) < 100:
        parser.error("--rows: 100 at least")
    lines = (
        [json.loads(line) for line in args.results.read_text(encoding="utf-8").splitlines()]
        if args.results and args.results.exists()
        else []
    )
    known = {(line["name"], line["rows"], line["half"]) for line in lines}
    with tempfile.TemporaryDirectory() as temporary:
        for rows in args.rows:
            folder = write_pool(args.folder or Path(temporary), rows, args.half)
            for name in args.names or SELECTORS:
                if (name, rows, args.half) in known:
                    continue
                started = time.strftime("%Y-%m-%d %H:%M")
                line = {"name": name, "rows": rows, "half": args.half, "started": started}
                line |= run(folder, name, torch.get_num_threads(), 60 * args.limit)
                lines.append(line)
                if args.results:
                    with args.results.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)
    print("\n".join(table(lines)))
    for line in lines:
        for field in ("seconds", "cpu_seconds", "gigabytes"):
            if field in line:
                print(f"figure {line['name']}_{field}_at_{line['rows']} {line[field]:.4f}")


if __name__ == "__main__":
    main()

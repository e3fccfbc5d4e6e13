"""What a trial on features that are given costs: processor seconds, and which share of them nobody asked for.

    python -m benchmarks.cheap_trials [SELECTOR ...] [--file data/embeddings.npz] [--against CHECKOUT]

A trial is 8 rounds of 200 labels after 200 at random, a ridge head after each, as in the question
`search_spaces/selectors_on_embeddings.yaml`; one after the other in one process, as in a worker of a sweep. The first
is not counted. Of each selector's trials the first makes pictures, as in a sweep. `outside` is what was none of head,
selection and evaluation. Without a file the features are 12,000 of 1,280 numbers, drawn around ten points.

`nothing` is a trial that has next to nothing to do, of 100 digits and a small network; its milliseconds are the
harness's own, without Ray.

With a checkout of other code, such as a `git worktree` of an older commit, every selector is measured there and here in
turn; a ratio is there over here, above 1 is better.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).resolve()
SELECTORS = """
    random entropy margin least_confidence coreset badge typiclust kmeans probcover representative_random cdal_cs
    cluster_margin dcom direct drop_query falcun free_sel active_ft max_herding uncertainty_herding mc_dropout bald
"""
SETTINGS: dict[str, dict[str, Any]] = {"active_ft": {"num_iterations": 100}}
NOTHING = "nothing"
EMPTY = {
    "dataset": "digits",
    "backbone": {"name": "dcnn3", "width": 4},
    "ssl_method": "none",
    "labels": {"start": 100},
    "classifier": "knn",
}
SEEDS_OF_A_SWEEP = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("selectors", nargs="*", default=[NOTHING, *SELECTORS.split()], help=f"or {NOTHING}")
    parser.add_argument("--file", type=Path, help="of embeddings, as the data set of that name reads them")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=12_000, help="without a file, a sixth of them for tests")
    parser.add_argument("--dims", type=int, default=1_280)
    parser.add_argument("--labels", type=int, default=200, help="of the start and of each round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # in a process of its own: where its files go
    options = parser.parse_args()
    if options.measure:
        _measure_all(options, Path(options.measure))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file = options.file.resolve() if options.file else _drawn(folder / "drawn.npz", options.rows, options.dims)
        checkouts = [HERE.parents[1], *([options.against.resolve()] if options.against else [])]
        # Compared they alternate, each time in a new process; alone one process does all.
        groups = [[name] for name in options.selectors] if options.against else [options.selectors]
        measured: dict[Path, dict[str, Any]] = {checkout: {} for checkout in checkouts}
        for group in groups:
            for checkout in checkouts:
                measured[checkout] |= _in_process(checkout, group, file, folder, options)
    _print(measured, checkouts)


def _drawn(file: Path, rows: int, dims: int) -> Path:
    """Features that ten classes overlap in, as float16."""
    rng = np.random.default_rng(0)
    y = np.arange(rows) % 10
    centers = rng.normal(size=(10, dims))
    x = np.concatenate([centers[part] + 5 * rng.normal(size=(len(part), dims)) for part in np.array_split(y, 10)])
    x, first = x.astype(np.float16), rows - rows // 6
    np.savez(file, x_train=x[:first], y_train=y[:first], x_test=x[first:], y_test=y[first:])
    return file


def _in_process(
    checkout: Path, selectors: list[str], file: Path, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    numbers = [f"--{name}={getattr(options, name)}" for name in ("seeds", "labels", "rounds")]
    command = [sys.executable, "-P", str(HERE), *selectors, f"--file={file}", f"--measure={folder}", *numbers]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True, encoding="utf-8")
    return json.loads(done.stdout.splitlines()[-1])


def _measure_all(options: argparse.Namespace, folder: Path) -> None:
    import torch

    from harness.config.plan import load_plan
    from harness.trial.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)
    given = {
        "dataset": {"name": "embeddings", "path": str(options.file)},
        "backbone": {"name": "given", "dropout": 0.1},
        "ssl_method": "none",
        "labels": {"start": options.labels, "budget": options.labels, "rounds": options.rounds},
        "classifier": "ridge",
    }
    results = {}
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for name in options.selectors:
            selector = {} if name == NOTHING else {"selector": {"name": name, **SETTINGS.get(name, {})}}
            number = 1 + (20 if name == NOTHING else options.seeds)
            trial = (EMPTY if name == NOTHING else given) | selector
            asked = {"name": "cheap", "seeds": list(range(number)), "trial": trial}
            tasks = load_plan(asked, {}).first_tasks()
            results[name] = _measured(tasks, Path(temporary), folder / "data")
    print(json.dumps(results))


def _measured(tasks: list[Any], stages: Path, cache: Path) -> dict[str, Any]:
    """Processor seconds of each trial but for the first, and their parts, of the first of these with pictures."""
    from harness.trial.origin import origin_of
    from harness.trial.run import Folders, run

    seconds, parts = [], []
    for number, task in enumerate(tasks):
        started, wall = time.process_time(), time.perf_counter()
        origin_of(task.trial, cache)
        pictures: dict[str, Any] = {}
        deliver = pictures.update if number < 2 and task.trial.labels.budgets else None
        totals = run(task.trial, task.seed, Folders(cache, stages), lambda *_: None, with_test=True, deliver=deliver)
        wall = time.perf_counter() - wall
        seconds.append(time.process_time() - started)
        spent = {name: totals[f"time/{name}_seconds"] / wall for name in ("train", "select", "evaluate")}
        parts.append(spent | {"pictures": totals.get("time/portrait_seconds", 0.0) / wall})
    return {"seconds": seconds[1:], "shares": parts[1:]}


def _print(measured: dict[Path, dict[str, Any]], checkouts: list[Path]) -> None:
    ours, *theirs = (measured[checkout] for checkout in checkouts)
    figures, total = [], 0.0
    print(f"{'':24}processor s  with pictures  head %  select %  evaluate %  outside %  pictures %")
    for name, one in ours.items():
        first, rest = one["seconds"][0], one["seconds"][1:] or one["seconds"]
        shares = one["shares"][1:] or one["shares"]
        mean = {part: 100 * sum(share[part] for share in shares) / len(shares) for part in shares[0]}
        outside = 100 - mean["train"] - mean["select"] - mean["evaluate"]
        print(
            f"{name:24}{median(rest):11.3f}{first:15.3f}{mean['train']:8.0f}{mean['select']:10.0f}"
            f"{mean['evaluate']:12.0f}{outside:11.0f}{100 * one['shares'][0]['pictures']:12.0f}"
        )
        word = re.sub(r"\W", "_", name)
        if name == NOTHING:
            figures.append(f"figure trial_of_nothing_milliseconds {1000 * median(rest):.1f}")
        else:
            total += first + (SEEDS_OF_A_SWEEP - 1) * median(rest)
            figures.append(f"figure trial_processor_seconds_{word} {median(rest):.2f}")
            figures.append(f"figure trial_percent_outside_{word} {outside:.1f}")
        if theirs:
            before = theirs[0][name]["seconds"]
            figures.append(f"figure trial_ratio_{word} {median(before[1:] or before) / median(rest):.2f}")
            figures.append(f"figure trial_ratio_with_pictures_{word} {before[0] / first:.2f}")
    if total:
        figures.append(f"figure sweep_of_ten_seeds_minutes_of_two_cores {total / 2 / 60:.2f}")
    print("\n".join(figures))


if __name__ == "__main__":
    main()

"""A batch of `selbench pick`, in seconds and memory, and how often the interval of `--stop` holds the truth.

    OMP_NUM_THREADS=2 python -m benchmarks.pick                              # 100,000 images of 512 features
    python -m benchmarks.pick margin --features features.npz --sets 30       # x_train, y_train, x_test, y_test

A batch: 100 images, 500 labels of 20 classes, features in mixtures of normal distributions, the whole command but for
importing Python's modules; each in a process of its own. The interval: on so many random sets of labels, what a batch
is said to be worth, against the mean of what it adds on the test images. Prints last `figure <name> <value>`.
"""

from __future__ import annotations

import argparse
import csv
import resource
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.config.trial import ClassifierConfig
from harness.pick import command, worth
from harness.trial import heads

SELECTORS = ("random", "margin", "entropy", "coreset", "kmeans", "badge", "typiclust")
CLASSES, LABELS, BUDGET = 20, 500, 100
EXTRA = 60
"""Sets of labels beside those asked about, by which the true worth is measured."""


def write_pool(folder: Path, rows: int, dims: int) -> None:
    """Features of so many images, and the labels of some."""
    rng = np.random.default_rng(0)
    centers = rng.normal(0, 1, (10 * CLASSES, dims)).astype(np.float32)
    cluster = rng.integers(len(centers), size=rows)
    features = np.empty((rows, dims), dtype=np.float32)
    for start in range(0, rows, 10_000):
        part = cluster[start : start + 10_000]
        features[start : start + 10_000] = centers[part] + rng.normal(0, 1.5, (len(part), dims))
    np.save(folder / "features.npy", np.maximum(features, 0))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream)
        lines.writerow(["path", "label"])
        lines.writerows((row, f"class {cluster[row] % CLASSES}") for row in rng.permutation(rows)[:LABELS].tolist())


def pick(folder: Path, arguments: list[str]) -> tuple[float, float]:
    """Seconds of one call, and the process's peak in GiB."""
    started = time.perf_counter()
    said = [str(folder / "features.npy"), "--labels", str(folder / "labels.csv"), "--output", str(folder / "picks")]
    assert command.main([*said, "--budget", str(BUDGET), "--round", "1", *arguments]) == 0
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def coverage(x: Tensor, y: Tensor, test: Tensor, truth: Tensor, count: int, sets: int) -> dict[str, float]:
    """How often the interval holds the mean gain of a batch, and what they are."""
    config, classes = ClassifierConfig(name="ridge"), int(y.max()) + 1

    def accuracy(rows: Tensor) -> float:
        state = heads.fit(config, x[rows], y[rows], classes, 0)
        predict = heads.predictor(config, state, x[rows], y[rows], classes)
        return float((predict(test).argmax(1) == truth).float().mean())

    gains, said = [], []
    for number in range(sets + EXTRA):
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(1000 * count + number))[: count + BUDGET]
        gains.append(accuracy(rows) - accuracy(rows[:count]))
        if number < sets:
            curve = worth.measure_curve(x[rows[:count]], y[rows[:count]], classes, config, number)
            said.append(worth.worth_of(curve, BUDGET, number))
    true = float(np.mean(gains))
    return {
        f"worth_of_{BUDGET}_at_{count}": true,
        f"coverage_at_{count}": float(np.mean([one.low <= true <= one.high for one in said])),
        f"width_at_{count}": float(np.mean([one.high - one.low for one in said])),
    }


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=SELECTORS, metavar="selector")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--features", type=Path, help=".npz, for the intervals of --stop")
    parser.add_argument("--sets", type=int, default=30, help="of labels, at each number of them")
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 200, 400, 800], help="of labels")
    args = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        write_pool(Path(temporary), args.rows, args.dims)
        for name in args.names:
            with get_context("spawn").Pool(1) as process:
                process.apply(pick, (Path(temporary), ["--selector", "margin"]))  # imports
                seconds, peak = process.apply(pick, (Path(temporary), ["--selector", name]))
            print(f"{name}: {seconds:.1f} s, {peak:.2f} GiB", flush=True)
            figures |= {f"{name}_seconds": seconds, f"{name}_gib": peak}
    if args.features:
        content = np.load(args.features)
        arrays = [torch.from_numpy(content[key]) for key in ("x_train", "y_train", "x_test", "y_test")]
        x, y, test, truth = (array.float() if array.is_floating_point() else array.long() for array in arrays)
        for count in args.counts:
            figures |= coverage(x, y, test, truth, count, args.sets)
    for name, value in figures.items():
        print(f"figure {name} {value:.4g}")


if __name__ == "__main__":
    main()

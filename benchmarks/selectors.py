"""Seconds and memory of the selectors on a pool of 50,000 x 512 features, beside the libraries people would use.

    OMP_NUM_THREADS=2 python -m benchmarks.selectors                       # all of them, on random features
    OMP_NUM_THREADS=2 python -m benchmarks.selectors coreset --features features.npy

Every measurement is a process of its own, warmed up on a small pool; seconds are the median of the repetitions,
memory is the highest resident set during them beyond what was resident before, which includes the features. Peers
that would take minutes at the full size are compared at a smaller one, in the same run. Prints last `figure <name>
<value>`, one a line; `*_ratio*` is ours over the peer's, above 1 better for us. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.api import Images, Pool
from harness.plugins import PluginSpec, build
from harness.seeding import generator


@dataclass(frozen=True)
class Case:
    """One pool to select from: `clusters` Gaussians unless a file of features is given."""

    rows: int = 50_000
    dim: int = 512
    labeled: int = 2_500
    budget: int = 2_500
    classes: int = 10
    clusters: int = 200
    features: str = ""

    def pool(self) -> Pool:
        """The pool, the same for every process: logits are a linear function of the features plus noise."""
        g = generator(0, "benchmark")
        if self.features:
            features = torch.from_numpy(np.load(self.features, mmap_mode="r")[: self.rows].astype(np.float32))
        else:
            centers = torch.randn(self.clusters, self.dim, generator=g)
            cluster = torch.randint(self.clusters, (self.rows,), generator=g)
            features = centers[cluster] + torch.randn(self.rows, self.dim, generator=g)
        n, dim = features.shape
        logits = features @ torch.randn(dim, self.classes, generator=g) / dim**0.5 * 3
        order = torch.randperm(n, generator=g)
        labeled, unlabeled = (part.sort().values for part in order.tensor_split([self.labeled]))
        return Pool(
            images=Images(torch.zeros(n, 1, 1, 1, dtype=torch.uint8)),
            labeled=labeled,
            unlabeled=unlabeled,
            labels=logits[labeled].argmax(dim=1),
            num_classes=self.classes,
            model=Given(features, logits),
        )

    def shrunk(self, rows: int) -> Case:
        """The same pool at fewer rows, with proportionally fewer labels and picks."""
        part = rows / self.rows
        return replace(self, rows=rows, labeled=round(self.labeled * part), budget=round(self.budget * part))


@dataclass(frozen=True)
class Given:
    """A `PoolModel` with its answers ready."""

    given_features: Tensor
    given_logits: Tensor

    def features(self) -> Tensor:
        return self.given_features

    def logits(self) -> Tensor:
        return self.given_logits

    def stochastic_logits(self, num_samples: int) -> Tensor:
        noise = torch.randn(num_samples, *self.given_logits.shape, generator=generator(0, "stochastic"))
        return self.given_logits + noise

    augmented_logits = stochastic_logits

    def ssl_loss(self) -> Tensor:
        return self.given_features.square().mean(dim=1)


# --- measuring ---


@dataclass(frozen=True)
class Measurement:
    """What one process found."""

    seconds: float
    peak_megabytes: float
    picks: Tensor


Job = Callable[[Pool, int], Tensor]
"""Chooses `budget` positions of a pool. A module-level function or a partial of one, so that it can be sent."""


def measure(job: Job, case: Case, repeats: int = 3) -> Measurement:
    """Runs a job in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(_measure_here, job, case, repeats, torch.get_num_threads()).result()


def _measure_here(job: Job, case: Case, repeats: int, num_threads: int) -> Measurement:
    torch.set_num_threads(num_threads)
    job(replace(case.shrunk(min(case.rows, 2000)), budget=20).pool(), 20)
    pool = case.pool()
    assert pool.features is not None, "computed before the clock starts"
    assert pool.logits is not None
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _resident("VmRSS")
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        picks = job(pool, case.budget)
        seconds.append(time.perf_counter() - start)
    assert len(picks.unique()) == case.budget, "the picks are not distinct"
    assert torch.isin(picks, pool.unlabeled).all(), "a pick is not an unlabelled image"
    return Measurement(statistics.median(seconds), (_resident("VmHWM") - before) / 1e6, picks)


def _resident(field: str) -> int:
    """Bytes of a memory field of this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))


@dataclass(frozen=True)
class Ours:
    """A job: one of the built-in selectors."""

    name: str

    def __call__(self, pool: Pool, budget: int) -> Tensor:
        return build(PluginSpec("selectors", self.name)).select(pool, budget, rng=generator(0, self.name))


# --- peers ---


def plain_k_center(pool: Pool, budget: int, dtype: type = np.float32) -> Tensor:
    """k-centre greedy as usually written: one product with all points per pick."""
    points = pool.features.numpy().astype(dtype)
    points -= points.mean(axis=0)
    squares = (points**2).sum(axis=1)
    nearest = np.full(len(points), np.inf, dtype=dtype)
    for center in pool.labeled.tolist():
        nearest = np.minimum(nearest, squares - 2 * points @ points[center] + squares[center])
    nearest[pool.labeled] = -np.inf
    picks: list[int] = []
    for _ in range(budget):
        picks.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, squares - 2 * points @ points[picks[-1]] + squares[picks[-1]])
        nearest[picks[-1]] = -np.inf
    return torch.tensor(picks)


def skactiveml_coreset(pool: Pool, budget: int) -> Tensor:
    """scikit-activeml's k-centre greedy."""
    from skactiveml.pool import CoreSet

    return torch.from_numpy(CoreSet(random_state=0).query(*_for_skactiveml(pool), batch_size=budget))


def _for_skactiveml(pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Features, and labels with NaN where there is none."""
    labels = np.full(len(pool.features), np.nan)
    labels[pool.labeled] = pool.labels
    return pool.features.numpy(), labels


# --- one function per selector ---

Figures = dict[str, float]


def same(ours: Measurement, other: Measurement) -> float:
    """The share of picks that are the same in the same order."""
    return float((ours.picks == other.picks).double().mean())


def coreset(full: Case, small: Case) -> Figures:
    """Against the plain loop at the full size and against scikit-activeml at the small one.

    The plain loop in float32 is timed; in float64 it says which picks are right.
    """
    ours, plain = measure(Ours("coreset"), full), measure(plain_k_center, full, repeats=1)
    exact = measure(partial(plain_k_center, dtype=np.float64), full, repeats=1)
    ours_small, peer = measure(Ours("coreset"), small), measure(skactiveml_coreset, small)
    return {
        "coreset_seconds": ours.seconds,
        "coreset_peak_megabytes": ours.peak_megabytes,
        "coreset_same_picks_as_plain_loop": same(ours, exact),
        "coreset_same_picks_as_plain_loop_in_float32": same(ours, plain),
        "coreset_plain_loop_ratio": plain.seconds / ours.seconds,
        f"coreset_skactiveml_ratio_at_{small.rows}": peer.seconds / ours_small.seconds,
        f"coreset_same_picks_as_skactiveml_at_{small.rows}": same(ours_small, peer),
    }


BENCHMARKS: dict[str, Callable[[Case, Case], Figures]] = {"coreset": coreset}


def main() -> None:
    """Runs the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="selector", help=f"of {', '.join(BENCHMARKS)}; all if none is named"
    )
    parser.add_argument("--features", default="", help="an .npy file, float [N, D], instead of random features")
    parser.add_argument("--rows", type=int, default=Case.rows, help="rows of the pool (%(default)s)")
    parser.add_argument("--small-rows", type=int, default=10_000, help="rows where slow peers are met (%(default)s)")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(BENCHMARKS)):
        parser.error(f"no benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}")
    full = replace(Case(features=args.features).shrunk(args.rows), rows=args.rows)
    figures: Figures = {}
    for name in args.names or BENCHMARKS:
        print(f"{name} ...", flush=True)
        figures |= BENCHMARKS[name](full, full.shrunk(args.small_rows))
    for name, value in figures.items():
        print(f"figure {name} {value:.4g}")


if __name__ == "__main__":
    main()

"""Seconds and memory of the selectors on a pool of 50,000 x 512 features, beside the libraries people would use.

    OMP_NUM_THREADS=2 python -m benchmarks.selectors                       # all of them, on random features
    OMP_NUM_THREADS=2 python -m benchmarks.selectors coreset --features features.npy

Every measurement is a process of its own, warmed up on a small pool; seconds are the median of the repetitions,
memory is the highest resident set during them beyond what was resident before, which includes the features. Peers
that would take minutes at the full size are compared at a smaller one, in the same run. Prints last
`figure <name> <value>`, one a line; `*_ratio*` is ours over the peer's, above 1 better for us. Needs the extra
`bench`. On a machine that others use at the same time take one thread: two that wait for each other were seen to be
four times as slow as one.
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
from harness.plugins.registry import PluginSpec, build
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

    def penultimate(self) -> Tensor:
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
    """What one process found; of several repetitions the median."""

    seconds: float
    cpu_seconds: float
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
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak counts from here
    before = _resident("VmRSS")
    seconds, cpu_seconds = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        picks = job(pool, case.budget)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - used)
    assert len(picks.unique()) == case.budget, "the picks are not distinct"
    assert torch.isin(picks, pool.unlabeled).all(), "a pick is not an unlabelled image"
    taken = statistics.median(seconds), statistics.median(cpu_seconds)
    return Measurement(*taken, (_resident("VmHWM") - before) / 1e6, picks)


def _resident(field: str) -> int:
    """Bytes of a memory field of this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))


class Ours:
    """A job: one of the built-in selectors."""

    def __init__(self, name: str, **hyperparameters: float | str):
        self.spec = PluginSpec("selectors", name, hyperparameters)

    def __call__(self, pool: Pool, budget: int) -> Tensor:
        selector = build(self.spec)
        return selector.select(selector.as_shown(pool), budget, rng=generator(0, self.spec.name))


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


def mundig_k_center(pool: Pool, budget: int) -> Tensor:
    """lightly-mundig's, in Rust."""
    from lightly_mundig import Selection

    method, labeled = Selection(), pool.labeled.tolist()
    method.add_diversifying_strategy(pool.features.numpy(), 1.0, None)
    return torch.tensor(method.run_selection(labeled, len(pool.features), len(labeled) + budget)[len(labeled) :])


def skactiveml_badge(pool: Pool, budget: int) -> Tensor:
    """scikit-activeml's BADGE, with the pool's predictions as its classifier."""
    from skactiveml.base import SkactivemlClassifier
    from skactiveml.pool import Badge

    class Fixed(SkactivemlClassifier):
        def fit(self, X: np.ndarray, y: np.ndarray) -> Fixed:
            return self

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return pool.logits[pool.unlabeled].double().softmax(dim=1).numpy()

    picks = Badge(random_state=0).query(*_for_skactiveml(pool), clf=Fixed(), fit_clf=False, batch_size=budget)
    return torch.tensor(picks)


def skactiveml_typiclust(pool: Pool, budget: int) -> Tensor:
    """scikit-activeml's TypiClust, with one run of scikit-learn's k-means; it has no cap on the number of clusters."""
    from skactiveml.pool import TypiClust

    method = TypiClust(random_state=0, k=20, cluster_algo_dict={"n_init": 1, "random_state": 0})
    return torch.as_tensor(method.query(*_for_skactiveml(pool), batch_size=budget))


def skactiveml_probcover(pool: Pool, budget: int, delta: float) -> Tensor:
    """scikit-activeml's ProbCover on the same normalised features at the same radius."""
    from skactiveml.pool import ProbCover

    features, labels = _for_skactiveml(pool)
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    method = ProbCover(n_classes=pool.num_classes, deltas=[delta], random_state=0)
    return torch.as_tensor(method.query(features, labels, batch_size=budget))


def scikit_learn_ual(pool: Pool, budget: int) -> Tensor:
    """The described pipeline in scikit-learn alone."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    map_ = TSNE(random_state=0).fit_transform(PCA(10, random_state=0).fit_transform(pool.features.numpy()))
    distance = KMeans(10, n_init=10, random_state=0).fit(map_).transform(map_)
    cluster = torch.from_numpy(distance.argmin(axis=1))[pool.unlabeled]
    to_centroid = torch.from_numpy(distance.min(axis=1))[pool.unlabeled]
    picks: list[Tensor] = []
    for k in range(10):
        members = (cluster == k).nonzero().squeeze(1)
        picks.append(members[to_centroid[members].argsort()[: budget // 10]])
    return pool.unlabeled[torch.cat(picks)]


def dense_core_gcn(pool: Pool, budget: int, num_steps: int) -> Tensor:
    """CoreGCN as released: the graph is a matrix of N x N."""
    from torch.nn.functional import dropout, normalize

    x = normalize(pool.features)
    adjacency = x @ x.T - torch.eye(len(x))
    adjacency = adjacency @ torch.diag(1 / adjacency.sum(dim=0).clamp(min=1)) + torch.eye(len(x))
    first, second = torch.nn.Linear(x.shape[1], 128), torch.nn.Linear(128, 1)
    optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=1e-3, weight_decay=5e-4)
    known = torch.zeros(len(x), dtype=torch.bool).index_fill(0, pool.labeled, True)
    for _ in range(num_steps):
        hidden = torch.relu(adjacency @ (x @ first.weight.T) + first.bias)
        score = (adjacency @ (dropout(hidden, 0.3) @ second.weight.T) + second.bias).sigmoid().squeeze(1)
        loss = -score[known].log().mean() - 1.2 * (1 - score[~known]).log().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return plain_k_center(replace(pool, model=Given(hidden.detach(), pool.logits)), budget)


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
    """Against the plain loop at the full size, lightly-mundig at 30,000 and scikit-activeml at the small one.

    lightly-mundig by processor seconds, for it takes all cores. The plain loop in float32 is timed; in float64 it
    says which picks are right.
    """
    ours, plain = measure(Ours("coreset"), full), measure(plain_k_center, full, repeats=1)
    exact = measure(partial(plain_k_center, dtype=np.float64), full, repeats=1)
    middle = full.shrunk(min(full.rows, 30_000))
    ours_middle, mundig = measure(Ours("coreset"), middle), measure(mundig_k_center, middle, repeats=1)
    ours_small, peer = measure(Ours("coreset"), small), measure(skactiveml_coreset, small)
    return {
        "coreset_seconds": ours.seconds,
        "coreset_peak_megabytes": ours.peak_megabytes,
        "coreset_same_picks_as_plain_loop": same(ours, exact),
        "coreset_same_picks_as_plain_loop_in_float32": same(ours, plain),
        "coreset_plain_loop_ratio": plain.seconds / ours.seconds,
        f"coreset_mundig_cpu_ratio_at_{middle.rows}": mundig.cpu_seconds / ours_middle.cpu_seconds,
        f"coreset_mundig_memory_ratio_at_{middle.rows}": mundig.peak_megabytes / max(ours_middle.peak_megabytes, 1.0),
        f"coreset_same_picks_as_mundig_at_{middle.rows}": same(ours_middle, mundig),
        f"coreset_skactiveml_ratio_at_{small.rows}": peer.seconds / ours_small.seconds,
        f"coreset_same_picks_as_skactiveml_at_{small.rows}": same(ours_small, peer),
    }


def compare(name: str, ours: Job, peer: Job, peer_name: str, full: Case, small: Case, repeats: int = 1) -> Figures:
    """Seconds and memory at the full size, and both ratios to a peer at the small one."""
    at_full = measure(ours, full, repeats)
    at_small, other = measure(ours, small, repeats), measure(peer, small, repeats=1)
    return {
        f"{name}_seconds": at_full.seconds,
        f"{name}_peak_megabytes": at_full.peak_megabytes,
        f"{name}_{peer_name}_ratio_at_{small.rows}": other.seconds / at_small.seconds,
        f"{name}_{peer_name}_memory_ratio_at_{small.rows}": other.peak_megabytes / max(at_small.peak_megabytes, 1.0),
    }


def badge(full: Case, small: Case) -> Figures:
    """Against scikit-activeml at the small size."""
    return compare("badge", Ours("badge"), skactiveml_badge, "skactiveml", full, small, repeats=3)


def typiclust(full: Case, small: Case) -> Figures:
    """Against scikit-activeml at the small size."""
    return compare("typiclust", Ours("typiclust"), skactiveml_typiclust, "skactiveml", full, small)


def ual(full: Case, small: Case) -> Figures:
    """Against the same pipeline in scikit-learn at the small size."""
    return compare("ual", Ours("ual"), scikit_learn_ual, "scikit_learn", full, small)


def probcover(full: Case, small: Case) -> Figures:
    """Against scikit-activeml at the small size; balls of this radius hold about one cluster of the random features."""
    delta = 1.1
    peer = partial(skactiveml_probcover, delta=delta)
    return compare("probcover", Ours("probcover", delta=delta), peer, "skactiveml", full, small)


def core_gcn(full: Case, small: Case) -> Figures:
    """At the full size with 200 steps; against the dense matrix with 20 steps for both at the small one."""
    at_full = measure(Ours("core_gcn"), full, repeats=1)
    versus = compare(
        "core_gcn", Ours("core_gcn", num_steps=20), partial(dense_core_gcn, num_steps=20), "dense", small, small
    )
    return versus | {"core_gcn_seconds": at_full.seconds, "core_gcn_peak_megabytes": at_full.peak_megabytes}


BENCHMARKS: dict[str, Callable[[Case, Case], Figures]] = {
    "coreset": coreset,
    "badge": badge,
    "typiclust": typiclust,
    "probcover": probcover,
    "core_gcn": core_gcn,
    "ual": ual,
}


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
    figures: Figures = {"num_threads": torch.get_num_threads(), "rows": full.rows}
    for name in args.names or BENCHMARKS:
        print(f"{name} ...", flush=True)
        figures |= BENCHMARKS[name](full, full.shrunk(args.small_rows))
    for name, value in figures.items():
        print(f"figure {name} {value:.4g}")


if __name__ == "__main__":
    main()

"""Selection of typical images of clusters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from baselines.selectors.finite import require_finite
from baselines.selectors.kcenter import BLOCK_ELEMENTS
from baselines.selectors.lloyd import AUTHORS_STARTS, kmeans
from baselines.selectors.ranking import shuffled
from harness.api import Pool, Reason, Selector

MOST_RESTARTED = 50
"""Clusters up to which the authors' code runs k-means from several starts."""


class TypiClust(Selector):
    """TypiClust, Hacohen, Dekel & Weinshall 2022, https://arxiv.org/abs/2202.02794.

    k-means puts all images into L + budget clusters (at most `max_clusters`); the clusters with the fewest labelled
    images, among them the largest, each give their most typical unlabelled image: the one with the smallest mean
    distance to its nearest neighbours in the cluster. Follows the authors' code where the paper is silent: features are
    L2-normalised by default; clusters take turns, in that order, until the budget is spent; the number of neighbours is
    at most half the cluster; up to 50 clusters k-means has 10 starts. Deviates where it would stop: an exhausted
    cluster is passed over, and clusters under `min_cluster_size` come last instead of never (the code drops those of
    5 images, too, the paper keeps them). Also: more than 50 clusters are of one k-means of all images, not of mini-
    batches; distances are Euclidean as in the paper, where the code averages squared ones; k-means is `kmeans`', of
    25 iterations at most, whose starts are compared on a part of the images. Ties are broken at random.

    Args:
        max_clusters: >= 1.
        num_neighbors: of the typicality, >= 1.
        min_cluster_size: >= 1.
    """

    supports_cold_start = True
    normalize = "l2"

    def __init__(self, *, max_clusters: int = 500, num_neighbors: int = 20, min_cluster_size: int = 5):
        for name, value in (
            ("max_clusters", max_clusters),
            ("num_neighbors", num_neighbors),
            ("min_cluster_size", min_cluster_size),
        ):
            if value < 1:
                raise ValueError(f"{name} = {value} is not >= 1")
        self.max_clusters = max_clusters
        self.num_neighbors = num_neighbors
        self.min_cluster_size = min_cluster_size

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        points = require_finite(pool.features, "features").float()
        num_clusters = min(len(pool.labeled) + budget, self.max_clusters)
        n_init = AUTHORS_STARTS if num_clusters <= MOST_RESTARTED else 1
        cluster, _ = kmeans(points, num_clusters, rng=rng, n_init=n_init)
        size = torch.bincount(cluster, minlength=num_clusters)
        num_labeled = torch.bincount(cluster[pool.labeled], minlength=num_clusters)
        order = self._turns(size, num_labeled, torch.randperm(num_clusters, generator=rng))
        unlabeled = shuffled(pool, rng=rng)
        members = grouped(unlabeled, cluster[unlabeled], num_clusters)
        turns = visits([len(members[k]) for k in order], budget)
        picks: dict[int, Tensor] = {}
        for k, count in zip(order, torch.bincount(torch.tensor(turns), minlength=len(order)).tolist(), strict=True):
            picks[k] = members[k][most_typical(points[members[k]], count, self.num_neighbors)]
        taken = dict.fromkeys(order, 0)
        result = []
        for turn in turns:
            k = order[turn]
            result.append(picks[k][taken[k]])
            taken[k] += 1
        mine = [order[turn] for turn in turns]
        self._clusters = list(zip(size[mine].tolist(), num_labeled[mine].tolist(), strict=True))
        return torch.stack(result)

    def explain(self, pool: Pool, picks: Tensor) -> Sequence[Reason]:
        """See `Selector.explain`."""
        return [
            Reason(f"cluster of {size}, {known or 'none'} of them labelled: the most typical one left")
            for size, known in self._clusters
        ]

    def _turns(self, size: Tensor, num_labeled: Tensor, chance: Tensor) -> list[int]:
        """The clusters in the order of their turns: large enough, few labels, many members; ties by chance."""
        rank = list(zip((size < self.min_cluster_size).tolist(), num_labeled.tolist(), (-size).tolist(), strict=True))
        return sorted(chance.tolist(), key=lambda k: rank[k])


def grouped(positions: Tensor, cluster: Tensor, num_clusters: int) -> tuple[Tensor, ...]:
    """The i64 [n] positions of each of the clusters that i64 [n] names, in their order."""
    by_cluster = positions[cluster.argsort(stable=True)]
    return by_cluster.split(torch.bincount(cluster, minlength=num_clusters).tolist())


def visits(sizes: list[int], budget: int) -> list[int]:
    """Which of the clusters of these sizes give the 1st, 2nd, ... pick when they take turns and drop out once empty."""
    turns: list[int] = []
    given = 0
    while len(turns) < budget:
        open_ = [k for k, size in enumerate(sizes) if size > given]
        assert open_, (sizes, budget)
        turns += open_[: budget - len(turns)]
        given += 1
    return turns


def most_typical(points: Tensor, count: int, num_neighbors: int) -> Tensor:
    """i64 [count] rows of f32 [n, D]: again and again the one with the smallest mean distance to its neighbours.

    Its neighbours are the nearest of the others that are left, `num_neighbors` of them, but at most half of what is
    left. Each point's nearest are found once, as many more as picks can take away.

    Args:
        points: in random order: of equals the first is picked.
        count: 0 .. n.
        num_neighbors: >= 1.
    """
    if count == 0:
        return torch.zeros(0, dtype=torch.int64)
    distance, neighbor = nearest_others(points, min(num_neighbors + count - 1, len(points) - 1))
    left = torch.ones(len(points), dtype=torch.bool)
    picks: list[int] = []
    mean = distance.new_empty(len(points))
    while True:
        size = min(num_neighbors, (len(points) - len(picks)) // 2)
        stale = left  # where fewer neighbours count than before, all; else those that lost one
        if picks and size == num_neighbors:
            stale = left & (neighbor == picks[-1]).any(dim=1)
        mean[stale] = mean_of_first(distance[stale], left[neighbor[stale]], size)
        picks.append(int(mean.masked_fill(~left, torch.inf).argmin()))
        if len(picks) == count:
            return torch.tensor(picks)
        left[picks[-1]] = False


def nearest_others(points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """f32 [n, count], ascending Euclidean distances of f32 [n, D] to their nearest others; i64, which these are."""
    points = points - points.mean(dim=0)  # products round off less near the origin
    distances, neighbors = [], []
    for part in torch.arange(len(points)).split(max(1, BLOCK_ELEMENTS // len(points))):
        distance = torch.cdist(points[part], points)
        distance[torch.arange(len(part)), part] = torch.inf
        nearest = distance.topk(count, largest=False)
        distances.append(nearest.values)
        neighbors.append(nearest.indices)
    return torch.cat(distances), torch.cat(neighbors)


def mean_of_first(values: Tensor, counts: Tensor, size: int) -> Tensor:
    """f32 [n]: the mean of the first `size` of each row of f32 [n, m] that count, bool [n, m]; 0 where size is 0."""
    if size == 0:
        return values.new_zeros(len(values))
    taken = counts & (counts.cumsum(dim=1) <= size)
    return values.masked_fill(~taken, 0.0).sum(dim=1) / size

"""Selection of typical images of clusters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

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
    distance to its nearest neighbours in the cluster. Follows the authors' code where the paper is silent:
    L2-normalised features; clusters take turns, in that order, until the budget is spent; the number of neighbours is
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
        points = normalize(require_finite(pool.features, "features").float())
        num_clusters = min(len(pool.labeled) + budget, self.max_clusters)
        n_init = AUTHORS_STARTS if num_clusters <= MOST_RESTARTED else 1
        cluster, _ = kmeans(points, num_clusters, rng=rng, n_init=n_init)
        size = torch.bincount(cluster, minlength=num_clusters)
        num_labeled = torch.bincount(cluster[pool.labeled], minlength=num_clusters)
        order = self._turns(size, num_labeled, torch.randperm(num_clusters, generator=rng))
        unlabeled = shuffled(pool, rng=rng)
        turns = visits([int((cluster[unlabeled] == k).sum()) for k in order], budget)
        picks: dict[int, Tensor] = {}
        for k, count in zip(order, torch.bincount(torch.tensor(turns), minlength=len(order)).tolist(), strict=True):
            members = unlabeled[cluster[unlabeled] == k]
            picks[k] = members[self._most_typical(points[members], count)]
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

    def _most_typical(self, points: Tensor, count: int) -> Tensor:
        """i64 [count] rows of f32 [n, D]: again and again the most typical of what is left."""
        left = torch.arange(len(points))
        picks = []
        for _ in range(count):
            best = int(mean_neighbor_distance(points[left], min(self.num_neighbors, len(left) // 2)).argmin())
            picks.append(left[best])
            left = torch.cat([left[:best], left[best + 1 :]])
        return torch.stack(picks) if picks else left[:0]


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


def mean_neighbor_distance(points: Tensor, num_neighbors: int) -> Tensor:
    """f32 [n]: mean Euclidean distance of each of f32 [n, D] to its nearest others; 0 without neighbours."""
    if num_neighbors == 0:
        return torch.zeros(len(points))
    parts = []
    for part in torch.arange(len(points)).split(max(1, BLOCK_ELEMENTS // len(points))):
        distance = torch.cdist(points[part], points)
        distance[torch.arange(len(part)), part] = torch.inf
        parts.append(distance.topk(num_neighbors, largest=False).values.mean(dim=1))
    return torch.cat(parts)

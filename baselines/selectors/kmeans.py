"""Selection by k-means with as many clusters as picks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from baselines.selectors.finite import require_finite
from baselines.selectors.kcenter import BLOCK_ELEMENTS, filled
from baselines.selectors.lloyd import AUTHORS_STARTS, kmeans
from harness.api import Pool, Reason, Selector


class KMeans(Selector):
    """k-means selection, after the clusters of Nguyen & Smeulders 2004, https://doi.org/10.1145/1015330.1015349.

    The unlabelled images are put into as many clusters as there are images to pick, and the one nearest to each
    centroid is picked, from the largest cluster to the smallest. Where duplicates leave clusters empty, the rest
    is drawn at random. Labels play no part, so that a second round may pick near the first; the simplest reference
    for methods that cluster. Deviates: the paper clusters by k-medoids within its own method; this form, with the best
    of 10 starts, is that of later benchmarks' code (such as github.com/JordanAsh/badge, `KMeansSampling`). Its k-means
    is `kmeans`', of 25 iterations at most, whose starts are compared on a part of the images.

    Args:
        n_init: starts of k-means, >= 1.
    """

    supports_cold_start = True
    normalize = "none"

    def __init__(self, *, n_init: int = AUTHORS_STARTS):
        if n_init < 1:
            raise ValueError(f"n_init = {n_init} is not >= 1")
        self.n_init = n_init

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        points = require_finite(pool.features, "features")[pool.unlabeled]
        rows, sizes = nearest_to_centroids(points, budget, rng=rng, n_init=self.n_init)
        picks = pool.unlabeled[rows]
        self._sizes = dict(zip(picks.tolist(), sizes.tolist(), strict=True))
        return picks

    def explain(self, pool: Pool, picks: Tensor) -> Sequence[Reason]:
        """See `Selector.explain`."""
        sizes = [self._sizes[pick] for pick in picks.tolist()]
        return [
            Reason(f"cluster of {size}, nearest to its middle")
            if size
            else Reason("drawn at random: duplicates left no cluster for it")
            for size in sizes
        ]


def nearest_to_centroids(
    points: Tensor, budget: int, *, rng: torch.Generator, n_init: int = 1
) -> tuple[Tensor, Tensor]:
    """The nearest point to each of `budget` k-means centroids, from the largest cluster to the smallest.

    Args:
        points: f32 [n, D].
        budget: 1 .. n.
        rng: draws the starts of k-means, ties, and the rest where duplicates leave clusters empty.
        n_init: starts of k-means, >= 1.

    Returns:
        i64 [budget] distinct rows, and i64 [budget] the sizes of their clusters, 0 for those that were drawn.
    """
    cluster, centroids = kmeans(points, budget, rng=rng, n_init=n_init)

    def of_block(part: slice) -> Tensor:
        return (points[part] - centroids[cluster[part]]).square().sum(dim=1)

    to_centroid = filled(torch.empty(len(points)), max(1, BLOCK_ELEMENTS // points.shape[1]), of_block)
    shuffle = torch.randperm(len(points), generator=rng)  # ties are drawn
    order = shuffle[to_centroid[shuffle].argsort(stable=True)]
    order = order[cluster[order].argsort(stable=True)]  # by cluster, nearest first
    leads = torch.ones(len(order), dtype=torch.bool)
    leads[1:] = cluster[order][1:] != cluster[order][:-1]
    nearest = order[leads]
    size = torch.bincount(cluster, minlength=budget)[cluster[nearest]]
    nearest, size = nearest[size.argsort(descending=True, stable=True)], size.sort(descending=True).values
    rest = shuffle[~torch.isin(shuffle, nearest)]
    drawn = torch.zeros_like(rest)
    return torch.cat([nearest, rest])[:budget], torch.cat([size, drawn])[:budget]

"""k-means for many clusters in many dimensions, by blocked matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.kcenter import BLOCK_ELEMENTS, SquaredEuclidean
from baselines.selectors.kmeans_plus_plus import kmeans_plus_plus

AUTHORS_STARTS = 10
"""From how many starts scikit-learn's KMeans, which most of the authors call, took the best until its version 1.4."""


def kmeans(
    points: Tensor, num_clusters: int, *, rng: torch.Generator, max_iterations: int = 25, n_init: int = 1
) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from k-means++ starts, the best of several.

    Stops when at most one point in 1,000 changes its cluster. A cluster that loses all its points keeps its centroid
    and stays empty, which happens where there are fewer distinct points than clusters.

    Of several starts each is run to its end on a random part of the points, the same for all, of 20 points a cluster
    and 2,000 at least (Bradley & Fayyad 1998, Refining initial points for k-means clustering); the one with the least
    inertia there is run on all of them.

    Args:
        points: f32 [N, D].
        num_clusters: k, 1 .. N.
        rng: draws the starts, and the part where there are several.
        max_iterations: k-means converges slowly at the end, where little changes any more.
        n_init: starts, >= 1.

    Returns:
        i64 [N] the cluster of each point and f32 [k, D] the centroids.
    """
    if n_init == 1:
        start = kmeans_plus_plus(SquaredEuclidean(points), torch.arange(len(points)), num_clusters, rng=rng)
        return _descended(points, points[start].float(), max_iterations)
    part = points
    if len(points) > (size := max(2000, 20 * num_clusters)):
        part = points[torch.randperm(len(points), generator=rng)[:size]]
    least, best = torch.inf, points[:0]
    for _ in range(n_init):
        cluster, centroids = kmeans(part, num_clusters, rng=rng, max_iterations=max_iterations)
        inertia = float((part - centroids[cluster]).square().sum(dtype=torch.float64))
        if inertia < least:
            least, best = inertia, centroids
    return _descended(points, best, max_iterations)


def _descended(points: Tensor, centroids: Tensor, max_iterations: int) -> tuple[Tensor, Tensor]:
    """What `kmeans` returns, from centroids f32 [k, D]."""
    num_clusters = len(centroids)
    cluster = nearest_centroid(points, centroids)
    for _ in range(max_iterations):
        size = torch.bincount(cluster, minlength=num_clusters)
        sums = torch.zeros_like(centroids).index_add_(0, cluster, points.float())
        centroids = torch.where(size.unsqueeze(1) > 0, sums / size.clamp(min=1).unsqueeze(1), centroids)
        previous, cluster = cluster, nearest_centroid(points, centroids)
        if int((cluster != previous).sum()) <= len(points) // 1000:
            break
    return cluster, centroids


def nearest_centroid(points: Tensor, centroids: Tensor) -> Tensor:
    """i64 [N]: which of f32 [k, D] is the nearest to each of f32 [N, D]."""
    center = centroids.mean(dim=0)
    shifted = centroids - center  # products round off less near the origin
    offset = shifted.square().sum(dim=1)
    parts = points.split(max(1, BLOCK_ELEMENTS // len(centroids)))
    return torch.cat([torch.addmm(offset, part.float() - center, shifted.T, alpha=-2).argmin(dim=1) for part in parts])

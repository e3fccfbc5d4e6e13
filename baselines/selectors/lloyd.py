"""k-means for many clusters in many dimensions, by blocked matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.kcenter import BLOCK_ELEMENTS, SquaredEuclidean
from baselines.selectors.kmeans_plus_plus import kmeans_plus_plus


def kmeans(
    points: Tensor, num_clusters: int, *, rng: torch.Generator, max_iterations: int = 25
) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from a k-means++ start.

    Stops when at most one point in 1,000 changes its cluster. A cluster that loses all its points keeps its centroid
    and stays empty, which happens where there are fewer distinct points than clusters.

    Args:
        points: f32 [N, D].
        num_clusters: k, 1 .. N.
        rng: draws the start.
        max_iterations: k-means converges slowly at the end, where little changes any more.

    Returns:
        i64 [N] the cluster of each point and f32 [k, D] the centroids.
    """
    start = kmeans_plus_plus(SquaredEuclidean(points), torch.arange(len(points)), num_clusters, rng=rng)
    centroids = points[start].float()
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

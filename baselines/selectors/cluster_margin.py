"""Uncertain images, spread over the clusters of a hierarchy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from baselines.selectors.finite import require_finite
from baselines.selectors.kcenter import BLOCK_ELEMENTS
from baselines.selectors.kept import Kept
from baselines.selectors.lloyd import nearest_centroid
from baselines.selectors.log_odds import gaps, log_one_minus_margin
from baselines.selectors.ranking import highest
from harness.api import Pool, Selector

LARGEST_HIERARCHY = 20_000
"""Images that are clustered one by one: their distances fill 1.6 GB, and as much again while they are merged."""


class ClusterMargin(Selector):
    """Cluster-Margin, Citovsky et al. 2021, https://arxiv.org/abs/2107.14263.

    Of the `candidates` * budget images with the smallest margins, one after the other is drawn from the clusters that
    hold any, in turn and the smallest cluster first, until the budget is spent: a large cluster of alike images cannot
    fill the batch. Clusters are those of average linkage under the Euclidean distance of features, cut where they hold
    `cluster_size` images on average, and are made once as the paper's. The authors released no code, and the paper was
    read in part; the values are those that reimplementations quote from it. Deviations: the paper clusters what the
    last layer reads once the first labels are learnt, this the features of the pre-trained encoder (where there is
    none, those of the network that the round before trained, anew in every round); of a pool above 20,000 images, a
    draw of so many is clustered, every other one joins the cluster with the nearest mean, and clusters are larger in
    proportion. Ties are broken at random.
    Time O(min(N, 20,000)^2 D + N C D) for C clusters, memory O(min(N, 20,000)^2).

    Args:
        candidates: images considered for each one picked, >= 1.
        cluster_size: mean number of images in a cluster, at least, >= 1.
    """

    needs = frozenset({"probabilities"})
    normalize = "none"

    def __init__(self, *, candidates: float = 10.0, cluster_size: float = 10.0):
        for name, value in (("candidates", candidates), ("cluster_size", cluster_size)):
            if not value >= 1:
                raise ValueError(f"{name} = {value} is not >= 1")
        self.candidates = candidates
        self.cluster_size = cluster_size

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        cluster = kept_clusters(require_finite(pool.features, "features"), self.cluster_size)
        scores = log_one_minus_margin(gaps(pool.logits[pool.unlabeled]))
        uncertain = highest(pool, scores, min(round(self.candidates * budget), len(scores)), rng=rng)
        uncertain = uncertain[torch.randperm(len(uncertain), generator=rng)]
        return round_robin(uncertain, cluster[uncertain])[:budget]


def average_linkage(points: Tensor, cluster_size: float, *, rng: torch.Generator) -> Tensor:
    """i64 [N]: the cluster of each of f32 [N, D], of average linkage cut at N / cluster_size clusters, or just below.

    Args:
        points: finite.
        cluster_size: >= 1.
        rng: draws whom the hierarchy holds where there are more than `LARGEST_HIERARCHY`.
    """
    rows = torch.randperm(len(points), generator=rng)[:LARGEST_HIERARCHY]
    if len(rows) == 1:
        return torch.zeros(1, dtype=torch.int64)
    from scipy.cluster.hierarchy import fcluster, linkage

    tree = linkage(condensed_distances(points[rows].double()), "average")
    count = max(1, int(len(rows) / cluster_size))
    label = torch.from_numpy(fcluster(tree, count, criterion="maxclust").astype(np.int64) - 1)
    if len(rows) < len(points):
        sums = torch.zeros(int(label.max()) + 1, points.shape[1]).index_add_(0, label, points[rows].float())
        cluster = nearest_centroid(points, sums / torch.bincount(label).unsqueeze(1))
    else:
        cluster = torch.empty(len(points), dtype=torch.int64)
    cluster[rows] = label
    return cluster


kept_clusters = Kept(average_linkage)


def condensed_distances(points: Tensor) -> np.ndarray:
    """f64 [n (n - 1) / 2]: Euclidean distances of f64 [n, D] from all later rows, row by row, as SciPy takes them."""
    centered = points - points.mean(dim=0)  # products round off less near the origin
    distances = np.empty(len(points) * (len(points) - 1) // 2)
    end = 0
    for part in torch.arange(len(points)).split(max(1, BLOCK_ELEMENTS // len(points))):
        for row, values in zip(part.tolist(), torch.cdist(centered[part], centered).numpy(), strict=True):
            start, end = end, end + len(points) - 1 - row
            distances[start:end] = values[row + 1 :]
    return distances


def round_robin(members: Tensor, cluster: Tensor) -> Tensor:
    """The i64 [n] members, one of each cluster in turn, smallest cluster first; an empty one is passed over.

    Within a cluster, and between clusters of one size, they keep their order.

    Args:
        members: any.
        cluster: i64 [n], which each belongs to.
    """
    _, cluster, size = cluster.unique(return_inverse=True, return_counts=True)
    first = torch.full((len(size),), len(members)).scatter_reduce(0, cluster, torch.arange(len(members)), "amin")
    grouped = cluster.argsort(stable=True)
    turn = torch.empty_like(cluster)
    turn[grouped] = torch.arange(len(members)) - (size.cumsum(0) - size)[cluster[grouped]]
    return members[torch.from_numpy(np.lexsort((first[cluster], size[cluster], turn)))]

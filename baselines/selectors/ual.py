"""Unsupervised selection: clusters of a low-dimensional map of the features."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from baselines.selectors.finite import require_finite
from baselines.selectors.kept import SEED, Kept
from baselines.selectors.plane_maps import PLANE_MAPS, map_of_many
from baselines.selectors.shares import even_shares
from harness.api import Pool, Selector

SMALLEST_MAP = 10
"""Images below which a map has no neighbourhoods to preserve."""
REDUCERS = (*PLANE_MAPS, "pca", "none")


class UAL(Selector):
    """SimCLR-UAL's selection: features -> t-SNE -> k-means -> the images nearest to each centroid.

    As described: 10-d features of all images are mapped to 2-d by t-SNE, k-means makes 10 clusters, and the images
    nearest to each centroid are labelled, the same number from each cluster. The released code instead feeds t-SNE
    with the outputs of a classifier fitted on *all* labels and mistakes positions inside a cluster for positions in
    the data set; neither is followed. Ours: the 10-d features are the first principal components of the encoder's;
    images that are labelled already take part in the map but are not picked again; the number of a cluster's picks
    is `even_shares`; the picks take turns over the clusters, so that any first part of them is balanced as well.
    Pools of fewer than 10 images are clustered without a map. What k-means sees is a function of the features
    alone, not of `rng`, and a map is kept until they change: of a frozen encoder there is one, not one a round.
    Of more than 50,000 distinct ones a random 50,000 are mapped, and the others lie in the middle of the nearest 5.
    Images of equal features share a place in it, however many they are, and are picked in random order.
    t-SNE sums in parallel: the map, hence the picks, are reproducible for the same number of threads. k-means is
    scikit-learn's with the best of 10 starts, as the code's was. `pick`, `reducer`, `distance` and `num_clusters` are
    what the ablation varies; the source has "nearest", "tsne", "euclidean" and 10 alone.

    Args:
        num_clusters: clusters of k-means, >= 1.
        reducer: what k-means sees: a map of the principal components in the plane, "tsne", or "umap" or "pacmap"
            (`pip install 'selbench[maps]'`; `benchmarks.plane_maps` compares the three); "pca" (the components); or
            "none".
        pca_dims: number of principal components, >= 1; None keeps the features as they are (not with "pca").
        perplexity: of t-SNE, > 0; lowered to a third of the pool where that is smaller. The neighbours of "umap" (15)
            and "pacmap" (10) are those of their papers.
        distance: to the centroid: "euclidean", "cosine" or "manhattan". k-means itself is Euclidean.
        pick: the images "nearest" to each centroid or those "farthest" from it.
    """

    supports_cold_start = True
    normalize = "none"

    def __init__(
        self,
        *,
        num_clusters: int = 10,
        reducer: str = "tsne",
        pca_dims: int | None = 10,
        perplexity: float = 30.0,
        distance: str = "euclidean",
        pick: str = "nearest",
    ):
        if num_clusters < 1:
            raise ValueError(f"num_clusters = {num_clusters} is not >= 1")
        if reducer not in REDUCERS:
            raise ValueError(f"reducer = {reducer!r} is none of {', '.join(map(repr, REDUCERS))}")
        if reducer in ("umap", "pacmap") and find_spec(reducer) is None:
            raise ValueError(f"reducer = {reducer!r} needs a package: pip install 'selbench[maps]'")
        if pca_dims is not None and pca_dims < 1:
            raise ValueError(f"pca_dims = {pca_dims} is not >= 1")
        if pca_dims is None and reducer == "pca":
            raise ValueError(
                "pca_dims = None leaves reducer = 'pca' nothing to do; give a number >= 1, or reducer = 'none'"
            )
        if perplexity <= 0:
            raise ValueError(f"perplexity = {perplexity} is not > 0")
        if distance not in ("euclidean", "cosine", "manhattan"):
            raise ValueError(f"distance = {distance!r} is none of 'euclidean', 'cosine', 'manhattan'")
        if pick not in ("nearest", "farthest"):
            raise ValueError(f"pick = {pick!r} is none of 'nearest', 'farthest'")
        self.num_clusters = num_clusters
        self.reducer = reducer
        self.pca_dims = pca_dims
        self.perplexity = perplexity
        self.distance = distance
        self.pick = pick

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.metrics.pairwise import paired_distances

        seed = int(torch.randint(2**31 - 1, (), generator=rng))
        map_ = self._map(require_finite(pool.features, "features").numpy())
        with warnings.catch_warnings():  # fewer distinct points than clusters: some clusters stay empty
            warnings.simplefilter("ignore", ConvergenceWarning)
            kmeans = KMeans(min(self.num_clusters, len(map_)), n_init=10, random_state=seed).fit(map_)
        cluster = torch.from_numpy(kmeans.labels_).long()[pool.unlabeled]
        centroids = kmeans.cluster_centers_[kmeans.labels_]
        to_centroid = torch.from_numpy(paired_distances(map_, centroids, metric=self.distance))[pool.unlabeled]

        shares = even_shares(torch.bincount(cluster, minlength=kmeans.n_clusters), budget)
        rank = rank_in_cluster(cluster, to_centroid if self.pick == "nearest" else -to_centroid, rng=rng)
        taken = (rank < shares[cluster]).nonzero().squeeze(1)
        turns = taken[torch.argsort(rank[taken] * kmeans.n_clusters + cluster[taken])]
        return pool.unlabeled[turns]

    def _map(self, features: np.ndarray) -> np.ndarray:
        """What k-means sees, f64 [N, 2], [N, pca_dims] or [N, D] of f32 [N, D]; a map in the plane is kept."""
        if self.reducer == "none":
            return features.astype(np.float64)
        if self.reducer == "pca":
            return principal(features, self.pca_dims)
        distinct, which = np.unique(features, axis=0, return_inverse=True)  # also sorts them: their order says nothing
        return kept_map(torch.from_numpy(distinct), self.reducer, self.pca_dims, self.perplexity)[which]


def principal(features: np.ndarray, dims: int | None) -> np.ndarray:
    """f64 [N, d]: the first principal components of f32 [N, D]; None keeps the features as they are."""
    from sklearn.decomposition import PCA

    values = features.astype(np.float64)
    # One constant would make PCA divide by a variance of 0, and there is nothing to reduce.
    if dims is None or not np.ptp(values, axis=0).any():
        return values
    return PCA(min(dims, *values.shape), copy=False, random_state=SEED).fit_transform(values)


def _mapped(features: Tensor, reducer: str, dims: int | None, perplexity: float, *, rng: torch.Generator) -> np.ndarray:
    """f64 [N, 2]: the map of the principal components of f32 [N, D]; of few images, these themselves."""
    components = principal(features.numpy(), dims)
    if len(components) < SMALLEST_MAP:
        return components
    return map_of_many(reducer, components, perplexity, rng.initial_seed())


kept_map = Kept(_mapped)


def rank_in_cluster(cluster: Tensor, distance: Tensor, *, rng: torch.Generator) -> Tensor:
    """i64 [U]: 0 for the nearest member of each cluster, 1 for the next, ...; ties are broken by the generator.

    Args:
        cluster: i64 [U].
        distance: [U], to the own centroid.
        rng: breaks ties.
    """
    order = torch.randperm(len(cluster), generator=rng)
    order = order[distance[order].argsort(stable=True)]
    order = order[cluster[order].argsort(stable=True)]  # by cluster, then distance, then chance
    start = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(cluster).cumsum(0)[:-1]])
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - start[cluster[order]]
    return rank

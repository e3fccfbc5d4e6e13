"""Maps of points in the plane, of neighbours kept as neighbours: by t-SNE, UMAP or PaCMAP."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch

LARGEST_MAP = 50_000
PLACED_BY = 5
"""Mapped points by whose places that of one that was not mapped is found."""


def map_of_many(reducer: str, points: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """f64 [N, 2]: the map of f64 [N, D] by one of `PLANE_MAPS`; of more than `LARGEST_MAP` a random part is mapped.

    Each of the others lies in the middle of its nearest in that part.
    """
    mapper = PLANE_MAPS[reducer]
    if len(points) <= LARGEST_MAP:
        return mapper(points, perplexity, seed)
    from sklearn.neighbors import NearestNeighbors

    order = np.random.default_rng(seed).permutation(len(points))
    mapped, others = order[:LARGEST_MAP], order[LARGEST_MAP:]
    map_ = np.empty((len(points), 2))
    map_[mapped] = mapper(points[mapped], perplexity, seed)
    among = NearestNeighbors(n_neighbors=PLACED_BY, n_jobs=torch.get_num_threads()).fit(points[mapped])
    for part in np.array_split(others, -(-len(others) // LARGEST_MAP)):
        map_[part] = map_[mapped[among.kneighbors(points[part], return_distance=False)]].mean(axis=1)
    return map_


def tsne(points: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """f64 [N, 2]: the t-SNE map of f64 [N, D], by openTSNE (as fast as scikit-learn at 500 points, 3x at 30,000)."""
    import openTSNE

    # Starts from the first two columns, which are the principal ones, as openTSNE does; the jitter stands in for
    # columns that are constant or missing.
    start = np.random.default_rng(seed).normal(scale=1e-6, size=(len(points), 2))
    first = points[:, :2] - points[:, :2].mean(axis=0)
    start[:, : first.shape[1]] += 1e-4 * first / max(first.std(axis=0).max(), 1e-12)
    perplexity = min(perplexity, (len(points) - 1) / 3)
    method = openTSNE.TSNE(
        perplexity=perplexity, initialization=start, n_jobs=torch.get_num_threads(), random_state=seed
    )
    return np.asarray(method.fit(points), dtype=np.float64)


def umap(points: np.ndarray, _: float, seed: int) -> np.ndarray:
    """f64 [N, 2]: UMAP (McInnes, Healy & Melville 2018, https://arxiv.org/abs/1802.03426) of f64 [N, D], its defaults.

    By umap-learn, on one thread, because with a seed it takes one.
    """
    import umap

    method = umap.UMAP(n_neighbors=min(15, len(points) - 1), random_state=seed, n_jobs=1)
    return np.asarray(method.fit_transform(points), dtype=np.float64)


def pacmap(points: np.ndarray, _: float, seed: int) -> np.ndarray:
    """f64 [N, 2]: PaCMAP (Wang, Huang, Rudin & Shaposhnik 2021, https://arxiv.org/abs/2012.04456), its defaults."""
    import numba
    import pacmap

    if points.shape[1] < 2:  # it wants as many columns as it makes
        points = np.hstack([points, np.zeros((len(points), 1))])
    logging.getLogger("pacmap").setLevel(logging.ERROR)
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    method = pacmap.PaCMAP(n_neighbors=min(10, len(points) - 1), apply_pca=False, random_state=seed)
    return np.asarray(method.fit_transform(points.astype(np.float32)), dtype=np.float64)


PLANE_MAPS: dict[str, Callable[[np.ndarray, float, int], np.ndarray]] = {"tsne": tsne, "umap": umap, "pacmap": pacmap}
"""Reducer -> a map f64 [N, 2] of f64 [N, D], a perplexity (of t-SNE alone) and a seed."""

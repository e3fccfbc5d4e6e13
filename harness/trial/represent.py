"""What a fixed head reads: the encoder's features, or pixels, PCA or t-SNE beside them for comparison."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from harness.api import Images

Mapper = Callable[[Tensor], Tensor]
"""f32 [n, D] of any images -> f32 [n, E]."""


def pixels(images: Images) -> Tensor:
    """f32 [N, C * H * W] in [0, 1], on the CPU."""
    parts = [images[index].cpu() for index in torch.arange(len(images)).split(4096)]
    return torch.cat(parts).flatten(1).float().div_(255)


def fit_pca(pool: Tensor, dims: int, seed: int) -> Mapper:
    """Principal components of the pool's features; no label is involved."""
    from sklearn.decomposition import PCA

    dims = min(dims, *pool.shape)
    pca = PCA(dims, svd_solver="randomized", random_state=seed % 2**32).fit(pool.numpy())
    return lambda features: torch.from_numpy(pca.transform(features.numpy()).astype(np.float32))


def fit_tsne(pool: Tensor, dims: int, seed: int) -> tuple[Tensor, Mapper]:
    """A 2-d t-SNE map of the pool, after a PCA to `dims`; other images are placed into it one by one.

    Placing them (Policar et al. 2024, https://doi.org/10.18637/jss.v109.i03) keeps validation and test images from
    shaping the map that they are judged on.

    Returns:
        The pool's map f32 [N, 2] and the mapper of other images.
    """
    from openTSNE import TSNE

    reduce = fit_pca(pool, dims, seed)
    perplexity = min(30.0, max(1.0, (len(pool) - 1) / 3))
    settings = {"perplexity": perplexity, "n_jobs": torch.get_num_threads(), "random_state": seed % 2**32}
    fitted = TSNE(2, **settings).fit(reduce(pool).numpy().astype(np.float64))

    def place(features: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(fitted.transform(reduce(features).numpy().astype(np.float64)), np.float32))

    return torch.from_numpy(np.asarray(fitted, np.float32)), place

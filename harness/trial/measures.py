"""What is measured of an encoder while it is pre-trained: how its features lie, without any label, and what k-NN says.

Scores without labels are those of a fixed sample of the pool, under the encoder itself (papers also look at the outputs
of the projection head). None is a promise: a collapsed encoder aligns perfectly, a random one is uniform. Alignment and
uniformity are read together; the ranks say how many directions carry the features, not whether these are useful.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.metrics import ALIGNMENT, LABEL_FREE
from harness.seeding import generator

SAMPLE = 2_048
"""Images of the pool that are looked at, at most; a rank cannot be higher."""

KNN, KNN_OF_POOL = "pretrain/knn_accuracy", "pretrain/knn_pool_accuracy"

RANKS = (4, 100)
"""The first and the last eigenvalue, from 1, between which `alpha_req` fits the decay: `np.arange(3, 100)` of fastssl's
`scripts/train_model.py`, the authors' code. Their paper names no range."""


def sample_rows(count: int) -> Tensor:
    """i64 [min(SAMPLE, count)]: which of `count` images are looked at; the same whenever they are as many."""
    return torch.randperm(count, generator=generator(0, "measures/sample"))[:SAMPLE].sort().values


def label_free(features: Tensor, views: tuple[Tensor, Tensor] | None) -> dict[str, float]:
    """The values of `LABEL_FREE`, of the features of images and of two views of each, f32 [N, D].

    Images that are given as features have no views (None), and so no alignment.
    """
    spread, rank, decay = embedding_std(features), rankme(features), alpha_req(features)
    names = [name for name in LABEL_FREE if name != ALIGNMENT]
    measured = dict(zip(names, (spread, rank, decay, uniformity(features)), strict=True))
    measured |= {ALIGNMENT: alignment(*views)} if views else {}
    return {name: measured[name] for name in LABEL_FREE if name in measured}


def embedding_std(features: Tensor) -> float:
    """How spread the L2-normalised features are: 1 when isotropic, near 0 when collapsed.

    The mean over dimensions of their standard deviation, times sqrt(D) (Chen & He 2021, section 4.1,
    https://arxiv.org/abs/2011.10566).
    """
    return float(F.normalize(features, dim=1).std(dim=0).mean()) * features.shape[1] ** 0.5


def rankme(features: Tensor) -> float:
    """The effective rank of f32 [N, D], 1 .. min(N, D): RankMe, Garrido et al. 2023, https://arxiv.org/abs/2210.02885.

    exp of the entropy of the singular values' shares, Eq. (1); its epsilon of 1e-7 in the shares is left out.
    """
    values = _spectrum(features).sqrt()
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def alpha_req(features: Tensor) -> float:
    """The exponent of the decay of the covariance's eigenvalues: alpha-ReQ, Agrawal et al. 2022.

    https://openreview.net/forum?id=ii9X4vtZGTZ. Eigenvalue i falls like i^-alpha; representations that generalise have
    alpha near 1, so neither high nor low is better. The line through the logarithms is fitted with weights 1 / i over
    `RANKS`, as in the authors' code; NaN where fewer than two eigenvalues lie there.
    """
    values = _spectrum(features - features.mean(0)).flip(0)
    values = values[values > 1e-12 * values[:1]]
    rank = torch.arange(1, len(values) + 1, dtype=torch.float64)
    kept = (rank >= RANKS[0]) & (rank <= RANKS[1])
    if kept.sum() < 2:
        return math.nan
    x, y, w = rank[kept].log(), values[kept].log(), 1 / rank[kept]
    x, y = x - w @ x / w.sum(), y - w @ y / w.sum()
    return -float(w @ (x * y) / (w @ x.square()))


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of L2-normalised features f32 [N, D] of two views: 0 is best, 2 what unrelated ones have.

    L_align with alpha = 2, Wang & Isola 2020, https://arxiv.org/abs/2005.10242.
    """
    return float((F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(1).mean())


def uniformity(features: Tensor) -> float:
    """The logarithm of the mean of exp(-2 |a - b|^2) over pairs of L2-normalised features f32 [N, D]; lower is better.

    L_uniform with t = 2, Wang & Isola 2020: 0 where all are alike, about -4 on a sphere of many dimensions.
    """
    unit = F.normalize(features.double(), dim=1)
    similarity = (unit @ unit.T)[tuple(torch.triu_indices(len(unit), len(unit), offset=1))]
    return float((4 * similarity - 4).exp().mean().log())


def _spectrum(features: Tensor) -> Tensor:
    """f64 [min(N, D)]: squared singular values, rising."""
    x = features.double()
    return torch.linalg.eigvalsh(x @ x.T if len(x) <= x.shape[1] else x.T @ x).clamp_min(0)

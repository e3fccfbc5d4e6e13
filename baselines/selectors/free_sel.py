"""Selection by draws that keep away from what was drawn before."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from baselines.selectors.finite import require_finite
from baselines.selectors.kmeans_plus_plus import kmeans_plus_plus
from harness.api import Pool, Selector


class FreeSel(Selector):
    """FreeSel, Xie, Ding, Tomizuka & Zhan 2023, https://arxiv.org/abs/2309.17342.

    Images are drawn one after the other, each with a probability proportional to the square of its cosine distance
    from the nearest of the labelled and drawn ones, the first uniformly where there are none. The source of the law is
    the released code (https://github.com/yichen928/FreeSel). Deviation: the paper describes an image by several
    patterns, clusters of those patches of a transformer that get the most attention; a pool has one feature vector of
    each image, which stands for them. The released settings for CIFAR-10 have one pattern of each image too, the mean
    of the patches, so that what is missing are the choice of patches by attention and of an earlier layer.
    Time O(budget N D), memory O(N) beyond the features.
    """

    supports_cold_start = True
    normalize = "none"

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        weights = SquaredCosineDistance(require_finite(pool.features, "features"))
        return kmeans_plus_plus(weights, pool.unlabeled, budget, rng=rng, centers=pool.labeled)


class SquaredCosineDistance:
    """(1 - cos)^2 between rows of f32 [N, D]; the squares of a seeding are those of cosine distances here."""

    def __init__(self, features: Tensor):
        self.directions = normalize(features.float())

    def block(self, rows: Tensor, others: Tensor) -> Tensor:
        """See `kmeans_plus_plus.Blocks.block`."""
        distance = 1 - self.directions[rows] @ self.directions[others].T
        return distance.masked_fill_(distance < 1e-6, 0.0).square_()  # equal directions differ by rounding

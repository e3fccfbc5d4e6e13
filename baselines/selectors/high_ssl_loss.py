"""Selection of the images that the self-supervised task finds hard."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.ranking import highest
from harness.api import Pool, Selector


class HighSSLLoss(Selector):
    """High contrastive loss, an ablation of MoBYv2AL, Caramalau et al. 2022, https://arxiv.org/abs/2301.01531.

    Picks the images with the highest self-supervised loss under the pre-trained encoder. Needs an SSL method that
    defines a loss per image. Ties are broken at random.
    """

    supports_cold_start = True
    reads = frozenset({"ssl_loss"})

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        return highest(pool, pool.ssl_loss[pool.unlabeled], budget, rng=rng)

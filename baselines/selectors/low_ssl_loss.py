"""Selection of the images that the self-supervised task finds easy."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.ranking import highest
from harness.api import Pool, Selector


class LowSSLLoss(Selector):
    """Low contrastive loss, after MoBYv2AL's unlabelled subset, Caramalau et al. 2022, https://arxiv.org/abs/2301.01531.

    Picks the images with the lowest self-supervised loss under the pre-trained encoder (in joint training, the
    round's): typical ones, against a shift between the labelled images and the rest. Needs an SSL method that defines
    a loss per image. Deviates: in the paper such images are what the contrastive task learns from, not what is
    labelled; its released code (github.com/razvancaramalau/MoBYv2AL) has neither, and the mean over several draws is
    ours. Ties are broken at random.

    Args:
        num_draws: >= 1; of views and batches, over which the loss is averaged: two single draws hardly agree.
    """

    supports_cold_start = True
    reads = frozenset({"ssl_loss"})

    def __init__(self, *, num_draws: int = 8):
        if num_draws < 1:
            raise ValueError(f"num_draws = {num_draws} is not >= 1")
        self.num_draws = num_draws

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        return highest(pool, -pool.ssl_loss(self.num_draws)[pool.unlabeled], budget, rng=rng)

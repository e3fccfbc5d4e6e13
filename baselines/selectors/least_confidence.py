"""Uncertainty sampling by the top probability."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.log_odds import gaps, log_odds_against_top
from baselines.selectors.ranking import highest
from harness.api import Pool, Selector


class LeastConfidence(Selector):
    """Least confidence sampling, Lewis & Gale 1994, https://arxiv.org/abs/cmp-lg/9407020.

    Picks the images whose most probable class has the smallest probability p_1. Ranks by log((1 - p_1) / p_1)
    (`log_odds`); ties are broken at random.
    """

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        return highest(pool, log_odds_against_top(gaps(pool.logits[pool.unlabeled])), budget, rng=rng)

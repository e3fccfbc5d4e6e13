"""Uncertainty sampling by predictive entropy under dropout."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from baselines.selectors.log_odds import gaps, log_entropy
from baselines.selectors.ranking import highest
from harness.api import Pool, Selector


class MCDropout(Selector):
    """MC-Dropout predictive entropy, Gal & Ghahramani 2016 (https://arxiv.org/abs/1506.02142), Gal et al. 2017.

    Picks the images with the highest entropy of the mean prediction over passes with dropout active. A backbone without
    dropout layers is refused by the harness: its passes are all alike. Ties are broken at random.

    Args:
        num_samples: stochastic passes, >= 2.
    """

    reads = frozenset({"stochastic_logits"})

    def __init__(self, *, num_samples: int = 20):
        if num_samples < 2:
            raise ValueError(f"num_samples = {num_samples} is not >= 2")
        self.num_samples = num_samples

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        logits = pool.stochastic_logits(self.num_samples)[:, pool.unlabeled].double()
        log_mean_p = logits.log_softmax(dim=-1).logsumexp(dim=0) - math.log(self.num_samples)
        return highest(pool, log_entropy(gaps(log_mean_p)), budget, rng=rng)

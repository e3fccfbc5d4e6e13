"""Selection by what passes with dropout disagree about."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from baselines.selectors.ranking import highest
from harness.api import Pool, Selector


class BALD(Selector):
    """BALD with dropout (DBAL), Houlsby et al. 2011, Gal et al. 2017, https://arxiv.org/abs/1703.02910.

    Picks the images with the highest mutual information between prediction and weights: the entropy of the mean
    prediction minus the mean entropy of the predictions, over passes with dropout active. A backbone without dropout
    layers is refused by the harness: its passes are all alike. Ties (to 1e-12) are broken at random.

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
        logits = pool.stochastic_logits(self.num_samples)[:, pool.unlabeled]
        return highest(pool, mutual_information(logits).round(decimals=12), budget, rng=rng)


def mutual_information(logits: Tensor) -> Tensor:
    """f64 [U]: mutual information in nats of float [n, U, K] logits, >= 0 up to rounding."""
    log_p = logits.double().log_softmax(dim=-1)
    log_mean_p = log_p.logsumexp(dim=0) - math.log(len(log_p))
    # The mean Kullback-Leibler divergence from the mean prediction, which equals the difference of entropies.
    return (log_p.exp() * (log_p - log_mean_p)).sum(dim=-1).mean(dim=0)

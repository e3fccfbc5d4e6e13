"""Random selection spread over the range of a confidence score."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.finite import require_finite
from baselines.selectors.shares import even_shares
from harness.api import Pool, Selector


class RepresentativeRandom(Selector):
    """Representative random, over the energy score of Liu et al. 2020, https://arxiv.org/abs/2010.03759.

    Draws at random over the whole range of the energy score -log sum_k exp z_k, from sure to unsure: the label request
    of a study of self-supervision on 800 classes. Our reading of it: the range of the unlabelled images' scores is cut
    into `num_bins` intervals of equal width, each gives the same number of images at random, and what an interval
    with too few cannot give is split over the others.

    Args:
        num_bins: >= 1; 1 is plain random selection.
    """

    needs = frozenset({"probabilities"})

    def __init__(self, *, num_bins: int = 10):
        if num_bins < 1:
            raise ValueError(f"num_bins = {num_bins} is not >= 1")
        self.num_bins = num_bins

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        energy = -require_finite(pool.logits, "logits")[pool.unlabeled].double().logsumexp(dim=1)
        span = float(energy.max() - energy.min())
        part = (energy - energy.min()) / span if span > 0 else torch.zeros_like(energy)
        bin_ = (part * self.num_bins).long().clamp(max=self.num_bins - 1)
        shares = even_shares(torch.bincount(bin_, minlength=self.num_bins), budget)
        shuffle = torch.randperm(len(bin_), generator=rng)
        picks = torch.cat([shuffle[bin_[shuffle] == k][:share] for k, share in enumerate(shares.tolist())])
        return pool.unlabeled[picks[torch.randperm(budget, generator=rng)]]

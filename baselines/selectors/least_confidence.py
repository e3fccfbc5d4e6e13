"""Uncertainty sampling by the top probability."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from baselines.selectors.log_odds import gaps, log_odds_against_top
from baselines.selectors.ranking import highest
from harness.api import Pool, Reason, Selector


class LeastConfidence(Selector):
    """Least confidence sampling, Lewis & Gale 1994, https://arxiv.org/abs/cmp-lg/9407020.

    Picks the images whose most probable class has the smallest probability p_1. Ranks by log((1 - p_1) / p_1)
    (`log_odds`); ties are broken at random.
    """

    needs = frozenset({"probabilities"})

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        return highest(pool, log_odds_against_top(gaps(pool.logits[pool.unlabeled])), budget, rng=rng)

    def explain(self, pool: Pool, picks: Tensor) -> Sequence[Reason]:
        """See `Selector.explain`."""
        top, classes = pool.logits[picks].double().softmax(dim=1).max(dim=1)
        likely = zip(top.tolist(), classes.tolist(), strict=True)
        return [Reason(f"only {p:.2g} sure of {{}}, its most probable class", 1 - p, (k,)) for p, k in likely]

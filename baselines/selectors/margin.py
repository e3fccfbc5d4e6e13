"""Uncertainty sampling by margin."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from baselines.selectors.log_odds import gaps, log_one_minus_margin
from baselines.selectors.ranking import highest
from harness.api import Pool, Reason, Selector


class Margin(Selector):
    """Margin sampling, Scheffer, Decomain & Wrobel 2001, https://doi.org/10.1007/3-540-44816-0_31.

    Picks the images with the smallest difference p_1 - p_2 between the two most probable classes. Ranks by
    log(1 - (p_1 - p_2)) (`log_odds`); ties are broken at random.
    """

    needs = frozenset({"probabilities"})

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        return highest(pool, log_one_minus_margin(gaps(pool.logits[pool.unlabeled])), budget, rng=rng)

    def explain(self, pool: Pool, picks: Tensor) -> Sequence[Reason]:
        """See `Selector.explain`."""
        top, classes = pool.logits[picks].double().softmax(dim=1).topk(2)
        margins = (top[:, 0] - top[:, 1]).tolist()
        pairs = map(tuple, classes.tolist())
        return [
            Reason(f"margin {m:.2g} between {{}} and {{}}", m, pair) for m, pair in zip(margins, pairs, strict=True)
        ]

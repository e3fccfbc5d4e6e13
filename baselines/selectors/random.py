"""The reference that every other selector has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from baselines.selectors.ranking import shuffled
from harness.api import Pool, Reason, Selector


class Random(Selector):
    """Uniform random selection without replacement, the reference of every comparison.

    The released codes of several methods draw their random baseline *with* replacement, which labels fewer
    images than the budget; here the picks are distinct.
    """

    supports_cold_start = True

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        return shuffled(pool, rng=rng)[:budget]

    def explain(self, pool: Pool, picks: Tensor) -> Sequence[Reason]:
        """See `Selector.explain`."""
        return [Reason("drawn at random")] * len(picks)

"""Selection by passes with dropout: what the selectors of this kind share."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from baselines.selectors.ranking import highest
from harness.api import Pool, Selector


class DropoutPasses(Selector):
    """Picks the images with the highest score of several passes with dropout active; ties are broken at random.

    A backbone without dropout layers is refused by the harness: its passes are all alike.

    Args:
        num_samples: stochastic passes, >= 2; the default is ours.
    """

    needs = frozenset({"probabilities"})
    reads = frozenset({"stochastic_logits"})

    def __init__(self, *, num_samples: int = 20):
        if num_samples < 2:
            raise ValueError(f"num_samples = {num_samples} is not >= 2")
        self.num_samples = num_samples

    @abstractmethod
    def score(self, logits: Tensor) -> Tensor:
        """f64 [U] of f64 [num_samples, U, K] logits."""

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        logits = pool.stochastic_logits(self.num_samples)[:, pool.unlabeled].double()
        return highest(pool, self.score(logits), budget, rng=rng)

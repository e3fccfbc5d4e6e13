"""Uncertainty sampling by entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from baselines.selectors.log_odds import gaps, log_entropy
from baselines.selectors.ranking import highest
from harness.api import Pool, Reason, Selector


class Entropy(Selector):
    """Maximum entropy sampling, Shannon 1948; Settles 2009, https://burrsettles.com/pub/settles.activelearning.pdf.

    Picks the images whose predicted class distribution has the highest entropy -sum_k p_k log p_k. Ranks by the
    entropy's logarithm (`log_odds`); ties are broken at random.
    """

    needs = frozenset({"probabilities"})

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        return highest(pool, log_entropy(gaps(pool.logits[pool.unlabeled])), budget, rng=rng)

    def explain(self, pool: Pool, picks: Tensor) -> Sequence[Reason]:
        """See `Selector.explain`."""
        p = pool.logits[picks].double().softmax(dim=1)
        entropies, likely = torch.special.entr(p).sum(dim=1).tolist(), map(tuple, p.topk(2).indices.tolist())
        most = f"{math.log(pool.num_classes):.2f}"
        return [
            Reason(f"entropy {h:.2f} of at most {most}, most likely {{}} or {{}}", h, pair)
            for h, pair in zip(entropies, likely, strict=True)
        ]

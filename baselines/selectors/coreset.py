"""Core-set selection."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from baselines.selectors.finite import require_finite
from baselines.selectors.kcenter import SquaredEuclidean, k_center_greedy
from baselines.selectors.ranking import shuffled
from harness.api import Pool, Reason, Selector


class CoreSet(Selector):
    """CoreSet, Sener & Savarese 2018, https://arxiv.org/abs/1708.00489.

    k-centre greedy (the paper's Algorithm 1) under the Euclidean distance of what the classifier's last layer reads
    (section 5), of the encoder's features before the first training. The labelled images are the first centres; without
    any, the first pick is drawn at random. Ties are broken at random. The mixed-integer refinement of the paper is left
    out, as in most of the literature. Features are raw, as the paper's; then long vectors are picked first, and
    `normalize: l2` is another method that is often better.
    """

    supports_cold_start = True
    normalize = "none"

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        distance = SquaredEuclidean(require_finite(pool.penultimate, "penultimate"))
        return k_center_greedy(distance, pool.labeled, shuffled(pool, rng=rng), budget, rng=rng)

    def explain(self, pool: Pool, picks: Tensor) -> Sequence[Reason]:
        """See `Selector.explain`."""
        chosen, before = pool.penultimate[picks].double(), pool.penultimate[pool.labeled].double()
        reasons = [Reason("drawn at random, the first of all")] if not len(before) else []
        for number in range(len(reasons), len(picks)):
            centers = torch.cat([before, chosen[:number]])
            distance = float((centers - chosen[number]).norm(dim=1).min())
            reasons.append(Reason(f"{distance:.3g} away from every labelled image and the picks before it", distance))
        return reasons

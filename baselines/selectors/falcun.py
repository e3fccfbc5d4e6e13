"""Selection of uncertain and diverse images in probability space."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.finite import require_finite
from baselines.selectors.log_odds import gaps, log_one_minus_margin
from baselines.selectors.ranking import shuffled
from harness.api import Pool, Selector


class Falcun(Selector):
    """FALCUN, Gilhuber, Beer, Ma & Seidl 2024 (ECML PKDD), https://github.com/sobermeier/falcun.

    Draws one image after the other with a probability proportional to (d + u)^gamma among those left: u is one minus
    the margin of the two highest class probabilities, d the least L1 distance between the image's probabilities and
    those of the picked ones (u itself, where that is less), scaled to [0, 1] among those left. Uncertain images come
    first, then ever more diverse ones. Follows the authors' code with its default settings (`distance_unc_norm`, gamma
    10); of the paper only the abstract was at hand. Deviates: where d + u is 0 for all that are left, the next is drawn
    uniformly (theirs divides by 0). Labelled images play no part. Costs U x K per pick.

    Args:
        gamma: >= 0; 0 draws at random, large values take the highest d + u.
    """

    needs = frozenset({"probabilities"})

    def __init__(self, *, gamma: float = 10.0):
        if not gamma >= 0:
            raise ValueError(f"gamma = {gamma} is not >= 0")
        self.gamma = gamma

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        rows = shuffled(pool, rng=rng)
        logits = require_finite(pool.logits, "logits")[rows].double()
        p, uncertainty = logits.softmax(dim=1), log_one_minus_margin(gaps(logits)).exp()
        distance = uncertainty.clone()
        picks: list[int] = []
        while True:
            weight = self._relevance(distance, uncertainty)
            pick = _draw(weight, rng)
            picks.append(int(rows[pick]))
            if len(picks) == budget:
                return torch.tensor(picks)
            # The last takes the place of the picked one, so that what is left lies side by side.
            own = p[pick : pick + 1].clone()
            for values in (rows, p, uncertainty, distance):
                values[pick] = values[-1]
            rows, p, uncertainty, distance = rows[:-1], p[:-1], uncertainty[:-1], distance[:-1]
            torch.minimum(distance, torch.cdist(p, own, p=1.0).squeeze(1), out=distance)

    def _relevance(self, distance: Tensor, uncertainty: Tensor) -> Tensor:
        """f64 [n] >= 0, the largest 1: proportional to the probability of each image, of those that are left."""
        least, most = distance.aminmax()
        relevance = distance.sub(least).div_(most - least if most > least else 1.0).add_(uncertainty)
        largest = relevance.max()
        return relevance.div_(largest).pow_(self.gamma) if largest > 0 else torch.ones_like(relevance)


def _draw(weights: Tensor, rng: torch.Generator) -> int:
    """One of f64 [n] >= 0, with a probability proportional to it."""
    cumulative = weights.cumsum(0)
    target = torch.rand((), generator=rng, dtype=torch.float64) * cumulative[-1]
    pick = int(torch.searchsorted(cumulative, target, right=True))
    return pick if pick < len(weights) else int(weights.nonzero()[-1])  # a rounded product may be the whole sum

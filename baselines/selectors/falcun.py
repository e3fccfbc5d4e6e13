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
        candidates = shuffled(pool, rng=rng)
        logits = require_finite(pool.logits, "logits")[candidates].double()
        p, uncertainty = logits.softmax(dim=1), log_one_minus_margin(gaps(logits)).exp()
        distance = uncertainty.clone()
        left = torch.ones(len(candidates), dtype=torch.bool)
        picks: list[int] = []
        while True:
            picks.append(_draw(self._relevance(distance, uncertainty, left), left, rng))
            if len(picks) == budget:
                return candidates[picks]
            left[picks[-1]] = False
            torch.minimum(distance, torch.cdist(p, p[picks[-1:]], p=1.0).squeeze(1), out=distance)

    def _relevance(self, distance: Tensor, uncertainty: Tensor, left: Tensor) -> Tensor:
        """f64 [U] >= 0, the largest 1: proportional to the probability of each image that is left."""
        least, most = distance[left].aminmax()
        relevance = uncertainty + (distance - least) / (most - least if most > least else 1.0)
        largest = relevance[left].max()
        return (relevance / largest if largest > 0 else torch.ones_like(relevance)) ** self.gamma


def _draw(weights: Tensor, left: Tensor, rng: torch.Generator) -> int:
    """One of those that are left, with a probability proportional to f64 [U] >= 0."""
    cumulative = (weights * left).cumsum(0)
    target = torch.rand((), generator=rng, dtype=torch.float64) * cumulative[-1]
    return int(torch.searchsorted(cumulative, target, right=True).clamp(max=int(left.nonzero()[-1])))

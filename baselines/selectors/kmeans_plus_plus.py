"""k-means++ seeding: each next centre is drawn with a probability proportional to its squared distance to the centres.

The plain loop updates all squared distances after every draw. Here `BATCH` points at once are proposed by their last
known squared distances, which can only have shrunk since, and each is accepted with the ratio of its true squared
distance to that. This is rejection sampling, hence the same law as the plain loop's. Of a batch the true distances are
a small matter; those of all points are brought up to date, by one blocked matrix product, only once so many of a batch
were rejected that the last known ones are worth little.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from baselines.selectors.kcenter import BLOCK_ELEMENTS

BATCH = 256
ENOUGH = 0.5
"""Share of a batch of which more is accepted as long as the last known squared distances are worth proposing by."""


class Blocks(Protocol):
    """A squared distance that is evaluated in blocks."""

    def block(self, rows: Tensor, others: Tensor) -> Tensor:
        """[R, M]: squared distances of i64 [R] from i64 [M]; may be negative by rounding."""


def kmeans_plus_plus(
    distance: Blocks, candidates: Tensor, budget: int, *, rng: torch.Generator, centers: Tensor | None = None
) -> Tensor:
    """Draws distinct centres; uniformly once all candidates lie on centres, and the first one where there is none yet.

    Args:
        distance: squared distances among all points.
        candidates: i64 [U], distinct.
        budget: 1 .. U.
        rng: the only source of randomness.
        centers: i64 [M], centres that there are from the start, none of them a candidate.

    Returns:
        i64 [budget], in the order of drawing.
    """
    bound = torch.full((len(candidates),), torch.inf, dtype=torch.float64)
    if centers is None or len(centers) == 0:
        chosen = torch.randint(len(candidates), (1,), generator=rng)
        unseen = candidates[chosen]
    else:
        chosen, unseen = candidates.new_empty(0), centers
    num_accepted = 0
    while len(chosen) < budget:
        if num_accepted <= ENOUGH * BATCH:
            _update(bound, distance, candidates, unseen)
            bound[chosen] = 0.0
            unseen = unseen[:0]
        if not bound.any():
            rest = torch.ones(len(candidates), dtype=torch.bool).index_fill(0, chosen, False).nonzero().squeeze(1)
            return candidates[torch.cat([chosen, rest[torch.randperm(len(rest), generator=rng)]])[:budget]]
        accepted = _accepted(bound, distance, candidates, unseen, rng)[: budget - len(chosen)]
        bound[accepted] = 0.0
        num_accepted = len(accepted)
        chosen, unseen = torch.cat([chosen, accepted]), torch.cat([unseen, candidates[accepted]])
    return candidates[chosen]


def _update(bound: Tensor, distance: Blocks, candidates: Tensor, centers: Tensor) -> None:
    """Lowers `bound` f64 [U] to the squared distances from centres i64 [n] that it has not seen, in place."""
    if len(centers) == 0:
        return
    step = max(1, BLOCK_ELEMENTS // len(centers))
    for rows, part in zip(candidates.split(step), bound.split(step), strict=True):
        torch.minimum(part, distance.block(rows, centers).amin(dim=1).clamp(min=0).double(), out=part)


def _accepted(bound: Tensor, distance: Blocks, candidates: Tensor, unseen: Tensor, rng: torch.Generator) -> Tensor:
    """i64 [0 .. BATCH]: draws from `bound` f64 [U], thinned to the law that `unseen` and draws kept before leave."""
    cumulative = bound.cumsum(0)
    targets = torch.rand(BATCH, generator=rng, dtype=torch.float64) * cumulative[-1]
    proposals = torch.searchsorted(cumulative, targets, right=True).clamp(max=int(bound.nonzero()[-1]))
    rows = candidates[proposals]
    among = distance.block(rows, rows).double().clamp(min=0)
    among[proposals.unsqueeze(1) == proposals] = 0.0
    squared = among.numpy()
    thresholds = torch.rand(BATCH, generator=rng, dtype=torch.float64) * bound[proposals]
    nearest = np.full(BATCH, np.inf)
    if len(unseen):
        nearest = distance.block(rows, unseen).amin(dim=1).double().clamp(min=0).numpy()
    kept: list[int] = []
    for i, threshold in enumerate(thresholds.tolist()):
        if threshold < nearest[i]:
            kept.append(i)
            np.minimum(nearest, squared[i], out=nearest)
    return proposals[kept]

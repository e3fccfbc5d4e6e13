"""Taking the best of a pool by one score per image, and equals at random."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.api import Pool


def shuffled(pool: Pool, *, rng: torch.Generator) -> Tensor:
    """i64 [U]: the unlabelled positions in random order, so that the first of equals is a random one."""
    return pool.unlabeled[torch.randperm(len(pool.unlabeled), generator=rng)]


def highest(pool: Pool, scores: Tensor, budget: int, *, rng: torch.Generator) -> Tensor:
    """The `budget` unlabelled images with the highest scores, best first.

    Equal scores are ordered by the generator: of equals, a position is no reason to prefer one.

    Args:
        pool: the pool.
        scores: [U], one score for each of `pool.unlabeled`, in its order; infinities are allowed.
        budget: 1 .. U.
        rng: breaks ties.

    Returns:
        i64 [budget], positions in the pool.

    Raises:
        ValueError: a score is NaN: the network that it comes from has diverged.
    """
    assert scores.shape == pool.unlabeled.shape, (scores.shape, pool.unlabeled.shape)
    if scores.isnan().any():
        raise ValueError(
            f"{int(scores.isnan().sum())} of {len(scores)} selection scores are NaN: the model has diverged"
        )
    shuffle = torch.randperm(len(scores), generator=rng)
    order = scores[shuffle].argsort(descending=True, stable=True)[:budget]
    return pool.unlabeled[shuffle[order]]

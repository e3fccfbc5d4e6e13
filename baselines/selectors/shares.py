"""Splitting a budget over groups of images."""

from __future__ import annotations

import torch
from torch import Tensor


def even_shares(sizes: Tensor, budget: int) -> Tensor:
    """Splits a budget evenly over clusters.

    Every cluster with members left gets an equal share, the remainder goes one each to the largest clusters (among
    equals to the first); a cluster smaller than its share gives all it has, and what it could not give is split in the
    same way over the others, until the budget is spent.

    Args:
        sizes: i64 [k] >= 0.
        budget: 0 .. sum(sizes).

    Returns:
        i64 [k] of sum `budget`, each at most its cluster's size.
    """
    assert 0 <= budget <= int(sizes.sum()), (budget, sizes)
    shares = torch.zeros_like(sizes)
    largest_first = sizes.argsort(descending=True, stable=True)
    while (left := budget - int(shares.sum())) > 0:
        open_ = largest_first[(shares < sizes)[largest_first]]
        share, remainder = divmod(left, len(open_))
        wanted = shares[open_] + share + (torch.arange(len(open_)) < remainder)
        shares[open_] = torch.minimum(wanted, sizes[open_])
    return shares

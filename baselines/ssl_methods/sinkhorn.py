"""Balanced assignment by optimal transport."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, num_iterations: int) -> Tensor:
    """Sinkhorn-Knopp, Cuturi 2013, as SwAV uses it: soft codes that use all prototypes alike.

    In logarithms, so that no epsilon is too small.

    Args:
        scores: f32 [..., B, K], similarities of B vectors and K prototypes.
        epsilon: of the entropy, > 0; the smaller, the sharper the codes.
        num_iterations: >= 1.

    Returns:
        f32 [..., B, K]; every row sums to 1, every column to about B / K.
    """
    with torch.autocast(scores.device.type, enabled=False):
        logarithm = scores.float() / epsilon
        for _ in range(num_iterations):
            logarithm = logarithm - logarithm.logsumexp(dim=-2, keepdim=True)  # every prototype as often
            logarithm = logarithm - logarithm.logsumexp(dim=-1, keepdim=True)  # every vector once
        return logarithm.exp()

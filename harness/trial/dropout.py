"""Dropout of features that are known, as of `nn.Dropout` in training, at a quarter of its cost on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 2**16
"""A rate is one of so many: a draw of 64 bits decides of four features."""


def dropped(values: Tensor, rate: float, rng: torch.Generator) -> Tensor:
    """f32 [...]: each of the values is 0 with that probability, and else divided by the probability that it is not.

    Args:
        values: f32 [...], on the CPU.
        rate: in (0, 1), kept to 1/65,536.
        rng: draws, on the CPU.
    """
    below = min(max(round(rate * LEVELS), 1), LEVELS - 1)
    draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None, generator=rng)
    places = draws.view(torch.int16)[: values.numel()].view(values.shape)
    kept = torch.ge(places, below - LEVELS // 2, out=torch.empty_like(values))  # as floats: 3 times as fast as a mask
    return kept.mul_(values).mul_(LEVELS / (LEVELS - below))

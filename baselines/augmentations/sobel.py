"""Edges."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.augmentations.operation import Operation


class Sobel(Operation):
    """Sobel filtering, one of the operations that SimCLR compares (Chen et al. 2020, https://arxiv.org/abs/2002.05709).

    The gradient's length in each channel, where 1 is a straight edge from black to white (steeper corners are
    clamped); edges of the image are replicated. Without randomness: all views are alike.
    """

    def apply(self, images: Tensor) -> Tensor:
        """Computes the gradient's length."""
        padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
        smooth_rows = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
        smooth_columns = padded[:, :, :, :-2] + 2 * padded[:, :, :, 1:-1] + padded[:, :, :, 2:]
        across = smooth_rows[:, :, :, 2:] - smooth_rows[:, :, :, :-2]
        down = smooth_columns[:, :, 2:] - smooth_columns[:, :, :-2]
        return (torch.hypot(across, down) / 4).clamp_(0, 1)

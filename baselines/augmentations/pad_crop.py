"""Random translation by a few pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.augmentations.operation import Operation, check_number, integer


class PadCrop(Operation):
    """Random crop of the full size out of the zero-padded image, He et al. 2016, https://arxiv.org/abs/1512.03385.

    Args:
        padding: black pixels added on every side, 0 .. 1024.
    """

    def __init__(self, *, padding: int = 4):
        check_number("padding", padding, 0, 1024)
        self.padding = padding

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws the crop's top and left in the padded image, i64 [B], 0 .. 2 x padding."""
        places = 2 * self.padding + 1
        return {"top": integer(images, rng, places), "left": integer(images, rng, places)}

    def apply(self, images: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Pads and crops."""
        H, W = images.shape[2:]
        padded = F.pad(images, [self.padding] * 4)
        windows = padded.unfold(2, H, 1).unfold(3, W, 1)  # a view [B, C, places, places, H, W]
        return windows[torch.arange(len(images), device=images.device), :, top, left]

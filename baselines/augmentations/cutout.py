"""Cutout."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from baselines.augmentations.operation import Operation, check_number, integer


class Cutout(Operation):
    """Cutout, DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552.

    Covers a square whose centre is any pixel, so part of it may lie outside the image. It is filled with mid-grey:
    the paper fills with the data set's mean, which an augmentation does not know.

    Args:
        area: of the square, as a fraction of the image's; in [0, 1]. The side is rounded to pixels.
    """

    def __init__(self, *, area: float = 0.25):
        check_number("area", area, 0, 1)
        self.area = area

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws the squares' centres: row and column, i64 [B]."""
        H, W = images.shape[2:]
        return {"row": integer(images, rng, H), "column": integer(images, rng, W)}

    def apply(self, images: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Covers one square in each image."""
        H, W = images.shape[2:]
        side = round(math.sqrt(self.area * H * W))
        rows = torch.arange(H, device=images.device) - (row[:, None] - side // 2)
        columns = torch.arange(W, device=images.device) - (column[:, None] - side // 2)
        covered_rows, covered_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
        covered = covered_rows[:, :, None] & covered_columns[:, None, :]
        return images.masked_fill_(covered[:, None], 0.5)

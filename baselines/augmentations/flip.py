"""Horizontal flip."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.augmentations.operation import Operation, chance, check_number, per_image


class Flip(Operation):
    """Mirrors left and right.

    Args:
        probability: share of the images that are flipped, in [0, 1].
    """

    kernel = "flip"

    def __init__(self, *, probability: float = 0.5):
        check_number("probability", probability, 0, 1)
        self.probability = probability

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws which images are flipped, bool [B]."""
        return {"chosen": chance(images, rng, self.probability)}

    def apply(self, images: Tensor, chosen: Tensor) -> Tensor:
        """Flips the chosen images."""
        return torch.where(per_image(chosen), images.flip(3), images)

"""Random brightness."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.augmentations.operation import Operation, chance, check_number, per_image, uniform


class Brightness(Operation):
    """Multiplies the pixels by a random factor, as torchvision's `adjust_brightness`.

    Args:
        strength: the factor is drawn from [max(0, 1 - strength), 1 + strength]; in [0, 10].
        probability: share of the images that are changed, in [0, 1].
    """

    def __init__(self, *, strength: float = 0.4, probability: float = 1.0):
        check_number("strength", strength, 0, 10)
        check_number("probability", probability, 0, 1)
        self.strength = strength
        self.probability = probability

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws factors, f32 [B]; 1 for images that stay as they are."""
        factor = uniform(images, rng, max(0.0, 1 - self.strength), 1 + self.strength)
        return {"factor": torch.where(chance(images, rng, self.probability), factor, 1.0)}

    def apply(self, images: Tensor, factor: Tensor) -> Tensor:
        """Multiplies and clamps."""
        return images.mul_(per_image(factor)).clamp_(0, 1)

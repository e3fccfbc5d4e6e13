"""What brightness and contrast share: a random factor around 1."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.augmentations.operation import Operation, chance, check_number, uniform


class RandomFactor(Operation):
    """An operation by a random factor for each image.

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

"""Random solarization."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.augmentations.operation import Operation, chance, check_number, per_image


class Solarize(Operation):
    """Inverts the pixels at or above a threshold, as in BYOL, Grill et al. 2020, https://arxiv.org/abs/2006.07733.

    Args:
        threshold: in [0, 1]; 0 inverts everything.
        probability: share of the images that are solarized, in [0, 1].
    """

    kernel = "solarize"

    def __init__(self, *, threshold: float = 0.5, probability: float = 1.0):
        check_number("threshold", threshold, 0, 1)
        check_number("probability", probability, 0, 1)
        self.threshold = threshold
        self.probability = probability

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Each image's threshold, f32 [B]; above every pixel's value, 2, for images that stay as they are."""
        return {"threshold": torch.where(chance(images, rng, self.probability), self.threshold, 2.0)}

    def apply(self, images: Tensor, threshold: Tensor) -> Tensor:
        """Inverts the bright pixels."""
        return torch.where(images >= per_image(threshold), 1 - images, images)

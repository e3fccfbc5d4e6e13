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

    def __init__(self, *, threshold: float = 0.5, probability: float = 1.0):
        check_number("threshold", threshold, 0, 1)
        check_number("probability", probability, 0, 1)
        self.threshold = threshold
        self.probability = probability

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws which images are solarized, bool [B]."""
        return {"chosen": chance(images, rng, self.probability)}

    def apply(self, images: Tensor, chosen: Tensor) -> Tensor:
        """Inverts the bright pixels of the chosen images."""
        return torch.where(per_image(chosen) & (images >= self.threshold), 1 - images, images)

"""Random brightness."""

from __future__ import annotations

from torch import Tensor

from baselines.augmentations.factor import RandomFactor
from baselines.augmentations.operation import per_image


class Brightness(RandomFactor):
    """Multiplies the pixels by a random factor, as torchvision's `adjust_brightness`."""

    def apply(self, images: Tensor, factor: Tensor) -> Tensor:
        """Multiplies and clamps."""
        return images.mul_(per_image(factor)).clamp_(0, 1)

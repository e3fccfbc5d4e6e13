"""Random contrast."""

from __future__ import annotations

from torch import Tensor

from baselines.augmentations.factor import RandomFactor
from baselines.augmentations.grayscale import luminance
from baselines.augmentations.operation import per_image


class Contrast(RandomFactor):
    """Scales the distance to the image's mean grey by a random factor, as torchvision's `adjust_contrast`."""

    def apply(self, images: Tensor, factor: Tensor) -> Tensor:
        """Blends with the mean grey and clamps."""
        mean = luminance(images).mean((1, 2, 3))
        return images.mul_(per_image(factor)).add_(per_image(mean * (1 - factor))).clamp_(0, 1)

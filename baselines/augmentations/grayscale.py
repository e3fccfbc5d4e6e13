"""Random conversion to grey."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.augmentations.operation import Operation, chance, check_number, per_image


class Grayscale(Operation):
    """Replaces all three channels by the luminance, as torchvision's `rgb_to_grayscale`; grey images stay.

    Args:
        probability: share of the images that lose their colour, in [0, 1].
    """

    kernel = "grayscale"

    def __init__(self, *, probability: float = 0.2):
        check_number("probability", probability, 0, 1)
        self.probability = probability

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws which images become grey, bool [B]."""
        return {"chosen": chance(images, rng, self.probability)}

    def apply(self, images: Tensor, chosen: Tensor) -> Tensor:
        """Turns the chosen images grey."""
        return torch.where(per_image(chosen), luminance(images), images)


def luminance(images: Tensor) -> Tensor:
    """f32 [B, 1, H, W]: the grey value (ITU-R BT.601) of images f32 [B, C, H, W]; grey images themselves."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue

"""SimCLR-UAL's views."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.augmentations.center_crop import CenterCrop
from baselines.augmentations.contrast import Contrast
from baselines.augmentations.crop import Interpolation
from baselines.augmentations.operation import Chain, Operation, check_number, per_image, uniform


class Lighten(Operation):
    """Adds the same light to every pixel, as Keras' `RandomBrightness`.

    Args:
        most: is added, in [0, 1], where 1 makes every image white; drawn from [0, most].
    """

    def __init__(self, *, most: float):
        self.most = most

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws what is added, f32 [B]."""
        return {"light": uniform(images, rng, 0.0, self.most)}

    def apply(self, images: Tensor, light: Tensor) -> Tensor:
        """Adds and clamps."""
        return images.add_(per_image(light)).clamp_(0, 1)


class Fade(Contrast):
    """Takes contrast away.

    Args:
        most: is taken, in [0, 1], where 1 leaves the mean grey; the factor is drawn from [1 - most, 1].
    """

    def __init__(self, *, most: float):
        super().__init__(strength=most)
        self.most = most

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws factors, f32 [B]."""
        return {"factor": uniform(images, rng, 1 - self.most, 1.0)}


class SimCLRUAL(Chain):
    """SimCLR-UAL's augmentation as described: centre crop to half and resize back, random brightness, random contrast.

    Brightness goes "from no change to full brightness", by adding light as the released code does; contrast "from no
    change to full darkness", which is taken for a contrast of 0: the mean grey is left. The code lets both go the other
    way as well, takes the mean of each channel, and applies a 0 .. 255 value range to images in [0, 1], which it
    divides by 255 again.

    Args:
        keep: height and width of the crop as a fraction of the image's, in [0.01, 1].
        brightness: the most light that is added, in [0, 1].
        contrast: the most contrast that is taken away, in [0, 1].
        interpolation: of the resizing, bilinear or bicubic; the code's is bicubic.
    """

    def __init__(
        self,
        *,
        keep: float = 0.5,
        brightness: float = 1.0,
        contrast: float = 1.0,
        interpolation: Interpolation = "bicubic",
    ):
        check_number("brightness", brightness, 0, 1)
        check_number("contrast", contrast, 0, 1)
        self.keep = keep
        self.brightness = brightness
        self.contrast = contrast
        self.interpolation = interpolation
        self.steps = [
            CenterCrop(keep=keep, interpolation=interpolation),
            Lighten(most=brightness),
            Fade(most=contrast),
        ]

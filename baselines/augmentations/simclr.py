"""SimCLR's views."""

from __future__ import annotations

from baselines.augmentations.blur import Blur
from baselines.augmentations.color_jitter import ColorJitter
from baselines.augmentations.crop import Crop, Interpolation
from baselines.augmentations.flip import Flip
from baselines.augmentations.grayscale import Grayscale
from baselines.augmentations.operation import Chain, check_number
from baselines.augmentations.solarize import Solarize


class SimCLR(Chain):
    """SimCLR's augmentation, Chen et al. 2020, https://arxiv.org/abs/2002.05709, in its CIFAR form (appendix B.9).

    Crop, flip, colour jitter, grey, and blur where asked for. CIFAR form: jitter at strength 0.5 and no blur; for
    ImageNet the paper uses 1.0 and 0.5. BYOL and its followers jitter saturation half as much and solarise.

    Args:
        scale: range of the crop's area, as a fraction of the image's, in (0, 1].
        strength: of the colour jitter, in [0, 2.5]: 0.8 x strength for brightness, contrast and saturation,
            0.2 x strength for hue.
        saturation: of the colour jitter, in [0, 10]; 0.8 x strength if None.
        blur: share of the images that are blurred, in [0, 1].
        solarize: share of the images that are solarised, in [0, 1].
        size: of the crop, in pixels, or below 1 as a share of the image's sides; those of the image if None.
        interpolation: of the crop, bilinear or bicubic.
    """

    def __init__(
        self,
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        strength: float = 0.5,
        saturation: float | None = None,
        blur: float = 0.0,
        solarize: float = 0.0,
        size: int | float | None = None,
        interpolation: Interpolation = "bilinear",
    ):
        check_number("strength", strength, 0, 2.5)
        check_number("blur", blur, 0, 1)
        check_number("solarize", solarize, 0, 1)
        self.scale = scale
        self.strength = strength
        self.saturation = saturation
        self.blur = blur
        self.solarize = solarize
        self.size = size
        self.interpolation = interpolation
        light, hue = 0.8 * strength, 0.2 * strength
        colour = light if saturation is None else saturation
        self.steps = [
            Crop(scale=scale, size=size, interpolation=interpolation),
            Flip(probability=0.5),
            ColorJitter(brightness=light, contrast=light, saturation=colour, hue=hue, probability=0.8),
            Grayscale(probability=0.2),
        ]
        if blur > 0:
            self.steps.append(Blur(probability=blur))
        if solarize > 0:
            self.steps.append(Solarize(probability=solarize))

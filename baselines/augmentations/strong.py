"""MoBYv2AL's strong view."""

from __future__ import annotations

from baselines.augmentations.blur import Blur
from baselines.augmentations.color_jitter import ColorJitter
from baselines.augmentations.crop import Crop
from baselines.augmentations.flip import Flip
from baselines.augmentations.grayscale import Grayscale
from baselines.augmentations.operation import Chain
from baselines.augmentations.solarize import Solarize


class Strong(Chain):
    """The strong view of MoBYv2AL, Caramalau et al. 2022, https://arxiv.org/abs/2301.01531.

    As described: crop, flip, colour jitter 0.4 / 0.4 / 0.2 / 0.1 (probability 0.8), grey 0.2, blur 0.2, solarization
    0.2. The blur's filter is SimCLR's, 3 pixels across at 32; the released code's is as wide as its deviation (up to 2
    pixels) asks for, and by a second draw leaves half of those that were to be blurred as they are.

    Args:
        scale: range of the crop's area, as a fraction of the image's, in (0, 1].
    """

    def __init__(self, *, scale: tuple[float, float] = (0.2, 1.0)):
        self.scale = scale
        self.steps = [
            Crop(scale=scale),
            Flip(),
            ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, probability=0.8),
            Grayscale(probability=0.2),
            Blur(probability=0.2),
            Solarize(probability=0.2),
        ]

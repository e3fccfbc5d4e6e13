"""SimCLR-UAL's views."""

from __future__ import annotations

from baselines.augmentations.brightness import Brightness
from baselines.augmentations.center_crop import CenterCrop
from baselines.augmentations.contrast import Contrast
from baselines.augmentations.operation import Chain


class SimCLRUAL(Chain):
    """SimCLR-UAL's augmentation as described: centre crop to half and resize back, random brightness, random contrast.

    The strengths' default is SimCLR's CIFAR value. The released code differs: it applies a 0 .. 255 value range
    to images in [0, 1] and divides by 255 again.

    Args:
        keep: height and width of the crop as a fraction of the image's, in [0.01, 1].
        brightness: its factor is drawn from [max(0, 1 - brightness), 1 + brightness]; in [0, 10].
        contrast: likewise.
    """

    def __init__(self, *, keep: float = 0.5, brightness: float = 0.4, contrast: float = 0.4):
        self.keep = keep
        self.brightness = brightness
        self.contrast = contrast
        self.steps = [CenterCrop(keep=keep), Brightness(strength=brightness), Contrast(strength=contrast)]

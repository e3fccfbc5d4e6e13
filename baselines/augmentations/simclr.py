"""SimCLR's views."""

from __future__ import annotations

from baselines.augmentations.blur import Blur
from baselines.augmentations.color_jitter import ColorJitter
from baselines.augmentations.crop import Crop
from baselines.augmentations.flip import Flip
from baselines.augmentations.grayscale import Grayscale
from baselines.augmentations.operation import Chain, check_number


class SimCLR(Chain):
    """SimCLR's augmentation, Chen et al. 2020, https://arxiv.org/abs/2002.05709, in its CIFAR form (appendix B.9).

    Crop, flip, colour jitter, grey, and blur where asked for. CIFAR form: jitter at strength 0.5 and no blur; for
    ImageNet the paper uses 1.0 and 0.5.

    Args:
        scale: range of the crop's area, as a fraction of the image's, in (0, 1].
        strength: of the colour jitter, in [0, 2.5]: 0.8 x strength for brightness, contrast and saturation,
            0.2 x strength for hue.
        blur: share of the images that are blurred, in [0, 1].
    """

    def __init__(self, *, scale: tuple[float, float] = (0.08, 1.0), strength: float = 0.5, blur: float = 0.0):
        check_number("strength", strength, 0, 2.5)
        check_number("blur", blur, 0, 1)
        self.scale = scale
        self.strength = strength
        self.blur = blur
        light, hue = 0.8 * strength, 0.2 * strength
        self.steps = [
            Crop(scale=scale),
            Flip(probability=0.5),
            ColorJitter(brightness=light, contrast=light, saturation=light, hue=hue, probability=0.8),
            Grayscale(probability=0.2),
        ]
        if blur > 0:
            self.steps.append(Blur(probability=blur))

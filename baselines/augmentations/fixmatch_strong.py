"""FixMatch's strong view."""

from __future__ import annotations

from baselines.augmentations.cutout import Cutout
from baselines.augmentations.flip import Flip
from baselines.augmentations.operation import Chain
from baselines.augmentations.pad_crop import PadCrop
from baselines.augmentations.rand_augment import RandAugment


class FixMatchStrong(Chain):
    """The strong view of FixMatch, Sohn et al. 2020, https://arxiv.org/abs/2001.07685: RandAugment and Cutout.

    As described, after the weak view's flip and padded crop: two operations of random magnitude, each done with
    probability 0.5, then a grey square of half the image's side.

    Args:
        padding: of the crop, in pixels, 0 .. 1024.
    """

    def __init__(self, *, padding: int = 4):
        self.padding = padding
        self.steps = [Flip(), PadCrop(padding=padding), RandAugment(magnitude=None), Cutout(area=0.25)]

"""MoBYv2AL's weak view."""

from __future__ import annotations

from baselines.augmentations.flip import Flip
from baselines.augmentations.operation import Chain
from baselines.augmentations.pad_crop import PadCrop


class Weak(Chain):
    """Flip and crop with padding: the weak view of MoBYv2AL, Caramalau et al. 2022, https://arxiv.org/abs/2301.01531.

    Args:
        padding: black pixels added on every side before the crop, 0 .. 1024.
    """

    def __init__(self, *, padding: int = 4):
        self.padding = padding
        self.steps = [Flip(), PadCrop(padding=padding)]

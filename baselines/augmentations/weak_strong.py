"""MoBYv2AL's two views."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.augmentations.strong import Strong
from baselines.augmentations.weak import Weak
from harness.api import Augmentation


class WeakStrong(Augmentation):
    """View 0 weak, every other view strong: MoBYv2AL, Caramalau et al. 2022, https://arxiv.org/abs/2301.01531.

    Args:
        padding: of the weak view's crop, in pixels, 0 .. 1024.
        scale: range of the strong view's crop area, as a fraction of the image's, in (0, 1].
    """

    def __init__(self, *, padding: int = 4, scale: tuple[float, float] = (0.2, 1.0)):
        self.padding = padding
        self.scale = scale
        self._weak = Weak(padding=padding)
        self._strong = Strong(scale=scale)

    def __call__(self, images: Tensor, *, view: int, rng: torch.Generator) -> Tensor:
        """Applies the view's augmentation."""
        augmentation = self._weak if view == 0 else self._strong
        return augmentation(images, view=view, rng=rng)

    def parts(self) -> tuple[Augmentation, ...]:
        """The weak and the strong one."""
        return self._weak, self._strong

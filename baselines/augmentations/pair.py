"""Any two augmentations, one after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.augmentations.operation import check_augmentations
from harness.api import Augmentation


class Pair(Augmentation):
    """The composition of two augmentations: what SimCLR's ablation (Chen et al. 2020, figure 5) compares.

    In a configuration the two are given by name, or by name and hyper-parameters.

    Args:
        first: applied to the images.
        second: applied to the result.
    """

    def __init__(self, *, first: Augmentation | str = "crop", second: Augmentation | str = "color_jitter"):
        self.first, self.second = check_augmentations(first=first, second=second)

    def __call__(self, images: Tensor, *, view: int, rng: torch.Generator) -> Tensor:
        """Applies the first, then the second."""
        return self.second(self.first(images, view=view, rng=rng), view=view, rng=rng)

    def parts(self) -> tuple[Augmentation, ...]:
        """The two."""
        return self.first, self.second

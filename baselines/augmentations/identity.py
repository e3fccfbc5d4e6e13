"""The images as they are."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from baselines.augmentations.operation import Operation


class Identity(Operation):
    """No augmentation: a copy of the images, in [0, 1]."""

    draws = False

    def apply(self, images: Tensor, *args: Any, **parameters: Any) -> Tensor:
        """Returns the images."""
        return images

"""An augmentation for each view."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.augmentations.operation import check_augmentations
from harness.api import Augmentation


class ByView(Augmentation):
    """Views that differ: the first augmentation makes the first view, and so on; the last makes all later views.

    BYOL, Barlow Twins and DINO solarise the second view alone, for example. In a configuration the augmentations are
    given by name, or by name and hyper-parameters.

    Args:
        views: at least one.
    """

    def __init__(self, *, views: tuple[Augmentation | str, ...] = ("weak", "strong")):
        if not views:
            raise ValueError("views is empty: name an augmentation for the first view, as in [weak, strong]")
        self.views = views
        self._views = check_augmentations(**{f"views[{number}]": view for number, view in enumerate(views)})

    def __call__(self, images: Tensor, *, view: int, rng: torch.Generator) -> Tensor:
        """Applies the view's augmentation."""
        return self._views[min(view, len(self._views) - 1)](images, view=view, rng=rng)

    def parts(self) -> tuple[Augmentation, ...]:
        """One for each view."""
        return self._views

"""Large and small crops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from baselines.augmentations.operation import check_augmentations
from baselines.ssl_methods.multi_crop import NUM_GLOBAL_VIEWS
from harness.api import Augmentation

LOCAL: Mapping[str, Any] = {"name": "simclr", "scale": [0.05, 0.14], "size": 0.5}
"""SwAV's range of the area; 96 of 224 pixels are 0.43 of the side there."""


class MultiCrop(Augmentation):
    """Multi-crop, Caron et al. (SwAV) 2020, https://arxiv.org/abs/2006.09882: two large views, then small ones.

    Small images of small parts cost a fraction of a large view. How many there are is for the method to say
    (`num_local_views` of `swav` and `dino`); the backbone must take both sizes. In a configuration the augmentations
    are given by name, or by name and hyper-parameters; each may be a `by_view` of its own.

    Args:
        global_views: makes views 0 and 1.
        local_views: makes all others; its images are to be smaller, as by `size` of `simclr` and `crop`.
    """

    def __init__(
        self,
        *,
        global_views: Augmentation | str = "simclr",
        local_views: Augmentation | str | Mapping[str, Any] = LOCAL,
    ):
        self.global_views, self.local_views = check_augmentations(global_views=global_views, local_views=local_views)

    def __call__(self, images: Tensor, *, view: int, rng: torch.Generator) -> Tensor:
        """Applies the view's augmentation, to which the first local view is view 0 again."""
        if view < NUM_GLOBAL_VIEWS:
            return self.global_views(images, view=view, rng=rng)
        return self.local_views(images, view=view - NUM_GLOBAL_VIEWS, rng=rng)

    def parts(self) -> tuple[Augmentation, ...]:
        """That of global views and that of local ones."""
        return self.global_views, self.local_views

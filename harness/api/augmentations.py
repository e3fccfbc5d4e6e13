"""How an image becomes a view."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor


class Augmentation(ABC):
    """A random image operation, batched, with a fresh draw for every image.

    Example:
        >>> class Dim(Augmentation):
        ...     def __call__(self, images, *, view, rng):
        ...         unit = images / 255 if images.dtype == torch.uint8 else images
        ...         return unit * torch.rand(len(images), 1, 1, 1, generator=rng, device=images.device)
        >>> dimmed = Dim()(torch.full((2, 3, 8, 8), 255, dtype=torch.uint8), view=0, rng=torch.Generator())
        >>> dimmed.shape, bool((dimmed[0] != dimmed[1]).all())
        (torch.Size([2, 3, 8, 8]), True)
    """

    draws: ClassVar[bool] = True
    """Whether it draws anything; if not, its view of an image is always the same, and a fixed encoder sees it once."""

    @abstractmethod
    def __call__(self, images: Tensor, *, view: int, rng: torch.Generator) -> Tensor:
        """Transforms a batch.

        Args:
            images: [B, C, H, W], u8 in 0 .. 255 or f32 in [0, 1]; never modified; C is 1 or 3.
            view: which view of the image is being made, 0 .. V-1, for asymmetric recipes.
            rng: the only source of randomness, on the images' device.

        Returns:
            f32 [B, C, H, W] in [0, 1], on the images' device; H and W are those of the input unless
            the operation is asked for another size.
        """

    def parts(self) -> Sequence[Augmentation]:
        """The augmentations that this one is made of, for reports, which show what each does; none of a single one."""
        return ()

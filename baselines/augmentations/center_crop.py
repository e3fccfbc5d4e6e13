"""The middle of the image, resized back."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.augmentations.crop import Interpolation, check_interpolation, resized_crop
from baselines.augmentations.operation import Operation, check_number


class CenterCrop(Operation):
    """Centre crop resized to the full size, as in SimCLR-UAL. Without randomness: all views are alike.

    Args:
        keep: height and width of the box as a fraction of the image's, in [0.01, 1]; rounded to pixels.
        interpolation: bilinear or bicubic, as of `crop`.
    """

    draws = False

    def __init__(self, *, keep: float = 0.5, interpolation: Interpolation = "bilinear"):
        check_number("keep", keep, 0.01, 1)
        check_interpolation(interpolation)
        self.keep = keep
        self.interpolation = interpolation
        self.kernel = "crop" if interpolation == "bilinear" else None

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """The same centred box for every image: top, left, height, width, i64 [B], in pixels; draws nothing."""
        B, _, H, W = images.shape
        height, width = max(1, round(H * self.keep)), max(1, round(W * self.keep))
        box = {"top": (H - height) // 2, "left": (W - width) // 2, "height": height, "width": width}
        return {side: torch.full((B,), pixels, device=images.device) for side, pixels in box.items()}

    def apply(self, images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
        """Cuts the boxes out and resizes them."""
        sides = images.shape[2:]
        return resized_crop(images, top, left, height, width, *sides, interpolation=self.interpolation)

    def kernel_output(self, images: Tensor) -> Tensor:
        """New memory, because every output pixel reads several input pixels."""
        return torch.empty_like(images)

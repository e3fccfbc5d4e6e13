"""Random resized crop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from baselines.augmentations.operation import Operation, check_range, integer

_TRIES = 10

Interpolation = Literal["bilinear", "bicubic"]


class Crop(Operation):
    """Random resized crop ("Inception crop"), Szegedy et al. 2015, https://arxiv.org/abs/1409.4842.

    Follows torchvision's `RandomResizedCrop`: area and aspect ratio are drawn until the box fits (ten tries),
    and the largest centred box of an allowed ratio is the last resort. Resizing is antialiased, which changes nothing
    unless `size` asks for fewer pixels than the box has. The box is given to the nearest pixel.

    Args:
        scale: range of the box's area, as a fraction of the image's, in (0, 1].
        ratio: range of the box's width / height, in [0.01, 100].
        size: height and width of the result in pixels, or below 1 as a share of the input's; the input's if None.
        interpolation: bilinear or bicubic (Keys 1981, a = -1/2, as in Pillow and TensorFlow), clamped to [0, 1].
    """

    def __init__(
        self,
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        size: int | float | None = None,
        interpolation: Interpolation = "bilinear",
    ):
        check_range("scale", scale, 1e-6, 1)
        check_range("ratio", ratio, 0.01, 100)
        check_size(size)
        check_interpolation(interpolation)
        self.scale = scale
        self.ratio = ratio
        self.size = size
        self.interpolation = interpolation
        self.kernel = "crop" if interpolation == "bilinear" else None

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws boxes inside the images: top, left, height, width, i64 [B], in pixels."""
        B, _, H, W = images.shape
        area, log_ratio = torch.rand(2, _TRIES, B, generator=rng, device=images.device)
        area = H * W * (area * (self.scale[1] - self.scale[0]) + self.scale[0])
        low, high = math.log2(self.ratio[0]), math.log2(self.ratio[1])
        ratio = torch.exp2(log_ratio * (high - low) + low)

        # A side is rounded to pixels, so its square must lie in [0.5^2, (the image's side + 0.5)^2).
        squares = torch.stack((area / ratio, area * ratio))
        fits = (squares >= 0.25).all(0) & (squares[0] < (H + 0.5) ** 2) & (squares[1] < (W + 0.5) ** 2)
        squares = squares.gather(1, fits.int().argmax(0).expand(2, 1, B))[:, 0]
        # Not sqrt: on the CPU that wakes every thread, however little there is to do.
        height, width = (squares * squares.rsqrt()).round().long()

        fallback_height, fallback_width = self._largest_box(H, W)
        any_fits = fits.any(0)
        height = torch.where(any_fits, height.clamp(1, H), fallback_height)
        width = torch.where(any_fits, width.clamp(1, W), fallback_width)
        top = torch.where(any_fits, integer(images, rng, H - height + 1), (H - fallback_height) // 2)
        left = torch.where(any_fits, integer(images, rng, W - width + 1), (W - fallback_width) // 2)
        return {"top": top, "left": left, "height": height, "width": width}

    def _largest_box(self, H: int, W: int) -> tuple[int, int]:
        ratio = min(max(W / H, self.ratio[0]), self.ratio[1])
        return (H, max(1, round(H * ratio))) if ratio < W / H else (max(1, round(W / ratio)), W)

    def apply(self, images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
        """Cuts the boxes out and resizes them."""
        boxes = (top, left, height, width)
        return resized_crop(images, *boxes, *self._new_sides(images), interpolation=self.interpolation)

    def kernel_output(self, images: Tensor) -> Tensor:
        """New memory of the asked size."""
        return images.new_empty(*images.shape[:2], *self._new_sides(images))

    def _new_sides(self, images: Tensor) -> tuple[int, int]:
        H, W = images.shape[2:]
        if self.size is None:
            return H, W
        if self.size < 1:
            return max(1, round(H * self.size)), max(1, round(W * self.size))
        return int(self.size), int(self.size)


def check_interpolation(interpolation: str) -> None:
    """Checks a hyper-parameter.

    Raises:
        ValueError: no such filter.
    """
    if interpolation not in _FILTERS:
        raise ValueError(f"interpolation = {interpolation!r} must be one of {', '.join(_FILTERS)}")


def check_size(size: float | None) -> None:
    """Checks a hyper-parameter that is a crop's size.

    Raises:
        ValueError: it is neither None, nor a share in (0, 1), nor a whole number of pixels in 1 .. 65536.
    """
    if size is None or (isinstance(size, float) and 0 < size < 1):
        return
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 65536:
        raise ValueError(f"size = {size!r} must be pixels, a whole number in [1, 65536], or a share between 0 and 1")


def resized_crop(
    images: Tensor,
    top: Tensor,
    left: Tensor,
    height: Tensor,
    width: Tensor,
    new_height: int,
    new_width: int,
    *,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Cuts a box out of each image and resizes it, antialiased.

    Args:
        images: f32 [B, C, H, W].
        top: i64 [B], in pixels like `left`, `height` and `width`; the box lies inside the image.
        left: i64 [B].
        height: i64 [B], at least 1.
        width: i64 [B], at least 1.
        new_height: rows of the result.
        new_width: columns of the result.
        interpolation: the filter.

    Returns:
        f32 [B, C, new_height, new_width], clamped to [0, 1], which a cubic filter overshoots at edges.
    """
    H, W = images.shape[2:]
    rows = _resize_matrix(top, height, H, new_height, interpolation)
    columns = _resize_matrix(left, width, W, new_width, interpolation)
    return (rows[:, None] @ images @ columns[:, None].mT).clamp_(0, 1)


def _resize_matrix(start: Tensor, length: Tensor, old: int, new: int, interpolation: Interpolation) -> Tensor:
    """f32 [B, new, old]: weights of a filter that maps pixels start .. start + length - 1 to `new` pixels."""
    pixels = torch.arange(old, device=start.device)
    inside = (pixels >= start[:, None]) & (pixels < (start + length)[:, None])
    scale = (length / new)[:, None]
    centres = start[:, None] + (torch.arange(new, device=start.device) + 0.5) * scale
    distances = (pixels + 0.5 - centres[:, :, None]).abs() / scale.clamp(min=1)[:, :, None]
    weights = _FILTERS[interpolation](distances) * inside[:, None]
    return weights / weights.sum(2, keepdim=True)


def _triangle(distances: Tensor) -> Tensor:
    return (1 - distances).clamp_(min=0)


def _cubic(distances: Tensor) -> Tensor:
    """Keys 1981, Eq. (15): cubic convolution with a = -1/2."""
    near = (1.5 * distances - 2.5) * distances * distances + 1
    far = ((-0.5 * distances + 2.5) * distances - 4) * distances + 2
    return torch.where(distances < 1, near, far) * (distances < 2)


_FILTERS: dict[str, Callable[[Tensor], Tensor]] = {"bilinear": _triangle, "bicubic": _cubic}
"""Name -> the filter's value at distances >= 0, in pixels."""

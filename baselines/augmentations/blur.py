"""Random Gaussian blur."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.augmentations.operation import Operation, chance, check_number, check_range, per_image, uniform


class Blur(Operation):
    """Gaussian blur, Chen et al. (SimCLR) 2020, https://arxiv.org/abs/2002.05709.

    The edges are reflected, as in torchvision's `gaussian_blur`.

    Args:
        kernel_size: pixels across the filter, odd and less than twice the image's shorter side; if None that of the
            authors' code, 2 (H // 20) + 1 for images of H rows (7 of 64, 23 of 224), and at least 3 (all below 40).
        sigma: range of the standard deviation in pixels, in [0.01, 100].
        probability: share of the images that are blurred, in [0, 1].
    """

    kernel = "blur"

    def __init__(
        self, *, kernel_size: int | None = None, sigma: tuple[float, float] = (0.1, 2.0), probability: float = 0.5
    ):
        if kernel_size is not None:
            check_number("kernel_size", kernel_size, 1, 1023)
            if kernel_size % 2 != 1:
                raise ValueError(f"kernel_size = {kernel_size!r} must be odd, such as {int(kernel_size) // 2 * 2 + 1}")
        check_range("sigma", sigma, 0.01, 100)
        check_number("probability", probability, 0, 1)
        self.kernel_size = kernel_size
        self.sigma = sigma
        self.probability = probability

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws the filters, f32 [B, taps]; a single 1 in the middle for images that stay sharp."""
        sigma = uniform(images, rng, *self.sigma)
        sigma = torch.where(chance(images, rng, self.probability), sigma, 0.0)
        return {"weights": gaussian(sigma, self._radius(*images.shape[2:]))}

    def apply(self, images: Tensor, weights: Tensor) -> Tensor:
        """Filters rows, then columns."""
        H, W = images.shape[2:]
        taps = weights.shape[1]
        padded = F.pad(images, (taps // 2, taps // 2, 0, 0), mode="reflect")
        images = torch.zeros_like(images)
        for tap in range(taps):
            images.addcmul_(per_image(weights[:, tap]), padded[:, :, :, tap : tap + W])
        padded = F.pad(images, (0, 0, taps // 2, taps // 2), mode="reflect")
        images = torch.zeros_like(images)
        for tap in range(taps):
            images.addcmul_(per_image(weights[:, tap]), padded[:, :, tap : tap + H])
        return images.clamp_(max=1)  # the sum of the weights is rounded

    def _radius(self, H: int, W: int) -> int:
        """Pixels on either side of the filter's centre.

        Raises:
            ValueError: the image is too small for the filter that was asked for.
        """
        largest = min(H, W) - 1  # of a reflection
        if self.kernel_size is None:
            return min(max(1, H // 20), largest)
        if self.kernel_size // 2 > largest:
            raise ValueError(f"kernel_size = {self.kernel_size} must be at most {2 * largest + 1} for {H} x {W} images")
        return self.kernel_size // 2


def gaussian(sigma: Tensor, radius: int) -> Tensor:
    """f32 [B, 2 x radius + 1]: a normalised Gaussian for each standard deviation, f32 [B] in pixels; 0 is allowed."""
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    weights = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-6)[:, None]) ** 2)
    return weights / weights.sum(1, keepdim=True)

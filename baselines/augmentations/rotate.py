"""Random rotation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.augmentations.operation import Operation, check_number, uniform


class Rotate(Operation):
    """Rotates about the centre, bilinear; what comes from outside the image is black.

    Args:
        degrees: the angle is drawn from [-degrees, degrees], counter-clockwise; in [0, 180].
    """

    def __init__(self, *, degrees: float = 30.0):
        check_number("degrees", degrees, 0, 180)
        self.degrees = degrees

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws angles in degrees, f32 [B]."""
        return {"angle": uniform(images, rng, -self.degrees, self.degrees)}

    def apply(self, images: Tensor, angle: Tensor) -> Tensor:
        """Rotates each image by its angle."""
        if len(images) == 0:  # affine_grid refuses it
            return images
        H, W = images.shape[2:]
        cosine, sine = torch.cos(angle.deg2rad()), torch.sin(angle.deg2rad())
        # From output to input, in grid_sample's coordinates, where both sides run from -1 to 1 whatever H / W is.
        row_x = torch.stack((cosine, -sine * H / W, torch.zeros_like(angle)), 1)
        row_y = torch.stack((sine * W / H, cosine, torch.zeros_like(angle)), 1)
        grid = F.affine_grid(torch.stack((row_x, row_y), 1), list(images.shape), align_corners=False)
        # Rounding in the weights' sums may leave [0, 1] by one part in 10^7.
        return F.grid_sample(images, grid, mode="bilinear", align_corners=False).clamp_(0, 1)

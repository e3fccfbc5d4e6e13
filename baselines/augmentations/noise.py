"""Random noise."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.augmentations.operation import Operation, check_number


class Noise(Operation):
    """Adds Gaussian noise to every value, then clamps to [0, 1].

    Args:
        std: standard deviation, where 1 is the distance from black to white; in [0, 1].
    """

    def __init__(self, *, std: float = 0.1):
        check_number("std", std, 0, 1)
        self.std = std

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws standard normal noise, f32 [B, C, H, W]."""
        return {"noise": torch.randn(images.shape, generator=rng, device=images.device)}

    def apply(self, images: Tensor, noise: Tensor) -> Tensor:
        """Adds the noise."""
        return images.add_(noise, alpha=self.std).clamp_(0, 1)

"""RandAugment."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from baselines.augmentations.operation import Operation, chance, check_number

STEPS = 31
"""Magnitudes are 0 .. 30, as in the paper."""


def _tv() -> Any:
    """torchvision's operations; imported where they are needed, for that takes a second."""
    from torchvision.transforms.v2 import functional

    return functional


def _shear(images: Tensor, x: float, y: float) -> Tensor:
    degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return _tv().affine(images, angle=0.0, translate=[0, 0], scale=1.0, shear=degrees, center=[0, 0])


def _move(images: Tensor, x: int, y: int) -> Tensor:
    return _tv().affine(images, angle=0.0, translate=[x, y], scale=1.0, shear=[0.0, 0.0])


Strength = Callable[[Tensor, float], Tensor]

SIGNED: tuple[Strength, ...] = (
    lambda images, share: _shear(images, 0.3 * share, 0.0),
    lambda images, share: _shear(images, 0.0, 0.3 * share),
    lambda images, share: _move(images, int(150 / 331 * images.shape[3] * share), 0),
    lambda images, share: _move(images, 0, int(150 / 331 * images.shape[2] * share)),
    lambda images, share: _tv().rotate(images, 30.0 * share),
    lambda images, share: _tv().adjust_brightness(images, 1 + 0.9 * share),
    lambda images, share: _tv().adjust_saturation(images, 1 + 0.9 * share),
    lambda images, share: _tv().adjust_contrast(images, 1 + 0.9 * share),
    lambda images, share: _tv().adjust_sharpness(images, 1 + 0.9 * share),
)
"""Operations on u8 [B, C, H, W] of a magnitude's share of the largest, in [-1, 1]."""

UNSIGNED: tuple[Strength, ...] = (
    lambda images, share: images,
    lambda images, share: _tv().posterize(images, 8 - round(4 * share)),
    lambda images, share: _tv().solarize(images, 255.0 * (1 - share)),
    lambda images, share: _tv().autocontrast(images),
    lambda images, share: _tv().equalize(images),
)
"""The same of a share in [0, 1]."""


class RandAugment(Operation):
    """RandAugment, Cubuk et al. 2020, https://arxiv.org/abs/1909.13719.

    `num_ops` of fourteen operations, drawn anew for every image, one after another: shear, shift and rotation,
    brightness, colour, contrast, sharpness, posterisation, solarisation, autocontrast, equalisation and none. Values
    and arithmetic are those of torchvision's `RandAugment`, on images of 256 levels; what comes from outside an image
    is black. With a `magnitude` of null it is FixMatch's (Sohn et al. 2020): magnitudes are random, here those of one
    batch's images under one operation the same, and half of the operations do nothing.

    Args:
        num_ops: N, operations an image, 1 .. 14.
        magnitude: M, of all operations, 0 .. 30; null: drawn from 1 .. 30.
        probability: of an operation to be done, in [0, 1]; null: 1, and 0.5 where magnitudes are random.
    """

    def __init__(self, *, num_ops: int = 2, magnitude: int | None = 9, probability: float | None = None):
        check_number("num_ops", num_ops, 1, len(SIGNED + UNSIGNED))
        if magnitude is not None:
            check_number("magnitude", magnitude, 0, STEPS - 1)
        if probability is not None:
            check_number("probability", probability, 0, 1)
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.probability = probability

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Each image's operations, i64 [B, N] positions in `SIGNED + UNSIGNED`, and its shares f32 [B, N] in [-1, 1].

        Images that an operation leaves as they are have the one that does nothing.
        """
        shape, device, count = (len(images), self.num_ops), images.device, len(SIGNED + UNSIGNED)
        operation = torch.randint(count, shape, generator=rng, device=device)
        if self.magnitude is None:
            of_each = torch.randint(1, STEPS, (self.num_ops, count), generator=rng, device=device)
            magnitude = of_each[torch.arange(self.num_ops, device=device), operation]
        else:
            magnitude = torch.full(shape, self.magnitude, device=device)
        sign = torch.where(torch.rand(shape, generator=rng, device=device) < 0.5, -1.0, 1.0)
        probability = self.probability
        if probability is None:
            probability = 1.0 if self.magnitude is not None else 0.5
        done = torch.stack([chance(images, rng, probability) for _ in range(self.num_ops)], dim=1)
        share = magnitude / (STEPS - 1) * torch.where(operation < len(SIGNED), sign, 1.0)
        return {"operation": torch.where(done, operation, len(SIGNED)), "share": share}

    def apply(self, images: Tensor, operation: Tensor, share: Tensor) -> Tensor:
        """Does the operations, on images that share one and its magnitude together."""
        levels = images.mul(255).round_().to(torch.uint8)
        for step in range(operation.shape[1]):
            alike = torch.stack([operation[:, step].to(share.dtype), share[:, step]], dim=1)
            for number, strength in alike.unique(dim=0).tolist():
                chosen = (alike == torch.tensor([number, strength], device=alike.device)).all(dim=1)
                levels[chosen] = (SIGNED + UNSIGNED)[int(number)](levels[chosen], strength)
        return levels.float().div_(255)

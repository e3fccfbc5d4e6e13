"""Smaller images in the early epochs of pre-training.

Shares of 0.5, 0.75 and 1 leave 60 % of the pixels; resnet18 on 32-px images then trains 1.4 times as fast
(`benchmarks/training.py`). What it costs in accuracy is for a sweep to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def share_of(shares: Sequence[float], epoch: int, epochs: int) -> float:
    """The share of the image's side in `epoch`, 1 .. epochs.

    The progressive resolutions of Kocyigit, Hospedales & Bilen 2023, https://arxiv.org/abs/2212.05611, without the
    augmentation strength that they raise alongside. The spans are equal and counted from the end: with fewer epochs
    than shares, the last epoch still sees whole images, for which the encoder is used.
    """
    assert 1 <= epoch <= epochs
    return shares[len(shares) - 1 - (epochs - epoch) * len(shares) // epochs]


def resize(view: Tensor, share: float) -> Tensor:
    """A view f32 [B, C, H, W] with both sides multiplied by `share` in (0, 1], bilinear and antialiased."""
    if share == 1:
        return view
    size = scaled(view.shape[2:], share)
    return F.interpolate(view, size, mode="bilinear", antialias=True, align_corners=False)


def scaled(sides: Sequence[int], share: float) -> tuple[int, int]:
    """Height and width, multiplied by `share`."""
    height, width = (max(1, round(side * share)) for side in sides)
    return height, width

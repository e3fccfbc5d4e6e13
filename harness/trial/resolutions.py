"""Smaller images in the early epochs of pre-training.

Shares of 0.5, 0.75 and 1 leave 60 % of the pixels; resnet18 on 32-px images then trains 1.4 times as fast
(`benchmarks/training.py`). What it costs in accuracy is for a sweep to say.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.api import Backbone


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
    size = _scaled(view.shape[2:], share)
    return F.interpolate(view, size, mode="bilinear", antialias=True, align_corners=False)


def _scaled(sides: Sequence[int], share: float) -> list[int]:
    return [max(1, round(side * share)) for side in sides]


def try_resolutions(backbone: Backbone, image_shape: tuple[int, int, int], shares: Sequence[float]) -> None:
    """Tries the backbone at every size, without memory or arithmetic.

    Args:
        backbone: on any device; unchanged.
        image_shape: (C, H, W) at share 1.
        shares: to be tried.

    Raises:
        ValueError: it does not take one of the sizes, or gives features of another length for it.
    """
    if set(shares) == {1.0}:
        return
    trial = copy.deepcopy(backbone).to("meta").eval()
    channels, *sides = image_shape
    for share in shares:
        size = _scaled(sides, share)
        problem = _problem(trial, torch.empty(2, channels, *size, device="meta"))
        if problem:
            raise ValueError(
                f"pretrain.resolutions: {share} of {sides[0]}x{sides[1]} is {size[0]}x{size[1]}, which "
                f"{type(backbone).__name__} does not take ({problem}); change the shares or the backbone"
            )


def _problem(backbone: Backbone, images: Tensor) -> str | None:
    try:
        with torch.no_grad():
            length = backbone(images).shape[1]
    except NotImplementedError:  # an operation that knows no shapes without values: the first step will tell
        return None
    except (RuntimeError, ValueError) as error:
        return str(error).partition("\n")[0]
    expected = backbone.feature_dim
    return None if length == expected else f"{length} features instead of {expected}"

"""Momentum encoders: networks that follow a trained one slowly and receive no gradient."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def momentum_copy(network: nn.Module) -> nn.Module:
    """A copy that no gradient trains; `follow` moves it."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def follow(network: nn.Module, leader: nn.Module, momentum: float) -> None:
    """Moves the weights of a momentum copy: w <- momentum * w + (1 - momentum) * leader's.

    Buffers stay: a copy that runs in training mode keeps batch-normalisation statistics of its own, as in the
    authors' code of MoCo, BYOL and DINO.

    Args:
        network: a `momentum_copy` of a network like `leader`.
        leader: the trained network.
        momentum: in [0, 1].
    """
    average = get_ema_multi_avg_fn(momentum)
    average(list(network.parameters()), list(leader.parameters()), 0)


def rising_momentum(start: float, progress: float) -> float:
    """The momentum at `progress` in [0, 1] of the training: from `start` to 1 along half a cosine.

    Grill et al. 2020 (BYOL), section 3.2: 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2.
    """
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2

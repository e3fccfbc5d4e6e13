"""Batch normalisation as on several devices, on one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def forward_in_splits(network: nn.Module, images: Tensor, num_splits: int) -> Tensor:
    """The outputs [B, ...] of a batch whose parts are normalised one by one, as if each were on a device of its own.

    There are fewer parts where the batch has not two images for each.
    In evaluation mode, and for networks without batch normalisation, splitting would change nothing and is not done.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.training]
    parts = images.tensor_split(max(1, min(num_splits, len(images) // 2)))
    if len(parts) == 1 or not layers:
        return network(images)
    with _one_update_in(layers, len(parts)):
        return torch.cat([network(part) for part in parts])


def forward_shuffled(network: nn.Module, images: Tensor, num_splits: int) -> Tensor:
    """Like `forward_in_splits`, with randomly drawn parts: the shuffled batch normalisation of MoCo, section 3.3."""
    order = torch.randperm(len(images), device=images.device)
    return forward_in_splits(network, images[order], num_splits)[order.argsort()]


@contextmanager
def _one_update_in(layers: list[_BatchNorm], num_splits: int) -> Iterator[None]:
    """Inside, `num_splits` updates of running statistics weigh as much as one outside."""
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        if layer.momentum is not None:  # None averages over all updates alike
            layer.momentum = 1 - (1 - layer.momentum) ** (1 / num_splits)
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum

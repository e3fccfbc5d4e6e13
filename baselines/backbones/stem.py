"""First layers that fit the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torchvision.models import ResNet


def is_small(image_shape: tuple[int, int, int]) -> bool:
    """Whether the shorter side of (C, H, W) is below 64 px, as in CIFAR, so that nothing may be halved early."""
    return min(image_shape[1:]) < 64


def fit_stem(network: ResNet, image_shape: tuple[int, int, int]) -> None:
    """Replaces a torchvision ResNet's first layers by those that suit (C, H, W): see `TorchvisionResNet`."""
    channels = image_shape[0]
    stem = network.conv1
    if is_small(image_shape):
        stem = nn.Conv2d(channels, 64, kernel_size=3, stride=1, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif channels != 3:
        stem = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    if stem is not network.conv1:  # initialised as torchvision does all convolutions of this network
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        network.conv1 = stem

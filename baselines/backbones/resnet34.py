"""ResNet-34 with a stem that fits the image."""

from __future__ import annotations

from baselines.backbones.resnet import TorchvisionResNet


class ResNet34(TorchvisionResNet):
    """ResNet-34 (He et al. 2016, https://arxiv.org/abs/1512.03385), torchvision's, without its classifier.

    512 features. Images below 64 px get the CIFAR stem; see `TorchvisionResNet`.
    """

    model = "resnet34"

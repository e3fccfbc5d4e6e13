"""ResNet-50 with a stem that fits the image."""

from __future__ import annotations

from baselines.backbones.resnet import TorchvisionResNet


class ResNet50(TorchvisionResNet):
    """ResNet-50 (He et al. 2016, https://arxiv.org/abs/1512.03385), torchvision's, without its classifier.

    2,048 features. Images below 64 px get the CIFAR stem; see `TorchvisionResNet`.
    """

    model = "resnet50"

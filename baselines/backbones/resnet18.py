"""ResNet-18 with a stem that fits the image."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import resnet18

from harness.api import Backbone


class ResNet18(Backbone):
    """ResNet-18 (He et al. 2016, https://arxiv.org/abs/1512.03385), torchvision's, without its classifier.

    Images below 64 px get the CIFAR stem of the SSL recipes (3x3 convolution, stride 1, no max-pool);
    larger ones the original ImageNet stem (7x7, stride 2, max-pool). 512 features.

    Args:
        image_shape: (C, H, W).
    """

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__()
        channels, height, width = image_shape
        self.layers = resnet18(weights=None)
        self.feature_dim = self.layers.fc.in_features
        self.layers.fc = nn.Identity()
        stem = self.layers.conv1
        if min(height, width) < 64:
            stem = nn.Conv2d(channels, 64, kernel_size=3, stride=1, padding=1, bias=False)
            self.layers.maxpool = nn.Identity()
        elif channels != 3:
            stem = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        if stem is not self.layers.conv1:  # initialised as torchvision does all convolutions of this network
            nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
            self.layers.conv1 = stem

    def forward(self, images: Tensor) -> Tensor:
        """Features f32 [B, 512]: global average pooling of the last stage."""
        return self.layers(images)

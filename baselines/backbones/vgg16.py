"""VGG-16 with batch normalisation."""

from __future__ import annotations

from torch import Tensor, nn

from baselines.backbones.hyperparameters import check_dropout
from harness.api import Backbone


class VGG16(Backbone):
    """VGG-16 with batch normalisation (Simonyan & Zisserman 2015, https://arxiv.org/abs/1409.1556), torchvision's.

    The thirteen convolutions and a global average pooling, as on CIFAR, without the ImageNet classifier's two hidden
    layers. Max-poolings that would leave less than a pixel are left out. 512 features.

    Args:
        image_shape: (C, H, W).
        dropout: share of the features that are zeroed in training, in [0, 1).
    """

    def __init__(self, image_shape: tuple[int, int, int], *, dropout: float = 0.0):
        from torchvision.models import vgg16_bn

        super().__init__()
        check_dropout(dropout)
        self.dropout = dropout
        channels, height, width = image_shape
        layers = list(vgg16_bn(weights=None).features)
        if channels != 3:
            layers[0] = nn.Conv2d(channels, 64, kernel_size=3, padding=1)
            nn.init.kaiming_normal_(layers[0].weight, mode="fan_out", nonlinearity="relu")  # as torchvision does
            nn.init.zeros_(layers[0].bias)
        size = min(height, width)
        for place, layer in enumerate(layers):
            if isinstance(layer, nn.MaxPool2d):
                size //= 2
                if size == 0:
                    layers[place] = nn.Identity()
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.feature_dim = 512

    def stages(self) -> list[nn.Module]:
        """The five max-poolings, or what stands in the place of those that are left out."""
        return [layer for layer in self.layers if isinstance(layer, nn.MaxPool2d | nn.Identity)]

    def forward(self, images: Tensor) -> Tensor:
        """Features f32 [B, 512]."""
        return self.layers(images)

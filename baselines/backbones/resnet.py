"""What the ResNets share: torchvision's network, a stem that fits the image, dropout on the features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from baselines.backbones.hyperparameters import check_dropout
from baselines.backbones.stem import fit_stem
from baselines.backbones.torchvision_weights import published
from harness.api import Backbone, PublishedWeights


class TorchvisionResNet(Backbone):
    """A ResNet of torchvision without its classifier; subclasses say which.

    Images below 64 px get the CIFAR stem of the SSL recipes (3x3 convolution, stride 1, no max-pool);
    larger ones the original ImageNet stem (7x7, stride 2, max-pool).

    Args:
        image_shape: (C, H, W).
        dropout: share of the features that are zeroed in training, in [0, 1).

    Attributes:
        model: torchvision's name of the network.
    """

    model: ClassVar[str]

    def __init__(self, image_shape: tuple[int, int, int], *, dropout: float = 0.0):
        from torchvision.models import get_model

        super().__init__()
        check_dropout(dropout)
        self.dropout = dropout
        self.layers = get_model(self.model, weights=None)
        self.feature_dim = self.layers.fc.in_features
        self.layers.fc = nn.Dropout(dropout)
        fit_stem(self.layers, image_shape)

    @classmethod
    def published_weights(cls) -> Mapping[str, PublishedWeights]:
        """torchvision's; the CIFAR stem is not among them and keeps its initial values."""
        return published(cls.model)

    def stages(self) -> list[nn.Module]:
        """The four stages of residual blocks; the stem belongs to the first."""
        return [self.layers.layer1, self.layers.layer2, self.layers.layer3, self.layers.layer4]

    def forward(self, images: Tensor) -> Tensor:
        """Features f32 [B, D]: global average pooling of the last stage."""
        return self.layers(images)

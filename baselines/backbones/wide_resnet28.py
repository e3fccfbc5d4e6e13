"""Wide ResNet of 28 layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.backbones.hyperparameters import check_dropout
from baselines.backbones.stem import is_small
from harness.api import Backbone


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each after normalisation and ReLU, beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int, dropout: float):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(after, after, kernel_size=3, padding=1, bias=False)
        same_shape = before == after and stride == 1
        self.shortcut = None if same_shape else nn.Conv2d(before, after, kernel_size=1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, after, H / stride, W / stride] from [B, before, H, W]."""
        activated = F.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        hidden = self.conv1(activated)
        return shortcut + self.conv2(self.dropout(F.relu(self.norm2(hidden))))


class WideResNet28(Backbone):
    """Wide ResNet, WRN-28-k (Zagoruyko & Komodakis 2016, https://arxiv.org/abs/1605.07146).

    Three groups of four blocks with 16k, 32k and 64k channels, pre-activated, dropout between the convolutions of a
    block. As described, without the classifier; images of 64 px and more are halved by the first convolution. 64k
    features.

    Args:
        image_shape: (C, H, W).
        width: k, >= 1; 2 in semi-supervised learning, 10 in the paper.
        dropout: share of a block's hidden values that are zeroed in training, in [0, 1); 0.3 in the paper.
    """

    def __init__(self, image_shape: tuple[int, int, int], *, width: int = 2, dropout: float = 0.0):
        super().__init__()
        check_dropout(dropout)
        if width < 1:
            raise ValueError(f"width = {width} is not >= 1")
        self.width = width
        self.dropout = dropout
        channels = image_shape[0]
        stride = 1 if is_small(image_shape) else 2
        layers: list[nn.Module] = [nn.Conv2d(channels, 16, kernel_size=3, stride=stride, padding=1, bias=False)]
        before = 16
        for after, first_stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            for block in range(4):
                layers.append(WideBlock(before, after, first_stride if block == 0 else 1, dropout))
                before = after
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.layers = nn.Sequential(*layers)
        self.feature_dim = before
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self) -> list[nn.Module]:
        """The last blocks of the three groups: [B, 16 k, h, w], [B, 32 k, h/2, w/2], [B, 64 k, h/4, w/4].

        Sums of a shortcut and a branch, which no ReLU follows: what comes next begins with batch norm and ReLU.
        """
        blocks: list[nn.Module] = [layer for layer in self.layers if isinstance(layer, WideBlock)]
        return blocks[3::4]

    def forward(self, images: Tensor) -> Tensor:
        """Features f32 [B, 64 k]."""
        return self.layers(images)

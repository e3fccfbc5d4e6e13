"""The three-layer DCNN of SimCLR-UAL."""

from __future__ import annotations

from torch import Tensor, nn

from baselines.backbones.hyperparameters import check_dropout
from baselines.initialization import Initialization, check_initialization, initialize
from harness.api import Backbone


class DCNN3(Backbone):
    """Three-layer DCNN (SimCLR-UAL): conv 3x3 'same' 32 -> 64 -> 128, ReLU and max-pool 2 after each, flatten.

    2,048 features for 32x32 images, as in the source. Pooling comes before the ReLU here, which gives the same values
    (both keep their order) from a quarter of the work. `width` scales the three layers together.

    Args:
        image_shape: (C, H, W), H and W at least 8.
        width: channels of the first layer, >= 1.
        dropout: share of the features that are zeroed in training, in [0, 1).
        init: of the weights: torch, or glorot with zero biases, as the source's library does it.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        width: int = 32,
        dropout: float = 0.0,
        init: Initialization = "torch",
    ):
        super().__init__()
        channels, height, width_px = image_shape
        if min(height, width_px) < 8:
            raise ValueError(f"dcnn3 halves the image three times: {height}x{width_px} is smaller than 8x8")
        if width < 1:
            raise ValueError(f"width = {width} is not >= 1")
        check_dropout(dropout)
        check_initialization(init)
        self.width = width
        self.dropout = dropout
        self.init = init
        layers: list[nn.Module] = []
        for before, after in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(before, after, kernel_size=3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout))
        initialize(self.layers, init)
        self.feature_dim = 4 * width * (height // 8) * (width_px // 8)

    def stages(self) -> list[nn.Module]:
        """The three ReLUs: [B, width, H/2, W/2], [B, 2 width, H/4, W/4], [B, 4 width, H/8, W/8]."""
        return [layer for layer in self.layers if isinstance(layer, nn.ReLU)]

    def forward(self, images: Tensor) -> Tensor:
        """Features f32 [B, 4 * width * H/8 * W/8]."""
        return self.layers(images)

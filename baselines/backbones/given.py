"""The backbone of a data set of features."""

from __future__ import annotations

from torch import Tensor, nn

from baselines.backbones.hyperparameters import check_dropout
from harness.api import Backbone


class Given(Backbone):
    """No network: the features of a data set of features, as they are given.

    Args:
        dropout: rate on the features in stochastic passes, which selectors such as `bald` read, in [0, 1); every other
            pass is without.
    """

    takes_features = True

    def __init__(self, image_shape: tuple[int, ...], *, dropout: float = 0.0):
        super().__init__()
        if len(image_shape) != 1:
            raise ValueError("it takes features, as of the data set embeddings, and no images")
        check_dropout(dropout)
        (self.feature_dim,) = image_shape
        self.drop = nn.Dropout(dropout)
        self.dropout = dropout

    def forward(self, images: Tensor) -> Tensor:
        """The features f32 [B, D] that stand for the images."""
        return self.drop(images)

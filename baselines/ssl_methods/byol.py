"""BYOL."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.heads import mlp
from baselines.ssl_methods.hyperparameters import check_at_least, check_share
from baselines.ssl_methods.momentum import follow, momentum_copy, rising_momentum
from harness.api import Backbone, SSLMethod


def normalized_distance(predictions: Tensor, targets: Tensor) -> Tensor:
    """Eq. (2) of BYOL for every image: the squared distance of the normalised vectors, 2 - 2 cos.

    Args:
        predictions: [B, D].
        targets: [B, D].

    Returns:
        f32 [B].
    """
    return 2 - 2 * F.cosine_similarity(predictions.float(), targets.float(), dim=1)


class BYOL(SSLMethod):
    """BYOL, Grill et al. 2020, https://arxiv.org/abs/2006.07733.

    A predictor on the online network predicts what a momentum network, the target, sees in the other view. As
    described: both directions are added, the target's momentum rises to 1, views are normalised batch by batch.
    Widths of the heads and start momentum are those of published CIFAR recipes; some of these average the negative
    cosines, so that the same step of SGD needs four times our learning rate there.

    Args:
        backbone: the encoder.
        momentum: of the target at the start, in [0, 1]; 0.996 in the paper.
        hidden_dim: width of the hidden layer of projector and predictor, >= 1; 4,096 in the paper.
        projection_dim: D of projections and predictions, >= 1.
    """

    def __init__(
        self, backbone: Backbone, *, momentum: float = 0.99, hidden_dim: int = 1024, projection_dim: int = 256
    ):
        super().__init__(backbone)
        check_share(momentum=momentum)
        check_at_least(1, hidden_dim=hidden_dim, projection_dim=projection_dim)
        self.momentum = momentum
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.projector = mlp(backbone.feature_dim, hidden_dim, projection_dim)
        self.predictor = mlp(projection_dim, hidden_dim, projection_dim)
        self.target = momentum_copy(self._online())

    def _online(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.projector)

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B]: both directions of Eq. (2) for each image."""
        online = self._online()
        first, second = (self.predictor(online(view)) for view in views)
        with torch.no_grad():
            first_target, second_target = (self.target(view) for view in views)
        return normalized_distance(first, second_target) + normalized_distance(second, first_target)

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Mean of both directions over the batch."""
        return {"loss": self.sample_loss(views).mean()}

    def after_step(self, progress: float) -> None:
        """Moves the target."""
        follow(self.target, self._online(), rising_momentum(self.momentum, progress))

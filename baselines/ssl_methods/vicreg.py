"""VICReg."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.ssl_methods.heads import mlp
from baselines.ssl_methods.hyperparameters import check_at_least, check_depth
from harness.api import Backbone, SSLMethod


def variance(z: Tensor) -> Tensor:
    """f32 []: how far the standard deviations of the columns of z f32 [B, D] fall short of 1, Eqs. (1) and (2)."""
    return F.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean()


def covariance(z: Tensor) -> Tensor:
    """f32 []: the sum of squared covariances between columns of z f32 [B, D], divided by D, Eqs. (3) and (4)."""
    centered = z - z.mean(dim=0)
    matrix = centered.T @ centered / (len(z) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / z.shape[1]


class VICReg(SSLMethod):
    """VICReg, Bardes, Ponce & LeCun 2022, https://arxiv.org/abs/2105.04906.

    The views' embeddings are alike (invariance), every dimension varies (variance), none repeats another
    (covariance). As in the paper's Algorithm 1: the invariance is a mean over dimensions, where Eq. (5) has their sum;
    the authors' code also halves the variance term. The loss is no mean over images. Widths are those of CIFAR
    recipes.

    Args:
        backbone: the encoder.
        invariance_weight: lambda, >= 0.
        variance_weight: mu, >= 0.
        covariance_weight: nu, >= 0.
        hidden_dim: width of the expander's hidden layers, >= 1; 8,192 in the paper.
        projection_dim: D, >= 1; 8,192 in the paper.
        depth: linear layers in the expander, 1 to 100.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        hidden_dim: int = 2048,
        projection_dim: int = 2048,
        depth: int = 3,
    ):
        super().__init__(backbone)
        check_at_least(0, invariance_weight=invariance_weight, variance_weight=variance_weight)
        check_at_least(0, covariance_weight=covariance_weight)
        check_at_least(1, hidden_dim=hidden_dim, projection_dim=projection_dim)
        check_depth(depth)
        self.invariance_weight = invariance_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.depth = depth
        self.projector = mlp(backbone.feature_dim, *[hidden_dim] * (depth - 1), projection_dim)

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Eq. (6), and its three parts before weighting."""
        z_a, z_b = (self.projector(self.backbone(view)).float() for view in views)
        with torch.autocast(z_a.device.type, enabled=False):
            parts = {
                "invariance": F.mse_loss(z_a, z_b),
                "variance": variance(z_a) + variance(z_b),
                "covariance": covariance(z_a) + covariance(z_b),
            }
        weights = (self.invariance_weight, self.variance_weight, self.covariance_weight)
        loss = torch.stack([weight * part for weight, part in zip(weights, parts.values(), strict=True)]).sum()
        return {"loss": loss, **parts}

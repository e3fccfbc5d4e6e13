"""Barlow Twins."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.ssl_methods.heads import mlp
from baselines.ssl_methods.hyperparameters import check_at_least, check_depth
from harness.api import Backbone, SSLMethod


def cross_correlation(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Eq. (2) of Barlow Twins: the correlation over the batch of every pair of dimensions.

    Args:
        z_a: [B, D], projections of the first views.
        z_b: [B, D], of the second views of the same images.

    Returns:
        f32 [D, D], in [-1, 1].
    """
    with torch.autocast(z_a.device.type, enabled=False):
        a, b = (F.normalize(z.float() - z.float().mean(dim=0), dim=0) for z in (z_a, z_b))
        return a.T @ b


class BarlowTwins(SSLMethod):
    """Barlow Twins, Zbontar et al. 2021, https://arxiv.org/abs/2103.03230.

    The cross-correlation of the two views' projections is drawn to the identity. As described; the authors' code
    normalises by a batch normalisation, which differs by its epsilon, and uses lambda = 0.0051. The loss is no mean
    over images. Widths are those of CIFAR recipes.

    Args:
        backbone: the encoder.
        redundancy_weight: lambda, of the off-diagonal part, >= 0.
        hidden_dim: width of the projector's hidden layers, >= 1; 8,192 in the paper.
        projection_dim: D, >= 1; 8,192 in the paper.
        depth: linear layers in the projector, 1 to 100.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        redundancy_weight: float = 0.005,
        hidden_dim: int = 2048,
        projection_dim: int = 2048,
        depth: int = 3,
    ):
        super().__init__(backbone)
        check_at_least(0, redundancy_weight=redundancy_weight)
        check_at_least(1, hidden_dim=hidden_dim, projection_dim=projection_dim)
        check_depth(depth)
        self.redundancy_weight = redundancy_weight
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.depth = depth
        self.projector = mlp(backbone.feature_dim, *[hidden_dim] * (depth - 1), projection_dim)

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Eq. (1), and its two parts before weighting."""
        z_a, z_b = (self.projector(self.backbone(view)) for view in views)
        correlation = cross_correlation(z_a, z_b)
        diagonal = correlation.diagonal()
        invariance = (1 - diagonal).square().sum()
        redundancy = correlation.square().sum() - diagonal.square().sum()
        loss = invariance + self.redundancy_weight * redundancy
        return {"loss": loss, "invariance": invariance, "redundancy": redundancy}

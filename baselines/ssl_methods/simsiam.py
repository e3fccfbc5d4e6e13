"""SimSiam."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from baselines.ssl_methods.heads import mlp
from baselines.ssl_methods.hyperparameters import check_at_least, check_depth
from harness.api import Backbone, SSLMethod


class SimSiam(SSLMethod):
    """SimSiam, Chen & He 2021, https://arxiv.org/abs/2011.10566.

    A predictor on one view predicts the projection of the other, through which no gradient flows. As described; the
    projector has the two layers of the paper's CIFAR experiments (three for ImageNet) and ends, as in the authors'
    code, with a batch normalisation without weights.

    Args:
        backbone: the encoder.
        projection_dim: D, also the width of the projector's hidden layers, >= 1.
        hidden_dim: width of the predictor's hidden layer, >= 1.
        depth: linear layers in the projector, 1 to 100.
    """

    def __init__(self, backbone: Backbone, *, projection_dim: int = 2048, hidden_dim: int = 512, depth: int = 2):
        super().__init__(backbone)
        check_at_least(1, projection_dim=projection_dim, hidden_dim=hidden_dim)
        check_depth(depth)
        self.projection_dim = projection_dim
        self.hidden_dim = hidden_dim
        self.depth = depth
        self.projector = mlp(backbone.feature_dim, *[projection_dim] * depth, normalize_output=True)
        self.predictor = mlp(projection_dim, hidden_dim, projection_dim)

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B]: the symmetric loss of each image, Eq. (4), in [-1, 1]."""
        z_a, z_b = (self.projector(self.backbone(view)).float() for view in views)
        p_a, p_b = self.predictor(z_a).float(), self.predictor(z_b).float()
        forth, back = F.cosine_similarity(p_a, z_b.detach(), dim=1), F.cosine_similarity(p_b, z_a.detach(), dim=1)
        return -(forth + back) / 2

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Mean of Eq. (4) over the batch."""
        return {"loss": self.sample_loss(views).mean()}

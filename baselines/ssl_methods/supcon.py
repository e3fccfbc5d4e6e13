"""SupCon and its loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.ssl_methods.heads import mlp
from baselines.ssl_methods.hyperparameters import check_at_least, check_depth, check_positive
from baselines.ssl_methods.multi_crop import forward_by_size
from harness.api import UNKNOWN, Backbone, SupervisedMethod


def supervised_contrast(z_a: Tensor, z_b: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """L_out of every image, Eq. (2) of SupCon, the mean over its two views.

    Args:
        z_a: [B, D], projections of the first views; normalised here.
        z_b: [B, D], of the second views of the same images.
        labels: i64 [B]; an image that is UNKNOWN has no positive but its own other view.
        temperature: > 0.

    Returns:
        f32 [B]; its mean is the batch's loss. Where every label is UNKNOWN that is NT-Xent.
    """
    batch = len(z_a)
    with torch.autocast(z_a.device.type, enabled=False):
        z = F.normalize(torch.cat([z_a, z_b]).float(), dim=1)
        itself = torch.eye(2 * batch, dtype=torch.bool, device=z.device)
        log_share = (z @ z.T / temperature).masked_fill(itself, float("-inf")).log_softmax(dim=1)  # over A(i)
        known = labels != UNKNOWN
        same_class = (labels[:, None] == labels) & known[:, None] & known
        same_image = torch.eye(batch, dtype=torch.bool, device=z.device)
        positive = (same_class | same_image).repeat(2, 2) & ~itself  # P(i)
        total = log_share.masked_fill(~positive, 0).sum(dim=1)
        return -(total / positive.sum(dim=1)).view(2, batch).mean(dim=0)


class SupCon(SupervisedMethod):
    """SupCon, supervised contrastive learning, Khosla et al. 2020, https://arxiv.org/abs/2004.11362.

    Views of one class attract each other. L_out as described; the authors' code also multiplies it by the temperature
    (over 0.07), which is a matter of the learning rate. Beyond the paper, images whose label has not been bought take
    part as in SimCLR: each attracts its own other view and repels all else. With all labels that is the paper's loss,
    with none NT-Xent.

    Args:
        backbone: the encoder.
        num_classes: K; the loss does not need it.
        temperature: tau, > 0.
        hidden_dim: width of the head's hidden layers, >= 1; the feature's in the paper.
        projection_dim: D of the projections, >= 1.
        depth: linear layers in the head, 0 to 100; 0 contrasts the features themselves.
        batch_norm: normalise the hidden layers; not in the paper.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        temperature: float = 0.1,
        hidden_dim: int = 512,
        projection_dim: int = 128,
        depth: int = 2,
        batch_norm: bool = False,
    ):
        super().__init__(backbone)
        check_positive(temperature=temperature)
        check_depth(depth, low=0)
        check_at_least(1, hidden_dim=hidden_dim, projection_dim=projection_dim)
        self.temperature = temperature
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.depth = depth
        self.batch_norm = batch_norm
        output = [projection_dim] if depth > 0 else []
        self.projector = mlp(backbone.feature_dim, *[hidden_dim] * (depth - 1), *output, batch_norm=batch_norm)

    def _losses(self, views: list[Tensor], labels: Tensor) -> Tensor:
        z_a, z_b = self.projector(torch.cat(forward_by_size(self.backbone, views))).chunk(2)
        return supervised_contrast(z_a, z_b, labels, self.temperature)

    def labeled_loss(self, views: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Mean of Eq. (2) over both views of the batch."""
        return {"loss": self._losses(views, labels).mean()}

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B]: the loss of each image against this batch, no label being read."""
        return self._losses(views, torch.full((len(views[0]),), UNKNOWN, device=views[0].device))

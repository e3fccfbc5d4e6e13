"""SimCLR and its NT-Xent loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.initialization import Initialization, check_initialization, initialize
from baselines.ssl_methods.heads import mlp
from baselines.ssl_methods.hyperparameters import check_at_least, check_depth, check_positive
from baselines.ssl_methods.multi_crop import forward_by_size
from harness.api import Backbone, SSLMethod


def nt_xent(z_a: Tensor, z_b: Tensor, temperature: float) -> Tensor:
    """NT-Xent of every image: the mean over its two views of Eq. (1) of the SimCLR paper.

    Args:
        z_a: f32 [B, D], projections of the first views; normalised here.
        z_b: f32 [B, D], of the second views of the same images.
        temperature: > 0.

    Returns:
        f32 [B]; its mean is the batch's loss L.
    """
    batch = len(z_a)
    # Half precision would round similarities / temperature to two or three digits.
    with torch.autocast(z_a.device.type, enabled=False):
        z = F.normalize(torch.cat([z_a, z_b]).float(), dim=1)
        similarity = z @ z.T / temperature  # [2B, 2B]
        similarity.fill_diagonal_(float("-inf"))  # Eq. (1): k != i
        positive = torch.arange(2 * batch, device=z.device).roll(batch)
        return F.cross_entropy(similarity, positive, reduction="none").view(2, batch).mean(0)


class SimCLR(SSLMethod):
    """SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709).

    Two views of each image attract each other and repel the other 2B - 2 views of the batch. As described;
    the head is `depth` linear layers with ReLU between (the paper's two, its SimCLR-UAL descendant's one).

    Args:
        backbone: the encoder.
        temperature: tau of NT-Xent, > 0.
        hidden_dim: width of the hidden layers of the head, >= 1.
        projection_dim: D of the projections, >= 1.
        depth: linear layers in the head, 0 to 100; 0 contrasts the features themselves.
        batch_norm: normalise the hidden layers, as released recipes for CIFAR do.
        output_norm: also normalise the projections, with weights, as Lightly's head does.
        output_relu: end with a ReLU, as SimCLR-UAL's head does.
        init: of the head's weights: torch, or glorot with zero biases, as Keras does.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: float = 0.5,
        hidden_dim: int = 512,
        projection_dim: int = 128,
        depth: int = 2,
        batch_norm: bool = True,
        output_norm: bool = False,
        output_relu: bool = False,
        init: Initialization = "torch",
    ):
        super().__init__(backbone)
        check_positive(temperature=temperature)
        check_depth(depth, low=0)
        check_at_least(1, hidden_dim=hidden_dim, projection_dim=projection_dim)
        check_initialization(init)
        self.temperature = temperature
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.depth = depth
        self.batch_norm = batch_norm
        self.output_norm = output_norm
        self.output_relu = output_relu
        self.init = init
        hidden = [hidden_dim] * (depth - 1)
        output = [projection_dim] if depth > 0 else []
        self.projector = mlp(backbone.feature_dim, *hidden, *output, batch_norm=batch_norm)
        if output_norm:
            self.projector.append(nn.BatchNorm1d([backbone.feature_dim, *output][-1]))
        if output_relu:
            self.projector.append(nn.ReLU())
        initialize(self.projector, init)

    def _project(self, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        z_a, z_b = self.projector(torch.cat(forward_by_size(self.backbone, views))).chunk(2)
        return z_a, z_b

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Mean NT-Xent over both views of the batch."""
        return {"loss": nt_xent(*self._project(views), self.temperature).mean()}

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B]: NT-Xent of each image against this batch."""
        return nt_xent(*self._project(views), self.temperature)

"""Self-Classifier."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.heads import CosineLayer, mlp
from baselines.ssl_methods.hyperparameters import check_at_least, check_depth, check_positive
from baselines.ssl_methods.multi_crop import cross_view_entropy, forward_by_size
from harness.api import Backbone, SSLMethod


def class_targets(scores: Tensor, temperature: float) -> Tensor:
    """p(y | x) by Bayes' law from p(x | y), a softmax over the batch, and classes of equal size.

    Args:
        scores: f32 [..., B, K].
        temperature: > 0.

    Returns:
        f32 [..., B, K]; every row sums to 1.
    """
    # Rows of p(x | y) that are divided by their sums are the softmax of its logarithm.
    return F.log_softmax(scores / temperature, dim=-2).softmax(dim=-1)


def balanced_log_predictions(scores: Tensor, temperature: float) -> Tensor:
    """log(N / K p(y | x) / sum over the batch of p(y | x)), p a softmax over classes.

    Args:
        scores: f32 [..., B, K].
        temperature: > 0.

    Returns:
        f32 [..., B, K].
    """
    batch, num_classes = scores.shape[-2:]
    logarithm = F.log_softmax(scores / temperature, dim=-1)
    return logarithm - logarithm.logsumexp(dim=-2, keepdim=True) + math.log(batch / num_classes)


class SelfClassifier(SSLMethod):
    """Self-Classifier, Amrani, Karlinsky & Bronstein 2022, https://arxiv.org/abs/2103.10994.

    A classifier learns classes and representation at once: two views are to agree on a class, and a uniform prior over
    classes, inside the loss, forbids to agree on one for all. As described, and as there gradients flow through both
    sides. One classifier instead of the four of the ImageNet runs; its gains stay 1; logarithms replace the code's
    epsilon of 1e-8.

    Args:
        backbone: the encoder.
        num_classes: K, >= 2; need not be the data set's.
        row_temperature: of the softmax over classes, > 0.
        column_temperature: of the softmax over the batch, > 0.
        hidden_dim: width of the head's hidden layers, >= 1.
        projection_dim: D, what the classifier reads, >= 1.
        depth: linear layers before the classifier, 1 to 100.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int = 100,
        row_temperature: float = 0.1,
        column_temperature: float = 0.05,
        hidden_dim: int = 4096,
        projection_dim: int = 128,
        depth: int = 2,
    ):
        super().__init__(backbone)
        check_at_least(2, num_classes=num_classes)
        check_positive(row_temperature=row_temperature, column_temperature=column_temperature)
        check_at_least(1, hidden_dim=hidden_dim, projection_dim=projection_dim)
        check_depth(depth)
        self.num_classes = num_classes
        self.row_temperature = row_temperature
        self.column_temperature = column_temperature
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.depth = depth
        widths = (backbone.feature_dim, *[hidden_dim] * (depth - 1), projection_dim)
        self.head = nn.Sequential(mlp(*widths, activation=nn.LeakyReLU), CosineLayer(projection_dim, num_classes))

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B]: the symmetric loss of each image within this batch."""
        features = torch.cat(forward_by_size(self.backbone, views))
        scores = self.head(features).view(len(views), -1, self.num_classes)
        targets = class_targets(scores, self.column_temperature)
        return cross_view_entropy(targets, balanced_log_predictions(scores, self.row_temperature))

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Mean of the symmetric loss over the batch."""
        return {"loss": self.sample_loss(views).mean()}

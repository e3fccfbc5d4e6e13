"""NNCLR."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.heads import mlp
from baselines.ssl_methods.hyperparameters import check_at_least, check_depth, check_positive
from baselines.ssl_methods.key_queue import KeyQueue
from harness.api import Backbone, SSLMethod


def neighbor_contrast(neighbors: Tensor, predictions: Tensor, temperature: float) -> Tensor:
    """InfoNCE of every image: its neighbour is to find its own prediction among those of the batch, Eq. (3) of NNCLR.

    Args:
        neighbors: f32 [B, D], of unit length.
        predictions: f32 [B, D], of unit length.
        temperature: > 0.

    Returns:
        f32 [B].
    """
    with torch.autocast(predictions.device.type, enabled=False):
        similarity = neighbors @ predictions.T / temperature
        return F.cross_entropy(similarity, torch.arange(len(neighbors), device=similarity.device), reduction="none")


def nearest_keys(z: Tensor, keys: Tensor) -> Tensor:
    """NN(z, Q), Eq. (2): of the keys f32 [Q, D] the most similar to each of f32 [B, D], all of unit length."""
    with torch.autocast(z.device.type, enabled=False):
        return keys[(z @ keys.T).argmax(dim=1)]


class NNCLR(SSLMethod):
    """NNCLR, Dwibedi et al. 2021, https://arxiv.org/abs/2104.14548.

    SimCLR whose positive is not the other view but, of a queue of earlier projections, the one most like it: pairs then
    differ by more than augmentations can. As in the paper's pseudo-code, which was read as solo-learn and Lightly
    quote it: both directions are averaged, a predictor stands on the other view alone, and the first view's projections
    enter the queue, whose start are random directions. Widths are the paper's but for the queue, which is that of CIFAR
    recipes; views are normalised one by one.

    Args:
        backbone: the encoder.
        temperature: tau, > 0.
        queue_size: Q, earlier projections, >= 1; 98,304 in the paper.
        hidden_dim: width of the projector's hidden layers, >= 1.
        projection_dim: D, >= 1.
        depth: linear layers in the projector, 1 to 100; 3 in the paper, 2 in CIFAR recipes.
        predictor_dim: width of the predictor's hidden layer, >= 1.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: float = 0.1,
        queue_size: int = 4096,
        hidden_dim: int = 2048,
        projection_dim: int = 256,
        depth: int = 3,
        predictor_dim: int = 4096,
    ):
        super().__init__(backbone)
        check_positive(temperature=temperature)
        check_at_least(1, queue_size=queue_size, hidden_dim=hidden_dim, projection_dim=projection_dim)
        check_at_least(1, predictor_dim=predictor_dim)
        check_depth(depth)
        self.temperature = temperature
        self.queue_size = queue_size
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.depth = depth
        self.predictor_dim = predictor_dim
        self.projector = mlp(backbone.feature_dim, *[hidden_dim] * (depth - 1), projection_dim)
        self.projector.append(nn.BatchNorm1d(projection_dim))
        self.predictor = mlp(projection_dim, predictor_dim, projection_dim)
        self.queue = KeyQueue(queue_size, projection_dim)

    def _contrast(self, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The loss f32 [B] of each image, and the first view's projections f32 [B, D]."""
        projections = [self.projector(self.backbone(view)) for view in views]
        first, second = (F.normalize(self.predictor(z).float(), dim=1) for z in projections)
        with torch.no_grad():
            keys = [F.normalize(z.float(), dim=1) for z in projections]
            near_first, near_second = (nearest_keys(z, self.queue.keys) for z in keys)
        there = neighbor_contrast(near_first, second, self.temperature)
        back = neighbor_contrast(near_second, first, self.temperature)
        return (there + back) / 2, keys[0]

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Mean over the batch and both directions."""
        losses, keys = self._contrast(views)
        self.queue.hold(keys)
        return {"loss": losses.mean()}

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B]: the loss of each image against this batch and the queue."""
        return self._contrast(views)[0]

    def after_step(self, progress: float) -> None:
        """Moves the batch's projections into the queue."""
        self.queue.advance()

"""MoCo v2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.heads import mlp
from baselines.ssl_methods.hyperparameters import check_at_least, check_positive, check_share
from baselines.ssl_methods.key_queue import KeyQueue, info_nce
from baselines.ssl_methods.momentum import follow, momentum_copy
from baselines.ssl_methods.split_batch import forward_in_splits, forward_shuffled
from harness.api import Backbone, SSLMethod


class MoCoV2(SSLMethod):
    """MoCo v2, Chen, Fan, Girshick & He 2020, https://arxiv.org/abs/2003.04297.

    A query is to find the key of its other view among the keys of earlier batches; keys come from a momentum encoder.
    As described, with the values of the authors' CIFAR demo for queue, momentum, temperature and batch-normalisation
    splits. `symmetric` also lets the second view ask for the first, as the demo does: both losses are averaged (the
    demo adds them) and the keys of both views enter the queue. `bn_splits` parts of a batch are normalised apart,
    those of the keys in shuffled order, which stands for the paper's several devices.

    Args:
        backbone: the encoder.
        temperature: tau of InfoNCE, > 0; 0.2 in the paper.
        queue_size: Q, negatives, >= 1; 65,536 in the paper.
        momentum: of the key encoder, in [0, 1]; 0.999 in the paper.
        hidden_dim: width of the head's hidden layer, >= 1; 2,048 in the paper.
        projection_dim: D of queries and keys, >= 1.
        symmetric: both views are queries and keys.
        bn_splits: parts of a batch that batch normalisation sees apart, >= 1; fewer where one would be a single image.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: float = 0.1,
        queue_size: int = 4096,
        momentum: float = 0.99,
        hidden_dim: int = 512,
        projection_dim: int = 128,
        symmetric: bool = True,
        bn_splits: int = 8,
    ):
        super().__init__(backbone)
        check_positive(temperature=temperature)
        check_share(momentum=momentum)
        sizes = {"queue_size": queue_size, "hidden_dim": hidden_dim, "projection_dim": projection_dim}
        check_at_least(1, **sizes, bn_splits=bn_splits)
        self.temperature = temperature
        self.queue_size = queue_size
        self.momentum = momentum
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.symmetric = symmetric
        self.bn_splits = bn_splits
        self.projector = mlp(backbone.feature_dim, hidden_dim, projection_dim, batch_norm=False)
        self.key_encoder = momentum_copy(self._query_encoder())
        self.queue = KeyQueue(queue_size, projection_dim)

    def _query_encoder(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.projector)

    def _contrast(self, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The loss f32 [B] of each image and the keys of the batch, f32 [B, D] or, if symmetric, [2B, D]."""
        first, second = views
        query_encoder = self._query_encoder()
        losses, keys = [], []
        for asking, asked in [(first, second), (second, first)] if self.symmetric else [(first, second)]:
            query = F.normalize(forward_in_splits(query_encoder, asking, self.bn_splits).float(), dim=1)
            with torch.no_grad():
                key = F.normalize(forward_shuffled(self.key_encoder, asked, self.bn_splits).float(), dim=1)
            losses.append(info_nce(query, key, self.queue.keys, self.temperature))
            keys.append(key)
        return torch.stack(losses).mean(dim=0), torch.cat(keys)

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Mean InfoNCE of the batch against the queue."""
        losses, keys = self._contrast(views)
        self.queue.hold(keys)
        return {"loss": losses.mean()}

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B]: InfoNCE of each image against the queue."""
        return self._contrast(views)[0]

    def after_step(self, progress: float) -> None:
        """Moves the key encoder, Eq. (2) of MoCo, and the batch's keys into the queue."""
        follow(self.key_encoder, self._query_encoder(), self.momentum)
        self.queue.advance()

"""MoBY."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.heads import mlp
from baselines.ssl_methods.hyperparameters import check_at_least, check_depth, check_positive, check_share
from baselines.ssl_methods.key_queue import KeyQueue, info_nce
from baselines.ssl_methods.momentum import follow, momentum_copy, rising_momentum
from harness.api import Backbone, SSLMethod


class MoBY(SSLMethod):
    """MoBY, Xie et al. 2021, https://arxiv.org/abs/2105.04553.

    MoCo v2's queue with BYOL's asymmetry: predictions on the online encoder against keys of a momentum encoder. As
    described and released: each view has a queue, both directions are added, the momentum rises to 1; neither drop path
    nor shuffled batch normalisation. MoBYv2AL (Caramalau et al. 2022, BMVC) is its `projection_dim: 128` and
    `depth: 1`, linear projector and predictor as its code has them; its table 2 also leaves out one of the two.

    Args:
        backbone: the encoder.
        temperature: tau of InfoNCE, > 0.
        queue_size: Q, negatives for each view, >= 1.
        momentum: of the key encoder at the start, in [0, 1].
        hidden_dim: width of hidden layers of projector and predictor, >= 1.
        projection_dim: D of queries and keys, >= 1.
        depth: linear layers in the projector, and in the predictor, 1 to 100.
        with_projector: false: there is none, and features are predicted, whose length stands for `projection_dim`.
        with_predictor: false: there is none, and projections are compared.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: float = 0.2,
        queue_size: int = 4096,
        momentum: float = 0.99,
        hidden_dim: int = 4096,
        projection_dim: int = 256,
        depth: int = 2,
        with_projector: bool = True,
        with_predictor: bool = True,
    ):
        super().__init__(backbone)
        check_positive(temperature=temperature)
        check_share(momentum=momentum)
        sizes = {"queue_size": queue_size, "hidden_dim": hidden_dim, "projection_dim": projection_dim}
        check_at_least(1, **sizes)
        check_depth(depth)
        self.temperature = temperature
        self.queue_size = queue_size
        self.momentum = momentum
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.depth = depth
        self.with_projector = with_projector
        self.with_predictor = with_predictor
        hidden, dim = [hidden_dim] * (depth - 1), projection_dim if with_projector else backbone.feature_dim
        self.projector = mlp(backbone.feature_dim, *hidden, dim) if with_projector else nn.Identity()
        self.predictor = mlp(dim, *hidden, dim) if with_predictor else nn.Identity()
        self.key_encoder = momentum_copy(self._online())
        self.first_queue = KeyQueue(queue_size, dim)
        self.second_queue = KeyQueue(queue_size, dim)

    @property
    def queues(self) -> tuple[KeyQueue, KeyQueue]:
        """The keys of first views and those of second views."""
        return self.first_queue, self.second_queue

    def _online(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.projector)

    def _contrast(self, views: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The loss f32 [B] of each image and the keys f32 [B, D] of each view."""
        online = self._online()
        queries = [F.normalize(self.predictor(online(view)).float(), dim=1) for view in views]
        with torch.no_grad():
            keys = [F.normalize(self.key_encoder(view).float(), dim=1) for view in views]
        losses = [
            info_nce(queries[asking], keys[asked], self.queues[asked].keys, self.temperature)
            for asking, asked in ((0, 1), (1, 0))
        ]
        return torch.stack(losses).sum(dim=0), keys

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Both directions of InfoNCE against the queues, averaged over the batch."""
        losses, keys = self._contrast(views)
        for queue, held in zip(self.queues, keys, strict=True):
            queue.hold(held)
        return {"loss": losses.mean()}

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B]: both directions of InfoNCE of each image against the queues."""
        return self._contrast(views)[0]

    def after_step(self, progress: float) -> None:
        """Moves the key encoder and the batch's keys into the queues."""
        follow(self.key_encoder, self._online(), rising_momentum(self.momentum, progress))
        for queue in self.queues:
            queue.advance()

"""SwAV."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.heads import mlp
from baselines.ssl_methods.hyperparameters import check_at_least, check_positive
from baselines.ssl_methods.key_queue import KeyQueue
from baselines.ssl_methods.multi_crop import NUM_GLOBAL_VIEWS, cross_view_entropy, forward_by_size
from baselines.ssl_methods.sinkhorn import sinkhorn
from harness.api import Backbone, SSLMethod


class SwAV(SSLMethod):
    """SwAV, Caron et al. 2020, https://arxiv.org/abs/2006.09882.

    Each view predicts the other's code: a soft assignment to prototypes that all are used alike. As described, and
    averaged over pairs of views as in the authors' code. Their code also freezes the prototypes in the first epoch and
    starts the queue late; here prototypes always learn, and the queue serves as soon as it is full.

    Args:
        backbone: the encoder; with local views of another size, one that accepts any size.
        num_prototypes: K, >= 1; 3,000 in the paper.
        temperature: tau of the predictions, > 0.
        epsilon: of the Sinkhorn iterations, > 0.
        num_iterations: of Sinkhorn, >= 1.
        queue_size: earlier vectors of each global view that take part in the assignment, >= 0.
        hidden_dim: width of the projector's hidden layer, >= 1; 2,048 in the paper.
        projection_dim: D, >= 1.
        num_local_views: views beyond the two global ones, >= 0; they predict, but have no codes. The augmentation makes
            them smaller (`multi_crop`).
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_prototypes: int = 512,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        num_iterations: int = 3,
        queue_size: int = 0,
        hidden_dim: int = 512,
        projection_dim: int = 128,
        num_local_views: int = 0,
    ):
        super().__init__(backbone)
        check_positive(temperature=temperature, epsilon=epsilon)
        check_at_least(0, queue_size=queue_size, num_local_views=num_local_views)
        check_at_least(1, num_prototypes=num_prototypes, num_iterations=num_iterations)
        check_at_least(1, hidden_dim=hidden_dim, projection_dim=projection_dim)
        self.num_prototypes = num_prototypes
        self.temperature = temperature
        self.epsilon = epsilon
        self.num_iterations = num_iterations
        self.queue_size = queue_size
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.num_local_views = num_local_views
        self.num_views = NUM_GLOBAL_VIEWS + num_local_views
        self.projector = mlp(backbone.feature_dim, hidden_dim, projection_dim)
        self.prototypes = nn.Linear(projection_dim, num_prototypes, bias=False)
        self._normalize_prototypes()
        # A row holds the vectors of both global views of an image.
        self.queue = KeyQueue(queue_size, NUM_GLOBAL_VIEWS * projection_dim) if queue_size > 0 else None

    @torch.no_grad()
    def _normalize_prototypes(self) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))

    @torch.no_grad()
    def _codes(self, scores: Tensor) -> Tensor:
        """Codes of the global views from their scores, both f32 [2, B, K]; a full queue's vectors are assigned too."""
        codes = sinkhorn(scores, self.epsilon, self.num_iterations)
        if self.queue is None:
            return codes
        queued = self.queue.keys.view(self.queue_size, NUM_GLOBAL_VIEWS, -1).transpose(0, 1)  # [2, Q, D]
        together = torch.cat([scores, self.prototypes(queued)], dim=1)
        with_queue = sinkhorn(together, self.epsilon, self.num_iterations)[:, : scores.shape[1]]
        return torch.where(self.queue.is_full, with_queue, codes)  # chosen where the data is: waits for no accelerator

    def _swap(self, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The loss f32 [B] of each image and the vectors f32 [V, B, D] of its views."""
        features = forward_by_size(self.backbone, views)
        z = F.normalize(self.projector(torch.cat(features)).float(), dim=1).view(len(views), -1, self.projection_dim)
        with torch.autocast(z.device.type, enabled=False):
            scores = self.prototypes(z)
            codes = self._codes(scores[:NUM_GLOBAL_VIEWS])
            losses = cross_view_entropy(codes, F.log_softmax(scores / self.temperature, dim=2))  # Eqs. (1) and (2)
        return losses, z

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Mean of Eq. (1) over images and pairs of views."""
        losses, vectors = self._swap(views)
        if self.queue is not None:
            self.queue.hold(vectors[:NUM_GLOBAL_VIEWS].transpose(0, 1).flatten(1))
        return {"loss": losses.mean()}

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B]: the loss of each image, its codes assigned within this batch."""
        return self._swap(views)[0]

    def after_step(self, progress: float) -> None:
        """Brings the prototypes back to unit length and the batch's vectors into the queue."""
        self._normalize_prototypes()
        if self.queue is not None:
            self.queue.advance()

"""A network that predicts which images a classifier has a high loss on, from the stages of its backbone."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.api import Companion


class LossPrediction(Companion):
    """The loss prediction module of Yoo & Kweon 2019, https://arxiv.org/abs/1905.03677, figure 2.

    Each stage's output is averaged over its places and goes through a linear layer and a ReLU; a linear layer on all of
    them gives the prediction. Learns from pairs of the batch, image i with image B - 1 - i, as released: a batch is in
    random order. The middle image of an odd batch has no partner.

    Args:
        stage_shapes: of each stage's output for one image: (D,), (T, D) as in transformers, or (c, h, w).
        hidden_dim: of each stage's linear layer.
        pair_loss: (predicted loss of one less that of the other f32 [P], whether its true loss is the higher one
            bool [P]) -> f32 [P].
        weight: of the mean over pairs.
        gradient_share: the share of the training after which gradients no longer reach the backbone.
    """

    def __init__(
        self,
        stage_shapes: list[tuple[int, ...]],
        *,
        hidden_dim: int,
        pair_loss: Callable[[Tensor, Tensor], Tensor],
        weight: float,
        gradient_share: float,
    ):
        super().__init__()
        self.pair_loss = pair_loss
        self.weight = weight
        self.gradient_share = gradient_share
        sizes = [shape[0] if len(shape) == 3 else shape[-1] for shape in stage_shapes]
        self.branches = nn.ModuleList(nn.Linear(size, hidden_dim) for size in sizes)
        self.score = nn.Linear(len(sizes) * hidden_dim, 1)

    def forward(self, stages: list[Tensor]) -> Tensor:
        """The predicted loss of each image, f32 [B]; only its order means something."""
        hidden = [F.relu(branch(pooled(stage))) for branch, stage in zip(self.branches, stages, strict=True)]
        return self.score(torch.cat(hidden, dim=1)).squeeze(1).float()

    def loss(self, stages: list[Tensor], task_losses: Tensor, progress: float) -> Tensor:
        """The weighted mean of the pairs' losses; 0 for a single image."""
        if progress >= self.gradient_share:
            stages = [stage.detach() for stage in stages]
        predicted, num_pairs = self(stages), len(task_losses) // 2
        gap = (predicted - predicted.flip(0))[:num_pairs]
        is_higher = (task_losses > task_losses.flip(0))[:num_pairs]
        return self.weight * self.pair_loss(gap, is_higher).sum() / max(num_pairs, 1)


def pooled(stage: Tensor) -> Tensor:
    """f32 [B, c]: the mean over places of [B, c, h, w] or [B, T, c], or [B, c] as it is."""
    if stage.ndim == 4:
        return stage.float().mean(dim=(2, 3))
    return stage.float().mean(dim=1) if stage.ndim == 3 else stage.float()


def check_loss_prediction(hidden_dim: int, weight: float, gradient_share: float) -> None:
    """Refuses impossible hyper-parameters."""
    if hidden_dim < 1:
        raise ValueError(f"hidden_dim = {hidden_dim} is not >= 1")
    if not weight >= 0:
        raise ValueError(f"weight = {weight} is not >= 0")
    if not 0 <= gradient_share <= 1:
        raise ValueError(f"gradient_share = {gradient_share} is not in [0, 1]")

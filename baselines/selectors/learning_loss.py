"""Selection by a predicted loss."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from baselines.selectors.loss_prediction import LossPrediction, check_loss_prediction
from baselines.selectors.ranking import highest
from harness.api import Companion, Pool, Selector


class LearningLoss(Selector):
    """Learning Loss, Yoo & Kweon 2019, https://arxiv.org/abs/1905.03677.

    A small network beside the classifier learns from the stages of its backbone which of two images has the higher
    loss; the unlabelled images with the highest predicted loss are picked. As described, and where the paper is silent
    as in the code of others (github.com/razvancaramalau/Sequential-GCN-for-Active-Learning): image i is paired with
    image B - 1 - i, and the loss of a pair is averaged over pairs. Deviates: it reads all stages that the backbone
    names, of ResNets the paper's four, after their ReLU; those of `wide_resnet28` end before one. One optimizer, the
    classifier's, trains both, which for the paper's SGD is the same as one for each. The middle image of an odd batch
    has no partner, where the paper has even ones. The paper picks from a random 10,000 of the pool, this from all of it
    (`pool_subset` does so here). Needs `classifier: finetune`: under a fixed head the stages belong to an encoder that
    the head's loss never shaped. Ties are broken at random.

    Args:
        hidden_dim: of the layer on each stage, >= 1.
        margin: xi, by which predictions of a pair should differ, > 0.
        weight: lambda, of the network's loss beside the classifier's, >= 0.
        gradient_share: the share of the training after which the network no longer shapes the encoder, in [0, 1];
            120 of 200 epochs in the paper.
    """

    reads = frozenset({"companion_outputs"})

    def __init__(self, *, hidden_dim: int = 128, margin: float = 1.0, weight: float = 1.0, gradient_share: float = 0.6):
        check_loss_prediction(hidden_dim, weight, gradient_share)
        if not margin > 0:
            raise ValueError(f"margin = {margin} is not > 0")
        self.hidden_dim = hidden_dim
        self.margin = margin
        self.weight = weight
        self.gradient_share = gradient_share

    def companion(self, stage_shapes: list[tuple[int, ...]]) -> Companion:
        """See `Selector.companion`."""
        return LossPrediction(
            stage_shapes,
            hidden_dim=self.hidden_dim,
            pair_loss=partial(hinge, margin=self.margin),
            weight=self.weight,
            gradient_share=self.gradient_share,
        )

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        return highest(pool, pool.companion_outputs[pool.unlabeled], budget, rng=rng)


def hinge(gap: Tensor, is_higher: Tensor, *, margin: float) -> Tensor:
    """Eq. (2): f32 [P], max(0, -1(l_i, l_j) (p_i - p_j) + xi) with 1(l_i, l_j) = +1 if l_i > l_j, else -1."""
    return (margin - torch.where(is_higher, gap, -gap)).clamp_min(0)

"""MixMatch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.hyperparameters import check_at_least, check_positive, check_share
from harness.api import Backbone, SemiSupervisedMethod, UnlabeledBatch


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """Eq. (7) of MixMatch: f32 [B, K] distributions, made more certain where temperature < 1.

    In logarithms: the powers themselves would all vanish where classes are many or the temperature is low.
    """
    return (probabilities.log() / temperature).softmax(dim=1)


def mix_up(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Eqs. (9) to (11): the mixture of two [B, ...] tensors, the first weighing max(lambda, 1 - lambda) row by row.

    Args:
        first: what the mixture stays closer to.
        second: mixed into it.
        share: f32 [B], lambda in [0, 1].
    """
    share = torch.maximum(share, 1 - share).view(-1, *[1] * (first.ndim - 1))
    return share * first + (1 - share) * second


class MixMatch(SemiSupervisedMethod):
    """MixMatch, Berthelot et al. 2019, https://arxiv.org/abs/1905.02249; with the `csal` selector it is CSAL.

    Unlabelled images get the sharpened mean prediction over their views; then all images and labels are mixed with
    others. As described; lambda is drawn for each image, and the unlabelled weight rises linearly over the first `ramp`
    of the training, both as in the authors' code. The pass that guesses labels moves the running statistics of batch
    normalisation, too.

    Args:
        backbone: the encoder.
        num_guesses: K of the paper, views from which a label is guessed, >= 1.
        temperature: T of the sharpening, > 0.
        alpha: of the Beta distribution of the mixing, > 0.
        weight: lambda_U, the final weight of the unlabelled part, >= 0; 75 in the paper for CIFAR-10.
        ramp: share of the training over which the weight rises from 0, in [0, 1].
    """

    progress: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_guesses: int = 2,
        temperature: float = 0.5,
        alpha: float = 0.75,
        weight: float = 75.0,
        ramp: float = 1.0,
    ):
        super().__init__(backbone)
        check_at_least(1, num_guesses=num_guesses)
        check_positive(temperature=temperature, alpha=alpha)
        check_at_least(0, weight=weight)
        check_share(ramp=ramp)
        self.num_guesses = num_guesses
        self.temperature = temperature
        self.alpha = alpha
        self.weight = weight
        self.ramp = ramp
        self.num_views = num_guesses
        self.register_buffer("progress", torch.zeros(()))

    def unlabeled_weight(self) -> Tensor:
        """f32 []: lambda_U at the present progress of the training."""
        risen = (self.progress / self.ramp).clamp(max=1) if self.ramp > 0 else torch.ones_like(self.progress)
        return self.weight * risen

    @torch.no_grad()
    def guess(self, classifier: nn.Module, unlabeled: list[Tensor]) -> Tensor:
        """f32 [M, K]: q, Eqs. (6) and (7)."""
        views = classifier(torch.cat(unlabeled)).float().softmax(dim=1).view(len(unlabeled), len(unlabeled[0]), -1)
        return sharpen(views.mean(dim=0), self.temperature)

    def joint_loss(
        self, classifier: nn.Module, labeled: Tensor, labels: Tensor, unlabeled: UnlabeledBatch
    ) -> dict[str, Tensor]:
        """L_X + lambda_U L_U, Eqs. (3) to (5), on the mixed images."""
        guessed = self.guess(classifier, unlabeled.views)
        targets = torch.cat([F.one_hot(labels, guessed.shape[1]).float(), *[guessed] * len(unlabeled.views)])
        images = torch.cat([labeled, *unlabeled.views])
        other = torch.randperm(len(images), device=images.device)  # W, algorithm 1, line 12
        alpha = torch.full((len(images),), self.alpha, device=images.device)
        share = torch.distributions.Beta(alpha, alpha).sample()
        logits = classifier(mix_up(images, images[other], share)).float()
        targets = mix_up(targets, targets[other], share)
        count = len(labeled)
        supervised = F.cross_entropy(logits[:count], targets[:count])  # Eq. (3)
        consistency = (
            (logits[count:].softmax(dim=1) - targets[count:]).square().mean()
        )  # Eq. (4): over K M rows, L axes
        loss = supervised + self.unlabeled_weight() * consistency
        return {"loss": loss, "supervised": supervised, "unlabeled": consistency}

    def before_training(self) -> None:
        """Begins the schedule."""
        self.progress.zero_()

    def after_step(self, progress: float) -> None:
        """Moves the weight of the unlabelled part."""
        self.progress.fill_(progress)

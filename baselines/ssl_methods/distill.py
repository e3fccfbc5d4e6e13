"""Distillation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.hyperparameters import check_at_least, check_positive, check_share
from harness.api import UNKNOWN, Backbone, TaughtMethod


class Distill(TaughtMethod):
    """Distillation, Hinton, Vinyals & Dean 2015, https://arxiv.org/abs/1503.02531, with mixup, Zhang et al. 2018.

    Every image of the pool, labelled or not, is to be classified as a teacher does: cross-entropy with the softmax of
    the teacher's scores / `temperature`. Images and targets are mixed in pairs (https://arxiv.org/abs/1710.09412),
    lambda drawn once a batch as in the authors' code. Hinton has one temperature for both networks: set
    `student_temperature` to the same. Here the student's is its own, 1, so that its probabilities are those of the
    targets. The true label, where it was bought, is mixed into the target by `hard`; at temperatures of 1 that is
    Hinton's weighted sum of two losses.

    Args:
        backbone: the encoder.
        temperature: T, divides the teacher's scores, > 0.
        student_temperature: divides the student's logits in training, > 0; the loss is multiplied by its square.
        hard: share of the true label in the target of an image whose label was bought, in [0, 1].
        mixup: alpha of the Beta distribution of lambda, >= 0; 0: images are not mixed.
    """

    num_views = 1

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: float = 1.0,
        student_temperature: float = 1.0,
        hard: float = 0.0,
        mixup: float = 0.4,
    ):
        super().__init__(backbone)
        check_positive(temperature=temperature, student_temperature=student_temperature)
        check_share(hard=hard)
        check_at_least(0, mixup=mixup)
        self.temperature = temperature
        self.student_temperature = student_temperature
        self.hard = hard
        self.mixup = mixup

    def targets(self, scores: Tensor, labels: Tensor) -> Tensor:
        """f32 [B, K] distributions of scores f32 [B, K] and labels i64 [B], Eq. (1) of Hinton et al."""
        soft = (scores.float() / self.temperature).softmax(dim=1)
        known = (labels != UNKNOWN)[:, None] * self.hard
        return (1 - known) * soft + known * F.one_hot(labels.clamp_min(0), scores.shape[1])

    def taught_loss(
        self, classifier: nn.Module, views: list[Tensor], scores: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """T^2 times the cross-entropy of the mixed images with their mixed targets."""
        (images,), targets = views, self.targets(scores, labels)
        if self.mixup:
            alpha = torch.tensor(self.mixup)
            share = float(torch.distributions.Beta(alpha, alpha).sample())
            other = torch.randperm(len(images)).to(images.device)
            images = share * images + (1 - share) * images[other]  # Zhang et al., section 2
            targets = share * targets + (1 - share) * targets[other]
        logits = classifier(images).float() / self.student_temperature
        return {"loss": self.student_temperature**2 * F.cross_entropy(logits, targets)}

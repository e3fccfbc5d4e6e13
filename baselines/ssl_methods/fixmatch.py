"""FixMatch."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.hyperparameters import check_at_least, check_share
from harness.api import Backbone, SemiSupervisedMethod, UnlabeledBatch

Thresholds = Literal["fixed", "flexmatch", "freematch"]

NOT_YET = -1
"""Stands for the class of an image that was never assigned to one."""


class FixMatch(SemiSupervisedMethod):
    """FixMatch, Sohn et al. 2020, https://arxiv.org/abs/2001.07685.

    Where the weakly augmented view of an unlabelled image is classified with confidence, the strongly augmented view
    is to be classified alike. As described. Views are the trial's augmentation's, the first weak and the second strong
    (`fixmatch_strong`; `weak_strong` for MoBYv2AL's). All images pass the network together, so that
    batch normalisation sees one batch, as in the authors' code.

    Two successors ask another confidence of each class. FlexMatch, Zhang et al. 2021,
    https://arxiv.org/abs/2110.08263: less of those that few images are assigned to with confidence, with its warm-up
    and its convex mapping; each image counts as it was last assigned, as in the authors' code
    (microsoft/Semi-supervised-learning). FreeMatch, Wang et al. 2023, https://arxiv.org/abs/2205.07246: the model's
    mean confidence, scaled by how often it says each class (its self-adaptive thresholding), without its loss of
    fairness.

    Args:
        backbone: the encoder.
        threshold: tau, the confidence from which an image counts, in [0, 1]; freematch needs none.
        weight: lambda_u, of the unlabelled part, >= 0.
        thresholds: of all classes alike (fixed), or as one of the successors has them.
        momentum: of the moving averages of freematch, in [0, 1].
    """

    assigned: Tensor
    shares: Tensor
    confidence: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        threshold: float = 0.95,
        weight: float = 1.0,
        thresholds: Thresholds = "fixed",
        momentum: float = 0.999,
    ):
        super().__init__(backbone)
        check_share(threshold=threshold, momentum=momentum)
        check_at_least(0, weight=weight)
        if thresholds not in ("fixed", "flexmatch", "freematch"):
            raise ValueError(f"thresholds = {thresholds!r} is none of fixed, flexmatch, freematch")
        self.threshold = threshold
        self.weight = weight
        self.thresholds = thresholds
        self.momentum = momentum
        # of the unlabelled images and of the classes, whose numbers the first batch tells
        self.register_buffer("assigned", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("shares", torch.zeros(0))
        self.register_buffer("confidence", torch.zeros(()))
        self.register_load_state_dict_pre_hook(_resize)

    def joint_loss(
        self, classifier: nn.Module, labeled: Tensor, labels: Tensor, unlabeled: UnlabeledBatch
    ) -> dict[str, Tensor]:
        """l_s + lambda_u l_u, Eqs. (3) and (4)."""
        weak, strong = unlabeled.views
        logits = classifier(torch.cat([labeled, weak, strong])).float()
        known, of_weak, of_strong = logits.split([len(labeled), len(weak), len(strong)])
        probabilities = of_weak.detach().softmax(dim=1)
        confidence, pseudo = probabilities.max(dim=1)
        counts = (confidence >= self._asked(probabilities, unlabeled)[pseudo]).float()
        supervised = F.cross_entropy(known, labels)  # Eq. (3)
        guessed = (F.cross_entropy(of_strong, pseudo, reduction="none") * counts).mean()  # Eq. (4)
        loss = supervised + self.weight * guessed
        return {"loss": loss, "supervised": supervised, "unlabeled": guessed, "used": counts.mean()}

    def before_training(self) -> None:
        """Forgets how images were assigned: those of another training are others."""
        self.assigned = self.assigned.new_zeros(0)

    def _asked(self, probabilities: Tensor, unlabeled: UnlabeledBatch) -> Tensor:
        """f32 [K]: the confidence that each class asks of the batch, whose probabilities are f32 [M, K]."""
        if self.thresholds == "flexmatch":
            return self._asked_by_assignments(probabilities, unlabeled)
        if self.thresholds == "freematch":
            return self._asked_by_averages(probabilities)
        return probabilities.new_full((probabilities.shape[1],), self.threshold)

    def _asked_by_assignments(self, probabilities: Tensor, unlabeled: UnlabeledBatch) -> Tensor:
        """f32 [K], FlexMatch's T_t(c); then each image of which the network is sure is assigned to its class."""
        if not len(self.assigned):
            self.assigned = torch.full((unlabeled.total,), NOT_YET, device=probabilities.device)
        counts = torch.bincount(self.assigned - NOT_YET, minlength=1 + probabilities.shape[1])
        beta = counts[1:] / counts.max()  # sigma_t(c) by the largest; warm-up: those never assigned are a class, too
        confidence, pseudo = probabilities.max(dim=1)
        before = self.assigned[unlabeled.rows]
        self.assigned[unlabeled.rows] = torch.where(confidence >= self.threshold, pseudo, before)
        return self.threshold * beta / (2 - beta)  # M(beta_t(c)) tau, M(x) = x / (2 - x)

    def _asked_by_averages(self, probabilities: Tensor) -> Tensor:
        """f32 [K], FreeMatch's tau_t(c), moved by the batch."""
        num_classes = probabilities.shape[1]
        if not len(self.shares):
            self.shares = probabilities.new_full((num_classes,), 1 / num_classes)
            self.confidence = self.shares[0]
        self.shares = self.shares.lerp(probabilities.mean(0), 1 - self.momentum)  # p_t(c)
        self.confidence = self.confidence.lerp(probabilities.amax(1).mean(), 1 - self.momentum)  # tau_t
        return self.confidence * self.shares / self.shares.max()  # tau_t(c) = MaxNorm(p_t(c)) tau_t


def _resize(method: FixMatch, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Before a state is loaded: as many images and classes as it knows of."""
    for name in ("assigned", "shares"):
        buffer = getattr(method, name)
        setattr(method, name, buffer.new_zeros(len(state[prefix + name])))

"""FixMatch."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.hyperparameters import check_at_least, check_share
from harness.api import Backbone, SemiSupervisedMethod

Thresholds = Literal["fixed", "flexmatch", "freematch"]


class FixMatch(SemiSupervisedMethod):
    """FixMatch, Sohn et al. 2020, https://arxiv.org/abs/2001.07685.

    Where the weakly augmented view of an unlabelled image is classified with confidence, the strongly augmented view
    is to be classified alike. As described. Views are the trial's augmentation's, the first weak and the second strong
    (`fixmatch_strong`; `weak_strong` for MoBYv2AL's). All images pass the network together, so that
    batch normalisation sees one batch, as in the authors' code.

    Two successors ask another confidence of each class. FlexMatch, Zhang et al. 2021,
    https://arxiv.org/abs/2110.08263: less of those that few images are assigned to with confidence, with its warm-up
    and its convex mapping; a moving average of what batches are assigned stands for the last assignment of each image,
    as a method is not told which images it sees. FreeMatch, Wang et al. 2023, https://arxiv.org/abs/2205.07246: the
    model's mean confidence, scaled by how often it says each class (its self-adaptive thresholding), without its loss
    of fairness.

    Args:
        backbone: the encoder.
        threshold: tau, the confidence from which an image counts, in [0, 1]; freematch needs none.
        weight: lambda_u, of the unlabelled part, >= 0.
        thresholds: of all classes alike (fixed), or as one of the successors has them.
        momentum: of the moving averages of flexmatch and freematch, in [0, 1].
    """

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
        self.register_buffer("shares", torch.zeros(0))  # of the classes, whose number the first batch tells
        self.register_buffer("confidence", torch.zeros(()))
        self.register_load_state_dict_pre_hook(_resize)

    def joint_loss(
        self, classifier: nn.Module, labeled: Tensor, labels: Tensor, unlabeled: list[Tensor]
    ) -> dict[str, Tensor]:
        """l_s + lambda_u l_u, Eqs. (3) and (4)."""
        weak, strong = unlabeled
        logits = classifier(torch.cat([labeled, weak, strong])).float()
        known, of_weak, of_strong = logits.split([len(labeled), len(weak), len(strong)])
        probabilities = of_weak.detach().softmax(dim=1)
        confidence, pseudo = probabilities.max(dim=1)
        counts = (confidence >= self._asked(probabilities)[pseudo]).float()
        supervised = F.cross_entropy(known, labels)  # Eq. (3)
        guessed = (F.cross_entropy(of_strong, pseudo, reduction="none") * counts).mean()  # Eq. (4)
        loss = supervised + self.weight * guessed
        return {"loss": loss, "supervised": supervised, "unlabeled": guessed, "used": counts.mean()}

    def _asked(self, probabilities: Tensor) -> Tensor:
        """f32 [K]: the confidence that each class asks, moved by the batch's f32 [M, K]."""
        num_classes = probabilities.shape[1]
        if self.thresholds == "fixed":
            return probabilities.new_full((num_classes,), self.threshold)
        flex = self.thresholds == "flexmatch"
        if not len(self.shares):
            even = probabilities.new_full((num_classes,), 1 / num_classes)
            self.shares, self.confidence = (torch.zeros_like(even), self.confidence) if flex else (even, even[0])
        confidence, pseudo = probabilities.max(dim=1)
        sure = F.one_hot(pseudo[confidence > self.threshold], num_classes).sum(0) / len(pseudo)
        self.shares = self.shares.lerp(sure if flex else probabilities.mean(0), 1 - self.momentum)  # sigma_t(c); p_t(c)
        if flex:
            most = torch.maximum(self.shares.max(), 1 - self.shares.sum())  # warm-up: the rest is yet to be assigned
            status = self.shares / most
            return self.threshold * status / (2 - status)  # T_t(c) = M(beta_t(c)) tau, M(x) = x / (2 - x)
        self.confidence = self.confidence.lerp(confidence.mean(), 1 - self.momentum)  # tau_t
        return self.confidence * self.shares / self.shares.max()  # tau_t(c) = MaxNorm(p_t(c)) tau_t


def _resize(method: FixMatch, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Before a state is loaded: as many classes as it knows of."""
    method.shares = method.shares.new_zeros(len(state[f"{prefix}shares"]))

"""FixMatch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.hyperparameters import check_at_least, check_share
from harness.api import Backbone, SemiSupervisedMethod


class FixMatch(SemiSupervisedMethod):
    """FixMatch, Sohn et al. 2020, https://arxiv.org/abs/2001.07685.

    Where the weakly augmented view of an unlabelled image is classified with confidence, the strongly augmented view
    is to be classified alike. As described. Views are the trial's augmentation's, the first weak and the second strong
    (`weak_strong`); the paper's strong view is RandAugment or CTAugment. All images pass the network together, so that
    batch normalisation sees one batch, as in the authors' code.

    Args:
        backbone: the encoder.
        threshold: tau, the confidence from which an image counts, in [0, 1].
        weight: lambda_u, of the unlabelled part, >= 0.
    """

    def __init__(self, backbone: Backbone, *, threshold: float = 0.95, weight: float = 1.0):
        super().__init__(backbone)
        check_share(threshold=threshold)
        check_at_least(0, weight=weight)
        self.threshold = threshold
        self.weight = weight

    def joint_loss(
        self, classifier: nn.Module, labeled: Tensor, labels: Tensor, unlabeled: list[Tensor]
    ) -> dict[str, Tensor]:
        """l_s + lambda_u l_u, Eqs. (3) and (4)."""
        weak, strong = unlabeled
        logits = classifier(torch.cat([labeled, weak, strong])).float()
        known, of_weak, of_strong = logits.split([len(labeled), len(weak), len(strong)])
        confidence, pseudo = of_weak.detach().softmax(dim=1).max(dim=1)
        counts = (confidence >= self.threshold).float()
        supervised = F.cross_entropy(known, labels)  # Eq. (3)
        guessed = (F.cross_entropy(of_strong, pseudo, reduction="none") * counts).mean()  # Eq. (4)
        loss = supervised + self.weight * guessed
        return {"loss": loss, "supervised": supervised, "unlabeled": guessed, "used": counts.mean()}

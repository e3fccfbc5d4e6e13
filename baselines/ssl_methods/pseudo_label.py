"""Pseudo-Label."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.hyperparameters import check_at_least, check_share
from harness.api import Backbone, SemiSupervisedMethod, UnlabeledBatch


class PseudoLabel(SemiSupervisedMethod):
    """Pseudo-Label, Lee 2013, https://www.kaggle.com/blobs/download/forum-message-attachment-files/746/pseudo_label_final.pdf.

    The class that the network finds most likely is taken for an unlabelled image's label; the weight of these rises
    while training. As described, the epochs T1 = 100 and T2 = 600 of its schedule being shares of the training.

    Args:
        backbone: the encoder.
        weight: alpha_f, the final weight of pseudo-labels, >= 0.
        start: share of the training before which they do not count (T1), in [0, 1].
        full: share of the training from which their weight is alpha_f (T2), in [start, 1].
        threshold: probability from which a pseudo-label counts, in [0, 1]; 0, all of them, in the paper.
    """

    num_views = 1
    progress: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        weight: float = 3.0,
        start: float = 0.1,
        full: float = 0.6,
        threshold: float = 0.0,
    ):
        super().__init__(backbone)
        check_at_least(0, weight=weight)
        check_share(start=start, full=full, threshold=threshold)
        if full < start:
            raise ValueError(f"full = {full} is below start = {start}")
        self.weight = weight
        self.start = start
        self.full = full
        self.threshold = threshold
        self.register_buffer("progress", torch.zeros(()))

    def unlabeled_weight(self) -> Tensor:
        """f32 []: alpha(t), Eq. (16), at the present progress of the training."""
        if self.full == self.start:
            return self.weight * (self.progress >= self.start)
        return self.weight * ((self.progress - self.start) / (self.full - self.start)).clamp(0, 1)

    def joint_loss(
        self, classifier: nn.Module, labeled: Tensor, labels: Tensor, unlabeled: UnlabeledBatch
    ) -> dict[str, Tensor]:
        """Eq. (15)."""
        logits = classifier(torch.cat([labeled, unlabeled.views[0]])).float()
        known, unknown = logits[: len(labeled)], logits[len(labeled) :]
        confidence, pseudo = unknown.detach().softmax(dim=1).max(dim=1)
        counts = (confidence >= self.threshold).float()
        supervised = F.cross_entropy(known, labels)
        guessed = (F.cross_entropy(unknown, pseudo, reduction="none") * counts).mean()
        loss = supervised + self.unlabeled_weight() * guessed
        return {"loss": loss, "supervised": supervised, "unlabeled": guessed, "used": counts.mean()}

    def before_training(self) -> None:
        """Begins the schedule."""
        self.progress.zero_()

    def after_step(self, progress: float) -> None:
        """Moves the schedule."""
        self.progress.fill_(progress)

"""Supervised training of the encoder."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.hyperparameters import check_share
from harness.api import Backbone, SupervisedMethod


class Supervised(SupervisedMethod):
    """Cross-entropy on the labelled images: the reference that pre-training without labels is measured against.

    The encoder learns under a linear layer that is then dropped, so that its features are judged by the same task
    heads as everybody else's.

    Args:
        backbone: the encoder.
        num_classes: K.
        label_smoothing: share of the target that is spread over all classes, in [0, 1] (Szegedy et al. 2016,
            section 7, https://arxiv.org/abs/1512.00567).
    """

    num_views = 1
    labeled_only: ClassVar[bool] = True

    def __init__(self, backbone: Backbone, num_classes: int, *, label_smoothing: float = 0.0):
        super().__init__(backbone)
        check_share(label_smoothing=label_smoothing)
        self.label_smoothing = label_smoothing
        self.head = nn.Linear(backbone.feature_dim, num_classes)

    def labeled_loss(self, views: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Mean cross-entropy of the batch, and the share of its images that are classified correctly."""
        logits = self.head(self.backbone(views[0])).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return {"loss": loss, "accuracy": (logits.argmax(dim=1) == labels).float().mean()}

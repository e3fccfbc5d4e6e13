"""How a backbone is pre-trained, with labels or without, alone or beside the task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness.api.backbones import Backbone


class SSLMethod(nn.Module, ABC):
    """A self-supervised objective on top of a backbone.

    The harness owns the loop, the optimizer, the precision and the checkpoints; a method owns its heads
    and its loss. `__init__(self, backbone, *, hyper_parameters...)` must keep the encoder that is used
    after pre-training as `self.backbone`.

    Attributes:
        num_views: V, how many views of each image `loss` receives; 0: the encoder keeps its initial weights.
        num_local_views: how many of these, the last, show small parts and must have fewer pixels than the others.

    Example:
        >>> class Attract(SSLMethod):
        ...     def loss(self, views):
        ...         a, b = map(self.backbone, views)  # [B, D] each
        ...         return {"loss": (a - b).square().mean()}
        >>> Attract(nn.Flatten()).loss([torch.zeros(4, 3, 8, 8)] * 2)
        {'loss': tensor(0.)}
    """

    num_views: int = 2
    num_local_views: int = 0
    backbone: Backbone

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone

    @abstractmethod
    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """The training loss of one batch.

        Args:
            views: V tensors f32 [B, C, H, W], normalised, H and W each its own; row i of each shows the same image.

        Returns:
            `{"loss": []}` to back-propagate, plus any scalars to log under `pretrain/<name>`.
        """

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B], the loss of each image, for selectors that rank by it.

        Raises:
            NotImplementedError: the method's loss is not a mean over images.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no loss per image")

    @classmethod
    def has_sample_loss(cls) -> bool:
        """Whether `sample_loss` is defined."""
        return cls.sample_loss is not SSLMethod.sample_loss

    def before_training(self) -> None:
        """Called before the first step of a training, which may go on from the weights of another: progress is 0 again.

        A schedule begins anew here; momentum encoders, queues and averages stay.
        """

    def after_step(self, progress: float) -> None:
        """Called after every optimizer step, for momentum encoders and queues; progress in (0, 1]."""


UNKNOWN = -1
"""Stands for the label of an image whose label has not been bought."""


class SupervisedMethod(SSLMethod):
    """An objective that also reads the labels bought so far, such as SupCon's; the harness hands it no others.

    `__init__(self, backbone, num_classes, *, hyper_parameters...)` with num_classes = K.

    Attributes:
        labeled_only: it learns from labelled images alone, and `labels` holds no UNKNOWN. Otherwise it learns from
            the whole pool.
    """

    labeled_only: ClassVar[bool] = False

    @abstractmethod
    def labeled_loss(self, views: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The training loss of one batch, in place of `loss`.

        Args:
            views: V tensors f32 [B, C, H, W], normalised; row i of each shows the same image.
            labels: i64 [B] in 0 .. K-1, UNKNOWN where the label has not been bought.

        Returns:
            As `loss`.
        """

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """The loss of a batch without any label."""
        return self.labeled_loss(views, torch.full((len(views[0]),), UNKNOWN, device=views[0].device))


class TaughtMethod(SSLMethod):
    """A learner that trains classifier and encoder on what a teacher says: `mode: joint` with a `teacher`.

    `num_views` counts the views of each image, made by the trial's augmentation, alike for labelled and unlabelled.
    """

    @abstractmethod
    def taught_loss(
        self, classifier: nn.Module, views: list[Tensor], scores: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """The training loss of one step.

        Args:
            classifier: normalised images f32 [B, C, H, W] -> logits f32 [B, K], through `self.backbone`.
            views: V tensors f32 [B, C, H, W], normalised; row i of each shows the same image.
            scores: f32 [B, K], the teacher's of these images without any augmentation, to be read as logits.
            labels: i64 [B] in 0 .. K-1, UNKNOWN where the label has not been bought.

        Returns:
            `{"loss": []}` to back-propagate, plus any scalars to log.
        """

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """There is none without a teacher.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{type(self).__name__} learns from a teacher: use it in mode joint")


@dataclass(frozen=True)
class UnlabeledBatch:
    """The unlabelled images of one step.

    Attributes:
        views: V tensors f32 [M, C, H, W], normalised; row i of each shows the same image.
        rows: i64 [M], distinct, which images these are among all unlabelled ones of this training, 0 .. total - 1.
        total: how many unlabelled images this training has.
    """

    views: list[Tensor]
    rows: Tensor
    total: int


class SemiSupervisedMethod(SSLMethod):
    """A learner that trains classifier and encoder together, from labelled and unlabelled images: `mode: joint` only.

    `num_views` counts the views of unlabelled images, made by the trial's augmentation. Labelled images are seen in one
    view, made by the classifier's augmentation.
    """

    @abstractmethod
    def joint_loss(
        self, classifier: nn.Module, labeled: Tensor, labels: Tensor, unlabeled: UnlabeledBatch
    ) -> dict[str, Tensor]:
        """The training loss of one step.

        Args:
            classifier: normalised images f32 [B, C, H, W] -> logits f32 [B, K], through `self.backbone`.
            labeled: f32 [B, C, H, W], normalised.
            labels: i64 [B] in 0 .. K-1.
            unlabeled: M images, of which no label is known; a method may keep what it found of each in a buffer, until
                `before_training` begins another training, whose rows are other images.

        Returns:
            `{"loss": []}` to back-propagate, plus any scalars to log.
        """

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """There is none without a classifier.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{type(self).__name__} trains a classifier: use it in mode joint")

"""Classifier and encoder trained together on labelled and unlabelled images: `mode: joint`.

Three kinds of methods run here. An SSL method alternates (MoBYv2AL, Caramalau et al. 2022,
https://arxiv.org/abs/2301.01531): a labelled batch gets task loss + weight x SSL loss, then an unlabelled batch
gets weight x SSL loss. A semi-supervised method gets both batches at once and makes one loss of them. A third kind, a
taught method, makes no difference between them: it learns from what a teacher says of every image.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness.api import (
    Augmentation,
    Backbone,
    Images,
    SemiSupervisedMethod,
    SSLMethod,
    SupervisedMethod,
    TaughtMethod,
    UnlabeledBatch,
)
from harness.config.trial import ClassifierConfig, JointConfig
from harness.seeding import generator, seeded
from harness.trial.batches import even_batches
from harness.trial.classes import image_weights
from harness.trial.epochs import Epochs, Metrics, Watch
from harness.trial.heads import RATE, Labeled, LastLayer, State, weighted_loss
from harness.trial.optimizers import (
    build_optimizer,
    check_finite,
    descend,
    encoder_shares,
    learning_rate,
    set_learning_rate,
)
from harness.trial.runtime import Runtime


class JointModel(nn.Module):
    """An SSL method, and a linear layer on its encoder's features."""

    def __init__(self, method: SSLMethod, num_classes: int):
        super().__init__()
        self.method = method
        self.head = LastLayer(method.backbone.feature_dim, num_classes)

    @property
    def backbone(self) -> Backbone:
        """The encoder that both losses train."""
        return self.method.backbone

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K] of normalised images f32 [B, C, H, W]."""
        return self.head(self.backbone(images))


@dataclass(frozen=True)
class Material:
    """What a joint training learns from.

    Attributes:
        labeled: L images, as the classifier sees them.
        unlabeled: M images, perhaps none.
        views: the augmentation of the SSL views.
    """

    labeled: Labeled
    unlabeled: Images
    views: Augmentation


@dataclass(frozen=True)
class Lesson:
    """What a taught method learns from.

    Attributes:
        images: N.
        scores: f32 [N, K], the teacher's.
        labels: i64 [N], UNKNOWN where the label has not been bought.
        views: the augmentation of all images.
    """

    images: Images
    scores: Tensor
    labels: Tensor
    views: Augmentation


def train(
    model: JointModel,
    material: Material | Lesson,
    settings: ClassifierConfig,
    joint: JointConfig,
    runtime: Runtime,
    seed: int,
    watch: Watch,
) -> State:
    """Trains encoder, heads and classifier in place; a training that was killed goes on at its checkpoint.

    Args:
        model: on the runtime's device.
        material: images, labels and views, of a taught method a lesson.
        settings: epochs, batch size, optimizer and schedule.
        joint: how the two losses are joined.
        runtime: device and precision.
        seed: of the trial.
        watch: measures the model that would be kept, the averaged one if there is an average, after every
            `joint.validate_every` epochs.

    Returns:
        {"model": state dict, "history": the mean of each loss in each epoch, and what else is known of it}.

    Raises:
        DivergedError: a loss or a weight became NaN or infinite.
    """
    shares = encoder_shares(model.backbone, settings.backbone_lr, settings.layer_decay)
    optimizer = build_optimizer(model.parameters(), settings, shares)
    average = _Average(model, joint.ema)
    model.method.before_training()

    def validate() -> Metrics:
        with average.instead():
            return watch.validate()

    epochs = Epochs(
        settings.epochs,
        {"model": model, "optimizer": optimizer, "average": average},
        replace(watch, validate=validate),
        rate=RATE,
        validates=lambda epoch: bool(joint.validate_every and epoch % joint.validate_every == 0),
    )
    model.train()
    about = model, settings, joint, runtime, seed, optimizer
    trainer = _Taught(*about, material) if isinstance(material, Lesson) else _Untaught(*about, material)
    for epoch in epochs:
        losses = [metrics["joint/loss"] for metrics in epochs.history]
        with runtime.compiled(model):
            epoch.metrics = trainer.epoch(losses, after_step=average.update)
        epoch.images = trainer.images
        check_finite(model, sum(epoch.metrics.values()), epoch.number, name="joint training's", key="classifier.lr")
    average.take_over()
    return {"model": model.state_dict(), "history": epochs.history}


class _Average(nn.Module):
    """The moving average of encoder and classifier, which is evaluated in their place; nothing if momentum is 0."""

    def __init__(self, model: JointModel, momentum: float):
        super().__init__()
        self._followed = [nn.ModuleList([model.backbone, model.head])]  # in a list, so that it is not saved again
        self.average = (
            AveragedModel(self._followed[0], multi_avg_fn=get_ema_multi_avg_fn(momentum), use_buffers=True)
            if momentum
            else None
        )

    def update(self) -> None:
        """After a step."""
        if self.average is not None:
            self.average.update_parameters(self._followed[0])

    def take_over(self) -> None:
        """Puts the average into the model."""
        if self.average is not None:
            self._followed[0].load_state_dict(self.average.module.state_dict())

    @contextmanager
    def instead(self) -> Iterator[None]:
        """Inside, the model is the average."""
        own = copy.deepcopy(self._followed[0].state_dict()) if self.average is not None else None
        self.take_over()
        try:
            yield
        finally:
            if own is not None:
                self._followed[0].load_state_dict(own)


@dataclass
class _Trainer:
    """One joint training's loop over an epoch; every random stream starts anew each epoch, so that it can resume."""

    model: JointModel
    settings: ClassifierConfig
    joint: JointConfig
    runtime: Runtime
    seed: int
    optimizer: torch.optim.Optimizer

    def epoch(self, losses: list[float], after_step: Callable[[], None]) -> Metrics:
        """The mean of each loss; `losses` are those of the epochs before. `images` is then how many were seen."""
        epoch = len(losses)
        self._rng = generator(self.seed, f"joint/augmentation/{epoch}", self.runtime.device)
        batches = list(self._batches(generator(self.seed, f"joint/order/{epoch}")))
        self.images = sum(map(len, itertools.chain(*batches)))
        totals: dict[str, Tensor] = {}
        with seeded(self.seed, f"joint/epoch/{epoch}"):
            for step, batch in enumerate(batches):
                share = step / len(batches)
                progress = (epoch + share) / self.settings.epochs
                set_learning_rate(self.optimizer, learning_rate(self.settings, progress, losses))
                end = (epoch + (step + 1) / len(batches)) / self.settings.epochs
                for name, loss in self._step(batch, progress, end).items():
                    totals[name] = totals.get(name, torch.zeros((), device=loss.device)) + loss.detach()
                after_step()
        return {name: float(total) / len(batches) for name, total in totals.items()}

    def _batches(self, rng: torch.Generator) -> Iterable[tuple[Tensor, ...]]:
        """i64 positions of the images of each step."""
        raise NotImplementedError

    def _step(self, batch: tuple[Tensor, ...], start: float, end: float) -> dict[str, Tensor]:
        """One of these; start and end are the progress of the training before and after."""
        raise NotImplementedError

    def _descend(self, loss: Tensor, progress: float) -> None:
        descend(self.optimizer, loss, self.settings.clip_norm)
        self.model.method.after_step(progress)

    def _views(self, images: Tensor, augmentation: Augmentation) -> list[Tensor]:
        return [self._view(images, augmentation, view) for view in range(self.model.method.num_views)]

    def _view(self, images: Tensor, augmentation: Augmentation, view: int) -> Tensor:
        return self.runtime.inputs(augmentation(images.to(self.runtime.device), view=view, rng=self._rng))


@dataclass
class _Taught(_Trainer):
    """Learns from a lesson, an image once in an epoch."""

    lesson: Lesson

    def _batches(self, rng: torch.Generator) -> Iterable[tuple[Tensor, ...]]:
        return [(index,) for index in even_batches(len(self.lesson.images), self.settings.batch_size, rng)]

    def _step(self, batch: tuple[Tensor, ...], start: float, end: float) -> dict[str, Tensor]:
        method, lesson, (index,) = self.model.method, self.lesson, batch
        assert isinstance(method, TaughtMethod)
        views = self._views(lesson.images[index], lesson.views)
        scores, labels = (values[index].to(self.runtime.device) for values in (lesson.scores, lesson.labels))
        with self.runtime.autocast():
            losses = method.taught_loss(self.model, views, scores, labels)
        self._descend(losses["loss"], end)
        return {f"joint/{name}": value for name, value in losses.items()}


@dataclass
class _Untaught(_Trainer):
    """Learns from a labelled and an unlabelled batch in each step."""

    material: Material

    def __post_init__(self) -> None:
        self._weights = image_weights(self.material.labeled.labels, self.settings.class_weight)

    def _batches(self, rng: torch.Generator) -> Iterable[tuple[Tensor, ...]]:
        """Of labelled and of unlabelled images; whichever are fewer are repeated."""
        count, others = len(self.material.labeled.labels), len(self.material.unlabeled)
        if others == 1 and not isinstance(self.model.method, SemiSupervisedMethod):
            others = 0  # batch normalisation cannot train on a single image
        size = min(self.settings.batch_size, count)
        sides = (count, size), (others, size * self.joint.unlabeled_ratio)
        labeled, unlabeled = (list(even_batches(*side, rng)) for side in sides)
        steps = max(len(labeled), len(unlabeled))
        for batches, side in zip((labeled, unlabeled), sides, strict=True):
            while len(batches) < steps:
                batches += even_batches(*side, rng)
        return zip(labeled[:steps], unlabeled[:steps], strict=True)

    def _step(self, batch: tuple[Tensor, ...], start: float, end: float) -> dict[str, Tensor]:
        material, method, (labeled, unlabeled) = self.material, self.model.method, batch
        images, labels = material.labeled.images[labeled], material.labeled.labels[labeled].to(self.runtime.device)
        inputs = self._view(images, material.labeled.view, 0)
        if isinstance(method, SemiSupervisedMethod):
            views = self._views(material.unlabeled[unlabeled], material.views)
            others = UnlabeledBatch(views, unlabeled.to(labels.device), len(material.unlabeled))
            with self.runtime.autocast():
                losses = method.joint_loss(self.model, inputs, labels, others)
            self._descend(losses["loss"], end)
            return {f"joint/{name}": value for name, value in losses.items()}
        views = self._views(images, material.views)
        with self.runtime.autocast():
            task = weighted_loss(self.model(inputs).float(), labels, self._weights[labeled].to(labels.device))
            losses = method.labeled_loss(views, labels) if isinstance(method, SupervisedMethod) else method.loss(views)
        alone = not len(unlabeled)
        both = task + self.joint.weight * losses["loss"]
        self._descend(both, end if alone else (start + end) / 2)
        means = {"joint/loss": both, "joint/task_loss": task, "joint/ssl_loss": losses["loss"]}
        if not alone:
            views = self._views(material.unlabeled[unlabeled], material.views)
            with self.runtime.autocast():
                losses = method.loss(views)
            self._descend(self.joint.weight * losses["loss"], end)
            means["joint/unlabeled_ssl_loss"] = losses["loss"]
        return means


def unlabeled_positions(
    joint: JointConfig, unlabeled: Tensor, num_labeled: int, losses: Callable[[], Tensor] | None, rng: torch.Generator
) -> Tensor:
    """Which unlabelled images a joint training learns from.

    Args:
        joint: says which.
        unlabeled: i64 [U], the candidates.
        num_labeled: L.
        losses: f32 [N], the SSL loss of each image of the pool under the last round's model; None in the first round.
        rng: for random ones, and between equal losses.

    Returns:
        i64 [U] or i64 [min(L, U)], sorted.
    """
    if joint.unlabeled == "all" or num_labeled >= len(unlabeled):
        return unlabeled
    shuffled = unlabeled[torch.randperm(len(unlabeled), generator=rng)]
    if joint.unlabeled == "lowest_loss" and losses is not None:
        shuffled = shuffled[losses()[shuffled].argsort(stable=True)]  # equals stay in random order
    return shuffled[:num_labeled].sort().values

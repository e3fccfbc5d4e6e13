"""How labels are used: the task heads, the same for every method.

A fixed head reads a representation f32 [n, D] that no label has shaped. Its training has a cacheable outcome, its
state; `predictor` turns the state into a function. `finetune` trains the encoder itself with a linear layer on top.

What a head says can be read as logits: the softmax of `logistic`, `ridge`, `kernel_ridge`, `linear`, `mlp` and
`finetune` are probabilities. `knn` gives the logarithms of shares of votes, which order the classes and tell sure
images from others, and `svm` decision values, which are votes between pairs of classes and order the classes alone: a
selector that reads more of them is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.api import Augmentation, Backbone, Companion, Images
from harness.config.trial import ClassifierConfig
from harness.seeding import derive, generator, seeded
from harness.trial import knn
from harness.trial.batches import even_batches
from harness.trial.classes import image_weights, with_unseen
from harness.trial.companions import stage_outputs
from harness.trial.epochs import Epochs, Metrics, Watch
from harness.trial.logistic import fit_logistic
from harness.trial.optimizers import (
    Shares,
    build_optimizer,
    check_finite,
    descend,
    encoder_shares,
    learning_rate,
    set_learning_rate,
)
from harness.trial.ridge import fit_kernel_ridge, fit_ridge, rbf
from harness.trial.runtime import Runtime
from harness.trial.svm import search_svm, svm_scores

State = dict[str, Any]
"""What a stage keeps of a head: tensors and plain values."""

RATE = "throughput/train_images_per_second"


@dataclass(frozen=True)
class Predictor:
    """The function of a trained head, f32 [n, D] -> scores f32 [n, K], to be read as logits.

    Attributes:
        penultimate: f32 [n, D] -> f32 [n, D'], what the last layer reads: the inputs as they are, under `mlp` the
            hidden layer.
        last: the last layer, f32 [n, D'] -> f32 [n, K], with the standardisation of its inputs, which is linear, too,
            and would give a dimension weight for hardly varying among a few labelled images; of a head without layers,
            all there is.
    """

    penultimate: Callable[[Tensor], Tensor]
    last: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """Scores f32 [n, K] of inputs f32 [n, D]."""
        return self.last(self.penultimate(x))


COMPLETE = ("linear", "mlp", "logistic", "ridge")
"""The fixed heads whose state says all; the others also read the images that they were trained on."""

Losses = Callable[[Tensor, torch.Generator, float], tuple[Tensor, Tensor]]
"""(i64 [B] positions, generator of views, progress in [0, 1)) -> (what is descended, the task loss), each []."""


def fit(config: ClassifierConfig, inputs: Tensor, labels: Tensor, num_classes: int, seed: int) -> State:
    """Trains a fixed head.

    Args:
        config: which head, and its settings.
        inputs: f32 [L, D], on the CPU.
        labels: i64 [L].
        num_classes: K.
        seed: of the trial.

    Returns:
        The head's state: tensors and plain values. `knn` has none.
    """
    if config.name == "knn":
        return {}
    inputs, mean, std = _standardized(config, inputs)
    weights, rng = image_weights(labels, config.class_weight), generator(seed, "classifier/choice")
    about = {"mean": mean, "std": std, "seen": labels.unique(), "num_labels": len(labels)}
    if config.name == "svm":
        return {"svm": search_svm(inputs, labels, config.class_weight, derive(seed, "classifier/svm")), **about}
    if config.name == "logistic":
        return fit_logistic(inputs, labels, weights, rng) | about
    if config.name == "ridge":
        return fit_ridge(inputs, labels, weights) | about
    if config.name == "kernel_ridge":
        return fit_kernel_ridge(inputs, labels, weights, rng) | about
    with seeded(seed, "classifier/init"):
        head = _head(config, inputs.shape[1], num_classes)

    def losses(index: Tensor, _: torch.Generator, __: float) -> tuple[Tensor, Tensor]:
        loss = weighted_loss(head(inputs[index]), labels[index], weights[index])
        return loss, loss

    _descend(head, losses, len(labels), config, seed, Watch())
    return {"head": head.state_dict(), **about}


def predictor(config: ClassifierConfig, state: State, inputs: Tensor, labels: Tensor, num_classes: int) -> Predictor:
    """The function of a trained head.

    Args:
        config: as it was trained with.
        state: from `fit`.
        inputs: f32 [L, D], on which it was trained; read by heads that are not `COMPLETE`.
        labels: i64 [L], of these.
        num_classes: K.
    """
    if config.name == "knn":
        return _knn(config, inputs, labels, num_classes)

    def scaled(x: Tensor) -> Tensor:
        return (x - state["mean"]) / state["std"]

    if config.name == "svm":
        votes = svm_scores(state["svm"], scaled(inputs), labels, num_classes)
        return Predictor(_as_they_are, lambda x: votes(scaled(x)))
    if config.name in ("logistic", "ridge"):
        scores = lambda x: F.linear(x, state["weight"], state["bias"])  # noqa: E731
    elif config.name == "kernel_ridge":
        bank = scaled(inputs)
        scores = lambda x: rbf(x, bank, state["gamma"]) @ state["dual"] + state["bias"]  # noqa: E731
    else:
        with torch.device("meta"):  # its weights come from the state: none are drawn
            head = _head(config, inputs.shape[1], num_classes)
        head.load_state_dict(state["head"], assign=True)
        if isinstance(head, nn.Sequential):
            *below, top = head
            return Predictor(_in_parts(lambda x: nn.Sequential(*below)(scaled(x))), _in_parts(top))
        return Predictor(_as_they_are, _in_parts(lambda x: head(scaled(x))))
    seen, num_labels = state["seen"], state["num_labels"]
    last = lambda x: with_unseen(scores(scaled(x)), seen, num_labels, num_classes)  # noqa: E731
    return Predictor(_as_they_are, _in_parts(last))


def _as_they_are(x: Tensor) -> Tensor:
    return x


def _in_parts(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def whole(x: Tensor) -> Tensor:
        return torch.cat([function(part) for part in x.split(4096)])

    return whole


def weighted_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """[]: the mean over a batch of each image's cross-entropy times its weight; logits [B, K], i64 [B], f32 [B]."""
    return (weights * F.cross_entropy(logits, labels, reduction="none")).mean()


def _standardized(config: ClassifierConfig, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if not config.standardize:
        return inputs, torch.zeros(1), torch.ones(1)
    mean, std = inputs.mean(0), inputs.std(0, correction=0)
    # a dimension that never varies among the labelled images says nothing: leave its scale alone
    std = torch.where(std > 1e-6 * (1 + mean.abs()), std, torch.ones_like(std))
    return (inputs - mean) / std, mean, std


def _head(config: ClassifierConfig, dims: int, num_classes: int) -> nn.Module:
    if config.name == "mlp":
        hidden = config.hidden_dim
        return nn.Sequential(nn.Linear(dims, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))
    return nn.Linear(dims, num_classes)


def _descend(
    model: nn.Module,
    losses: Losses,
    count: int,
    config: ClassifierConfig,
    seed: int,
    watch: Watch,
    shares: Shares | None = None,
) -> list[Metrics]:
    """Gradient descent on `count` images, in place; returns the metrics of each epoch."""
    optimizer = build_optimizer(model.parameters(), config, shares)
    device = next(model.parameters()).device
    epochs = Epochs(config.epochs, {"model": model, "optimizer": optimizer}, watch, rate=RATE)
    model.train()
    for epoch in epochs:
        before = epoch.number - 1
        earlier = [metrics["classifier/loss"] for metrics in epochs.history]
        rng = generator(seed, f"classifier/augmentation/{before}", device)
        steps = even_batches(count, config.batch_size, generator(seed, f"classifier/order/{before}"))
        total = torch.zeros((), device=device)
        with seeded(seed, f"classifier/epoch/{before}"):
            for step, index in enumerate(steps):
                progress = (before + step / len(steps)) / config.epochs
                set_learning_rate(optimizer, learning_rate(config, progress, earlier))
                loss, task_loss = losses(index, rng, progress)
                descend(optimizer, loss, config.clip_norm)
                total += task_loss.detach() * len(index)
        epoch.images = count
        epoch.metrics = {"classifier/loss": float(total) / count}
        check_finite(model, epoch.metrics["classifier/loss"], epoch.number, name="classifier's", key="classifier.lr")
    return epochs.history


@dataclass(frozen=True)
class Labeled:
    """The images that a classifier learns from.

    Attributes:
        images: L.
        labels: i64 [L].
        view: the augmentation that they are seen under, one fresh view per epoch.
        features: f32 [L, D] of the images under it, where a fixed encoder's are kept and it draws nothing.
    """

    images: Images
    labels: Tensor
    view: Augmentation
    features: Tensor | None = None


class LastLayer(nn.Linear):
    """A linear layer that computes in single precision, whatever is around it.

    In bfloat16 logits have eight significant bits, so that the margins of thousands of images are equal, or 0.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Logits f32 [B, K] of features [B, D]."""
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float())


class FinetunedModel(nn.Module):
    """An encoder with a linear layer on its features."""

    def __init__(self, backbone: Backbone, num_classes: int):
        super().__init__()
        self.backbone = backbone
        self.head = LastLayer(backbone.feature_dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K] of normalised images f32 [B, C, H, W]."""
        return self.head(self.backbone(images))


def finetuned_model(
    backbone: Backbone, num_classes: int, runtime: Runtime, seed: int, *, fixed: bool = False
) -> FinetunedModel:
    """A copy of the encoder, with its current weights, under a freshly initialised linear layer.

    Args:
        backbone: is copied.
        num_classes: K.
        runtime: device and layout.
        seed: of the trial.
        fixed: whether the encoder is to stay as it is, its statistics of batches too.
    """
    with seeded(seed, "classifier/init"):
        model = FinetunedModel(copy.deepcopy(backbone), num_classes)
    if fixed:
        model.backbone.freeze(True)
    runtime.place(model)
    return model


def finetune(
    model: FinetunedModel,
    labeled: Labeled,
    config: ClassifierConfig,
    runtime: Runtime,
    seed: int,
    watch: Watch,
    companion: Companion | None = None,
) -> State:
    """Trains encoder and linear layer together on the labelled images.

    Args:
        model: from `finetuned_model`; trained in place.
        labeled: what is learnt from.
        config: epochs, batch size, optimizer, schedule.
        runtime: device and precision.
        seed: of the trial.
        watch: is told of each epoch.
        companion: trained beside them, in place. One that draws nothing at random and whose loss weighs nothing leaves
            them as if trained alone, to the bit.

    Returns:
        {"model": state dict, "history": metrics per epoch} and, with a companion, {"companion": state dict}.
    """
    labels = labeled.labels.to(runtime.device)
    weights = image_weights(labeled.labels, config.class_weight).to(runtime.device)
    logits_of = _fixed_logits(model, labeled, runtime) if companion is None else None

    def seen(index: Tensor, rng: torch.Generator) -> Tensor:
        """The logits [B, K] of a fresh view of some images."""
        if logits_of is not None:
            return logits_of(index)
        return model(runtime.inputs(labeled.view(labeled.images[index].to(runtime.device), view=0, rng=rng)))

    def losses(index: Tensor, rng: torch.Generator, progress: float) -> tuple[Tensor, Tensor]:
        with runtime.autocast():
            logits = seen(index, rng).float()
            task_loss = weighted_loss(logits, labels[index], weights[index])
            if companion is None:
                return task_loss, task_loss
            of_each = F.cross_entropy(logits.detach(), labels[index], reduction="none")
            return task_loss + companion.loss(stages, of_each, progress), task_loss

    shares = encoder_shares(model.backbone, config.backbone_lr, config.layer_decay)
    if companion is None:
        with runtime.compiled(model):
            history = _descend(model, losses, len(labels), config, seed, watch, shares)
        return {"model": model.state_dict(), "history": history}
    both = nn.ModuleDict({"model": model, "companion": companion})
    with stage_outputs(model.backbone) as stages:
        history = _descend(both, losses, len(labels), config, seed, watch, shares)
    return {"model": model.state_dict(), "companion": companion.state_dict(), "history": history}


def _fixed_logits(model: FinetunedModel, labeled: Labeled, runtime: Runtime) -> Callable[[Tensor], Tensor] | None:
    """i64 [B] -> logits [B, K], where the encoder is fixed and the views are: then each image is encoded once."""
    if labeled.view.draws or any(parameter.requires_grad for parameter in model.backbone.parameters()):
        return None
    features = labeled.features
    if features is None:
        rng = torch.Generator(runtime.device)  # which nothing draws from
        view = lambda images: labeled.view(images, view=0, rng=rng)  # noqa: E731
        features = runtime.forward(model.backbone, labeled.images, view)
    features = features.to(runtime.device)
    return lambda index: model.head(features[index.to(runtime.device)])


def _knn(config: ClassifierConfig, bank: Tensor, labels: Tensor, num_classes: int) -> Predictor:
    def predict(x: Tensor) -> Tensor:
        shares = knn.votes(x, bank, labels, num_classes, neighbors=config.neighbors, temperature=config.temperature)
        return shares.clamp_min(1e-6).log()

    return Predictor(_as_they_are, predict)

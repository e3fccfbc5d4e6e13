"""The configuration of one trial: its keys, their meaning, defaults and ranges."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch

from harness.api import CLASSIFIER_TRAITS
from harness.config.schema import as_dict, plugin, setting
from harness.data.splits import Splitting
from harness.plugins import registry
from harness.plugins.registry import PluginSpec

AUTO_EPOCHS = 20
"""Of a pre-training on many images, where nobody says."""

AUTO_STEPS = 1000
"""That a pre-training makes at least, where nobody says how many epochs it has."""


AUTO_MEASUREMENTS = 20
"""Of an encoder during its pre-training, where nobody says: on few images one takes half as long as an epoch."""


@dataclass(frozen=True)
class DataConfig(Splitting):
    """Which part of the data set is used, and how."""

    normalize: bool = setting(True, "subtract the training set's mean and divide by its deviation, per channel")


@dataclass(frozen=True)
class ScaledRate:
    """A learning rate in proportion to the batch: the linear scaling rule of Goyal et al. 2017, https://arxiv.org/abs/1706.02677."""

    value: float = setting(..., "learning rate of batches of `per` images", above=0)
    per: int = setting(..., "images per step that `value` is for", low=1)


@dataclass(frozen=True)
class Optimization:
    """Gradient descent, in the same words wherever something is trained (`harness/trial/optimizers.py`)."""

    epochs: int = setting(100, "passes over the images", low=1)
    batch_size: int = setting(256, "images per step, at most: an epoch's batches are of nearly equal size", low=1)
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = setting("sgd", "lars: SGD for batches of thousands of images")
    lr: float | ScaledRate = setting(
        0.06,
        "learning rate, for any batch_size; or scaled: {value: 0.06, per: 128} is 0.06 x batch_size / 128",
        above=0,
    )
    momentum: float = setting(0.9, "of sgd and lars", low=0, high=1)
    weight_decay: float = setting(5e-4, "decoupled from the gradient for adamw, added to it for the others", low=0)
    decay_norms: bool = setting(
        True, "false: no weight decay on biases and norms (one-dimensional parameters); lars never decays them"
    )
    schedule: Literal["constant", "cosine", "step", "plateau"] = setting("cosine", "of the learning rate, per step")
    warmup_epochs: float = setting(0.0, "linear rise of the learning rate before any schedule", low=0)
    milestones: tuple[float, ...] = setting(
        (0.6, 0.8), "of step: shares of the training, increasing, at which gamma multiplies the learning rate", above=0
    )
    gamma: float = setting(0.1, "of step and plateau: the factor of each reduction", above=0, high=1)
    patience: int = setting(10, "of plateau: epochs whose training loss may be no lower before a reduction", low=0)
    clip_norm: float | None = setting(None, "gradients with a larger norm are scaled down to it; null: none", above=0)

    @property
    def rate(self) -> float:
        """The learning rate of these batches, before any schedule; `batch_size` must be a number."""
        return self.lr.value * self.batch_size / self.lr.per if isinstance(self.lr, ScaledRate) else self.lr

    def unread(self) -> set[str]:
        """The settings that this optimizer and schedule do not read; any value gives the same result."""
        of_schedules = {"step": {"milestones", "gamma"}, "plateau": {"gamma", "patience"}}
        of_optimizers = {"momentum": ("sgd", "lars"), "decay_norms": ("sgd", "adam", "adamw")}
        unread = {"milestones", "gamma", "patience"} - of_schedules.get(self.schedule, set())
        return unread | {name for name, readers in of_optimizers.items() if self.optimizer not in readers}

    def as_read(self) -> dict[str, Any]:
        """The settings that determine the result, as JSON values: part of a stage's name."""
        unread, asked = self.unread(), as_dict(self)
        if asked["batch_size"] != "auto":
            asked["lr"] = self.rate
        return {name: value for name, value in asked.items() if name not in unread}


@dataclass(frozen=True)
class PretrainConfig(Optimization):
    """The self-supervised loop."""

    epochs: int = setting(
        "auto",
        f"passes over the pool; auto: {AUTO_EPOCHS}, or on few images as many as make {AUTO_STEPS:,} steps; 0 keeps "
        "the initial weights",
        low=0,
        auto=True,
    )
    batch_size: int = setting(
        "auto",
        "images per step, at most: ceil(pool / batch_size) batches of nearly equal size; auto: the largest power of "
        "two that is at most an eighth of the images, from 2 to 256",
        low=2,
        auto=True,
    )
    resolutions: tuple[float, ...] = setting(
        (1.0,), "shares of the image's side in equal spans of the epochs, rising to 1: early epochs cost less", above=0
    )
    apart: int = setting(
        0,
        "number of clusters of the encoder's features, found anew in every epoch, whose images are spread over the "
        "batches, so that two likely positives seldom share one; at least batch_size of them, to tell; 0: random ones",
        low=0,
    )
    knn_every: int = setting(
        "auto",
        "epochs between measurements of the encoder (k-NN accuracy, scores without labels); auto: as many as make "
        f"{AUTO_MEASUREMENTS} of them at most, or 1 where `early_terminate` judges them; 0: only after the last",
        low=0,
        auto=True,
    )
    knn_of_pool: bool = setting(
        False, "also measure pretrain/knn_pool_accuracy, the k-NN accuracy of papers; needs `labels.start: all`"
    )

    def unread(self) -> set[str]:
        """Also how the encoder is measured, which changes no weight."""
        return super().unread() | {"knn_every", "knn_of_pool"}

    def measures(self, epoch: int) -> bool:
        """Whether the encoder is measured after this epoch, from 1."""
        asked: Any = self.knn_every
        every = max(1, -(-self.epochs // AUTO_MEASUREMENTS)) if asked == "auto" else self.knn_every
        return epoch == self.epochs or bool(every and epoch % every == 0)


@dataclass(frozen=True)
class LabelsConfig:
    """Which labels are bought, and when."""

    start: int | Literal["all"] = setting("all", "labels of the start pool, or `all`", low=0)
    budget: int | tuple[int, ...] = setting(0, "labels bought per round, or a list with a number for each round", low=0)
    rounds: int = setting(
        0, "rounds of selection after the start pool; a list of budgets says it itself", low=0, high=1_000_000
    )
    stratified: bool = setting(
        False, "draw the start pool in proportion to the class sizes (it then reads hidden labels)"
    )

    @property
    def budgets(self) -> tuple[int, ...]:
        """Labels bought in each round of selection."""
        return self.budget if isinstance(self.budget, tuple) else (self.budget,) * self.rounds

    @property
    def total(self) -> int | None:
        """How many labels a trial has bought at its end; None: all."""
        return None if self.start == "all" else self.start + sum(self.budgets)


@dataclass(frozen=True)
class ClassifierConfig(Optimization):
    """The task head, trained on the labelled images only."""

    name: Literal["logistic", "linear", "mlp", "finetune", "ridge", "kernel_ridge", "svm", "knn"] = setting(
        "logistic",
        "finetune trains the encoder too; the others read a fixed encoder. logistic: L2 penalty chosen by folds of the "
        "labelled images; linear and mlp: by gradient descent; ridge and kernel_ridge (RBF): penalty by leave-one-out",
    )
    representation: Literal["features", "raw", "pca", "tsne"] = setting("features", "what the head reads")
    standardize: bool = setting(True, "zero mean and unit variance per input dimension, by the labelled images")
    epochs: int = setting(100, "of linear, mlp, finetune", low=1)
    batch_size: int = setting(256, "of linear, mlp, finetune, at most: batches are of nearly equal size", low=1)
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = setting("adam", "of linear, mlp, finetune")
    lr: float | ScaledRate = setting(1e-3, "learning rate, for any batch_size, or {value, per} as in pretrain", above=0)
    weight_decay: float = setting(0.0, "decoupled from the gradient for adamw, added to it for the others", low=0)
    schedule: Literal["constant", "cosine", "step", "plateau"] = setting("constant", "of the learning rate, per step")
    backbone_lr: float = setting(
        1.0,
        "of finetune and joint training: the encoder's share of the learning rate; 0: the encoder stays as it is",
        low=0,
    )
    layer_decay: float = setting(
        1.0,
        "of finetune and joint training: the learning rate of a stage of the backbone is this times that of what "
        "follows it; 1: none",
        above=0,
        high=1,
    )
    class_weight: Literal["none", "balanced"] = setting(
        "none", "of all but knn; balanced: every class counts alike in the training, however few its labelled images"
    )
    augmentation: PluginSpec = plugin("augmentations", "identity", "of the labelled images, for finetune")
    hidden_dim: int = setting(512, "of mlp", low=1)
    dims: int = setting(50, "of pca and tsne's own pca", low=2)
    neighbors: int = setting(20, "of knn", low=1)
    temperature: float = setting(0.1, "of knn's votes", above=0)
    warm_start: bool = setting(
        False, "finetune and joint training go on from the last round's weights; else every round starts anew"
    )

    @property
    def gives_probabilities(self) -> bool:
        """Whether the softmax of what it says are probabilities; else they order the classes and mean nothing more."""
        return self.name not in ("svm", "knn")

    @property
    def traits(self) -> frozenset[str]:
        """Those of `CLASSIFIER_TRAITS` that it has; the shares of votes of `knn` are probabilities to choose by."""
        if self.name in ("svm", "knn", "kernel_ridge"):
            return frozenset({"probabilities"} if self.name != "svm" else ())
        return CLASSIFIER_TRAITS

    def unread(self) -> set[str]:
        """Also the settings of other heads and representations."""
        descent = {field.name for field in fields(Optimization)} - super().unread()
        fixed = {"representation", "standardize", "class_weight"}
        read = {
            "linear": descent | fixed,
            "mlp": descent | fixed | {"hidden_dim"},
            "knn": {"representation", "neighbors", "temperature"},
            "finetune": descent | {"augmentation", "warm_start", "class_weight", "backbone_lr", "layer_decay"},
        }.get(self.name, fixed)
        if "representation" in read and self.representation in ("pca", "tsne"):
            read = read | {"dims"}
        return {field.name for field in fields(self)} - read - {"name"}


@dataclass(frozen=True)
class JointConfig:
    """Classifier and encoder trained together, `mode: joint`; epochs, optimizer and schedule are the classifier's.

    An epoch is one pass over the labelled or the unlabelled images, whichever are more; the fewer are repeated.
    """

    weight: float = setting(0.5, "of the SSL loss beside the task loss; semi-supervised methods have their own", low=0)
    unlabeled: Literal["all", "as_labeled", "lowest_loss"] = setting(
        "all",
        "the unlabelled images that are learnt from: all of the pool, as many as labelled ones at random, or as "
        "many, those with the lowest SSL loss under the last round's model (at random in the first round)",
    )
    loss_draws: int = setting(8, "draws of views and batches over which `lowest_loss` averages that loss", low=1)
    unlabeled_ratio: int = setting(1, "unlabelled images for each labelled one in a step, at most", low=1)
    validate_every: int = setting(
        0,
        "epochs between accuracies on validation images, by which early_terminate judges, of the model that would be "
        "kept (with `ema` the averaged one); 0: none",
        low=0,
    )
    ema: float = setting(
        0.0,
        "of semi-supervised methods: momentum of the averaged weights that are evaluated; 0: those of the last step",
        low=0,
        high=0.9999,
    )


@dataclass(frozen=True)
class ComputeConfig:
    """Where and how numbers are computed."""

    device: Literal["auto", "cpu", "cuda"] = setting("auto", "auto: CUDA where there is one")
    precision: Literal["auto", "float32", "bfloat16"] = setting("auto", "auto: bfloat16 autocast where it is fast")
    channels_last: bool | Literal["auto"] = setting("auto", "memory layout; auto: on, but for float32 on CUDA")
    compile: bool = setting(
        False,
        "compile the backbone while it is trained; off, because on a CPU resnet18 gains 3 % or nothing for up to a "
        "minute of compilation per image size",
    )

    def resolved(self) -> ComputeConfig:
        """This machine's choices in place of every `auto`."""
        device = self.device if self.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        precision = self.precision if self.precision != "auto" else _fast_precision(device)
        layout = device == "cpu" or precision == "bfloat16" if self.channels_last == "auto" else self.channels_last
        return replace(self, device=device, precision=precision, channels_last=layout)


def _fast_precision(device: str) -> Literal["float32", "bfloat16"]:
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


@dataclass(frozen=True)
class SelectionConfig:
    """Another encoder that selectors see the pool by: its features choose, and what is trained learns from scratch."""

    backbone: PluginSpec = plugin("backbones", "dcnn3", "the encoder; with `weights` it needs no pre-training")
    ssl_method: PluginSpec = plugin("ssl_methods", "simclr", "how it is pre-trained; none: its weights are given")
    augmentation: PluginSpec = plugin("augmentations", "pair", "the views of its pre-training")
    pretrain: PretrainConfig = PretrainConfig()


@dataclass(frozen=True)
class TeacherConfig(SelectionConfig):
    """Another encoder with a head of its own, fitted to the labels bought: a `TaughtMethod` learns from its scores."""

    backbone: PluginSpec = plugin("backbones", "patches", "the encoder")
    ssl_method: PluginSpec = plugin("ssl_methods", "none", "how it is pre-trained, if it is")
    classifier: ClassifierConfig = setting(ClassifierConfig(), "its head; finetune trains the encoder too")


@dataclass(frozen=True)
class TrialConfig:
    """Everything that determines a trial, but for its seed."""

    dataset: PluginSpec = plugin("datasets", "digits", "where images come from")
    data: DataConfig = DataConfig()
    backbone: PluginSpec = plugin("backbones", "dcnn3", "the encoder")
    ssl_method: PluginSpec = plugin("ssl_methods", "simclr", "how the encoder is pre-trained")
    augmentation: PluginSpec = plugin("augmentations", "pair", "the views of pre-training")
    mode: Literal["pretrain", "joint"] = setting(
        "pretrain", "pretrain: the SSL method first, then the classifier; joint: both losses at once"
    )
    pretrain: PretrainConfig = PretrainConfig()
    joint: JointConfig = JointConfig()
    labels: LabelsConfig = LabelsConfig()
    selector: PluginSpec = plugin("selectors", "random", "which images are labelled next")
    selection: SelectionConfig | None = setting(
        None,
        "another encoder, whose features (and SSL loss) a selector reads; its classifier stays the trial's. null: the "
        "trial's own, before it is fine-tuned",
    )
    teacher: TeacherConfig | None = setting(
        None, "in joint mode: what methods such as `distill` learn from, of every image of the pool"
    )
    classifier: ClassifierConfig = ClassifierConfig()
    beside: tuple[ClassifierConfig, ...] = setting(
        (),
        "further classifiers on the same labels and the pre-trained encoder (in joint mode the round's), measured but "
        "not seen by the selector; "
        "`classifier: [linear, knn]` is short for both",
    )
    compute: ComputeConfig = ComputeConfig()

    def of_selection(self) -> TrialConfig | None:
        """A trial that pre-trains the encoder of `selection`, and so shares it with every other that does."""
        return None if self.selection is None else self._of(self.selection, ClassifierConfig())

    def of_teacher(self) -> TrialConfig | None:
        """A trial that trains the teacher, and so shares it with every other that does."""
        return None if self.teacher is None else self._of(self.teacher, self.teacher.classifier)

    def _of(self, other: SelectionConfig, head: ClassifierConfig) -> TrialConfig:
        encoder: dict[str, Any] = {item.name: getattr(other, item.name) for item in fields(SelectionConfig)}
        alone: dict[str, Any] = {"selection": None, "teacher": None, "mode": "pretrain", "beside": ()}
        return replace(self, **encoder, **alone, classifier=head)

    def encoders(self) -> dict[str, TrialConfig]:
        """The trials whose encoders this one builds, and perhaps trains: itself under "", the others by section."""
        others = {"selection": self.of_selection(), "teacher": self.of_teacher()}
        return {"": self} | {section: trial for section, trial in others.items() if trial is not None}


def method_arguments(spec: PluginSpec, num_classes: int) -> tuple[int, ...]:
    """What the constructor of an SSL method gets after the backbone."""
    return (num_classes,) if registry.num_given(registry.find_plugin(spec.kind, spec.name)) > 1 else ()

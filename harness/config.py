"""The configuration of one trial: its keys, their meaning, defaults and ranges, and the checks across them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from harness import plugins
from harness.plugins import PluginSpec
from harness.schema import Problems, parse, plugin, setting


@dataclass(frozen=True)
class StepImbalance:
    """The given classes keep a fixed number of images."""

    kind: Literal["step"]
    classes: tuple[int | str, ...]
    keep: int = setting(..., "images that each of these classes keeps", low=1)


@dataclass(frozen=True)
class ExponentialImbalance:
    """A long tail: class k of K keeps n_max * ratio^(-k / (K-1)) images."""

    kind: Literal["exponential"]
    ratio: float = setting(..., "largest class over smallest class", low=1)


@dataclass(frozen=True)
class DataConfig:
    """Which part of the data set is used, and how."""

    fraction: float = setting(1.0, "share of the training data, stratified; the test set is never cut", above=0, high=1)
    val: int | float = setting(0.1, "validation images carved from the training set: a share or a count", above=0)
    test: float = setting(0.2, "share carved as a test set where the data set has none", above=0, high=0.9)
    imbalance: StepImbalance | ExponentialImbalance | None = setting(None, "unbalance the pool")
    split_seed: int = setting(0, "draws the splits; the same for every trial seed", low=0)
    normalize: bool = setting(True, "subtract the training set's mean and divide by its deviation, per channel")


@dataclass(frozen=True)
class PretrainConfig:
    """The self-supervised loop."""

    epochs: int = setting(20, "passes over the pool; 0 keeps the initial weights", low=0)
    batch_size: int = setting(256, "images per step; the last incomplete batch is dropped", low=2)
    optimizer: Literal["sgd", "adam", "adamw"] = setting("sgd", "")
    lr: float = setting(0.06, "learning rate", above=0)
    momentum: float = setting(0.9, "of SGD", low=0, high=1)
    weight_decay: float = setting(5e-4, "", low=0)
    schedule: Literal["constant", "cosine"] = setting("cosine", "of the learning rate, per step")
    warmup_epochs: float = setting(0.0, "linear warm-up", low=0)
    knn_every: int = setting(1, "epochs between k-NN validation accuracies; 0: only after the last", low=0)


@dataclass(frozen=True)
class LabelsConfig:
    """Which labels are bought, and when."""

    start: int | Literal["all"] = setting("all", "labels of the start pool, or `all`", low=0)
    budget: int = setting(0, "labels bought per round", low=0)
    rounds: int = setting(0, "rounds of selection after the start pool", low=0)
    stratified: bool = setting(False, "draw the start pool with equal class shares (it then reads hidden labels)")


@dataclass(frozen=True)
class ClassifierConfig:
    """The task head, trained on the labelled images only."""

    name: Literal["linear", "mlp", "finetune", "svm", "knn"] = setting("linear", "")
    representation: Literal["features", "raw", "pca", "tsne"] = setting("features", "what the head reads")
    standardize: bool = setting(True, "zero mean and unit variance per input dimension, by the labelled images")
    epochs: int = setting(100, "of linear, mlp, finetune", low=1)
    batch_size: int = setting(256, "of linear, mlp, finetune", low=1)
    optimizer: Literal["sgd", "adam", "adamw"] = setting("adam", "")
    lr: float = setting(1e-3, "learning rate", above=0)
    momentum: float = setting(0.9, "of SGD", low=0, high=1)
    weight_decay: float = setting(0.0, "", low=0)
    schedule: Literal["constant", "cosine"] = setting("constant", "")
    augmentation: PluginSpec = plugin("augmentations", "identity", "of the labelled images, for finetune")
    hidden_dim: int = setting(512, "of mlp", low=1)
    dims: int = setting(50, "of pca and tsne's own pca", low=2)
    neighbors: int = setting(20, "of knn", low=1)
    temperature: float = setting(0.1, "of knn's votes", above=0)


@dataclass(frozen=True)
class ComputeConfig:
    """Where and how numbers are computed."""

    device: Literal["auto", "cpu", "cuda"] = setting("auto", "auto: CUDA where there is one")
    precision: Literal["auto", "float32", "bfloat16"] = setting("auto", "auto: bfloat16 autocast where it is fast")
    channels_last: bool | Literal["auto"] = setting("auto", "memory layout; auto: on with bfloat16")

    def resolved(self) -> ComputeConfig:
        """This machine's choices in place of every `auto`."""
        device = self.device if self.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        precision = self.precision if self.precision != "auto" else _fast_precision(device)
        layout = precision == "bfloat16" if self.channels_last == "auto" else self.channels_last
        return ComputeConfig(device, precision, layout)


def _fast_precision(device: str) -> Literal["float32", "bfloat16"]:
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


@dataclass(frozen=True)
class TrialConfig:
    """Everything that determines a trial, but for its seed."""

    dataset: PluginSpec = plugin("datasets", "digits", "where images come from")
    data: DataConfig = DataConfig()
    backbone: PluginSpec = plugin("backbones", "dcnn3", "the encoder")
    ssl_method: PluginSpec = plugin("ssl_methods", "simclr", "how the encoder is pre-trained")
    augmentation: PluginSpec = plugin("augmentations", "pair", "the views of pre-training")
    pretrain: PretrainConfig = PretrainConfig()
    labels: LabelsConfig = LabelsConfig()
    selector: PluginSpec = plugin("selectors", "random", "which images are labelled next")
    classifier: ClassifierConfig = ClassifierConfig()
    compute: ComputeConfig = ComputeConfig()


def parse_trial(value: Any, path: str, problems: Problems) -> TrialConfig | None:
    """A trial's mapping as a TrialConfig, with everything checked that needs no data."""
    before = len(problems.found)
    config = parse(TrialConfig, value, path, problems)
    if config is None or len(problems.found) > before:
        return None
    _check_labels(config, path, problems)
    if config.classifier.name == "finetune" and config.classifier.representation != "features":
        problems.add(f"{path}.classifier.representation", "finetune trains the encoder: only `features` is possible")
    if config.compute.device == "cuda" and not torch.cuda.is_available():
        problems.add(
            f"{path}.compute.device", "cuda was asked for, but this machine has no CUDA device; use cpu or auto"
        )
    _try_plugins(config, path, problems)
    return config if len(problems.found) == before else None


def _check_labels(config: TrialConfig, path: str, problems: Problems) -> None:
    labels = config.labels
    if labels.start == "all":
        if labels.rounds or labels.budget:
            problems.add(f"{path}.labels", "`start: all` leaves nothing to select: set rounds and budget to 0")
        return
    if labels.rounds and not labels.budget:
        problems.add(f"{path}.labels.budget", f"{labels.rounds} rounds need a budget of at least 1")
    if labels.budget and not labels.rounds:
        problems.add(f"{path}.labels.rounds", f"a budget of {labels.budget} needs at least 1 round")
    if labels.start == 0:
        if not labels.rounds:
            problems.add(f"{path}.labels", "`start: 0` and no rounds: there would be nothing to train on")
        if not plugins.find("selectors", config.selector.name).supports_cold_start:  # type: ignore[attr-defined]
            problems.add(
                f"{path}.labels.start", f"selector {config.selector.name!r} cannot start without labels; use 1 or more"
            )


def _try_plugins(config: TrialConfig, path: str, problems: Problems) -> None:
    """Constructs every plugin once, networks without memory, so that impossible values are found now."""

    def attempt(place: str, spec: PluginSpec, *positional: Any, build: Callable[..., Any] = plugins.build) -> Any:
        try:
            return build(spec, *positional)
        except (ValueError, TypeError) as error:
            problems.add(f"{path}.{place}" if path else place, str(error))
            return None

    attempt("dataset", config.dataset)
    attempt("augmentation", config.augmentation)
    attempt("classifier.augmentation", config.classifier.augmentation)
    attempt("selector", config.selector)
    with torch.device("meta"):
        backbone = attempt("backbone", config.backbone, build=_build_for_some_size)
        if backbone is not None:
            attempt("ssl_method", config.ssl_method, backbone)


def _build_for_some_size(spec: PluginSpec) -> Any:
    """A backbone for images whose size is not known yet: 64 pixels, or 224 where it does not take those."""
    try:
        return plugins.build(spec, (3, 64, 64))
    except ValueError:
        return plugins.build(spec, (3, 224, 224))

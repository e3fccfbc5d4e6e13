"""The configuration of one trial: its keys, their meaning, defaults and ranges, and the checks across them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch

from harness import recipes
from harness.api import Backbone, Selector, SemiSupervisedMethod, SSLMethod, SupervisedMethod
from harness.plugins import registry
from harness.plugins.registry import PluginSpec
from harness.schema import ConfigError, Problems, as_dict, parse, plugin, setting


@dataclass(frozen=True)
class StepImbalance:
    """The given classes keep a fixed number of images."""

    kind: Literal["step"]
    classes: tuple[int | str, ...] = setting(..., "names or numbers of the classes that are cut")
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
class Optimization:
    """Gradient descent, in the same words wherever something is trained; `harness.optimizers` says what they do."""

    epochs: int = setting(100, "passes over the images", low=1)
    batch_size: int = setting(256, "images per step", low=1)
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = setting("sgd", "lars: SGD for batches of thousands of images")
    lr: float = setting(
        0.06,
        "learning rate, for any batch_size; published recipes often scale it: sgd 0.06 x batch_size / 128, "
        "lars 0.3 x batch_size / 256",
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


@dataclass(frozen=True)
class PretrainConfig(Optimization):
    """The self-supervised loop."""

    epochs: int = setting(20, "passes over the pool; 0 keeps the initial weights", low=0)
    batch_size: int = setting(256, "images per step; the last incomplete batch is dropped", low=2)
    resolutions: tuple[float, ...] = setting(
        (1.0,), "shares of the image's side in equal spans of the epochs, rising to 1: early epochs cost less", above=0
    )
    knn_every: int = setting(1, "epochs between k-NN validation accuracies; 0: only after the last", low=0)


@dataclass(frozen=True)
class LabelsConfig:
    """Which labels are bought, and when."""

    start: int | Literal["all"] = setting("all", "labels of the start pool, or `all`", low=0)
    budget: int = setting(0, "labels bought per round", low=0)
    rounds: int = setting(0, "rounds of selection after the start pool", low=0)
    stratified: bool = setting(
        False, "draw the start pool in proportion to the class sizes (it then reads hidden labels)"
    )


@dataclass(frozen=True)
class ClassifierConfig(Optimization):
    """The task head, trained on the labelled images only."""

    name: Literal["linear", "mlp", "finetune", "svm", "knn"] = setting(
        "linear", "finetune trains the encoder too; the others read a fixed encoder"
    )
    representation: Literal["features", "raw", "pca", "tsne"] = setting("features", "what the head reads")
    standardize: bool = setting(True, "zero mean and unit variance per input dimension, by the labelled images")
    epochs: int = setting(100, "of linear, mlp, finetune", low=1)
    batch_size: int = setting(256, "of linear, mlp, finetune", low=1)
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = setting("adam", "of linear, mlp, finetune")
    lr: float = setting(1e-3, "learning rate, for any batch_size", above=0)
    weight_decay: float = setting(0.0, "decoupled from the gradient for adamw, added to it for the others", low=0)
    schedule: Literal["constant", "cosine", "step", "plateau"] = setting("constant", "of the learning rate, per step")
    augmentation: PluginSpec = plugin("augmentations", "identity", "of the labelled images, for finetune")
    hidden_dim: int = setting(512, "of mlp", low=1)
    dims: int = setting(50, "of pca and tsne's own pca", low=2)
    neighbors: int = setting(20, "of knn", low=1)
    temperature: float = setting(0.1, "of knn's votes", above=0)
    warm_start: bool = setting(
        False, "finetune and joint training go on from the last round's weights; else every round starts anew"
    )


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
    unlabeled_ratio: int = setting(1, "unlabelled images for each labelled one in a step", low=1)
    validate_every: int = setting(
        0, "epochs between accuracies on validation images, by which early_terminate judges; 0: none", low=0
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
    classifier: ClassifierConfig = ClassifierConfig()
    beside: tuple[ClassifierConfig, ...] = setting(
        (),
        "further classifiers on the same labels and the pre-trained encoder (in joint mode the round's), measured but "
        "not seen by the selector; "
        "`classifier: [linear, knn]` is short for both",
    )
    compute: ComputeConfig = ComputeConfig()


RECIPE = "recipe"
"""The key of a trial that names a recipe; it is resolved, so that a TrialConfig does not hold it."""

Recipes = Mapping[str, Mapping[str, Any]]
"""Name -> a trial's mapping, complete with defaults."""


def parse_trial(value: Any, path: str, problems: Problems, own: Recipes | None = None) -> TrialConfig | None:
    """A trial's mapping as a TrialConfig, with everything checked that needs no data.

    Args:
        value: the mapping.
        path: its place, for messages.
        problems: notes what is wrong.
        own: recipes that are known already; others are read from their files.
    """
    before = len(problems.found)
    value = over_recipe(value, path, problems, own or {})
    config = parse(TrialConfig, value, path, problems, beside=(RECIPE,))
    if config is None or len(problems.found) > before:
        return None
    _check_labels(config, path, problems)
    _check_classifiers(config, path, problems)
    _check_mode(config, path, problems)
    _check_selector(config, path, problems)
    _check_milestones(config.pretrain, f"{path}.pretrain", problems)
    _check_resolutions(config.pretrain.resolutions, f"{path}.pretrain.resolutions", problems)
    if config.compute.device == "cuda" and not torch.cuda.is_available():
        problems.add(
            f"{path}.compute.device", "cuda was asked for, but this machine has no CUDA device; use cpu or auto"
        )
    _try_plugins(config, path, problems)
    return config if len(problems.found) == before else None


def over_recipe(value: Any, path: str, problems: Problems, own: Recipes) -> Any:
    """A trial's mapping laid over that of its recipe, if it names one."""
    value = with_heads_apart(value)
    if not isinstance(value, Mapping) or RECIPE not in value:
        return value
    name = value[RECIPE]
    value = {key: item for key, item in value.items() if key != RECIPE}
    if name is None:
        return value
    known = own.get(name) if isinstance(name, str) else None
    base = known or recipe_trial(name, f"{path}.{RECIPE}", problems)
    return recipes.merged(base, value) if base else value


def recipe_trial(name: Any, path: str, problems: Problems) -> dict[str, Any] | None:
    """The trial of a recipe, complete with defaults; None, and noted problems, where it is none."""
    if not isinstance(name, str):
        problems.add(path, f"expected a recipe's name, or the path of a recipe file, not {name!r}")
        return None
    try:
        file, recipe, variant = recipes.find(name)
    except ConfigError as error:
        for problem in error.problems:
            problems.add(path, problem)
        return None
    except ValueError as error:
        problems.add(path, str(error))
        return None
    inside = Problems(str(file))
    config = parse_trial(recipe.tree(variant), f"variants.{variant}.trial" if variant else "trial", inside)
    for problem in inside.found:
        problems.add(path, problem)
    return as_dict(config) if config else None


def parse_recipes(value: Any, path: str, problems: Problems) -> Recipes:
    """The `recipes:` section of a search space, name -> a trial's mapping; problems are noted."""
    if value is not None and not isinstance(value, Mapping):
        problems.add(path, f"expected a mapping from names to settings of a trial, not {value!r}")
        return {}
    parsed = {name: parse_trial(tree, f"{path}.{name}", problems) for name, tree in (value or {}).items()}
    return {name: as_dict(config) for name, config in parsed.items() if config}


def with_heads_apart(value: Any) -> Any:
    """A trial's mapping in which `classifier: [a, b]` is written as `classifier: a` and `beside: [b]`.

    A classifier may be given by its name alone.
    """
    if not isinstance(value, Mapping):
        return value
    value = dict(value)
    given = value.get("classifier")
    if isinstance(given, list) and given and "beside" not in value:
        value["classifier"], value["beside"] = given[0], given[1:]
    if isinstance(value.get("classifier"), str):
        value["classifier"] = {"name": value["classifier"]}
    if isinstance(value.get("beside"), list):
        value["beside"] = [{"name": item} if isinstance(item, str) else item for item in value["beside"]]
    return value


def _check_classifiers(config: TrialConfig, path: str, problems: Problems) -> None:
    heads = [config.classifier, *config.beside]
    for number, head in enumerate(heads):
        place = f"{path}.beside[{number - 1}]" if number else f"{path}.classifier"
        _check_milestones(head, place, problems)
        if head.name == "finetune" and head.representation != "features":
            problems.add(f"{place}.representation", "finetune trains the encoder: only `features` is possible")
        if head.warm_start and (number or head.name != "finetune"):
            problems.add(
                f"{place}.warm_start", "only the first classifier, and only finetune, goes on from a round before"
            )
        if head.name in [earlier.name for earlier in heads[:number]]:
            problems.add(f"{place}.name", f"{head.name} stands there already; classifiers side by side differ in name")


def _check_mode(config: TrialConfig, path: str, problems: Problems) -> None:
    method: type[SSLMethod] = registry.find("ssl_methods", config.ssl_method.name)
    if issubclass(method, SupervisedMethod) and config.labels.start == 0:
        problems.add(f"{path}.labels.start", f"{config.ssl_method.name} learns from labels; use 1 or more")
    if config.mode == "pretrain":
        if issubclass(method, SemiSupervisedMethod):
            problems.add(f"{path}.mode", f"{config.ssl_method.name} trains classifier and encoder at once; use joint")
        return
    if config.classifier.name != "finetune":
        problems.add(
            f"{path}.classifier.name", f"{config.classifier.name} leaves the encoder alone; joint needs finetune"
        )
    if config.labels.start == 1:
        problems.add(f"{path}.labels.start", "1 image makes no batch for joint training; use 2 or more")
    if config.joint.unlabeled == "lowest_loss" and config.labels.rounds and not method.has_sample_loss():
        problems.add(
            f"{path}.joint.unlabeled", f"{config.ssl_method.name} has no loss per image to rank by; use as_labeled"
        )
    if config.joint.ema and not issubclass(method, SemiSupervisedMethod):
        problems.add(
            f"{path}.joint.ema", f"the heads of {config.ssl_method.name} would be those of another encoder; use 0"
        )
    if issubclass(method, SemiSupervisedMethod) and config.labels.start == "all":
        problems.add(f"{path}.labels.start", f"`all` leaves {config.ssl_method.name} no unlabelled image; use a number")
    if method.num_views == 0:
        problems.add(f"{path}.ssl_method", f"{config.ssl_method.name} has no loss to train jointly; use mode pretrain")
    if issubclass(method, SupervisedMethod) and method.labeled_only:
        problems.add(
            f"{path}.ssl_method", f"{config.ssl_method.name} is the task loss itself; use none with classifier finetune"
        )


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
        if not registry.find("selectors", config.selector.name).supports_cold_start:  # type: ignore[attr-defined]
            problems.add(
                f"{path}.labels.start", f"selector {config.selector.name!r} cannot start without labels; use 1 or more"
            )


def _check_selector(config: TrialConfig, path: str, problems: Problems) -> None:
    """Whether the trial gives what its selector reads; dropout is looked for once there is a backbone."""
    name, classifier = config.selector.name, config.classifier
    selector: type[Selector] = registry.find("selectors", name)
    if not config.labels.rounds:
        return
    shown = config.selector.hyperparameters.get("pool_subset")
    if shown is not None and shown < config.labels.budget:
        problems.add(
            f"{path}.selector.pool_subset",
            f"{config.labels.budget} images cannot be chosen from {shown}; use at least {config.labels.budget}",
        )
    if "ssl_loss" in selector.reads:
        method: type[SSLMethod] = registry.find("ssl_methods", config.ssl_method.name)
        if not method.has_sample_loss():
            problems.add(
                f"{path}.selector",
                f"{name} ranks by a loss per image, which {config.ssl_method.name} does not define; use an ssl_method "
                "that does, such as simclr",
            )
    if "stochastic_logits" in selector.reads and classifier.representation == "raw":
        problems.add(
            f"{path}.classifier.representation",
            f"{name} needs dropout, and a classifier of pixels does not pass through the backbone's; use features",
        )
    if "companion_outputs" in selector.reads:
        if classifier.name != "finetune":
            problems.add(
                f"{path}.classifier.name",
                f"{name} trains a module beside an encoder, which {classifier.name} leaves alone; use finetune",
            )
        if config.mode != "pretrain":
            problems.add(f"{path}.mode", f"{name} trains a module beside a fine-tuned encoder alone; use pretrain")
        if config.compute.compile:
            problems.add(
                f"{path}.compute.compile",
                f"{name} reads the backbone's stages, which compiling hides; use false",
            )


def method_arguments(spec: PluginSpec, num_classes: int) -> tuple[int, ...]:
    """What the constructor of an SSL method gets after the backbone."""
    return (num_classes,) if issubclass(registry.find(spec.kind, spec.name), SupervisedMethod) else ()


def _check_milestones(settings: Optimization, path: str, problems: Problems) -> None:
    milestones = settings.milestones
    if not milestones or any(later <= earlier for earlier, later in pairwise((*milestones, 1.0))):
        problems.add(f"{path}.milestones", f"{list(milestones)} must rise and stay below 1, as [0.6, 0.8] does")


def _check_resolutions(shares: tuple[float, ...], path: str, problems: Problems) -> None:
    if not shares or shares[-1] != 1 or any(later < earlier for earlier, later in pairwise(shares)):
        problems.add(path, f"{list(shares)} must not fall and must end with 1, as [0.5, 0.75, 1.0] does")


def _try_plugins(config: TrialConfig, path: str, problems: Problems) -> None:
    """Constructs every plugin once, networks without memory, so that impossible values are found now."""

    def attempt(place: str, specs: list[PluginSpec], build: Callable[[], Any]) -> None:
        name = _tried_name(specs)
        if name in _built:
            return
        try:
            build()
        except Exception as error:  # a constructor may fail in any way for a value that nobody thought of
            reason = str(error) if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: {error}"
            problems.add(f"{path}.{place}" if path else place, " ".join(reason.split()))
        else:
            _built.add(name)

    def network() -> Any:
        name = _tried_name([config.backbone])
        if name not in _last_network:
            with torch.device("meta"):
                built = _build_for_some_size(config.backbone)
            _last_network.clear()
            _last_network[name] = built
        return _last_network[name]

    def method() -> Any:
        arguments = method_arguments(config.ssl_method, num_classes=10)
        backbone = copy.deepcopy(network())  # a method may change what it is given
        with torch.device("meta"):
            return registry.build(config.ssl_method, backbone, *arguments)

    alone = [("dataset", config.dataset), ("augmentation", config.augmentation), ("selector", config.selector)]
    for number, head in enumerate((config.classifier, *config.beside)):
        place = f"beside[{number - 1}].augmentation" if number else "classifier.augmentation"
        alone.append((place, head.augmentation))
    for place, spec in alone:
        attempt(place, [spec], lambda spec=spec: registry.build(spec))  # type: ignore[misc]
    attempt("backbone", [config.backbone], network)
    if _tried_name([config.backbone]) in _built:
        _check_dropout(config, network(), path, problems)
        attempt("ssl_method", [config.ssl_method, config.backbone], method)


_built: set[str] = set()
"""The plugins that were constructed without an error, so that the configurations of a large search are checked soon."""


_last_network: dict[str, Any] = {}
"""The backbone last tried, on the meta device: the SSL methods of a search mostly share it."""


def _tried_name(specs: list[PluginSpec]) -> str:
    return json.dumps([[spec.kind, spec.as_dict()] for spec in specs], sort_keys=True, default=str)


def _check_dropout(config: TrialConfig, backbone: Backbone, path: str, problems: Problems) -> None:
    selector: type[Selector] = registry.find("selectors", config.selector.name)
    if not config.labels.rounds or "stochastic_logits" not in selector.reads or backbone.dropouts():
        return
    known = "dropout" in registry.defaults(type(backbone))
    advice = "set its dropout above 0" if known else "use one that has, such as {name: resnet18, dropout: 0.2}"
    problems.add(
        f"{path}.backbone", f"{config.selector.name} needs dropout, and {config.backbone.name} has none; {advice}"
    )


def _build_for_some_size(spec: PluginSpec) -> Any:
    """A backbone for images whose size is not known yet: 64 pixels, or 224 where it does not take those."""
    try:
        return registry.build(spec, (3, 64, 64))
    except ValueError:
        return registry.build(spec, (3, 224, 224))

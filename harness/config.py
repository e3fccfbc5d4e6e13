"""One trial's configuration: plain mappings become frozen dataclasses, and every mistake is found at once.

The dataclasses below are the reference of what a trial can be told: their fields are the keys of the YAML,
their annotations the types, their metadata the ranges. `parse` walks them; it collects problems instead of
stopping at the first.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from harness import plugins
from harness.plugins import PluginSpec, closest


class ConfigError(ValueError):
    """Everything that is wrong with a configuration: one line each, with its place."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


class Problems:
    """Collects what is wrong and where, under the file's name."""

    def __init__(self, file: str = ""):
        self.file = file
        self.found: list[str] = []

    def add(self, path: str, message: str) -> None:
        """Notes one problem at a dotted path."""
        line = ": ".join(part for part in (self.file, path, message) if part)
        if line not in self.found:
            self.found.append(line)

    def raise_any(self) -> None:
        """Raises ConfigError if anything was noted."""
        if self.found:
            raise ConfigError(self.found)


def setting(
    default: Any, help: str, *, low: float | None = None, high: float | None = None, above: float | None = None
) -> Any:
    """A dataclass field with its meaning and range: low <= value <= high, value > above."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "above": above})


def plugin(kind: str, default: str, help: str) -> Any:
    """A dataclass field that names a plugin."""
    return field(default=PluginSpec(kind, default), metadata={"help": help, "kind": kind})


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


# ---------------------------------------------------------------- mappings -> dataclasses

T = TypeVar("T")


def parse(cls: type[T], value: Any, path: str, problems: Problems) -> T | None:
    """Builds a frozen dataclass from a mapping; None (and noted problems) where that is impossible."""
    known = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        problems.add(path, f"expected a mapping with keys {', '.join(known)}, not {value!r}")
        return None
    hints = typing.get_type_hints(cls)
    chosen = {}
    for key, item in value.items():
        place = f"{path}.{key}" if path else str(key)
        if key not in known:
            problems.add(place, f"no such key; {closest(key, known)}")
        else:
            chosen[key] = parse_value(hints[key], item, place, problems, known[key])
    required = [
        n
        for n, f in known.items()
        if f.default in (..., dataclasses.MISSING) and f.default_factory is dataclasses.MISSING
    ]
    for key in required:
        if key not in value:
            problems.add(path, f"needs {key!r}")
            return None
    return cls(**chosen)


def parse_value(hint: Any, value: Any, path: str, problems: Problems, about: dataclasses.Field | None = None) -> Any:
    """Checks one value against its annotation and range; returns it converted, or None with a problem noted."""
    metadata = about.metadata if about else {}
    if hint is PluginSpec:
        default = about.default.name if about and isinstance(about.default, PluginSpec) else None
        return parse_plugin(metadata["kind"], value, path, problems, default)
    if dataclasses.is_dataclass(hint):
        return parse(hint, value, path, problems)  # type: ignore[arg-type]
    options = (
        typing.get_args(hint)
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        else (hint,)
    )
    sections = [option for option in options if dataclasses.is_dataclass(option)]
    if sections and isinstance(value, Mapping):
        return _parse_section(sections, value, path, problems)
    for option in options:
        converted = _convert(option, value)
        if converted is not _NO:
            _check_range(converted, path, problems, metadata)
            return converted
    problems.add(path, f"expected {_say(options)}, not {value!r}{_hint(options, value)}")
    return None


def _parse_section(sections: list[Any], value: Mapping[str, Any], path: str, problems: Problems) -> Any:
    """A mapping that can be one of several dataclasses, told apart by their `kind`."""
    kinds = {typing.get_args(typing.get_type_hints(section)["kind"])[0]: section for section in sections}
    if value.get("kind") not in kinds:
        problems.add(
            f"{path}.kind",
            f"{value.get('kind')!r} is not one of {', '.join(kinds)}; {closest(value.get('kind'), kinds)}",
        )
        return None
    return parse(kinds[value["kind"]], value, path, problems)


_NO = object()


def _convert(option: Any, value: Any) -> Any:
    """`value` as this type, or _NO. Numbers written as `1e-4` reach us as strings."""
    if option in (None, type(None)):
        return None if value is None else _NO
    if typing.get_origin(option) is Literal:
        return (
            value
            if any(value is c or (type(value) is type(c) and value == c) for c in typing.get_args(option))
            else _NO
        )
    if typing.get_origin(option) in (tuple, list):
        if not isinstance(value, list | tuple):
            return _NO
        inner = typing.get_args(option)[0]
        choices = typing.get_args(inner) or (inner,)
        items = [next((c for o in choices if (c := _convert(o, item)) is not _NO), _NO) for item in value]
        return _NO if any(item is _NO for item in items) else typing.get_origin(option)(items)
    if option is bool:
        return value if isinstance(value, bool) else _NO
    if option in (int, float):
        return _number(option, value)
    if option is str:
        return value if isinstance(value, str) else _NO
    if option is Path:
        return Path(value) if isinstance(value, str | Path) else _NO
    return value if option is Any or (isinstance(option, type) and isinstance(value, option)) else _NO


def _number(option: type, value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _NO
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return _NO
    if option is int:
        return int(value) if float(value).is_integer() and not isinstance(value, float) else _NO
    return float(value)


def _check_range(value: Any, path: str, problems: Problems, metadata: Mapping[str, Any]) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low, high, above = (metadata.get(key) for key in ("low", "high", "above"))
    if low is not None and value < low:
        problems.add(path, f"{value} is below the smallest valid value {low}")
    if above is not None and value <= above:
        problems.add(path, f"{value} must be above {above}")
    if high is not None and value > high:
        problems.add(path, f"{value} is above the largest valid value {high}")


def _say(options: tuple[Any, ...]) -> str:
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        type(None): "null",
        Path: "a path",
    }
    parts = []
    for option in options:
        if typing.get_origin(option) is Literal:
            parts.append(" | ".join(str(choice) for choice in typing.get_args(option)))
        else:
            parts.append(words.get(option) or ("a list" if typing.get_origin(option) else "a mapping"))
    return " or ".join(parts)


def _hint(options: tuple[Any, ...], value: Any) -> str:
    choices = [c for option in options if typing.get_origin(option) is Literal for c in typing.get_args(option)]
    return f"; {closest(value, choices)}" if choices and isinstance(value, str) else ""


# ---------------------------------------------------------------- plugins in a configuration


def parse_plugin(kind: str, value: Any, path: str, problems: Problems, default: str | None = None) -> PluginSpec | None:
    """A plugin's name or mapping as a PluginSpec, with its name, its hyper-parameters and their types checked.

    A mapping without a name keeps the default plugin.
    """
    if isinstance(value, PluginSpec):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        problems.add(path, f"expected a {kind[:-1]}'s name or a mapping with its name, not {value!r}")
        return None
    name = value.get("name", default)
    if not isinstance(name, str):
        problems.add(path, f"needs the name of a {kind[:-1]}; {closest(name, plugins.names(kind))}")
        return None
    try:
        found = plugins.find(kind, name)
    except ValueError as error:
        problems.add(path, str(error))
        return None
    known, hints = plugins.defaults(found), plugins.hints(found)
    chosen = {}
    for key, item in value.items():
        place = f"{path}.{key}"
        if key == "name":
            continue
        if key not in known:
            problems.add(place, f"{name} has no hyper-parameter {key!r}; {closest(key, known)}")
            continue
        nested = plugins.nested_kind(hints.get(key))
        if nested and isinstance(item, str | Mapping):
            chosen[key] = parse_plugin(nested, item, place, problems)
        else:
            chosen[key] = parse_value(hints.get(key, Any), item, place, problems)
    return PluginSpec(kind, name, chosen)


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

    def attempt(place: str, spec: PluginSpec, *positional: Any) -> Any:
        try:
            return plugins.build(spec, *positional)
        except (ValueError, TypeError) as error:
            problems.add(f"{path}.{place}" if path else place, str(error))
            return None

    attempt("dataset", config.dataset)
    attempt("augmentation", config.augmentation)
    attempt("classifier.augmentation", config.classifier.augmentation)
    attempt("selector", config.selector)
    with torch.device("meta"):
        backbone = attempt("backbone", config.backbone, (3, 64, 64))
        if backbone is not None:
            attempt("ssl_method", config.ssl_method, backbone)


# ---------------------------------------------------------------- dataclasses -> mappings


def as_dict(config: Any) -> Any:
    """The canonical plain form of a configuration: every key present, ready for YAML or JSON."""
    if isinstance(config, PluginSpec):
        return config.as_dict()
    if dataclasses.is_dataclass(config):
        return {item.name: as_dict(getattr(config, item.name)) for item in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {key: as_dict(item) for key, item in config.items()}
    if isinstance(config, list | tuple):
        return [as_dict(item) for item in config]
    return str(config) if isinstance(config, Path) else config


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            flat |= flatten(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def set_path(tree: dict[str, Any], path: str, value: Any) -> None:
    """Sets a dotted path in nested mappings; a plugin's shorthand on the way becomes its mapping."""
    *parents, last = path.split(".")
    for key in parents:
        below = tree.get(key)
        if isinstance(below, str):
            below = {"name": below}
        tree[key] = dict(below) if isinstance(below, Mapping) else {}
        tree = tree[key]
    tree[last] = value


def read_yaml(file: Path) -> Any:
    """A YAML file's content, read safely.

    Raises:
        ConfigError: the file is missing, unreadable or not YAML.
    """
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = (
            closest(file.name, [p.name for p in file.parent.glob("*.yaml")])
            if file.parent.is_dir()
            else "no such folder"
        )
        raise ConfigError([f"{file}: no such file; {near}"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: cannot be read: {error}"]) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError([f"{file}: not valid YAML: {' '.join(str(error).split())}"]) from None

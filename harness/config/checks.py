"""The checks of a trial across its keys: what cannot go together, and what its plugins refuse."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

from torch import nn

from harness.api import Backbone, Selector, SemiSupervisedMethod, SSLMethod, SupervisedMethod, TaughtMethod
from harness.config.schema import Problems
from harness.config.trial import Optimization, TrialConfig, method_arguments
from harness.messages import cause_of, message_of
from harness.metrics import ALIGNMENT, LABEL_FREE
from harness.plugins import registry
from harness.plugins.outline import in_outline, without_values
from harness.plugins.registry import PluginSpec


def check_classifiers(config: TrialConfig, path: str, problems: Problems) -> None:
    """Several classifiers, and what a fine-tuned one forbids."""
    heads = [config.classifier, *config.beside]
    for number, head in enumerate(heads):
        place = f"{path}.beside[{number - 1}]" if number else f"{path}.classifier"
        check_milestones(head, place, problems)
        if "warmup_epochs" not in head.unread() and (why := warmup_too_long(head)):
            problems.add(f"{place}.warmup_epochs", why)
        if head.name == "finetune" and head.representation != "features":
            problems.add(f"{place}.representation", "finetune trains the encoder: only `features` is possible")
        if head.warm_start and (number or head.name != "finetune"):
            problems.add(
                f"{place}.warm_start", "only the first classifier, and only finetune, goes on from a round before"
            )
        if head.name in [earlier.name for earlier in heads[:number]]:
            problems.add(f"{place}.name", f"{head.name} stands there already; classifiers side by side differ in name")


def check_mode(config: TrialConfig, path: str, problems: Problems) -> None:
    """What `mode: joint` asks of method, classifier and selector."""
    method: type[SSLMethod] = registry.find_plugin("ssl_methods", config.ssl_method.name)
    if config.mode == "pretrain":
        if issubclass(method, SemiSupervisedMethod | TaughtMethod):
            problems.add(f"{path}.mode", f"{config.ssl_method.name} trains classifier and encoder at once; use joint")
        return
    if config.classifier.name != "finetune":
        problems.add(
            f"{path}.classifier.name", f"{config.classifier.name} leaves the encoder alone; joint needs finetune"
        )
    if config.classifier.backbone_lr == 0:
        problems.add(f"{path}.classifier.backbone_lr", "0 leaves the encoder alone, which joint trains; use above 0")
    if config.joint.unlabeled == "lowest_loss" and config.labels.budgets and not method.has_sample_loss():
        problems.add(
            f"{path}.joint.unlabeled", f"{config.ssl_method.name} has no loss per image to rank by; use as_labeled"
        )
    own_loss = issubclass(method, SemiSupervisedMethod | TaughtMethod)
    if config.joint.ema and not own_loss:
        problems.add(
            f"{path}.joint.ema", f"the heads of {config.ssl_method.name} would be those of another encoder; use 0"
        )
    if own_loss and config.classifier.class_weight != "none":
        problems.add(
            f"{path}.classifier.class_weight", f"{config.ssl_method.name} makes the loss of the classifier; use none"
        )
    if issubclass(method, SemiSupervisedMethod) and config.labels.start == "all":
        problems.add(f"{path}.labels.start", f"`all` leaves {config.ssl_method.name} no unlabelled image; use a number")
    if method.num_views == 0:
        problems.add(f"{path}.ssl_method", f"{config.ssl_method.name} has no loss to train jointly; use mode pretrain")
    if issubclass(method, SupervisedMethod) and method.labeled_only:
        problems.add(
            f"{path}.ssl_method", f"{config.ssl_method.name} is the task loss itself; use none with classifier finetune"
        )


def check_encoder(config: TrialConfig, path: str, problems: Problems) -> None:
    """How an encoder is made, a trial's own or another one that it builds."""
    check_normalization(config, path, problems)
    check_fitted(config, path, problems)
    check_milestones(config.pretrain, f"{path}.pretrain", problems)
    if trains_encoder(config) and (why := warmup_too_long(config.pretrain)):
        problems.add(f"{path}.pretrain.warmup_epochs", why)
    check_resolutions(config.pretrain.resolutions, f"{path}.pretrain.resolutions", problems)


def check_fitted(config: TrialConfig, path: str, problems: Problems) -> None:
    """A network whose weights follow from the images in closed form, which no SSL method trains beside."""
    plugin: type[Backbone] = registry.find_plugin("backbones", config.backbone.name)
    method: type[SSLMethod] = registry.find_plugin("ssl_methods", config.ssl_method.name)
    if plugin.is_fitted() and config.backbone.hyperparameters.get("weights") is None and method.num_views:
        problems.add(
            f"{path}.ssl_method", f"{config.backbone.name} is fitted to the pool and needs no training; use none"
        )


def check_normalization(config: TrialConfig, path: str, problems: Problems) -> None:
    """One place alone may say how images are normalised."""
    how = config.backbone.hyperparameters.get("normalize", "auto")
    if not config.data.normalize and how not in ("auto", "data"):
        problems.add(f"{path}.data.normalize", "false, and backbone.normalize says how; leave one of them out")


def check_labels(config: TrialConfig, path: str, problems: Problems) -> None:
    """What the first round and a one-shot selection ask of the label budget."""
    labels = config.labels
    if config.pretrain.knn_of_pool and (labels.start != "all" or config.data.val == 0):
        problems.add(
            f"{path}.pretrain.knn_of_pool",
            "asks the labels of all training images about the validation images; use "
            "`labels.start: all` and a `data.val` above 0",
        )
    if config.joint.validate_every and config.data.val == 0:
        problems.add(f"{path}.joint.validate_every", "there are no validation images, data.val is 0; use 0")
    if labels.start == "all":
        if labels.budgets or labels.budget:
            problems.add(f"{path}.labels", "`start: all` leaves nothing to select: set rounds and budget to 0")
        return
    if not all(labels.budgets):
        problems.add(f"{path}.labels.budget", "every round needs a budget of at least 1")
    if labels.budget and not labels.budgets:
        problems.add(f"{path}.labels.rounds", f"a budget of {labels.budget} needs at least 1 round")
    if isinstance(labels.budget, tuple) and labels.rounds not in (0, len(labels.budget)):
        problems.add(
            f"{path}.labels.rounds",
            f"{labels.rounds} rounds, but `budget` lists {len(labels.budget)}; leave `rounds` out",
        )
    if labels.start == 0:
        for name in dict.fromkeys(encoder.ssl_method.name for encoder in config.encoders().values()):
            if issubclass(registry.find_plugin("ssl_methods", name), SupervisedMethod):
                problems.add(f"{path}.labels.start", f"{name} learns from labels; use 1 or more")
        if not labels.budgets:
            problems.add(f"{path}.labels", "`start: 0` and no rounds: there would be nothing to train on")
        selector = built_selector(config.selector)
        if selector is not None and not selector.supports_cold_start:
            problems.add(
                f"{path}.labels.start", f"selector {config.selector.name!r} cannot start without labels; use 1 or more"
            )


NEEDS = {"probabilities": "the classes' probabilities", "linear_layer": "a linear last layer"}
"""`CLASSIFIER_TRAITS` in words."""


def check_what_selector_reads(config: TrialConfig, path: str, problems: Problems) -> None:
    """Whether the trial gives what its selector reads; dropout is looked for once there is a backbone."""
    name, classifier = config.selector.name, config.classifier
    selector = built_selector(config.selector)
    if not config.labels.budgets or selector is None:
        return
    shown = config.selector.hyperparameters.get("pool_subset")
    largest = max(config.labels.budgets)
    if shown is not None and shown < largest:
        problems.add(
            f"{path}.selector.pool_subset",
            f"{largest} images cannot be chosen from {shown}; use at least {largest}",
        )
    for need in sorted(selector.needs - classifier.traits):
        problems.add(
            f"{path}.classifier.name",
            f"{name} needs {NEEDS[need]}, which {classifier.name} does not give; use logistic, or a selector that "
            "reads features, such as typiclust",
        )
    if "ssl_loss" in selector.reads:
        learner = (config.selection or config).ssl_method.name
        method: type[SSLMethod] = registry.find_plugin("ssl_methods", learner)
        if not method.has_sample_loss():
            problems.add(
                f"{path}.selector",
                f"{name} ranks by a loss per image, which {learner} does not define; use an ssl_method that does, such "
                "as simclr",
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


def check_selection(config: TrialConfig, path: str, problems: Problems) -> None:
    """Whether there is something to select, and an encoder that has learnt something to do it by."""
    chooser = config.of_selection()
    if chooser is None:
        return
    path = f"{path}.selection"
    if not config.labels.budgets:
        problems.add(path, "there is no round of selection, so that nothing is chosen by it; leave it out")
    if gives_features(config.dataset):
        problems.add(path, f"needs pixels, and {config.dataset.name} gives features; leave it out")
    name = chooser.ssl_method.name
    method: type[SSLMethod] = registry.find_plugin("ssl_methods", name)
    if issubclass(method, SupervisedMethod):
        problems.add(f"{path}.ssl_method", f"{name} learns from labels, which are yet to be chosen; use simclr")
    if chooser.pretrain.knn_of_pool:
        problems.add(f"{path}.pretrain.knn_of_pool", "asks the labels that are yet to be chosen; use false")
    trains = trains_encoder(chooser)
    trains |= registry.find_plugin("backbones", chooser.backbone.name).is_fitted()  # type: ignore[attr-defined]
    if not trains and chooser.backbone.hyperparameters.get("weights") is None:
        problems.add(path, "nothing trains its encoder; give backbone.weights, or an ssl_method such as simclr")
    check_encoder(chooser, path, problems)


def check_teacher(config: TrialConfig, path: str, problems: Problems) -> None:
    """Whether there is a teacher where something learns from it, and there alone, and what it says."""
    name = config.ssl_method.name
    learns = issubclass(registry.find_plugin("ssl_methods", name), TaughtMethod)
    teacher = config.of_teacher()
    if learns and teacher is None and config.mode == "joint":
        problems.add(f"{path}.teacher", f"{name} learns from one; say which, such as {{classifier: kernel_ridge}}")
    if learns:
        unread = (("joint.unlabeled_ratio", config.joint.unlabeled_ratio, 1),
                  ("classifier.augmentation", config.classifier.augmentation.name, "identity"))  # fmt: skip
        for key, value, default in unread:
            if value != default:
                problems.add(f"{path}.{key}", f"{name} sees labelled and unlabelled images alike; leave it out")
    if teacher is None:
        return
    path = f"{path}.teacher"
    if not learns or config.mode != "joint":
        problems.add(path, f"{name} in mode {config.mode} does not learn from it; use distill in mode joint")
    if issubclass(registry.find_plugin("ssl_methods", teacher.ssl_method.name), SemiSupervisedMethod | TaughtMethod):
        problems.add(f"{path}.ssl_method", f"{teacher.ssl_method.name} trains a classifier; use finetune as the head")
    if teacher.classifier.name == "svm":
        problems.add(f"{path}.classifier.name", "the scores of svm order the classes alone; use logistic")
    if teacher.pretrain.knn_of_pool:
        problems.add(f"{path}.pretrain.knn_of_pool", "is not measured of a teacher; leave it out")
    check_encoder(teacher, path, problems)
    check_classifiers(teacher, path, problems)
    if teacher.classifier.warm_start:
        problems.add(f"{path}.classifier.warm_start", "a teacher learns anew in every round; leave it out")


def gives_features(dataset: Any) -> bool:
    """Whether a data set, as a configuration names it, gives features; one that cannot be found does not."""
    try:
        spec = registry.as_spec("datasets", dataset)
        return bool(registry.find_plugin("datasets", spec.name).gives_features)  # type: ignore[attr-defined]
    except ValueError:
        return False


def check_features(config: TrialConfig, path: str, problems: Problems) -> None:
    """What a data set of features forbids, where there are no pixels and no encoder; and what needs such a data set."""
    data, backbone, method = config.dataset.name, config.backbone.name, config.ssl_method.name
    takes_features = registry.find_plugin("backbones", backbone).takes_features  # type: ignore[attr-defined]
    if not gives_features(config.dataset):
        if takes_features:
            problems.add(
                f"{path}.backbone", f"{backbone} takes features, and {data} gives images; use another backbone"
            )
        return
    pixels = f"needs pixels, and {data} gives features"
    if not takes_features:
        problems.add(f"{path}.backbone", f"{backbone} {pixels}; use given, or leave it out")
    if registry.find_plugin("ssl_methods", method).num_views:  # type: ignore[attr-defined]
        problems.add(f"{path}.ssl_method", f"{method} {pixels}; use none, or leave it out")
    if config.augmentation.name != "identity":
        problems.add(f"{path}.augmentation", f"{config.augmentation.name} {pixels}; use identity, or leave it out")
    for number, head in enumerate((config.classifier, *config.beside)):
        place = f"{path}.beside[{number - 1}]" if number else f"{path}.classifier"
        if head.name == "finetune":
            problems.add(f"{place}.name", f"finetune trains an encoder, and {data} gives features alone; use logistic")
        if head.representation == "raw":
            problems.add(f"{place}.representation", f"raw {pixels}; use features, which are the numbers of the file")
    selector = built_selector(config.selector)
    if config.labels.budgets and selector and selector.reads & {"images", "augmented_logits"}:
        problems.add(f"{path}.selector", f"{config.selector.name} {pixels}; use one that reads features or logits")


def check_milestones(settings: Optimization, path: str, problems: Problems) -> None:
    """Rising milestones, within the epochs."""
    milestones = settings.milestones
    if not milestones or any(later <= earlier for earlier, later in pairwise((*milestones, 1.0))):
        problems.add(f"{path}.milestones", f"{list(milestones)} must rise and stay below 1, as [0.6, 0.8] does")


def warmup_too_long(settings: Optimization) -> str | None:
    """Why a training never comes to its learning rate; None where it does, or where nobody knows its epochs yet."""
    asked: Any = settings.epochs
    if asked == "auto" or settings.warmup_epochs < asked:
        return None
    never = f"{settings.warmup_epochs:g} of {asked} epochs: lr is never reached"
    return f"{never}; set it below `epochs`, or `epochs` above it"


def trains_encoder(config: TrialConfig) -> bool:
    """Whether an SSL method trains the encoder before anything else is trained."""
    method: type[SSLMethod] = registry.find_plugin("ssl_methods", config.ssl_method.name)
    return config.mode == "pretrain" and method.num_views > 0 and config.pretrain.epochs != 0


def check_resolutions(shares: tuple[float, ...], path: str, problems: Problems) -> None:
    """Sizes that views and backbone can take."""
    if not shares or shares[-1] != 1 or any(later < earlier for earlier, later in pairwise(shares)):
        problems.add(path, f"{list(shares)} must not fall and must end with 1, as [0.5, 0.75, 1.0] does")


def goals_of(config: TrialConfig, goals: Sequence[str], searched: bool) -> list[str]:
    """The metrics that a trial has to give: one that is judged on the test set may have no validation images."""
    return [name for name in goals if searched or config.data.val or not name.startswith("val/")]


def check_measured(config: TrialConfig, goals: Sequence[str], stops_early: bool, path: str, problems: Problems) -> None:
    """Whether a trial measures what a search improves, and what early stopping judges by."""
    if stops_early:
        check_epochs_are_judged(config, goals[0], path, problems)
    head = config.classifier
    for name in goals:
        if name.startswith("val/") and config.data.val == 0:
            problems.add(path, f"metric {name} needs validation images, and data.val is 0; use pretrain/rankme")
        elif name in ("val/loss", "val/ece") and not head.gives_probabilities:
            problems.add(path, f"metric {name} needs probabilities, and {head.name} gives none; use logistic")
        elif name == ALIGNMENT and gives_features(config.dataset):
            problems.add(
                path, f"metric {name} needs pixels, and {config.dataset.name} gives features; use val/accuracy"
            )
        elif name in LABEL_FREE and config.mode == "joint":
            problems.add(path, f"metric {name} is that of an encoder trained before its classifier; use mode pretrain")
        elif name == "val/aubc" and len(config.labels.budgets) + (config.labels.start != 0) < 2:
            problems.add(path, f"metric {name} needs a curve, and there is one number of labels; use val/accuracy")
        elif name.startswith("joint/") and (why := _not_of_joint(config, name)):
            problems.add(path, f"metric {name} {why}")


def _not_of_joint(config: TrialConfig, name: str) -> str | None:
    """Why a metric of joint training is not measured in a trial; None where it is, or its method may measure it."""
    learner, method = config.ssl_method.name, registry.find_plugin("ssl_methods", config.ssl_method.name)
    semi, taught = issubclass(method, SemiSupervisedMethod), issubclass(method, TaughtMethod)
    if config.mode != "joint":
        return "is measured where classifier and encoder are trained at once; use mode joint, or val/accuracy"
    if name in ("joint/supervised", "joint/unlabeled", "joint/used") and not semi:
        return f"is that of a semi-supervised method, and {learner} is none; use joint/loss"
    if name in ("joint/task_loss", "joint/ssl_loss", "joint/unlabeled_ssl_loss") and (semi or taught):
        return f"is that of an SSL method beside the task loss, and {learner} makes both; use joint/loss"
    if name == "joint/unlabeled_ssl_loss" and config.labels.start == "all":
        return "needs unlabelled images, and `labels.start: all` leaves none; use joint/ssl_loss"
    return None


def check_epochs_are_judged(config: TrialConfig, goal: str, path: str, problems: Problems) -> None:
    """Whether the epochs of a trial's training have what early stopping judges by, where the first metric is `goal`."""
    if gives_features(config.dataset):
        problems.add(path, f"early_terminate stops the training of an encoder, and {config.dataset.name} gives "
                     "features, which train none; use none")  # fmt: skip
    elif config.mode == "joint" and not config.joint.validate_every:
        problems.add(path, "early_terminate sees nothing of joint training; set trial.joint.validate_every to 1")
    elif config.mode == "pretrain" and config.pretrain.epochs not in (0, 1) and not config.pretrain.knn_every:
        problems.add(path, "early_terminate sees nothing of pre-training with trial.pretrain.knn_every: 0; set it to 1")
    elif config.data.val == 0 and goal not in LABEL_FREE:
        problems.add(path, f"early_terminate judges {goal} by validation images; set trial.data.val above 0, or let "
                     "the first metric be pretrain/rankme")  # fmt: skip


def try_plugins(config: TrialConfig, path: str, problems: Problems) -> None:
    """Constructs every plugin once, networks without memory, so that impossible values are found now."""

    def attempt(place: str, construct: Callable[..., Any], *specs: PluginSpec) -> Any:
        try:
            return construct(*map(Tried.of, specs))
        except Exception as error:  # a constructor may fail in any way for a value that nobody thought of
            reason = message_of(error) if isinstance(error, ValueError | TypeError) else cause_of(error)
            problems.add(f"{path}.{place}" if path else place, reason)

    attempt("dataset", try_alone, config.dataset)
    attempt("augmentation", try_alone, config.augmentation)
    attempt("selector", try_alone, config.selector)
    for number, head in enumerate((config.classifier, *config.beside)):
        place = f"beside[{number - 1}]" if number else "classifier"
        attempt(f"{place}.augmentation", try_alone, head.augmentation)
    for section, other in list(config.encoders().items())[1:]:
        attempt(f"{section}.augmentation", try_alone, other.augmentation)
        attempt(f"{section}.classifier.augmentation", try_alone, other.classifier.augmentation)
        backbone = attempt(f"{section}.backbone", try_backbone, other.backbone)
        if backbone is not None:
            _check_first_batch(other, backbone, path, problems)
            attempt(f"{section}.ssl_method", try_method, other.ssl_method, other.backbone)
    backbone = attempt("backbone", try_backbone, config.backbone)
    if backbone is not None:
        _check_dropout(config, backbone, path, problems)
        _check_first_batch(config, backbone, path, problems)
        attempt("ssl_method", try_method, config.ssl_method, config.backbone)


@dataclass(frozen=True)
class Tried:
    """A plugin to construct, equal to another of the same kind, name and settings.

    The functions below remember those that could be constructed, so that the configurations of a large search are
    checked soon; one that could not is tried again.
    """

    text: str
    spec: PluginSpec = field(compare=False)

    @classmethod
    def of(cls, spec: PluginSpec) -> Tried:
        """A plugin by its canonical mapping."""
        return cls(json.dumps([spec.kind, spec.as_dict()], sort_keys=True, default=str), spec)


@cache
def try_alone(plugin: Tried) -> Any:
    """Constructs a plugin that takes nothing but its hyper-parameters."""
    return registry.build(plugin.spec)


def built_selector(spec: PluginSpec) -> Selector | None:
    """A selector as its hyper-parameters make it, to ask what it needs; None where it refuses them (`try_plugins`)."""
    try:
        selector: Selector = try_alone(Tried.of(spec))
    except Exception:  # as in `try_plugins`, which says what is wrong
        return None
    return selector


@lru_cache(maxsize=1)  # the SSL methods of a search mostly share it
def try_backbone(plugin: Tried) -> Backbone:
    """A backbone in outline for images whose size is not known yet."""
    return in_outline(lambda: _of_any_size(plugin))


def _of_any_size(plugin: Tried) -> Backbone:
    """A backbone for images of 64 pixels, or of 224 if it refuses those."""
    of_features: bool = registry.find_plugin("backbones", plugin.spec.name).takes_features  # type: ignore[attr-defined]
    shape = (64,) if of_features else (3, 64, 64)
    try:
        backbone: Backbone = registry.build(plugin.spec, shape)
    except ValueError:
        backbone = registry.build(plugin.spec, shape if of_features else (3, 224, 224))
    return backbone


@cache
def try_method(plugin: Tried, backbone: Tried) -> tuple[int, int]:
    """Constructs an SSL method on a backbone: how many views it takes, and how many of these are local ones."""
    arguments = method_arguments(plugin.spec, num_classes=10)
    outlined = try_backbone(backbone)

    def construct() -> SSLMethod:
        # a copy, for a method may change what it is given
        network = copy.deepcopy(outlined) if without_values() else _of_any_size(backbone)
        built: SSLMethod = registry.build(plugin.spec, network, *arguments)
        return built

    method = in_outline(construct)
    return method.num_views, method.num_local_views


def _check_first_batch(config: TrialConfig, backbone: Backbone, path: str, problems: Problems) -> None:
    """Whether what first trains the backbone on labelled images alone has more than one where it must."""
    labels, name = config.labels, config.ssl_method.name
    if (labels.start or next(iter(labels.budgets), 0)) != 1:
        return
    method: type[SSLMethod] = registry.find_plugin("ssl_methods", name)
    if config.mode == "joint":
        training = [] if issubclass(method, TaughtMethod) else ["joint training"]  # which learns from the whole pool
    elif any(isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training for layer in backbone.modules()):
        tuned = any(head.name == "finetune" and head.backbone_lr for head in (config.classifier, *config.beside))
        alone = issubclass(method, SupervisedMethod) and method.labeled_only and config.pretrain.epochs != 0
        training = [f"{one}, with batch normalisation" for one, asked in ((name, alone), ("finetune", tuned)) if asked]
    else:
        return
    key = "start" if labels.start else "budget"
    for one in training:
        problems.add(f"{path}.labels.{key}", f"1 image makes no batch for {one}; use 2 or more")


def _check_dropout(config: TrialConfig, backbone: Backbone, path: str, problems: Problems) -> None:
    selector = built_selector(config.selector)
    reads = selector.reads if selector else frozenset()
    if not config.labels.budgets or "stochastic_logits" not in reads or backbone.dropouts():
        return
    known = "dropout" in registry.defaults(type(backbone))
    advice = "set its dropout above 0" if known else "use one that has, such as {name: resnet18, dropout: 0.2}"
    problems.add(
        f"{path}.backbone", f"{config.selector.name} needs dropout, and {config.backbone.name} has none; {advice}"
    )

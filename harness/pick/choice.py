"""A batch: the trial's head trained on the labels so far, its selector asked, and its answer in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from harness.api import CONDITIONAL_PARTS, Images
from harness.config.checks import built_selector
from harness.config.parsing import parse_trial
from harness.config.schema import Problems
from harness.config.trial import ClassifierConfig
from harness.plugins import registry
from harness.plugins.registry import PluginSpec
from harness.trial import heads
from harness.trial.selection import Bought, Selection, choose


@dataclass(frozen=True)
class Way:
    """How a batch is chosen.

    Attributes:
        selector: which, with its hyper-parameters.
        classifier: the head that is trained on the labels so far.
        seed: all randomness comes from it.
    """

    selector: PluginSpec
    classifier: ClassifierConfig
    seed: int


def way_of(selector: object, classifier: object, *, seed: int, budget: int, num_labels: int) -> Way:
    """A selector and a head as a trial would take them.

    Args:
        selector: name, or mapping of name and hyper-parameters.
        classifier: the same of a head.
        seed: of the draws.
        budget: images to be chosen.
        num_labels: that are known.

    Raises:
        ConfigError: everything that is wrong with them, or cannot be done with features alone.
    """
    problems = Problems()
    spec = registry.as_spec("selectors", selector)  # type: ignore[arg-type]
    built = built_selector(spec)
    reads = sorted(CONDITIONAL_PARTS & built.reads) if built else []
    if reads:
        problems.add(
            "selector",
            f"{spec.name} reads {reads[0]}, and here are an encoder's features alone; take typiclust or margin",
        )
    elif built and not num_labels and not built.supports_cold_start:
        problems.add("selector", f"{spec.name} needs labels; name some by --labels, or start with typiclust")
    problems.raise_any()
    labels = {"start": num_labels, "budget": budget, "rounds": 1}
    config = parse_trial({"selector": selector, "classifier": classifier, "labels": labels}, "pick", problems)
    problems.raise_any()
    assert config is not None
    head = config.classifier
    if config.beside:
        names = ", ".join([head.name, *(other.name for other in config.beside)])
        problems.add("classifier", f"{names} are several heads, and one is asked; name it alone")
    if head.name == "finetune" or head.representation != "features":
        what = "finetune" if head.name == "finetune" else f"representation {head.representation}"
        problems.add("classifier", f"{what} needs more than an encoder's features; take logistic")
    problems.raise_any()
    return Way(config.selector, head, seed)


class FeatureOutputs:
    """What a pool's model says that has features alone: a `PoolModel`.

    Args:
        features: f32 [N, D].
        bought: what the head is trained on, when its answers are first read.
        way: the head and its seed.
    """

    def __init__(self, features: Tensor, bought: Bought, way: Way):
        self._features = features
        self._bought = bought
        self._way = way

    @property
    def knows_labels(self) -> bool:
        """Whether there is anything to train a head on."""
        return len(self._bought.positions) > 0

    @cached_property
    def predict(self) -> heads.Predictor:
        """The trained head."""
        bought, config = self._bought, self._way.classifier
        if not self.knows_labels:
            raise ValueError("no classifier has been trained yet: there are no labels")
        inputs = self._features[bought.positions]
        state = heads.fit(config, inputs, bought.labels, bought.num_classes, self._way.seed)
        return heads.predictor(config, state, inputs, bought.labels, bought.num_classes)

    def shown(self, rows: Tensor | None) -> _Shown:
        """Of some rows, or of all."""
        return _Shown(self, self._features if rows is None else self._features[rows])


class _Shown:
    """The rows that a selector is shown."""

    def __init__(self, whole: FeatureOutputs, features: Tensor):
        self._whole = whole
        self._features = features

    def features(self) -> Tensor:
        return self._features

    def penultimate(self) -> Tensor:
        return self._whole.predict.penultimate(self._features) if self._whole.knows_labels else self._features

    def last_layer(self, penultimate: Tensor) -> Tensor:
        return self._whole.predict.last(penultimate)

    def logits(self) -> Tensor:
        return self._whole.predict(self._features)

    def _nothing(self, *_: object) -> Tensor:
        raise ValueError("the selector reads more of the pool than features, logits and labels; take another one")

    stochastic_logits = augmented_logits = ssl_loss = companion_outputs = _nothing


@dataclass(frozen=True)
class Pick:
    """One image to be labelled.

    Attributes:
        position: in the pool.
        score: by which it was ranked; None where no number says it.
        why: in words.
    """

    position: int
    score: float | None
    why: str


def ask(way: Way, features: Tensor, bought: Bought, *, budget: int, number: int) -> tuple[Selection, FeatureOutputs]:
    """The selector's answer in round `number`, and the model that it was given."""
    outputs = FeatureOutputs(features, bought, way)
    settings = {"budget": budget, "seed": way.seed, "number": number}
    return choose(way.selector, Images(features), bought, lambda _, rows: outputs.shown(rows), **settings), outputs


def picks_in_words(selection: Selection, name: str, classes: Sequence[str]) -> list[Pick]:
    """The picks with the selector's reasons; where it gives none, with what it looked at."""
    positions = selection.picks.tolist()
    reasons = selection.reasons()
    if reasons:
        told = zip(positions, reasons, strict=True)
        return [Pick(position, reason.score, reason.naming(classes)) for position, reason in told]
    looked = [part for part in ("features", "penultimate", "logits") if part in vars(selection.pool)]
    at = f" by {' and '.join(looked)}" if looked else ""
    return [Pick(position, None, f"part of the batch that {name} chose as a whole{at}") for position in positions]

"""What a trial reads of its settings: two that differ in nothing that is read are one, and measure the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.api import SemiSupervisedMethod, SSLMethod, TaughtMethod
from harness.config.checks import built_selector, trains_encoder
from harness.config.schema import Problems, flatten, lies_in
from harness.config.space import CASE, Assignment, Parameter
from harness.config.tasks import Candidate
from harness.config.trial import ClassifierConfig, Optimization, PretrainConfig, TrialConfig
from harness.files import digest_of
from harness.metrics import ALIGNMENT
from harness.plugins import registry

SHOWN_VIEWS = frozenset({"augmented_logits", "ssl_loss"})
"""What selectors read that is made of views, pre-trained or not."""

Unread = dict[str, str]
"""Dotted path below a trial whose value, and all below it, changes nothing -> why."""


@dataclass(frozen=True)
class Reading:
    """A configuration by what its trial reads.

    Attributes:
        key: the same for all that read the same.
        unread: what it does not.
    """

    key: str
    unread: Unread

    @classmethod
    def of(cls, candidate: Candidate, goals: Sequence[str]) -> Reading:
        """What a candidate reads, judged by these metrics."""
        unread = unread_of(candidate.trial, goals)
        return cls(digest_of(_read(candidate.described, unread)), unread)

    def why_not(self, path: str, value: Any) -> str | None:
        """Why a setting changes nothing here; None where it, or a part of it, is read."""
        leaves = flatten({path: value}) or {path: value}
        reasons = [next((self.unread[one] for one in self.unread if lies_in(leaf, one)), None) for leaf in leaves]
        return reasons[0] if all(reasons) else None

    def told(self, parameters: Assignment, others: Assignment) -> str:
        """Which of the parameters that differ from those of another one change nothing here, and what to do."""
        differ = {path: value for path, value in parameters.items() if path in others and others[path] != value}
        unread = {path: why for path, value in differ.items() if (why := self.why_not(path, value))}
        reasons = "; ".join(f"{path} changes nothing there, {why}" for path, why in unread.items())
        return f": {reasons}; give it a `when` that holds where it is read, below what that looks at" if unread else ""


def check_read(
    parameters: Iterable[Parameter], candidates: Iterable[Candidate], goals: Sequence[str], problems: Problems
) -> None:
    """Notes parameters that none of the candidates that have them reads; of one value there is nothing to compare."""
    waiting = {one.path: "" for one in parameters if len(one.extremes()) > 1 and one.path != CASE}
    for candidate in candidates:
        if not waiting:
            return
        reading = Reading.of(candidate, goals)
        for path in waiting.keys() & candidate.parameters.keys():
            why = reading.why_not(path, candidate.parameters[path])
            if why:
                waiting[path] = why
            else:
                del waiting[path]
    for path, why in waiting.items():
        if why:
            problems.add(f"parameters.{path}", f"no trial reads it: {why}")


def check_told_apart(candidates: Iterable[Candidate], goals: Sequence[str], problems: Problems) -> None:
    """Notes candidates whose trials read the same as one before them."""
    different: dict[str, Candidate] = {}
    for candidate in candidates:
        reading = Reading.of(candidate, goals)
        first = different.setdefault(reading.key, candidate)
        if first is not candidate:
            place = f"parameters {json.dumps(candidate.parameters)}"
            why = reading.told(candidate.parameters, first.parameters)
            problems.add(place, f"makes the same trial as {json.dumps(first.parameters)}{why}")


def unread_of(config: TrialConfig, goals: Sequence[str]) -> Unread:
    """What a trial does not read."""
    unread: Unread = {}
    if not config.labels.budgets:
        unread["selector"] = "for there is no round of selection; set labels.budget and labels.rounds"
    if config.labels.start in ("all", 0):
        unread["labels.stratified"] = f"for `start: {config.labels.start}` draws no start pool"
    unread |= _of_joint(config)
    for number, head in enumerate(config.beside):
        unread |= _of_head(head, f"beside.{number}.")
    for section, encoder in config.encoders().items():
        within = f"{section}." if section else ""
        unread |= _of_encoder(encoder, within, views=_shows_views(config) or ALIGNMENT in goals)
        unread |= _of_head(encoder.classifier, f"{within}classifier.")
    return unread


def _of_joint(config: TrialConfig) -> Unread:
    if config.mode != "joint":
        return {"joint": "for it is of mode joint"}
    unread = {}
    if config.joint.unlabeled != "lowest_loss":
        unread["joint.loss_draws"] = "for it is of `joint.unlabeled: lowest_loss`"
    if issubclass(_method(config), SemiSupervisedMethod | TaughtMethod):
        unread["joint.weight"] = f"for {config.ssl_method.name} makes the loss of the classifier"
    return unread


def _of_encoder(config: TrialConfig, within: str, *, views: bool) -> Unread:
    """What its pre-training does not read; `views`: whether something else looks at its augmentation."""
    settings = config.pretrain
    if config.mode == "joint":
        return {f"{within}pretrain": "for mode joint trains as `classifier` says"}
    if trains_encoder(config):
        why = f"for optimizer {settings.optimizer} with schedule {settings.schedule} does not read it"
        return {f"{within}pretrain.{name}": why for name in Optimization.unread(settings)}
    names, cause = {one.name for one in fields(PretrainConfig)}, f"ssl_method {config.ssl_method.name}"
    if _method(config).num_views:  # then the epochs are what keeps it from training
        names, cause = names - {"epochs"}, "`pretrain.epochs: 0`"
    why = f"for {cause} trains no encoder"
    return {f"{within}pretrain.{name}": why for name in names} | ({} if views else {f"{within}augmentation": why})


def _of_head(head: ClassifierConfig, within: str) -> Unread:
    return {f"{within}{name}": f"for {head.name} does not read it" for name in head.unread()}


def _shows_views(config: TrialConfig) -> bool:
    """Whether selection looks at views; of a selector that cannot be built nobody knows."""
    selector = built_selector(config.selector)
    return bool(config.labels.budgets) and (selector is None or bool(selector.reads & SHOWN_VIEWS))


def _method(config: TrialConfig) -> type[SSLMethod]:
    method: type[SSLMethod] = registry.find_plugin("ssl_methods", config.ssl_method.name)
    return method


def _read(tree: Any, unread: Unread, within: str = "") -> Any:
    """A trial's mapping without what lies at these paths."""
    if isinstance(tree, dict):
        kept = {key: item for key, item in tree.items() if f"{within}{key}" not in unread}
        return {key: _read(item, unread, f"{within}{key}.") for key, item in kept.items()}
    if isinstance(tree, list):
        return [_read(item, unread, f"{within}{number}.") for number, item in enumerate(tree)]
    return tree

"""What a trial without a single label may ask for: an encoder and scores of it, and nothing that reads labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from harness.api import SemiSupervisedMethod, SupervisedMethod, TaughtMethod
from harness.config.checks import Tried, check_epochs_are_judged
from harness.config.schema import Problems, as_dict
from harness.config.trial import TrialConfig
from harness.metrics import LABEL_FREE
from harness.plugins import registry

READ_LABELS = ("mode", "joint", "labels", "selector", "selection", "teacher", "classifier", "beside")
"""The keys of a trial that are of no use without labels."""

NEEDS_NONE = ("time/", "throughput/", "memory/")
"""The groups of metrics that are measured whatever is known of the images, beside `LABEL_FREE`."""


def has_labels(config: TrialConfig) -> bool:
    """Whether the trial's data set has labels, by its settings; true also where these are refused."""
    try:
        return _has_labels(Tried.of(config.dataset))
    except Exception:  # a constructor may fail in any way; `try_plugins` says how
        return True


@cache
def _has_labels(plugin: Tried) -> bool:
    return registry.build(plugin.spec).has_labels


def check_without_labels(config: TrialConfig, path: str, problems: Problems) -> None:
    """Refuses by name every key that needs labels, of a trial whose data set has none."""
    without = f"needs labels, and this {config.dataset.name} has none"
    given, defaults = as_dict(config), as_dict(TrialConfig())
    for key in READ_LABELS:
        if given[key] != defaults[key]:
            problems.add(f"{path}.{key}", f"{without}; leave it out")
    for key in ("imbalance", "val", "test"):
        if given["data"][key] not in (defaults["data"][key], 0):  # 0 asks for what comes anyway
            problems.add(f"{path}.data.{key}", f"{without}; leave it out, every image is pre-trained on")
    if config.pretrain.knn_of_pool:
        problems.add(f"{path}.pretrain.knn_of_pool", f"{without}; leave it out")
    method = config.ssl_method.name
    if issubclass(registry.find_plugin("ssl_methods", method), SupervisedMethod | SemiSupervisedMethod | TaughtMethod):
        problems.add(f"{path}.ssl_method", f"{method} {without}; use one that learns without, such as simclr")


def check_measured_without_labels(
    config: TrialConfig, goals: Sequence[str], stops_early: bool, path: str, problems: Problems
) -> None:
    """Whether a trial without labels measures what a search improves."""
    without = f"needs labels, and this {config.dataset.name} has none"
    if stops_early:
        check_epochs_are_judged(config, "pretrain/rankme", path, problems)
        if goals[0] not in LABEL_FREE:
            problems.add(path, f"early_terminate: {goals[0]} is not measured in every epoch; let the first metric be "
                         f"one of {', '.join(LABEL_FREE)}")  # fmt: skip
    for name in goals:
        if name not in LABEL_FREE and not name.startswith(NEEDS_NONE):
            problems.add(path, f"metric {name} {without}; use pretrain/rankme, or another of {', '.join(LABEL_FREE)}")

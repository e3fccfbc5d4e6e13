"""What a search improves, by which sampler, and which trainings it stops early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.config.schema import Problems, setting
from harness.config.trial import TrialConfig
from harness.messages import closest
from harness.metrics import LABEL_FREE, METRICS, PER_ROUND, is_of_class, step_kind

MOST_OF_GP = 250
"""Configurations up to which `auto` takes a Gaussian process, whose time grows with their third power."""

OF_ONE_SCALE = ("dataset", "data", "mode")
"""What an epoch is measured on: what trials that differ in one of these reach cannot be compared."""

OF_CACHE = ("time/wall_seconds", "time/saved_seconds", "stage/pretrain_cached", "stage/selection_encoder_cached")
"""What is measured of a trial when it ends and depends on who ran before it."""

SamplerName = Literal["tpe", "gp", "cmaes", "nsga2", "auto"]


@dataclass(frozen=True)
class Objective:
    """What the search improves."""

    name: str = setting("val/accuracy", "a metric measured without the test set")
    goal: Literal["maximize", "minimize"] | None = setting(None, "the metric's own direction if left out")

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """As given, else the metric's own."""
        return self.goal or METRICS[self.name].goal or "maximize"


@dataclass(frozen=True)
class EarlyTerminate:
    """Stops poor trainings early, by what an epoch measures.

    That is the first metric, where it is a score without labels; else of pre-training its k-NN validation accuracy, and
    of joint training the classifier's.
    """

    type: Literal["none", "asha", "median"] = setting(
        "none", "asha: successive halving; median: stops what is below the median of the others at the same epoch"
    )
    min_iter: int = setting(1, "epochs before a trial may be stopped", low=1)
    eta: float = setting(3.0, "asha keeps 1 / eta of the trials at each rung", above=1)


def check_objectives(objectives: Sequence[Objective], problems: Problems) -> None:
    """Whether a search can improve these metrics."""
    names = [objective.name for objective in objectives]
    directionless = [objective.name for objective in objectives if objective.goal is None]
    if not names or len(set(names)) != len(names):
        problems.add("metric", f"{names} must be one or more different metrics")
    for name in names:
        if name.startswith("test/"):
            problems.add("metric.name", f"{name}: the test set is read after the search, never by it; "
                         f"did you mean {name.replace('test/', 'val/')!r}?")  # fmt: skip
        elif name not in METRICS:
            problems.add("metric.name", f"no metric {name!r}; {closest(name, METRICS)}")
        elif name == "time/portrait_seconds":
            problems.add("metric.name", f"{name} is measured in some trials only; use time/total_seconds")
        elif name == "labels/looked_at":
            problems.add("metric.name", f"{name} is measured of upper bounds only; use labels/used")
        elif is_of_class(name):
            problems.add("metric.name", f"{name} is measured class by class; use val/balanced_accuracy")
        elif step_kind(name) == "epoch" and name not in LABEL_FREE:
            problems.add("metric.name", f"{name} is measured in every epoch, not once per trial; use val/accuracy")
        elif name in PER_ROUND:
            problems.add(
                "metric.name", f"{name} is measured in every round, not once per trial; use time/total_seconds"
            )
        elif name in OF_CACHE:
            problems.add("metric.name", f"{name} says what others had left in the cache; use time/total_seconds")
        elif METRICS[name].goal is None and name in directionless:
            problems.add("metric.goal", f"{name} is better neither high nor low; say which is asked for")


def check_one_scale(trials: Sequence[TrialConfig], problems: Problems) -> None:
    """Whether early stopping compares like with like in these trials of a search."""
    shown = [replace(one, data=replace(one.data, normalize=trials[0].data.normalize)) for one in trials]
    varied = [key for key in OF_ONE_SCALE if any(getattr(one, key) != getattr(shown[0], key) for one in shown)]
    if varied:
        problems.add(
            "early_terminate",
            f"compares epochs on one scale, and {' and '.join(varied)} var{'y' if varied[1:] else 'ies'}; make a sweep "
            "of each, or use type: none",
        )

"""What Tune and Optuna are told of a trial: a value for each objective, and what early stopping watches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.metrics import WATCHED


def watched_accuracy(metrics: Mapping[str, float]) -> float | None:
    """The validation accuracy after an epoch."""
    return next((metrics[name] for name in WATCHED if name in metrics), None)


def judged_by(goal: str | None, metrics: Mapping[str, float]) -> float | None:
    """What early stopping is told of an epoch: the goal, or else the validation accuracy; None where there is none."""
    value = watched_accuracy(metrics) if goal is None else metrics.get(goal)
    return value if value is not None and math.isfinite(value) else None


def values_so_far(names: Sequence[str], metrics: Mapping[str, float]) -> list[float]:
    """What an early-stopped trial counts for in the search: what was seen of it."""
    watched = watched_accuracy(metrics) or 0.0
    return [metrics.get(name, watched if name.startswith("val/") else 0.0) for name in names]


def keys(number: int) -> list[str]:
    """The names under which values are reported to Tune."""
    return [f"objective_{place}" for place in range(number)]


def as_reported(values: Sequence[float]) -> dict[str, float]:
    """The values of all objectives, as a report to Tune holds them."""
    return dict(zip(keys(len(values)), values, strict=True))

"""The points of a trial's curves, of its records.

A metric uses one axis only, epochs or labels (`metrics.step_kind`); the rare value reported on the other one gets a
name of its own. Timestamps come from the records.
"""

from __future__ import annotations

import math

from harness.metrics import step_kind
from harness.records.rows import History
from harness.tracking.server import valid_name

Point = tuple[str, float, int, int]
"""A metric's name, value, time in unix milliseconds, and step."""


def points_of(history: History) -> tuple[list[Point], list[str]]:
    """A trial's points in order, and a description of every value that is not a finite number.

    A value that an earlier record already gave for the same step is left out.
    """
    points: list[Point] = []
    dropped: list[str] = []
    latest: dict[tuple[str, int], float] = {}
    for record in history.values():
        step = int(record["step"])
        for metric, value in record["metrics"].items():
            name = valid_name(metric)
            if step_kind(metric) != record["step_kind"]:
                name += f"/by_{record['step_kind']}"
            if value is None or not math.isfinite(value):
                dropped.append(f"{metric} at {record['step_kind']} {step} is {value}")
            elif latest.get((name, step)) != value:
                latest[name, step] = float(value)
                points.append((name, float(value), int(record["time"]), step))
    return points, dropped

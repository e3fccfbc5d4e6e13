"""A sweep's figures in words: what stands in a cell of a table, in the terminal, in `summary.md` and on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.metrics import known
from harness.records import names
from harness.report.compare import Comparison, Estimate
from harness.report.model import Entry, Report


def number(metric: str, value: float, sign: str = "") -> str:
    """Fractions with four decimals, counts whole, the rest with three significant digits."""
    about = known(metric)
    unit = about.unit if about else ""
    form = {"fraction": ".4f", "images": ".0f"}.get(unit, ".3g" if abs(value) < 1000 else ".0f")
    return format(value, sign + form)


def scale(metric: str) -> tuple[float, str]:
    """What a picture multiplies the metric by, and the unit that it then has: fractions are shown in per cent."""
    about = known(metric)
    if about and about.unit == "fraction":
        return 100.0, "%"
    return 1.0, {"seconds": "s"}.get(about.unit, about.unit) if about else ""


def mean(metric: str, value: Estimate | None) -> str:
    """A mean and the half-width of its interval."""
    if value is None:
        return "–"
    half = "" if value.half is None else f" ± {number(metric, value.half)}"
    return number(metric, value.mean) + half


def difference(metric: str, comparison: Comparison | None) -> str:
    """A difference and its interval."""
    if comparison is None:
        return "–"
    mean, half = comparison.difference.mean, comparison.difference.half
    if half is None:
        return number(metric, mean, "+")
    return f"{number(metric, mean, '+')} [{number(metric, mean - half, '+')}, {number(metric, mean + half, '+')}]"


def seeds(entry: Entry) -> str:
    """What stands behind a mean."""
    return "n = 1 seed, so no interval" if len(entry.seeds) == 1 else f"95 %, n = {len(entry.seeds)} seeds"


def seconds(entry: Entry, stage: str) -> str:
    """Mean seconds, with a star where a trial took the stage (of the total: any stage) from the cache."""
    name = f"time/{stage}_seconds"
    value = entry.mean(name)
    cached = bool(entry.cached) if stage == "total" else stage in entry.cached
    return "–" if value is None else number(name, value) + ("*" if cached else "")


def duration(seconds: float) -> str:
    """`95 s`, or `2,116 s (35 min)`, or `9,000 s (2 h 30 min)`."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:,.0f} s"
    longer = f"{minutes // 60:,} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
    return f"{seconds:,.0f} s ({longer})"


def labels(entry: Entry) -> str:
    """Labels of training images and, beside them, of validation images."""
    used, val = entry.mean("labels/used"), entry.mean("labels/val")
    return ("–" if used is None else f"{used:.0f}") + ("" if val is None else f" (+ {val:.0f})")


def shown_metrics(report: Report, entries: Sequence[Entry]) -> list[str]:
    """The measure, its twin on validation data, test and val accuracy, and the other goals; only those that exist."""
    goals = [str(goal["name"]) for goal in report.space["metric"]]
    wanted = dict.fromkeys([report.measure, *goals, "test/accuracy", "val/accuracy"])
    return [metric for metric in wanted if any(entry.values.get(metric) for entry in entries)]


def data_set(data: Mapping[str, Any]) -> str:
    """One of `environment.json`'s data sets, whose classes are names or their number."""
    classes = data["classes"] if isinstance(data["classes"], int) else len(data["classes"])
    counts = f"{data['train']} train, {data['val']} val, {data['test']} test images, {classes} classes"
    return f"{data['name']} ({counts}), fingerprint `{data['fingerprint'][:12]}`"


def domain(spec: Any) -> str:
    """A parameter's domain as in the YAML, on one line."""
    if not isinstance(spec, Mapping):
        return names.show(spec)
    if "values" in spec:
        return "one of " + ", ".join(map(names.show, spec["values"]))
    return ", ".join(f"{key} {names.show(value)}" for key, value in spec.items())

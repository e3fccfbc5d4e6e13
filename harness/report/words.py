"""A sweep's figures in words: numbers with their digits, durations, data sets, domains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.metrics import known
from harness.records import names
from harness.report.compare import Estimate
from harness.report.model import Entry


def show_number(metric: str, value: float, sign: str = "") -> str:
    """Fractions with four decimals, counts whole, the rest with three significant digits."""
    declared = known(metric)
    unit = declared.unit if declared else ""
    form = {"fraction": ".4f", "images": ".0f"}.get(unit, ".3g" if abs(value) < 1000 else ".0f")
    return format(value, sign + form)


def scale(metric: str) -> tuple[float, str]:
    """What a picture multiplies the metric by, and the unit that it then has: fractions are shown in per cent."""
    declared = known(metric)
    unit = declared.unit if declared else ""
    return (100.0, "%") if unit == "fraction" else (1.0, {"seconds": "s"}.get(unit, unit))


def axis(metric: str) -> str:
    """What stands beside an axis: `test/accuracy (%)`."""
    unit = scale(metric)[1]
    return f"{metric} ({unit})" if unit else metric


def seeds(entry: Entry) -> str:
    """What stands behind a mean."""
    return "n = 1 seed, so no interval" if len(entry.seeds) == 1 else f"95 %, n = {len(entry.seeds)} seeds"


def points(value: Estimate, sign: str = "") -> str:
    """A fraction in percentage points, with the half-width of its interval: `+1.23 ± 0.45`."""
    half = "" if value.half is None else f" ± {100 * value.half:.2f}"
    return f"{100 * value.mean:{sign}.2f}{half}"


def p_value(p: float, *, equal: bool = False) -> str:
    """`.012`, `<.001` or `1`; with `equal`, `= .012` or `< .001`, for a sentence."""
    if p < 0.001:
        return "< .001" if equal else "<.001"
    return ("= " if equal else "") + ("1" if p > 0.9995 else f"{p:.3f}".removeprefix("0"))


def duration(seconds: float) -> str:
    """`95 s`, or `2,116 s (35 min)`, or `9,000 s (2 h 30 min)`."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:,.0f} s"
    longer = f"{minutes // 60:,} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
    return f"{seconds:,.0f} s ({longer})"


def data_set(data: Mapping[str, Any]) -> str:
    """One of `environment.json`'s data sets, whose classes are names or their number."""
    classes = data["classes"] if isinstance(data["classes"], int) else len(data["classes"])
    counts = f"{data['train']} train, {data['val']} val, {data['test']} test images, {classes} classes"
    return f"{data['name']} ({counts}), fingerprint `{data['fingerprint'][:12]}`"


def domain(spec: Any) -> str:
    """A parameter's domain as in the YAML, on one line."""
    if not isinstance(spec, Mapping):
        return names.show_value(spec)
    if "values" in spec:
        return "one of " + ", ".join(map(names.show_value, spec["values"]))
    return ", ".join(f"{key} {names.show_value(value)}" for key, value in spec.items())

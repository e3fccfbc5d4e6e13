"""A sweep's figures in words: numbers with their digits, data sets, domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness import messages
from harness.metrics import known
from harness.records import names
from harness.report.compare import NO_EVIDENCE, Estimate, Judgement
from harness.report.entry import Entry
from harness.report.inference import ALPHA_OF_FEW, FEW
from harness.report.model import AREA_UNDER, Report
from harness.report.sequential import Looks

WHOLE_FROM = 999.5
"""From here on a number is shown without a fraction: with three significant digits it would have an exponent."""


def three_digits(value: float) -> str:
    """Of `format`: three significant digits, or all of a larger number."""
    return ".3g" if abs(value) < WHOLE_FROM else ".0f"


def show_number(metric: str, value: float, sign: str = "") -> str:
    """Fractions with four decimals, counts whole, the rest with three significant digits."""
    declared = known(metric.removeprefix(AREA_UNDER))
    unit = declared.unit if declared else ""
    if unit == "seconds" and 0 < abs(value) < WHOLE_FROM:
        return format(value, f"{sign}#.3g").rstrip(".")  # 93.0 beside 90.8
    form = {"fraction": ".4f", "images": ".0f"}.get(unit, three_digits(value))
    return format(value, sign + form)


def scale(metric: str) -> tuple[float, str]:
    """What a picture multiplies the metric by, and the unit that it then has: fractions are shown in per cent."""
    declared = known(metric.removeprefix(AREA_UNDER))
    unit = declared.unit if declared else ""
    return (100.0, "%") if unit == "fraction" else (1.0, {"seconds": "s"}.get(unit, unit))


def axis(metric: str) -> str:
    """What stands beside an axis: `test/accuracy (%)`."""
    unit = scale(metric)[1]
    return f"{metric} ({unit})" if unit else metric


def on_ground(title: str, ground: str) -> str:
    """A title with the ground that it speaks of, where there are several."""
    return f"{title} ({ground})" if ground else title


def seeds(entry: Entry) -> str:
    """What stands behind a mean."""
    count = "n = 1 seed, so no interval" if len(entry.seeds) == 1 else f"95 %, n = {len(entry.seeds)} seeds"
    return ", ".join(filter(None, [count, lacking_of(entry)]))


def lacking_of(entry: Entry) -> str:
    """`1 of 3 failed`; empty where no seed is missing."""
    return lacking(list(entry.lacking.values()), len(entry.seeds) + len(entry.lacking))


def lacking(statuses: Sequence[str], seeds: int) -> str:
    """`1 of 3 failed`, or unfinished; what is not there for several reasons is missing. Empty where nothing is."""
    if not statuses:
        return ""
    why = set(statuses)
    word = "failed" if why == {"failed"} else "unfinished" if why == {"running"} else "missing"
    return f"{len(statuses)} of {seeds} {word}"


INCOMPLETE = (
    "Configurations that lack a seed stand below the others, and are not called better: what fails is seldom a matter "
    "of chance."
)


def covered(report: Report) -> str:
    """What an interval covers."""
    if report.has_fresh_tests:
        return "Intervals cover other seeds and, since each seed draws its own, other splits of these images."
    images = "and other test images of the same kind"
    if not report.has_hits:
        images = "on these very images, for the images' part in this metric is not known"
    if report.has_fresh_splits:
        return f"Intervals cover other seeds with other splits of the training images {images}."
    split = "the split is one and the same, and another would give other figures, differences less so."
    return f"Intervals cover other seeds {images}; {split}"


def procedure(judgements: Sequence[Judgement], reference: str) -> list[str]:
    """How differences to the reference were judged, a sentence each."""
    by_images = sum(one.by_images for one in judgements)
    known = {0: "by seeds alone", len(judgements): "by seeds and images"}
    judged = known.get(by_images, "by seeds and, where these were kept, images")
    tests = sum(one.p_holm is not None for one in judgements)
    if not tests:
        return [f"Difference to {reference}: seed by seed; of one seed in common there is no interval and no test."]
    notes = [
        f"Difference to {reference}: mean of the differences seed by seed, judged {judged}, with its 95 % interval; "
        f"where that holds 0, there is {NO_EVIDENCE}.",
        f"p: Student's t, adjusted by Holm's method for {messages.count(tests, 'comparison')}; the error is the "
        "largest that this pair's seeds, all configurations together, or the test images give. Sign-flip p: exact, of "
        "the seeds alone; n seeds reach no less than 2^(1 - n).",
    ]
    if any(one.smallest is not None for one in judgements):
        notes.append("Smallest: the true difference that would be called better or worse with 80 % power.")
    if any(one.kind == "indication" or one.difference.n == FEW for one in judgements):
        notes.append(
            f"Indication: two seeds, at p of {ALPHA_OF_FEW:g} at most, or what is left of seeds that failed, "
            "can say no more."
        )
    return notes


def looked_at(looks: Looks, taken: int) -> str:
    """How verdicts allow for having been asked for while seeds were added."""
    return (
        f"Seeds were added {looks.block} at a time, {len(looks.seeds)} at most, until a comparison was resolved; "
        f"looked at {messages.count(taken, 'time')}. p is sequential, intervals are repeated ones, both by alpha "
        "spending (Lan & DeMets 1983, Pocock's type), so that all looks together claim no more than one would; what a "
        "look found counts as long as the last look finds it, too. Rows stand by their differences to the reference. "
        "Smallest: at the last look, or more."
    )


def points(value: Estimate, sign: str = "") -> str:
    """A fraction in percentage points, with its interval: `+1.23 ± 0.45`, or its ends where 0 or 100 cuts it."""
    half = "" if value.half is None else f" ± {100 * value.half:.2f}"
    if not value.is_symmetric:
        half = f" [{100 * value.low:.2f}, {100 * value.high:.2f}]"
    return f"{100 * value.mean:{sign}.2f}{half}"


def p_value(p: float, *, equal: bool = False) -> str:
    """`.012`, `<.001` or `1`; with `equal`, `= .012` or `< .001`, for a sentence."""
    if p < 0.001:
        return "< .001" if equal else "<.001"
    return ("= " if equal else "") + ("1" if p > 0.9995 else f"{p:.3f}".removeprefix("0"))


def counted(name: str, data: Mapping[str, Any]) -> str:
    """A data set's name with its images, its classes (names or their number) and what became of the images."""
    treated = "".join(f", {number:,} {kind.replace('_', ' ')}" for kind, number in data.get("tally", {}).items())
    classes = data["classes"] if isinstance(data["classes"], int) else len(data["classes"])
    if not classes:
        return f"{name} ({data['train']:,} images, no labels{treated})"
    counts = f"{data['train']:,} train, {data['val']:,} val, {data['test']:,} test images"
    counts += ", test carved from train" if "test" in data.get("carved", ()) else ""
    return f"{name} ({counts}, {classes} classes{treated})"


def data_set(data: Mapping[str, Any]) -> str:
    """All that is to be said of one of `environment.json`'s data sets."""
    return f"{counted(names.called(data), data)}, fingerprint `{data['fingerprint'][:12]}`"


def domain(spec: Any) -> str:
    """A parameter's domain as in the YAML, on one line."""
    if not isinstance(spec, Mapping):
        return names.show_value(spec)
    if "values" in spec:
        return "one of " + ", ".join(map(names.show_value, spec["values"]))
    return ", ".join(f"{key} {names.show_value(value)}" for key, value in spec.items())

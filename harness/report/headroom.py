"""How much of what a selection could have gained each case gained: against an upper bound that is no method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from scipy import stats

from harness.config.headroom import NAME
from harness.report.curves import Attainable, areas
from harness.report.entry import Entry
from harness.report.inference import ALPHA


@dataclass(frozen=True)
class Share:
    """A share of the headroom, with its 95 % interval over seeds.

    Attributes:
        mean: what a case gains over the reference, divided by what the bound does; of means over seeds.
        low: the interval's lower end, and
        high: its upper end; None where the bound's own gain cannot be told from nothing.
    """

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        text = f"{100 * self.mean:.0f} %"
        return (
            text if self.low is None or self.high is None else f"{text} [{100 * self.low:.0f}, {100 * self.high:.0f}]"
        )


def attainable(
    entries: Sequence[Entry], bounds: Sequence[Entry], measures: Sequence[str], steps: Sequence[int]
) -> Attainable | None:
    """The one upper bound of these configurations, which have all of its parameters; None without one.

    Args:
        entries: configurations of one setting.
        bounds: of the report.
        measures: that have a curve.
        steps: the numbers of labels that all cases share.
    """
    fitting = [
        bound
        for bound in bounds
        if all(_shared(bound).items() <= entry.parameters.items() for entry in entries)
        and all(step in bound.curves.get(measures[0], {}) for step in steps)
    ]
    if len(fitting) != 1:
        return None
    (bound,) = fitting
    curves = {measure: {step: bound.curves.get(measure, {}).get(step, {}) for step in steps} for measure in measures}
    by_area = {
        m: areas({step: {"": column} for step, column in curve.items()}).get("", {}) for m, curve in curves.items()
    }
    looked_at = bound.values.get("labels/looked_at", {})
    return Attainable(curves, by_area, fmean(looked_at.values()) if looked_at else 0.0)


def _shared(bound: Entry) -> dict[str, Any]:
    """The parameters of all that it bounds."""
    return {name: value for name, value in bound.parameters.items() if name != NAME}


def share_of_headroom(
    case: Mapping[int, float], reference: Mapping[int, float], bound: Mapping[int, float]
) -> Share | None:
    """The share of the bound's gain that a case has, with the interval of Fieller (1954) for a ratio of paired means.

    Args:
        case: seed -> value.
        reference: of what the gain is measured from.
        bound: of the upper bound.

    Returns:
        None without a seed in common, or where the bound gains nothing.
    """
    seeds = sorted(set(case) & set(reference) & set(bound))
    if not seeds:
        return None
    gain = np.array([case[seed] - reference[seed] for seed in seeds])
    most = np.array([bound[seed] - reference[seed] for seed in seeds])
    if most.mean() <= 0:
        return None
    ratio, n = gain.mean() / most.mean(), len(seeds)
    if n < 2:
        return Share(float(ratio), None, None)
    (xx, xy), (_, yy) = np.cov(gain, most)
    t = stats.t.ppf(1 - ALPHA / 2, n - 1)
    g = t * t * yy / (n * most.mean() ** 2)
    if g >= 1:
        return Share(float(ratio), None, None)
    spread = xx - 2 * ratio * xy + ratio**2 * yy - g * (xx - xy**2 / yy if yy else xx)
    middle = ratio - g * xy / yy if yy else ratio
    half = t / most.mean() * math.sqrt(max(0.0, spread) / n)
    return Share(float(ratio), float((middle - half) / (1 - g)), float((middle + half) / (1 - g)))

"""The statistics of a comparison: means over seeds, paired differences, and what n seeds can tell.

All of it is Student's t over seeds. Methods are compared on the same seeds (same start pools, same initial
weights), so differences are taken seed by seed: what a lucky seed gives to both cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev
from typing import Any, TypeVar

from scipy import stats

ALPHA = 0.05
POWER = 0.80
NO_EVIDENCE = "no evidence of a difference"
NO_SEED = "no seed in common with the reference"
Key = TypeVar("Key", bound=Hashable)
Cases = Mapping[str, Mapping[Any, float]]
"""Case -> seed -> value."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % confidence interval, mean - half .. mean + half.

    Attributes:
        mean: over the seeds.
        half: t(0.975, n - 1) s / sqrt(n), or None for one seed, which gives no interval.
        n: how many seeds.
    """

    mean: float
    half: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0; False without an interval."""
        return self.half is not None and abs(self.mean) > self.half


@dataclass(frozen=True)
class Comparison:
    """A configuration against the reference, over the seeds both have.

    Attributes:
        difference: mean of configuration - reference, with its interval.
        p: two-sided p of the paired t test; None with fewer than two seeds in common.
        smallest: the smallest true difference that so many seeds would find, see `smallest_difference`.
    """

    difference: Estimate
    p: float | None
    smallest: float | None


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of at least one value and its t interval."""
    n = len(values)
    if n == 1:
        return Estimate(float(values[0]), None, 1)
    half = stats.t.ppf(1 - ALPHA / 2, n - 1) * stdev(values) / math.sqrt(n)
    return Estimate(fmean(values), float(half), n)


def difference(values: Mapping[Key, float], reference: Mapping[Key, float]) -> Estimate | None:
    """The mean of the differences seed by seed, and its interval.

    Args:
        values: seed -> value.
        reference: seed -> value of the reference.

    Returns:
        The estimate over the common seeds, or None where there are none.
    """
    differences = [values[seed] - reference[seed] for seed in values if seed in reference]
    return estimate(differences) if differences else None


def paired(values: Mapping[Key, float], reference: Mapping[Key, float]) -> Comparison | None:
    """Compares two configurations seed by seed: `difference`, with the paired t test's p."""
    mean = difference(values, reference)
    if mean is None or mean.n == 1:
        return Comparison(mean, None, None) if mean else None
    spread = stdev(values[seed] - reference[seed] for seed in values if seed in reference)
    if spread == 0:  # t would be 0 / 0 or infinite
        return Comparison(mean, float(mean.mean == 0), 0.0)
    t = mean.mean / (spread / math.sqrt(mean.n))  # scipy's ttest_rel would warn of differences that are all but equal
    return Comparison(mean, float(2 * stats.t.sf(abs(t), mean.n - 1)), smallest_difference(spread, mean.n))


def smallest_difference(spread: float, n: int) -> float:
    """The true difference that a two-sided paired t test on n seeds finds with a power of 80 % at alpha = 0.05.

    The d at which the noncentral t distribution with n - 1 degrees of freedom and noncentrality d sqrt(n) / s leaves
    20 % below t(0.975, n - 1). (The other tail, a significant difference of the wrong sign, is negligible there.)

    Args:
        spread: s, the standard deviation of the paired differences.
        n: at least 2.
    """
    return _noncentrality(n) * spread / math.sqrt(n)


@cache
def _noncentrality(n: int) -> float:
    from scipy.optimize import brentq

    critical = stats.t.ppf(1 - ALPHA / 2, n - 1)
    return float(brentq(lambda x: stats.nct.sf(critical, n - 1, x) - POWER, 1e-6, 3 * critical + 5))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjustment: each at most ALPHA keeps the chance of any false claim at ALPHA."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True)
class Judgement:
    """A comparison with the reference as one of a family of comparisons.

    Attributes:
        comparison: over the seeds that both have.
        p_holm: its p, adjusted for every test of the family; None with fewer than two seeds in common.
        verdict: "better", "worse", or why neither can be said.
    """

    comparison: Comparison
    p_holm: float | None
    verdict: str


def judged(comparisons: Mapping[Key, Comparison | None], *, maximize: bool = True) -> dict[Key, Judgement]:
    """Judges a family of comparisons: Holm's correction runs over all of them together.

    Args:
        comparisons: None where there is no seed in common; these are left out.
        maximize: whether more is better.
    """
    known = {key: comparison for key, comparison in comparisons.items() if comparison}
    tests = {key: comparison.p for key, comparison in known.items() if comparison.p is not None}
    adjusted = dict(zip(tests, holm(list(tests.values())), strict=True))
    return {
        key: Judgement(comparison, adjusted.get(key), _verdict(comparison, adjusted.get(key), maximize))
        for key, comparison in known.items()
    }


def _verdict(comparison: Comparison, p_holm: float | None, maximize: bool) -> str:
    """What a comparison with the reference allows to say."""
    if p_holm is None:
        return "one seed in common: no interval"
    if not comparison.difference.excludes_zero:
        return NO_EVIDENCE
    if p_holm > ALPHA:
        return f"{NO_EVIDENCE} after Holm's correction"
    return "better" if (comparison.difference.mean > 0) == maximize else "worse"


def against(columns: Mapping[Key, Cases], reference: str, *, maximize: bool = True) -> dict[Key, dict[str, Judgement]]:
    """Compares every case with the reference in every column; Holm's correction runs over all of them together.

    Returns:
        Column's key -> case -> judgement, without the reference and without cases that share no seed with it.
    """
    comparisons = {
        (key, case): paired(values, column.get(reference, {}))
        for key, column in columns.items()
        for case, values in column.items()
        if case != reference
    }
    judgements: dict[Key, dict[str, Judgement]] = {key: {} for key in columns}
    for (key, case), judgement in judged(comparisons, maximize=maximize).items():
        judgements[key][case] = judgement
    return judgements

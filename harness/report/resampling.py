"""Intervals by the bootstrap, for what has no formula: seeds are drawn anew within each data set.

Stratified, with percentiles, as Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264) advise for few runs on several
tasks. Of n runs plain percentiles are too narrow: the draws vary by (n - 1) / n of the variance, and the normal takes
the place of t. So they are further out by both (Hesterberg 2014, https://arxiv.org/abs/1411.5279, "expanded percentile
interval"), for the smallest n of all data sets. Of a mean of 5, 8 and 10 normal values such an interval covers .92, .94
and .95; below eight runs of each data set there is none. It describes, and no verdict rests on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from harness.report.inference import ALPHA

RESAMPLES = 2_000
FEWEST_RUNS = 8
"""Runs of each data set below which there is no interval: more data sets do not widen what few runs make narrow."""


@dataclass(frozen=True)
class Between:
    """A value with the ends of its interval; both are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


def bootstrap(strata: Sequence[np.ndarray], statistic: Callable[[Sequence[np.ndarray]], np.ndarray]) -> list[Between]:
    """A statistic of runs on several data sets, with an interval that resamples the runs of each.

    Args:
        strata: f64 [n, ...] of each data set, n runs.
        statistic: takes f64 [..., n, ...], the draws first, and gives f64 [draws, K].

    Returns:
        K values; without an interval where a data set has fewer than `FEWEST_RUNS` runs.
    """
    rng = np.random.default_rng(0)
    (values,) = statistic([runs[None] for runs in strata])
    fewest = min(map(len, strata))
    if fewest < FEWEST_RUNS:
        return [Between(float(value)) for value in values]
    drawn = statistic([runs[rng.integers(0, len(runs), (RESAMPLES, len(runs)))] for runs in strata])
    further = math.sqrt(fewest / (fewest - 1)) * stats.t.ppf(1 - ALPHA / 2, fewest - 1)
    ends = 100 * special.ndtr([-further, further])
    low, high = np.percentile(drawn, ends, axis=0, method="nearest")  # values of draws: some may be infinite
    return [Between(*map(float, one)) for one in zip(values, low, high, strict=True)]

"""Intervals by the bootstrap, for what has no formula: seeds are drawn anew within each data set.

Stratified, with percentiles, as Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264) advise for few runs on several
tasks. Of few seeds such an interval is too narrow: three have ten different draws, and of a mean of ten normal values
it covers .90. So below that there is none; it describes, and no verdict rests on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2_000
LEVEL = (2.5, 97.5)
"""Of the interval, in per cent."""

FEWEST = 10
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
        K values; without an interval where a data set has fewer than `FEWEST` runs.
    """
    rng = np.random.default_rng(0)
    (values,) = statistic([runs[None] for runs in strata])
    if min(map(len, strata)) < FEWEST:
        return [Between(float(value)) for value in values]
    drawn = statistic([runs[rng.integers(0, len(runs), (RESAMPLES, len(runs)))] for runs in strata])
    low, high = np.percentile(drawn, LEVEL, axis=0, method="nearest")  # values of draws: some may be infinite
    return [Between(*map(float, one)) for one in zip(values, low, high, strict=True)]

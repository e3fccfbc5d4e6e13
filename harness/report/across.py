"""A question asked on several grounds (data sets, encoders, budgets): what it comes to over all of them.

As Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264, the library rliable) describe it: the interquartile mean over
all runs, performance profiles, and intervals that resample the runs of each ground. They normalise a run's score by its
task's own scale; here it is the difference to the reference under the same seed on the same ground, in the unit of the
metric, for accuracies of two data sets have no common scale, and what a seed gives to both cancels out. A method that
lacks a run is described by none of it: it may lack the hardest one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from harness.report.aggregates import Across, Aggregate
from harness.report.model import Entry, Report
from harness.report.resampling import Between, bootstrap

MIDDLE = 0.25
"""The share of runs that the interquartile mean leaves out at either end."""

THRESHOLDS = 101
"""Of a profile."""


def compare_across(report: Report) -> Across | None:
    """Aggregates the confirmed configurations over their grounds; None where there is one ground only."""
    if len(report.blocks) < 2 or report.reference is None or report.mixed:
        return None
    reference, sign = report.reference.method, 1.0 if report.maximize else -1.0
    by_method: dict[str, dict[str, Entry]] = {}
    for entry in report.confirmed:
        by_method.setdefault(entry.method, {})[entry.block] = entry
    grounds = by_method[reference]
    leads = {
        method: [_lead(report, entries[block], grounds[block], sign) for block in grounds if block in entries]
        for method, entries in by_method.items()
        if method != reference
    }
    every = np.concatenate([np.zeros(1), *(one for strata in leads.values() for one in strata)])
    thresholds = np.linspace(every.min(), every.max(), THRESHOLDS)
    ranks = mean_ranks({block: _runs(report, entries, sign) for block, entries in report.blocks.items()})
    whole = {
        method: strata
        for method, strata in leads.items()
        if len(strata) == len(grounds)
        and all(map(len, strata))
        and not any(e.lacking for e in by_method[method].values())
    }
    methods = [
        Aggregate(
            method,
            ranks.get(method),
            interquartile_mean(whole[method]) if method in whole else None,
            *_verdicts(list(entries.values())),
            sum(map(len, leads.get(method, []))),
            profile(whole[method], thresholds) if method in whole else (),
        )
        for method, entries in by_method.items()
    ]
    methods.sort(key=lambda one: (one.rank is None, one.rank.value if one.rank else 0.0, one.method))
    return Across(list(report.blocks), report.uncompared, reference, methods, thresholds)


def _lead(report: Report, entry: Entry, reference: Entry, sign: float) -> np.ndarray:
    """f64 [n]: the differences under the seeds that both have."""
    mine, other = entry.values.get(report.measure, {}), reference.values.get(report.measure, {})
    return np.array([sign * (mine[seed] - other[seed]) for seed in mine if seed in other])


def _runs(report: Report, entries: Sequence[Entry], sign: float) -> dict[str, dict[int, float]]:
    """Method -> seed -> value, better upwards; of seeds that all have, where these are added until resolved."""
    values = {entry.method: entry.values.get(report.measure, {}) for entry in entries}
    common = set.intersection(*map(set, values.values())) if report.looks else None
    return {
        method: {seed: sign * value for seed, value in by_seed.items() if common is None or seed in common}
        for method, by_seed in values.items()
    }


def _verdicts(entries: Sequence[Entry]) -> tuple[int, int, int]:
    kinds = [entry.kind for entry in entries if entry.kind]
    wins, losses = kinds.count("better"), kinds.count("worse")
    return wins, len(kinds) - wins - losses, losses


def interquartile_mean(strata: Sequence[np.ndarray]) -> Between:
    """The mean of the middle half of all runs; more robust than the mean, and than the median less wasteful.

    Args:
        strata: f64 [n] of each ground.
    """

    def statistic(drawn: Sequence[np.ndarray]) -> np.ndarray:
        return stats.trim_mean(np.concatenate(drawn, axis=1), MIDDLE, axis=1)[:, None]

    return bootstrap(strata, statistic)[0]


def profile(strata: Sequence[np.ndarray], thresholds: np.ndarray) -> list[Between]:
    """The share of runs at or above each threshold, every ground weighing the same.

    Args:
        strata: f64 [n] of each ground.
        thresholds: f64 [K].
    """

    def statistic(drawn: Sequence[np.ndarray]) -> np.ndarray:
        shares = [np.stack([(runs >= one).mean(1) for one in thresholds], axis=1) for runs in drawn]
        return np.mean(shares, axis=0)

    return bootstrap(strata, statistic)


def mean_ranks(values: Mapping[str, Mapping[str, Mapping[int, float]]]) -> dict[str, Between]:
    """The mean rank of each method that lacks no run, 1 is best; equal values share the mean of their ranks.

    There is none where a ground has no run at all.

    Args:
        values: ground -> method -> seed -> value, more is better.
    """
    methods = list(dict.fromkeys(method for of_ground in values.values() for method in of_ground))
    seeds = {ground: sorted({s for by_seed in of.values() for s in by_seed}) for ground, of in values.items()}
    complete = [
        method
        for method in methods
        if all(len(values[ground].get(method, {})) == len(seeds[ground]) for ground in values)
    ]
    if not complete or not all(seeds.values()):
        return {}
    strata = [
        stats.rankdata([[-values[ground][m][seed] for m in complete] for seed in seeds[ground]], axis=1)
        for ground in values
    ]
    means = bootstrap(strata, lambda drawn: np.mean([runs.mean(1) for runs in drawn], axis=0))
    return dict(zip(complete, means, strict=True))

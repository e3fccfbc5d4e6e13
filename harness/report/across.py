"""A question asked on several grounds (data sets, encoders, budgets): what it comes to over all of them.

As Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264, the library rliable) describe it: the interquartile mean over
all runs, performance profiles, and intervals that resample the runs of each ground. They normalise a run's score by its
task's own scale; here it is the difference to the reference under the same seed on the same ground, in the unit of the
metric, for accuracies of two data sets have no common scale, and what a seed gives to both cancels out. A method that
lacks a run is described by none of it: it may lack the hardest one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.report.aggregates import Across, Aggregate
from harness.report.entry import Entry
from harness.report.model import Report, area_name
from harness.report.resampling import Between, bootstrap

MIDDLE = 0.25
"""The share of runs that the interquartile mean leaves out at either end."""

THRESHOLDS = 101
"""Of a profile."""


@dataclass(frozen=True)
class Judged:
    """What configurations are compared by.

    Attributes:
        measure: its name.
        values: configuration -> seed -> value.
        kinds: configuration -> verdict against the reference, of those that have one.
    """

    measure: str
    values: Mapping[str, Mapping[int, float]]
    kinds: Mapping[str, str]

    def lacks(self, entry: Entry) -> bool:
        """Whether a configuration has no value under a seed that was asked of it."""
        return bool(entry.asked - self.values[entry.id].keys())


def judged(report: Report) -> Judged:
    """The areas under the curves where each configuration has one, as in the answer on one ground; else at the end."""
    rounds = report.rounds
    places = {id_: (one, case) for one in rounds.settings for case, id_ in one.configurations.items()} if rounds else {}
    if rounds and rounds.measure == report.measure and all(entry.id in places for entry in report.confirmed):
        verdicts = {id_: one.by_area[rounds.measure].get(case) for id_, (one, case) in places.items()}
        return Judged(
            area_name(rounds.measure),
            {id_: one.areas[rounds.measure].get(case, {}) for id_, (one, case) in places.items()},
            {id_: verdict.kind for id_, verdict in verdicts.items() if verdict},
        )
    return Judged(
        report.measure,
        {entry.id: entry.values.get(report.measure, {}) for entry in report.confirmed},
        {entry.id: entry.kind for entry in report.confirmed if entry.kind},
    )


def compare_across(report: Report) -> Across | None:
    """Aggregates the confirmed configurations over their grounds; None where there is one ground only."""
    if len(report.blocks) < 2 or report.reference is None or report.mixed:
        return None
    reference, sign = report.reference.method, 1.0 if report.maximize else -1.0
    by = judged(report)
    by_method: dict[str, dict[str, Entry]] = {}
    for entry in report.confirmed:
        by_method.setdefault(entry.method, {})[entry.block] = entry
    grounds = by_method[reference]
    leads = {
        method: [_lead(by, entries[block], grounds[block], sign) for block in grounds if block in entries]
        for method, entries in by_method.items()
        if method != reference
    }
    every = np.concatenate([np.zeros(1), *(one for strata in leads.values() for one in strata)])
    thresholds = np.linspace(every.min(), every.max(), THRESHOLDS)
    ranks = mean_ranks({block: _runs(by, entries, sign) for block, entries in report.blocks.items()})
    whole = {
        method: strata
        for method, strata in leads.items()
        if len(strata) == len(grounds) and all(map(len, strata)) and not any(map(by.lacks, by_method[method].values()))
    }
    methods = [
        Aggregate(
            method,
            ranks.get(method),
            interquartile_mean(whole[method]) if method in whole else None,
            *_verdicts([kind for entry in entries.values() if (kind := by.kinds.get(entry.id))]),
            sum(map(len, leads.get(method, []))),
            profile(whole[method], thresholds) if method in whole else (),
        )
        for method, entries in by_method.items()
    ]
    methods.sort(key=lambda one: (one.rank is None, one.rank.value if one.rank else 0.0, one.method))
    return Across(by.measure, list(report.blocks), report.uncompared, reference, methods, thresholds)


def _lead(by: Judged, entry: Entry, reference: Entry, sign: float) -> np.ndarray:
    """f64 [n]: the differences under the seeds that both have."""
    mine, other = by.values[entry.id], by.values[reference.id]
    return np.array([sign * (mine[seed] - other[seed]) for seed in mine if seed in other])


def _runs(by: Judged, entries: Sequence[Entry], sign: float) -> dict[str, dict[int, float]]:
    """Method -> seed -> value, better upwards: of the methods that lack none, under the seeds that all have."""
    values = {entry.method: by.values[entry.id] for entry in entries if not by.lacks(entry)}
    shared = set.intersection(*map(set, values.values())) if values else set()
    return {
        method: {seed: sign * value for seed, value in by_seed.items() if seed in shared}
        for method, by_seed in values.items()
    }


def _verdicts(kinds: Sequence[str]) -> tuple[int, int, int]:
    wins, losses = kinds.count("better"), kinds.count("worse")
    return wins, len(kinds) - wins - losses, losses


def interquartile_mean(strata: Sequence[np.ndarray]) -> Between:
    """The mean of the middle half of all runs; more robust than the mean, and than the median less wasteful.

    Every ground weighs the same, however many runs it took; where these are equally many, it is the trimmed mean.

    Args:
        strata: f64 [n] of each ground.
    """
    weights = np.concatenate([np.full(len(runs), 1 / len(runs) / len(strata)) for runs in strata])
    out = int(MIDDLE * len(weights)) / len(weights)  # whole runs, as Agarwal et al.

    def statistic(drawn: Sequence[np.ndarray]) -> np.ndarray:
        runs = np.concatenate(drawn, axis=1)
        order = runs.argsort(1)
        ends = weights[order].cumsum(1)
        inside = np.clip(ends, out, 1 - out) - np.clip(ends - weights[order], out, 1 - out)
        return (inside * np.take_along_axis(runs, order, 1)).sum(1, keepdims=True) / inside.sum(1, keepdims=True)

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

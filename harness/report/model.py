"""A sweep, read and compared: the types that every table, picture and page reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from harness.records.rows import History
from harness.records.trial_files import TrialFiles
from harness.report.compare import NO_SEED, Comparison, Estimate, Judgement, against, estimate
from harness.report.curves import Curves, Ranks

SECONDS = ("pretrain", "select", "train", "total")


NOT_COMPARED = "not compared"
"""The verdict where trials of different data stand in one table."""


@dataclass
class Entry:
    """One configuration in one phase, over its seeds.

    Attributes:
        id: the configuration's hash.
        label: the parameters in which it differs from the others, for people.
        parameters: the searched parameters, by dotted path.
        seeds: of the trials that count.
        values: metric -> seed -> value at the largest number of labels.
        cached: the stages that some trial took from the cache.
        curves: metric -> number of labels -> seed -> value.
        trials: seed -> trial.
        ending: "finished" or, in a search, "early-stopped at epoch 3".
        judgement: by the report's measure, against the reference; None for the reference itself, in a search, and
            without a seed in common.
        verdict: the judgement in words; of a search empty.
    """

    id: str
    parameters: dict[str, Any]
    seeds: list[int]
    values: dict[str, dict[int, float]]
    cached: list[str]
    curves: dict[str, dict[int, dict[int, float]]]
    trials: dict[int, str]
    ending: str
    label: str = ""
    judgement: Judgement | None = None
    verdict: str = ""

    @property
    def comparison(self) -> Comparison | None:
        """With the reference, by the report's measure."""
        return self.judgement.comparison if self.judgement else None

    @property
    def p_holm(self) -> float | None:
        """Of the comparison, adjusted for the number of comparisons."""
        return self.judgement.p_holm if self.judgement else None

    def estimate(self, metric: str) -> Estimate | None:
        """Mean and interval over the seeds that have the metric."""
        return estimate(list(self.values[metric].values())) if self.values.get(metric) else None

    def mean(self, metric: str) -> float | None:
        """Mean over the seeds that have the metric."""
        value = self.estimate(metric)
        return value.mean if value else None


@dataclass(eq=False)
class Report:
    """A sweep, read and compared; it is equal to itself alone.

    Attributes:
        measure: the metric that the confirmed configurations are compared by: the test twin of the sweep's first
            metric where the test set was read.
        maximize: whether more of it is better.
        confirmed: best first.
        searched: best first, early-stopped ones last.
        reference: one of `confirmed`.
        failures: trial -> cause.
        seconds: of all trials together, stages from the cache at their first cost.
        saved: how many of these seconds were not spent again, thanks to the cache.
        mixed: why its trials cannot be compared: they are of different data; empty where they are not.
        notes: what a reader must know, one sentence each.
        answer: one or two sentences.
        rounds: the confirmed configurations over several rounds; None where there are none to compare.
        histories: trial -> its records that count.
        files: trial -> what it left on the disk, read once for all that show it.
    """

    folder: Path
    space: dict[str, Any]
    environment: dict[str, Any]
    measure: str
    maximize: bool
    confirmed: list[Entry]
    searched: list[Entry]
    reference: Entry | None
    failures: dict[str, str]
    seconds: float
    saved: float
    mixed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    answer: str = ""
    rounds: RoundComparison | None = None
    histories: dict[str, History] = field(default_factory=dict)
    files: Mapping[str, TrialFiles] = field(default_factory=dict)

    @property
    def goal(self) -> str:
        """The first metric of the sweep, on validation data."""
        return str(self.space["metric"][0]["name"])

    def files_of(self, entry: Entry) -> list[TrialFiles]:
        """What a configuration's trials left on the disk, in the order of its seeds."""
        return [self.files[trial] for trial in entry.trials.values()]

    @property
    def all_notes(self) -> list[str]:
        """What a reader must know, about the rounds as well."""
        return [*self.mixed, *self.notes, *(self.rounds.notes if self.rounds else [])]

    def judgements(self, metric: str) -> dict[str, Judgement]:
        """Configuration -> how it compares with the reference by a metric: a family of comparisons of its own."""
        if self.reference is None or self.mixed:
            return {}
        column = {entry.id: entry.values.get(metric, {}) for entry in self.confirmed}
        return against({metric: column}, self.reference.id, maximize=self.maximize)[metric]

    def verdict(self, entry: Entry, judgement: Judgement | None) -> str:
        """A confirmed configuration's judgement in words."""
        if entry is self.reference:
            return "reference"
        return judgement.verdict if judgement else NOT_COMPARED if self.mixed else NO_SEED


SCORES = ("accuracy", "balanced_accuracy", "macro_f1")
"""The metrics that curves are compared by: fractions of which more is better."""


@dataclass
class Setting:
    """Cases that share everything but the selector.

    Attributes:
        name: the parameters in which it differs from the other settings; empty if there is one.
        curves: metric -> labels -> case -> seed -> value, at the numbers of labels that all cases share.
        selected: the numbers of labels that were reached by selecting; the start pool is not.
        areas: metric -> case -> seed -> area under the curve, of seeds with a complete curve.
        reference: the case that the others are compared with, if it is here.
        by_area: metric -> case -> judgement of the areas; Holm's correction over a metric's cases.
        by_round: labels -> case -> judgement of the first metric; Holm's correction over all of them.
        picks: case -> seed -> every position that was selected.
    """

    name: str
    curves: dict[str, Curves]
    selected: list[int]
    areas: dict[str, dict[str, dict[int, float]]]
    reference: str | None
    by_area: dict[str, dict[str, Judgement]]
    by_round: dict[int, dict[str, Judgement]]
    picks: dict[str, dict[int, frozenset[int]]]

    @property
    def steps(self) -> list[int]:
        """The numbers of labels that all cases share."""
        return sorted(next(iter(self.curves.values())))


@dataclass
class RoundComparison:
    """What the rounds of a sweep show.

    Attributes:
        measures: the metrics with a curve; the first is the one that is judged by.
        cases: by their mean area, best first.
        settings: one or more.
        penalty: f64 [K, K] of `curves.penalties`, by `cases`.
        ranks: over seeds, of each setting; None where there are too few.
        overlap: f64 [K, K] of `curves.overlap`, by `cases`; None without recorded picks.
        chance: the overlap of two random draws; None where picks or pools are of several sizes.
        notes: what a reader must know, one sentence each.
    """

    measures: list[str]
    cases: list[str]
    settings: list[Setting]
    penalty: np.ndarray
    ranks: Ranks | None
    overlap: np.ndarray | None
    chance: float | None
    notes: list[str] = field(default_factory=list)

    @property
    def measure(self) -> str:
        """The metric that is judged by."""
        return self.measures[0]

    @property
    def can_test(self) -> bool:
        """Whether any two cases share two seeds."""
        columns = [c for setting in self.settings for c in setting.curves[self.measure].values()]
        return any(len(set(a) & set(b)) > 1 for column in columns for a, b in combinations(column.values(), 2))

    def order(self, setting: Setting) -> list[str]:
        """The cases of a setting, in the order of all."""
        present = setting.curves[self.measure][setting.steps[0]]
        return [case for case in self.cases if case in present]

    def best(self, setting: Setting) -> str:
        """The case of a setting with the highest mean area."""
        return by_mean_area([setting], self.measure)[0]

    def stem(self, kind: str, number: int) -> str:
        """A setting's picture without its ending: `curves`, or `curves_2` for the second of several settings."""
        return f"{kind}_{number + 1}" if len(self.settings) > 1 else kind


def area_name(measure: str) -> str:
    """`test/aubc` for `test/accuracy`; other scores have no name for it."""
    split, _, name = measure.partition("/")
    return f"{split}/aubc" if name == "accuracy" else f"area under {measure}"


def by_mean_area(settings: Sequence[Setting], measure: str) -> list[str]:
    """Every case, by the mean over settings of its mean area, best first; without a complete curve last."""
    means: dict[str, list[float]] = {}
    for setting in settings:
        for case in setting.curves[measure][setting.steps[0]]:
            values = setting.areas[measure].get(case, {}).values()
            means.setdefault(case, []).extend([float(np.mean(list(values)))] if values else [])
    return sorted(means, key=lambda case: -np.mean(means[case]) if means[case] else math.inf)

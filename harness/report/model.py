"""A sweep, read and compared: what every table, picture and page reads; `entry` has one of its configurations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from harness.metrics import known
from harness.records.rows import History
from harness.records.standing import level, standing
from harness.records.trial_files import TrialFiles
from harness.report.aggregates import Across
from harness.report.compare import NO_SEED, Estimate, Judgement, Scores, flattery, judge
from harness.report.curves import Attainable, Curves, Ranks
from harness.report.entry import Entry, by_ground, estimate_of, outcomes
from harness.report.sequential import Looks

WORTH = 0.01
"""The smallest difference of fractions that matters, where the question says nothing: one point."""

SECONDS = ("pretrain", "selection_encoder", "teacher", "select", "train", "total")

NOT_COMPARED = "not compared"
"""The verdict where trials of different data stand in one table, and on a ground without its reference."""


@dataclass(eq=False)
class Report:
    """A sweep, read and compared; it is equal to itself alone.

    Attributes:
        measure: the metric that the confirmed configurations are compared by: the test twin of the sweep's first
            metric where the test set was read.
        maximize: whether more of it is better.
        confirmed: best by the measure first, those that lack a seed last.
        searched: best first, early-stopped ones last.
        reference: one of `confirmed`.
        failures: trial -> cause.
        seconds: of all trials together, stages from the cache at their first cost.
        saved: how many of these seconds were not spent again, thanks to the cache.
        mixed: why its trials cannot be compared: they are of different data; empty where they are not.
        notes: what a reader must know, one sentence each.
        answer: one or a few sentences.
        about: what else belongs to it, a paragraph each: what it was measured on, by how long a training.
        rounds: the confirmed configurations over several rounds; None where there are none to compare.
        across: the same over several data sets, encoders or budgets; None where there is one.
        histories: trial -> its records that count.
        files: trial -> what it left on the disk, read once for all that show it.
        bounds: upper bounds of what selectors gain, which stand beside no method.
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
    about: list[str] = field(default_factory=list)
    rounds: RoundComparison | None = None
    across: Across | None = None
    histories: dict[str, History] = field(default_factory=dict)
    files: Mapping[str, TrialFiles] = field(default_factory=dict)
    bounds: list[Entry] = field(default_factory=list)

    @property
    def goal(self) -> str:
        """The first metric of the sweep, on validation data."""
        return str(self.space["metric"][0]["name"])

    @property
    def all_notes(self) -> list[str]:
        """What a reader must know, about the rounds as well."""
        return [*self.mixed, *self.notes, *(self.rounds.notes if self.rounds else [])]

    @property
    def chosen_by(self) -> str:
        """The metric by which the best of the confirmed configurations is chosen: the goal, where all of them have it.

        Else the measure itself.
        """
        return self.goal if all(entry.values.get(self.goal) for entry in self.confirmed) else self.measure

    @property
    def best(self) -> Entry:
        """The confirmed configuration that is chosen; the measure does not choose it where validation data can."""
        return (self.ordered(self.chosen_by) or self.confirmed)[0]

    @property
    def headline(self) -> Estimate | None:
        """The measure of the best, with an interval that allows for its having been chosen.

        What made it the best by validation was in part the luck of its seeds, and that it has on test data, too.
        """
        mean = self.beside(self.best, self.measure) or self.best.estimate(self.measure)
        if mean is None or mean.half is None:
            return mean
        return replace(mean, below=self.flattery) if self.maximize else replace(mean, above=self.flattery)

    @property
    def flattery(self) -> float:
        """By how much the best of the confirmed configurations would look better than it is, were all of them equal."""
        return flattery(self.scores(self.measure)) if len(self.blocks) == 1 else 0.0

    def level(self, entry: Entry, metric: str) -> float | None:
        """The mean of a metric; where seeds are added until resolved, as under all seeds of the reference."""
        grounds = self.blocks.get(entry.block, []) if self.looks else []
        reference = next((one.values.get(metric, {}) for one in grounds if self.is_reference(one)), {})
        return level(entry.values.get(metric, {}), reference)

    def beside(self, entry: Entry, metric: str) -> Estimate | None:
        """The level of a configuration by what is judged by, with its interval; None where it has no level."""
        reference = self.reference_on(entry.block) if self.looks else None
        beside = reference.estimate(metric) if reference else None
        return at_level(entry.estimate(metric), self.level(entry, metric), beside, entry.judgement)

    def by_standing(self, entries: Sequence[Entry], metric: str) -> list[Entry]:
        """Confirmed configurations, best first, those that lack a seed last."""
        named = {entry.id: entry for entry in entries}
        values = {name: entry.values.get(metric, {}) for name, entry in named.items()}
        if self.looks:
            reached = {name: self.level(entry, metric) for name, entry in named.items()}
            values = {name: {} if one is None else {0: one} for name, one in reached.items()}
        lacking = {
            name: len({*entry.lacking} | (entry.asked - entry.values.get(metric, {}).keys()))
            for name, entry in named.items()
        }
        return [named[name] for name in standing(values, lacking, maximize=self.maximize)]

    def ordered(self, metric: str) -> list[Entry]:
        """The confirmed configurations that have a metric, best first."""
        return self.by_standing([entry for entry in self.confirmed if entry.values.get(metric)], metric)

    @property
    def has_hits(self) -> bool:
        """Whether it was kept which images the confirmed models got right, of each configuration by two seeds or more.

        Two that have images in common, or nothing tells what other images would change.
        """
        kept = [[one.images for one in entry.outcomes(self.measure).values()] for entry in self.confirmed]
        of_one = [len(entry.values.get(self.measure, {})) == 1 for entry in self.confirmed]
        return bool(kept) and all(
            len(images) > (0 if alone else len(set(images))) for images, alone in zip(kept, of_one, strict=True)
        )

    @property
    def has_fresh_splits(self) -> bool:
        """Whether each seed draws a split of its own."""
        seeds = self.space.get("seeds")
        return isinstance(seeds, Mapping) and seeds.get("split") == "fresh"

    @property
    def has_fresh_tests(self) -> bool:
        """Whether each seed draws test images of its own, for the data sets have none."""
        sets = self.environment.get("datasets") or [{}]
        return self.has_fresh_splits and all("test" in one.get("carved", ()) for one in sets)

    @property
    def looks(self) -> Looks | None:
        """When the sweep is looked at, where seeds are added until its comparisons are resolved."""
        seeds = self.space.get("seeds")
        if not isinstance(seeds, Mapping) or not seeds.get("until"):
            return None
        return Looks(tuple(range(seeds["max"])), seeds["block"])

    @property
    def is_judged_by_area(self) -> bool:
        """Whether the area under the curve says more of the measure itself, and not of another metric."""
        return self.rounds is not None and self.measure in (self.rounds.measure, area_name(self.rounds.measure))

    @property
    def blocks(self) -> dict[str, list[Entry]]:
        """The confirmed configurations by the ground on which they are compared; of most sweeps there is one."""
        return by_ground(self.confirmed)

    @property
    def uncompared(self) -> list[str]:
        """The grounds that lack the reference, or anything beside it."""
        return [block for block, of in self.blocks.items() if len(of) < 2 or not any(map(self.is_reference, of))]

    def is_reference(self, entry: Entry) -> bool:
        """Whether a confirmed configuration is the reference of its ground."""
        first = self.reference
        return first is not None and (entry is first or bool(first.method and entry.method == first.method))

    def reference_on(self, block: str) -> Entry | None:
        """The reference of a ground; None where it has no result."""
        return next(filter(self.is_reference, self.blocks.get(block, [])), None)

    @property
    def reference_name(self) -> str:
        """What the reference is on every ground; empty without one."""
        return self.reference.name if self.reference else ""

    def scores(self, metric: str, entries: Sequence[Entry] | None = None) -> Scores:
        """A metric of some confirmed configurations, all if left out; cases go by method, or by id on one ground."""
        named = {entry.method or entry.id: entry for entry in (self.confirmed if entries is None else entries)}
        values = {name: entry.values.get(metric, {}) for name, entry in named.items()}
        lacking = {name for name, entry in named.items() if entry.asked - values[name].keys()}
        return Scores(values, lambda name: named[name].outcomes(metric) if name in named else {}, lacking)

    def worth(self, metric: str) -> float | None:
        """The smallest difference that matters; None where the question does not say it in the unit of a metric."""
        unit, asked = (about.unit if about else None for about in map(known, (metric, self.goal)))
        given = self.space.get("worth") if unit == asked else None
        return given if given is not None else WORTH if unit == "fraction" else None

    def judgements(self, metric: str, seeds: AbstractSet[int] | None = None) -> dict[str, Judgement]:
        """Configuration -> how it compares with the reference of its ground by a metric, under some seeds or all.

        Of each metric all comparisons are one family, whatever the ground.
        """
        if self.reference is None or self.mixed:
            return {}
        family = {block: self.scores(metric, entries) for block, entries in self.blocks.items()}
        if seeds is not None:
            family = {block: scores.under(seeds) for block, scores in family.items()}
        reference = self.reference.method or self.reference.id
        judged = judge(family, reference, maximize=self.maximize, worth=self.worth(metric), looks=self.looks)
        names = {(entry.block, entry.method or entry.id): entry.id for entry in self.confirmed}
        return {names[block, name]: one for block, column in judged.items() for name, one in column.items()}

    def verdict(self, entry: Entry, judgement: Judgement | None) -> str:
        """A confirmed configuration's judgement in words."""
        if self.is_reference(entry):
            return "reference"
        if judgement:
            return judgement.verdict
        return NOT_COMPARED if self.mixed or entry.block in self.uncompared else NO_SEED


SCORES = ("accuracy", "balanced_accuracy", "macro_f1")
"""The metrics that curves are compared by: fractions of which more is better."""


@dataclass
class Setting:
    """Cases of one ground; in a grid of selectors, cases that share everything but the selector.

    Attributes:
        name: the parameters in which it differs from the other settings; empty if there is one.
        curves: metric -> labels -> case -> seed -> value, at the numbers of labels that all cases share.
        selected: the numbers of labels that were reached by selecting; the start pool is not.
        areas: metric -> case -> seed -> area under the curve, of seeds with a complete curve.
        reference: the case that the others are compared with, if it is here.
        by_area: metric -> case -> judgement of the areas; Holm's correction over a metric's cases in all settings.
        by_round: labels -> case -> judgement of the first metric; Holm's correction over all of them in all settings.
        picks: case -> seed -> every position that was selected.
        files: case -> seed -> what the trial left on the disk.
        configurations: case -> id.
        asked: case -> the seeds that were asked of it.
        looks: when the sweep is looked at; None: once.
        attainable: the upper bound of its cases, if there is one.
        estimated: the means that were asked, which pictures and tables ask again.
    """

    name: str
    curves: dict[str, Curves]
    selected: list[int]
    areas: dict[str, dict[str, dict[int, float]]]
    reference: str | None
    picks: dict[str, dict[int, frozenset[int]]]
    files: dict[str, Mapping[int, TrialFiles]]
    configurations: dict[str, str]
    asked: dict[str, set[int]]
    looks: Looks | None = None
    by_area: dict[str, dict[str, Judgement]] = field(default_factory=dict)
    by_round: dict[int, dict[str, Judgement]] = field(default_factory=dict)
    attainable: Attainable | None = None
    estimated: dict[tuple[str, int | None, str], Estimate | None] = field(default_factory=dict, repr=False)

    def scores(self, measure: str, step: int | None) -> Scores:
        """A metric of all cases after so many labels; None: the area under its curve."""
        values = self.areas[measure] if step is None else self.curves[measure][step]
        steps = self.steps if step is None else [step]
        lacking = {case for case, seeds in self.asked.items() if seeds - values.get(case, {}).keys()}
        return Scores(values, lambda case: outcomes(self.files[case], measure, steps, values.get(case, {})), lacking)

    def estimate(self, measure: str, step: int | None, case: str) -> Estimate | None:
        """Mean and interval of one case; None without a value."""
        place, scores = (measure, step, case), self.scores(measure, step)
        if place not in self.estimated:
            self.estimated[place] = estimate_of(scores.values.get(case, {}), scores.outcomes(case), measure)
        return self.estimated[place]

    def beside(self, measure: str, case: str) -> Estimate | None:
        """The area of a case; where seeds are added until resolved, as under all seeds of the reference."""
        own, areas = self.estimate(measure, None, case), self.areas[measure]
        if not self.looks or self.reference is None:
            return own
        reached = level(areas.get(case, {}), areas.get(self.reference, {}))
        return at_level(own, reached, self.estimate(measure, None, self.reference), self.by_area[measure].get(case))

    @cached_property
    def lacking(self) -> dict[str, list[int]]:
        """Case -> the seeds under which it has no complete curve, though they were asked of it."""
        areas = next(iter(self.areas.values()))
        lacks = {case: sorted(seeds - areas.get(case, {}).keys()) for case, seeds in self.asked.items()}
        return {case: seeds for case, seeds in lacks.items() if seeds}

    @property
    def steps(self) -> list[int]:
        """The numbers of labels that all cases share."""
        return sorted(next(iter(self.curves.values())))


def at_level(
    own: Estimate | None, reached: float | None, reference: Estimate | None, judgement: Judgement | None
) -> Estimate | None:
    """What a case has by itself where that is its level; else the level: the reference's mean and a mean difference.

    The interval takes the errors of these two as independent: what luck the reference had under the seeds that both
    have is in the one and, with the other sign, in the other, so that their sum errs by less.
    """
    if own is None or reached is None or math.isclose(own.mean, reached):
        return own if reached is not None else None
    parts = [reference, judgement.difference if judgement else None]
    halves = [part.half for part in parts if part and part.half is not None]
    return replace(own, mean=reached, half=math.hypot(*halves) if len(halves) == len(parts) else None)


@dataclass
class RoundComparison:
    """What the rounds of a sweep show.

    Attributes:
        measures: the metrics with a curve; the first is the one that is judged by.
        cases: by their mean area, best first, those that lack a seed last.
        settings: one or more.
        penalty: f64 [K, K] of `curves.penalties`, by `cases`.
        ranks: over seeds, of each setting; None where there are too few.
        overlap: f64 [K, K] of `curves.overlap`, by `cases`; None without recorded picks.
        chance: the overlap of two random draws; None where picks or pools are of several sizes.
        notes: what a reader must know, one sentence each.
        noun: what a case is: a selector, or a configuration.
    """

    measures: list[str]
    cases: list[str]
    settings: list[Setting]
    penalty: np.ndarray
    ranks: Ranks | None
    overlap: np.ndarray | None
    chance: float | None
    notes: list[str] = field(default_factory=list)
    noun: str = "configuration"

    @property
    def measure(self) -> str:
        """The metric that is judged by."""
        return self.measures[0]

    def tests(self, measure: str) -> int:
        """How many areas are compared with the reference's, over all settings: a family."""
        judged = [one for setting in self.settings for one in setting.by_area[measure].values()]
        return sum(one.p_holm is not None for one in judged)

    @property
    def tests_by_round(self) -> int:
        """How many comparisons there are after single selections, over all settings: a family."""
        columns = [column for setting in self.settings for column in setting.by_round.values()]
        return sum(one.p_holm is not None for column in columns for one in column.values())

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
        return by_area([setting], self.measure)[0]

    def stem(self, kind: str, number: int) -> str:
        """A setting's picture without its ending: `curves`, or `curves_2` for the second of several settings."""
        return f"{kind}_{number + 1}" if len(self.settings) > 1 else kind


AREA_UNDER = "area under "
"""How the names of areas that have none of their own begin."""


def area_name(measure: str) -> str:
    """`test/aubc` for `test/accuracy`; other scores have no name for it."""
    split, _, name = measure.partition("/")
    return f"{split}/aubc" if name == "accuracy" else f"{AREA_UNDER}{measure}"


def by_area(settings: Sequence[Setting], measure: str) -> list[str]:
    """Every case, best first: by its mean area over all settings, those that lack a complete curve last.

    Where seeds are added until resolved each setting weighs the same, and a case has its level beside the reference.
    """
    values: dict[str, dict[tuple[int, int], float]] = {}
    lacking: dict[str, int] = {}
    for number, setting in enumerate(settings):
        of_reference = setting.areas[measure].get(setting.reference or "", {})
        for case in setting.curves[measure][setting.steps[0]]:
            areas = setting.areas[measure].get(case, {})
            if setting.looks:
                reached = level(areas, of_reference)
                areas = {} if reached is None else {0: reached}
            values.setdefault(case, {}).update({(number, seed): area for seed, area in areas.items()})
            lacking[case] = lacking.get(case, 0) + len(setting.lacking.get(case, ()))
    return standing(values, lacking)

"""A configuration of a sweep, as a report reads it, and what its images say of a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from harness.metrics import known
from harness.records.rows import FINAL
from harness.records.trial_files import TrialFiles
from harness.report.compare import Estimate, Judgement, Outcomes, estimate


@dataclass
class Entry:
    """One configuration in one phase, over its seeds.

    Attributes:
        id: the configuration's hash.
        label: the parameters in which it differs from the others, for people.
        block: the ground on which it is compared, such as its data set; empty where all are of one.
        method: the parameters in which it differs from the others on its ground; empty likewise.
        parameters: the searched parameters, by dotted path.
        seeds: of the trials that count; of those that finished, which have a value of what is compared.
        values: metric -> seed -> value at the largest number of labels, if it is finite; one that was stopped early has
            none of a goal.
        cached: the stages that some trial took from the cache.
        curves: metric -> number of labels -> seed -> value.
        trials: seed -> trial.
        ending: "finished" or, in a search, "early-stopped at epoch 3".
        files: seed -> what the trial left on the disk.
        lacking: of the phase's seeds that are not in `seeds`: seed -> the status of its trial, or "missing"; of what is
            confirmed those that count beside the others on its ground, see `lacking_beside`.
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
    files: Mapping[int, TrialFiles] = field(default_factory=dict)
    lacking: dict[int, str] = field(default_factory=dict)
    label: str = ""
    block: str = ""
    method: str = ""
    judgement: Judgement | None = None
    verdict: str = ""

    @property
    def asked(self) -> set[int]:
        """The seeds that were asked of it."""
        return {*self.seeds, *self.lacking}

    def lacking_beside(self, had: AbstractSet[int]) -> dict[int, str]:
        """What of `lacking` counts beside configurations that have these seeds: theirs, and where its own trial ended.

        A seed that nobody has yet tells nobody apart: a trial that has just begun takes no verdict and no rank away.
        """
        return {seed: status for seed, status in self.lacking.items() if seed in had or status in FINAL}

    @property
    def name(self) -> str:
        """For people, among the others on its ground."""
        return self.method or self.label

    @property
    def p_holm(self) -> float | None:
        """Of the judgement, adjusted for the number of comparisons."""
        return self.judgement.p_holm if self.judgement else None

    @property
    def link(self) -> str:
        """To its first trial on the page."""
        return f"#{self.trials[min(self.trials)]}" if self.trials else ""

    @property
    def kind(self) -> str:
        """Of the judgement; empty without one."""
        return self.judgement.kind if self.judgement else ""

    def estimate(self, metric: str, step: int | None = None) -> Estimate | None:
        """Mean and interval over the seeds that have the metric, at the largest number of labels if not at `step`."""
        if step is None:
            return estimate_of(self.values.get(metric, {}), self.outcomes(metric), metric)
        values = self.curves.get(metric, {}).get(step, {})
        return estimate_of(values, outcomes(self.files, metric, [step], values), metric)

    def mean(self, metric: str) -> float | None:
        """Mean over the seeds that have the metric."""
        values = self.values.get(metric)
        return fmean(values.values()) if values else None

    def outcomes(self, metric: str) -> dict[int, Outcomes]:
        """Seed -> what each image contributes to the metric at the largest number of labels, where that was kept."""
        split, _, name = metric.partition("/")
        counted = f"{split}/accuracy" if name == "aubc" else metric
        steps = list(self.curves.get(counted, {}))
        return outcomes(self.files, counted, steps if name == "aubc" else steps[-1:], self.values.get(metric, {}))


def by_ground(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Configurations by their ground, in their order; of a search there is one ground, without a name."""
    grounds: dict[str, list[Entry]] = {}
    for entry in entries:
        grounds.setdefault(entry.block, []).append(entry)
    return grounds


def limits(metric: str) -> tuple[float, float]:
    """The smallest and the largest possible value of a metric."""
    about = known(metric)
    return (about.low, about.high) if about else (-math.inf, math.inf)


def estimate_of(values: Mapping[int, float], kept: Mapping[int, Outcomes], metric: str) -> Estimate | None:
    """The mean of a metric and its interval; None without a value."""
    if not values:
        return None
    return estimate(list(values.values()), [kept[seed] for seed in values if seed in kept], limits(metric))


def outcomes(
    files: Mapping[int, TrialFiles], metric: str, steps: Sequence[int], values: Mapping[int, float]
) -> dict[int, Outcomes]:
    """What each image contributes to an accuracy, or to the area under its curve.

    Args:
        files: seed -> what the trial left.
        metric: an accuracy; of others nothing is kept.
        steps: the numbers of labels, in rising order; over several the area is asked.
        values: seed -> the accuracy or area, which the images must add up to: files of another run do not.
    """
    kept = {}
    for seed, value in values.items():
        hits = files[seed].hits.get(metric) if seed in files else None
        if hits and steps and all(step in hits.bits for step in steps):
            x = np.stack([hits.after(step) for step in steps])
            x = x[0] if len(steps) == 1 else np.trapezoid(x.astype(float), steps, axis=0) / (steps[-1] - steps[0])
            if abs(x.mean() - value) < 1e-5:
                kept[seed] = Outcomes(hits.images, x)
    return kept

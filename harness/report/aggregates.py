"""What a question comes to over all of its grounds (data sets, encoders, budgets): the types of `across`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.resampling import Between


@dataclass(frozen=True)
class Aggregate:
    """One method over all grounds.

    Attributes:
        method: its name.
        rank: its mean rank over grounds and seeds, 1 is best; None where it lacks a run.
        middle: interquartile mean of its differences to the reference, better upwards; None of the reference itself,
            and where it lacks a run.
        wins, ties, losses: on how many grounds it is better than the reference, neither, worse, by the verdicts.
        runs: how many differences there are.
        profile: at each of the thresholds the share of runs whose difference is at least that; empty without `middle`.
    """

    method: str
    rank: Between | None
    middle: Between | None
    wins: int
    ties: int
    losses: int
    runs: int
    profile: Sequence[Between] = ()


@dataclass(frozen=True)
class Across:
    """All methods over all grounds.

    Attributes:
        measure: what they are compared by.
        grounds: their names.
        uncompared: those of them that lack the reference, or anything beside it.
        reference: a method.
        methods: best mean rank first, those without a rank last.
        thresholds: of the profiles, rising, in the unit of the metric, better upwards.
    """

    measure: str
    grounds: Sequence[str]
    uncompared: Sequence[str]
    reference: str
    methods: Sequence[Aggregate]
    thresholds: np.ndarray

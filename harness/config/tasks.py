"""What a sweep runs: configurations, each under several seeds, on one split of the data or on one for each seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from harness.config.schema import as_dict, setting
from harness.config.space import Assignment
from harness.config.trial import TrialConfig
from harness.files import digest_of
from harness.plugins.registry import PluginSpec

Phase = Literal["search", "confirm", "headroom"]
SeedSplit = Literal["same", "fresh"]

MAX_TRIALS = 100_000
"""Of one phase of a sweep: configurations x seeds."""

MAPPED = 1000
"""Images on the map of a portrait where the question does not say how many."""


@dataclass(frozen=True)
class Seeds:
    """Seeds, and what they draw."""

    values: tuple[int, ...] = setting((0,), "of the search, or of a grid that is measured at once", low=0)
    split: SeedSplit = setting(
        "same",
        "same: one split of the data, by data.split_seed; fresh: each seed has its own, by data.split_seed + seed, the "
        "same for all configurations",
    )
    max: int | None = setting(None, "instead of `values`: at most so many, 0, 1, 2, ..., as `until` says", low=3)
    until: Literal["resolved"] | None = setting(
        None,
        "resolved: `block` seeds at a time, until every comparison with the reference is better, worse, equivalent "
        "within `worth`, or hopeless at `max`; what has a verdict gets no more, and verdicts allow for the looks",
    )
    block: int = setting(5, "of `until`: seeds between two looks", low=3)

    def __post_init__(self) -> None:
        if (self.max is None) != (self.until is None):
            raise ValueError("max and until go together: seeds: {max: 30, until: resolved}")
        if self.max is not None and self.max > MAX_TRIALS:
            raise ValueError(f"max: {self.max} is more than the {MAX_TRIALS:,} trials that a sweep may have")
        if self.max is not None and self.values not in ((0,), tuple(range(self.max))):
            raise ValueError(f"values has no meaning beside max: the seeds are 0 to {self.max - 1}")
        if self.max is not None and self.block > self.max:
            raise ValueError(f"block: {self.block} is more than max, {self.max}")

    @property
    def all(self) -> tuple[int, ...]:
        """Every seed, at most."""
        return self.values if self.max is None else tuple(range(self.max))

    def as_asked(self) -> dict[str, Any]:
        """As a search space says it."""
        known = {"values": list(self.values), "split": self.split}
        if self.max is None:
            return known
        return {"max": self.max, "until": self.until, "block": self.block, "split": self.split}


def split_anew(trial: TrialConfig, seed: int) -> TrialConfig:
    """The trial with the split of a seed: other images in pool, validation and carved test set, in another order."""
    return replace(trial, data=replace(trial.data, split_seed=trial.data.split_seed + seed))


@dataclass(frozen=True)
class Bound:
    """How an upper bound of what selection can gain is found.

    Attributes:
        batches: candidates in each round.
        selectors: that propose some of them.
    """

    batches: int
    selectors: tuple[PluginSpec, ...]


@dataclass(frozen=True)
class Candidate:
    """One configuration: the values that were chosen, and the trial they make.

    Attributes:
        parameters: the values.
        trial: what they make.
        growing: the rounds, or the list of budgets, that the question gives to every trial. One that has them is named
            without, so that it is the same one when the question asks for more.
        bound: of one that is no method but an upper bound for those that differ from it in their selector alone.
    """

    parameters: Assignment
    trial: TrialConfig
    growing: int | list[int] | None = None
    bound: Bound | None = None

    @cached_property
    def described(self) -> dict[str, Any]:
        """The trial's mapping, complete with defaults."""
        tree: dict[str, Any] = as_dict(self.trial)
        return tree

    @cached_property
    def configuration(self) -> str:
        """8 hexadecimal digits that name it."""
        described = self.described | {"labels": dict(self.described["labels"])}
        key = "budget" if isinstance(self.trial.labels.budget, tuple) else "rounds"
        if described["labels"][key] == self.growing:
            del described["labels"][key]
        return digest_of(described | {"bound": as_dict(self.bound)} if self.bound else described)[:8]


def mapped(portrait: bool | int) -> int:
    """How many images are on the map of a portrait, as `portrait` of a question says; 0: there is none."""
    return MAPPED if portrait is True else int(portrait)


@dataclass(frozen=True)
class Task:
    """One trial to run: a configuration under one seed in one phase.

    Attributes:
        portrait: how many images are on the map of its encoder's portrait; 0: it leaves none.
        split: whose split of the data it has: "same" for that of all seeds, "fresh" for its seed's own.
        known: (step_kind, step) -> metrics, of a trial that had ended and goes on for more rounds: what it told then.
    """

    candidate: Candidate
    seed: int
    phase: Phase
    portrait: int = 0
    split: SeedSplit = "same"
    known: Mapping[tuple[str, int], Mapping[str, float]] = field(default_factory=dict)

    @property
    def trial(self) -> TrialConfig:
        """What is run: the configuration, with the split of the seed."""
        trial = self.candidate.trial
        return split_anew(trial, self.seed) if self.split == "fresh" else trial

    @property
    def trial_id(self) -> str:
        """Its name in records, folders and MLflow."""
        return f"{self.phase}-{self.candidate.configuration}-s{self.seed}"

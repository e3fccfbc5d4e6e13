"""Upper bounds of what the selectors of a question could gain: which trials have one, and whose batches they try."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.config.schema import Problems, as_dict, setting
from harness.config.tasks import Bound, Candidate
from harness.plugins.registry import PluginSpec

NAME = "headroom"
"""The parameter of an upper bound that says what it is."""


@dataclass(frozen=True)
class Headroom:
    """An upper bound of what selectors can gain: in each round the best of many batches, judged by true labels."""

    batches: int = setting(
        100,
        "candidates in each round: half from the selectors of the question, a quarter at random, a quarter mixed",
        low=4,
    )


def bounds_of(candidates: Sequence[Candidate], headroom: Headroom, problems: Problems) -> tuple[Candidate, ...]:
    """An upper bound for each set of two configurations or more that differ in their selector alone.

    Args:
        candidates: of a grid.
        headroom: what was asked.
        problems: is told of a trial that can have no bound.
    """
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        about = {name: value for name, value in as_dict(candidate.trial).items() if name != "selector"}
        groups.setdefault(json.dumps(about, sort_keys=True), []).append(candidate)
    bounds = []
    for group in groups.values():
        selectors = tuple({json.dumps(c.trial.selector.as_dict()): c.trial.selector for c in group}.values())
        if len(selectors) > 1:
            _check(group[0], problems)
            shared = dict.items(group[0].parameters)
            parameters = {k: v for k, v in shared if all(c.parameters.get(k) == v for c in group)}
            parameters[NAME] = f"best of {headroom.batches} batches"
            trial = replace(group[0].trial, selector=PluginSpec("selectors", "random", {}))
            bound = Bound(headroom.batches, selectors)
            bounds.append(Candidate(parameters, trial, group[0].growing, bound))
    if not bounds:
        problems.add("headroom", "needs two configurations or more that differ in their selector alone")
    return tuple(bounds)


def _check(candidate: Candidate, problems: Problems) -> None:
    trial = candidate.trial
    if trial.mode == "joint" or trial.classifier.name == "finetune":
        problems.add("headroom", "needs a frozen encoder, for it trains a head with every batch; use a fixed one")
    if not trial.labels.budgets:
        problems.add("headroom", "there is no round of selection; set labels.budget")
    if trial.data.val == 0:
        problems.add("headroom", "batches are judged on validation images, and data.val is 0")

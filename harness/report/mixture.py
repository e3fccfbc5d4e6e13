"""Trials of one folder that are of different data, which cannot be compared, or ran different code or differently.

A sweep that goes on refuses such a mixture (`harness.sweep.origins`); one that was made in another way is told here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harness import messages
from harness.files import digest_of
from harness.records.rows import History, Record, last

DATA = ("dataset", "data")
"""The sections of a trial that say which images it has."""

MIXED_TRIALS = 3
"""Trials of a kind that are named."""


def mixed_data(space: Mapping[str, Any], trials: Iterable[History]) -> list[str]:
    """Says, in a sentence or none, that trials whose settings name the same data are of different data.

    Args:
        space: content of `space.yaml`.
        trials: their records, which may be without origin; these are not looked at.
    """
    kinds = _kinds(trials, "data", lambda record: data_settings(space, record))
    return [f"Trials that cannot be compared stand in one table, of different data: {kinds}."] if kinds else []


def mixed_code(trials: Iterable[History]) -> list[str]:
    """Says, in a sentence or none, that trials of one configuration ran different code or packages."""
    kinds = _kinds(trials, "code", lambda record: str(record["configuration"]))
    return [f"Trials of one configuration ran different code or packages: {kinds}."] if kinds else []


def mixed_compute(space: Mapping[str, Any], trials: Iterable[History]) -> list[str]:
    """Says, in a sentence or none, that trials ran on different devices or in different precisions unasked."""
    kinds = _kinds(trials, "compute", lambda record: _said(space, record, ("compute",)))
    what = "Trials ran on different devices or in different precisions, which alone moves a figure a little"
    return [f"{what}: {kinds}."] if kinds else []


def _kinds(trials: Iterable[History], field: str, group_of: Callable[[Record], str]) -> str:
    """The digits in `field` and their trials, of the first group that has several; empty where none has."""
    groups: dict[str, dict[str, list[str]]] = {}
    for record in map(last, trials):
        if record["status"] in ("finished", "stopped") and field in record:
            groups.setdefault(group_of(record), {}).setdefault(record[field], []).append(record["trial"])
    mixed = next((kinds for kinds in groups.values() if len(kinds) > 1), {})
    return "; ".join(f"{digits} in {_trials(of_kind)}" for digits, of_kind in mixed.items())


def data_settings(space: Mapping[str, Any], record: Record) -> str:
    """Names what a trial's parameters, its case, its recipe and, where it splits the data anew, its seed say of it."""
    seeds = space.get("seeds")
    seed = record["seed"] if isinstance(seeds, Mapping) and seeds["split"] == "fresh" else None
    return digest_of({"said": _said(space, record, DATA), "seed": seed})


def _said(space: Mapping[str, Any], record: Record, sections: Sequence[str]) -> str:
    """Names what a trial's parameters, its case and its recipe say of some sections."""
    parameters = record["parameters"]
    settings = {**(space.get("cases") or {}).get(parameters.get("case"), {}), **parameters}
    recipe = (space.get("recipes") or {}).get(settings.get("recipe"), {})
    own = {path: value for path, value in settings.items() if path.partition(".")[0] in sections}
    return digest_of({"own": own, "recipe": {key: recipe[key] for key in sections if key in recipe}})


def _trials(names: list[str]) -> str:
    more = f", ... ({messages.count(len(names), 'trial')})" if len(names) > MIXED_TRIALS else ""
    return ", ".join(names[:MIXED_TRIALS]) + more

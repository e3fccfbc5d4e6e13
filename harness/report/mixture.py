"""Trials that cannot be compared, although they stand in one folder: of different data, or of different code.

A sweep that goes on refuses such a mixture (`harness.sweep.origins`); one that was made in another way is told here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness import messages
from harness.files import digest_of
from harness.records.rows import History, Record, last

DATA = ("dataset", "data")
"""The sections of a trial that say which images it has."""

MIXED_TRIALS = 3
"""Trials of a kind that are named."""


def mixtures(space: Mapping[str, Any], trials: Iterable[History]) -> list[str]:
    """What to say of it, a sentence each; records may be without origin, and are then not looked at.

    Trials whose settings of the data are the same are of the same data; those of one configuration ran the same code.

    Args:
        space: content of `space.yaml`.
        trials: their records.
    """
    ended = [last(history) for history in trials if last(history)["status"] in ("finished", "stopped")]
    said = []
    for field, told, group_of in (
        ("data", "data, although their settings name the same", lambda record: data_settings(space, record)),
        ("code", "code, although they are of the same configuration", lambda record: record["configuration"]),
    ):
        groups: dict[str, dict[str, list[str]]] = {}
        for record in ended:
            if field in record:
                groups.setdefault(group_of(record), {}).setdefault(record[field], []).append(record["trial"])
        mixed = [kinds for kinds in groups.values() if len(kinds) > 1]
        if mixed:
            kinds = "; ".join(f"{digits} in {_trials(of_kind)}" for digits, of_kind in mixed[0].items())
            said.append(f"Trials that stand in one table are of different {told}: {kinds}. They cannot be compared.")
    return said


def data_settings(space: Mapping[str, Any], record: Record) -> str:
    """Names what a trial's parameters, its case and its recipe say of the data."""
    parameters = record["parameters"]
    settings = {**(space.get("cases") or {}).get(parameters.get("case"), {}), **parameters}
    recipe = (space.get("recipes") or {}).get(settings.get("recipe"), {})
    own = {path: value for path, value in settings.items() if path.partition(".")[0] in DATA}
    return digest_of({"own": own, "recipe": {key: recipe[key] for key in DATA if key in recipe}})


def _trials(names: list[str]) -> str:
    more = f", ... ({messages.count(len(names), 'trial')})" if len(names) > MIXED_TRIALS else ""
    return ", ".join(names[:MIXED_TRIALS]) + more

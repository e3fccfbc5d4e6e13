"""Which configuration is the reference: the question says so, never what came out or ran first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.schema import by_path
from harness.config.space import CASE
from harness.report.entry import Entry
from harness.report.model import Report

Assignments = Mapping[str, Mapping[str, Any]]
"""Configuration -> its parameters as the question has them, of all trials of a phase, whatever became of them."""


def reference_of(space: Mapping[str, Any]) -> dict[str, Any]:
    """What the question says of its reference, by path: `reference`, else the first of `confirm.references`."""
    return by_path(space.get("reference") or next(iter(references_of(space)), None) or {})


def references_of(space: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """`confirm.references`."""
    return (space.get("confirm") or {}).get("references") or []


def as_asked(asked: Assignments, space: Mapping[str, Any], searched: Sequence[str]) -> list[str]:
    """The configurations as the question has them: its references, the best of its search, its grid.

    Args:
        asked: of the phase that is reported.
        space: content of `space.yaml`.
        searched: the configurations of its search, best first.
    """
    references = [_key(one) for one in references_of(space)]
    values = {CASE: list(space.get("cases") or {})}
    values |= {path: about.get("values", []) for path, about in (space.get("parameters") or {}).items()}
    places = {path: {_key(value): place for place, value in enumerate(of)} for path, of in values.items()}

    def key(configuration: str) -> tuple[int, int, list[int], str]:
        parameters = asked[configuration]
        grid = [of.get(_key(parameters[path]), len(of)) if path in parameters else 0 for path, of in places.items()]
        return _place(_key(parameters), references), _place(configuration, searched), grid, configuration

    return sorted(asked, key=key)


def choose_reference(report: Report, asked: Assignments, methods: Mapping[str, str]) -> Entry:
    """The confirmed configuration that the others are compared with; what must be known of the choice is noted.

    It is the first that `reference` fits, or the first of all without one: where there are grounds, the first of what
    stands on the most of them. Only where it has no result at all does another one stand in.

    Args:
        report: with confirmed configurations.
        asked: of their phase.
        methods: configuration -> what it is on its ground.
    """
    wanted = reference_of(report.space)
    order = as_asked(asked, report.space, [entry.id for entry in report.searched])
    grounds = Counter(methods.values())
    fitting = sorted(
        (one for one in order if wanted.items() <= by_path(asked[one]).items()), key=lambda one: -grounds[methods[one]]
    )
    entries = sorted(report.confirmed, key=lambda entry: order.index(entry.id))
    wishes = list(dict.fromkeys(methods[one] for one in fitting))
    chosen = next((entry for wish in wishes for entry in entries if methods[entry.id] == wish), entries[0])
    name = chosen.method or chosen.label
    if wanted and methods[chosen.id] not in wishes:
        report.notes.append(f"No confirmed configuration is the reference {wanted}; {name} stands in for it.")
    elif wanted and len(wishes) > 1:
        report.notes.append(f"The reference {wanted} fits {len(wishes)} configurations; {name} is taken.")
    return chosen


def _place(one: str, of: Sequence[str]) -> int:
    return of.index(one) if one in of else len(of)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)

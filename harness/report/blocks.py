"""Of which grounds a sweep's configurations are: a data set, an encoder, a budget; only on one ground are two compared.

A sweep that varies such a thing beside something else asks the second on every value of the first: which selector, on
each of three data sets. What `reference` names is compared and makes no ground. The question and its trials say which
grounds there are, never what came out: one that failed turns no data set into a rival of another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.config.schema import by_path
from harness.config.space import CASE
from harness.records.names import name_configurations, varied
from harness.report.references import Assignments, reference_of, references_of

GROUNDS = ("dataset", "data", "backbone", "labels")
"""The sections of a trial that may make grounds."""


def places(asked: Assignments, space: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Configuration -> the ground that it is on, and what it is there; empty where the question has one ground.

    Args:
        asked: of the phase that is compared.
        space: content of `space.yaml`.
    """
    grounds = _grounds(asked, space)
    if not grounds:
        return {}
    flat = {configuration: by_path(parameters) for configuration, parameters in asked.items()}
    blocks, methods = (
        _named({c: {p: v for p, v in of.items() if (p in grounds) == own} for c, of in flat.items()})
        for own in (True, False)
    )
    return {configuration: (blocks[configuration], methods[configuration]) for configuration in asked}


def _named(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Configuration -> a name, one for all with the same parameters."""
    distinct = name_configurations({_key(one): one for one in parameters.values()})
    return {configuration: distinct[_key(one)] for configuration, one in parameters.items()}


def _grounds(asked: Assignments, space: Mapping[str, Any]) -> set[str]:
    """The parameters, by path, that make grounds; none where nothing else varies."""
    named, values = reference_of(space), _values(asked, space)
    paths = varied(space) | {path for path, of in values.items() if len(set(map(_key, of))) > 1}
    own = {path: {leaf for value in values[path] for leaf in by_path({path: value})} for path in filter(_may, paths)}
    own = {path: leaves for path, leaves in own.items() if not leaves & named.keys()}
    cases = [by_path(case) for case in (space.get("cases") or {}).values()]
    settings = {_key({path: value for path, value in case.items() if _may(path)}) for case in cases}
    alone = all(_may(path) for case in cases for path in case)
    if len(settings) > 1 and CASE not in named and (alone or paths - own.keys() - {CASE}):
        own[CASE] = {CASE}
    if space.get("confirm"):  # what a search chooses from is compared, unless its reference stands on several grounds
        stand = [one for one in map(by_path, references_of(space)) if named.items() <= one.items()]
        own = {path: of for path, of in own.items() if len({_key({p: one.get(p) for p in of}) for one in stand}) > 1}
    return set().union(*own.values()) if paths - own.keys() else set()


def _values(asked: Assignments, space: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Parameter -> the values that the question names, and those that its trials had."""
    parameters = space.get("parameters") or {}
    values = {path: list(about.get("values", [None])) for path, about in parameters.items()}
    for assignment in (*asked.values(), *references_of(space)):
        for path, value in assignment.items():
            values.setdefault(path, []).append(value)
    return values


def _may(path: str) -> bool:
    """Whether a parameter may make grounds."""
    return path.partition(".")[0] in GROUNDS


def _key(parameters: Mapping[str, Any]) -> str:
    return json.dumps(parameters, sort_keys=True, default=str)

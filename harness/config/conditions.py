"""What parameters and cases say of each other: conditions that can hold, and cases that stay what their names say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.config.parsing import parse_trial, with_heads_apart
from harness.config.schema import ConfigError, Problems, by_path, lies_in
from harness.config.space import CASE, Assignment, Parameter, Space, lookup
from harness.messages import closest


def check_conditions(space: Space, problems: Problems) -> None:
    """Notes conditions that never hold, values of them that never are, and cases that a parameter would change."""
    unreachable = space.unreachable()
    for parameter in space.parameters:
        place = f"parameters.{parameter.path}"
        if parameter in unreachable:
            problems.add(
                f"{place}.when", "never holds: no value of the parameters above it, nor of the trial, fulfils it"
            )
            continue
        for path, value, known in _unmatched(space, parameter):
            problems.add(f"{place}.when.{path}", f"nothing above it, nor the trial, has {value!r} there; {known}")
        for name, path in _replaced(space, parameter):
            free = [other for other in space.cases if not _paths(space.cases[other]) & _paths_of(parameter)]
            way_out = f", or write `when: {{case: [{', '.join(free)}]}}`" if free else ""
            problems.add(place, f"case {name!r} sets {path} too; take it out of one of the two{way_out}")


def _unmatched(space: Space, parameter: Parameter) -> Iterator[tuple[str, Any, str]]:
    """The values of a condition under which the parameter never exists: path, value, and what there is instead."""
    if not any(len(values) > 1 for values in parameter.when.values()):
        return  # it holds, and so with each of them
    seen: dict[str, list[Any]] = {path: [] for path in parameter.when}
    for assignment in space.above(parameter):
        try:
            tree = space.looked_at(assignment)
        except ConfigError:  # said where the configuration is parsed
            return
        there = {path: lookup(tree, path) for path in parameter.when}
        for path in seen:
            if all(there[other] in values for other, values in parameter.when.items() if other != path):
                seen[path].append(there[path])
    for path, values in parameter.when.items():
        named = any(isinstance(one, Mapping) and "name" in one for one in seen[path])
        plain = dict.fromkeys(str(one) for one in seen[path] if not isinstance(one, Mapping))
        for value in values:
            if value not in seen[path] and (named or not _is_possible(space, path, value)):
                yield path, value, f"write {path}.name" if named else closest(value, plain)


def _is_possible(space: Space, path: str, value: Any) -> bool:
    """Whether a trial could have a value there, though none here has: of a question that was made narrower."""
    if path == CASE:
        return value in space.cases
    problems = Problems()
    parse_trial(space.apply(space.trial, {path: value}), "trial", problems)
    places = [problem.partition(": ")[0].removeprefix("trial.") for problem in problems.found]
    return not any(lies_in(place, path) or lies_in(path, place) for place in places)


def _replaced(space: Space, parameter: Parameter) -> Iterator[tuple[str, str]]:
    """The cases of which a parameter would take the place of a setting, each with its path."""
    for name, case in space.cases.items():
        shared = _paths(case) & _paths_of(parameter)
        if shared:
            alone = (replace(one, values=(name,)) if one.path == CASE else one for one in space.parameters)
            if parameter not in replace(space, parameters=tuple(alone)).unreachable():
                yield name, min(shared)


def _paths_of(parameter: Parameter) -> set[str]:
    return set().union(*(_paths({parameter.path: value}) for value in parameter.extremes()))


def _paths(settings: Assignment) -> set[str]:
    """What settings set: their own paths and the leaves below these; a plugin and its name are one."""
    apart: Mapping[str, Any] = with_heads_apart(settings)
    names: Iterable[str] = (path.removesuffix(".name") for path in apart)
    return {*names, *by_path(apart)}

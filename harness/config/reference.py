"""The configuration that the others are compared with: that there is one, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.schema import NOT_ONE, SHOWN, Problems, by_path, to_number
from harness.config.space import Assignment, Parameter
from harness.messages import closest, cut


def check_reference(
    reference: Mapping[str, Any], known: Sequence[Assignment], open_to: Sequence[Parameter], problems: Problems
) -> None:
    """Notes a reference that is no configuration: one is it that has every value of it, and perhaps more.

    Args:
        reference: dotted paths below the trial -> values.
        known: what the configurations set.
        open_to: the parameters of a search whose configurations are not known in advance: `known` then holds every
            value of each, or the ends of its range, and any of these may come together.
        problems: notes what is wrong.
    """
    wanted, configurations = by_path(reference), [by_path(one) for one in known]
    if any(wanted.items() <= one.items() for one in configurations):
        return
    ranges = {parameter.path: parameter for parameter in open_to if not parameter.values}
    before = len(problems.found)
    for path, value in wanted.items():
        values = [one[path] for one in configurations if path in one]
        if not values:
            paths = dict.fromkeys(path for one in configurations for path in one)
            problems.add(f"reference.{path}", f"no parameter sets it; {closest(path, paths)}")
        elif value not in values and not (path in ranges and _within(ranges[path], value)):
            shown, near = cut(repr(value), SHOWN), closest(value, dict.fromkeys(map(str, values)))
            problems.add(f"reference.{path}", f"no configuration has {shown}; {near}")
    if len(problems.found) == before and not open_to:
        problems.add("reference", f"no configuration has all of {cut(repr(wanted), SHOWN)}; each has a part of it")


def _within(parameter: Parameter, value: Any) -> bool:
    number = to_number(float, value)
    return number is not NOT_ONE and parameter.low <= number <= parameter.high

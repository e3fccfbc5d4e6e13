"""The configuration that the others are compared with: that there is one, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.confirmation import Confirm
from harness.config.schema import SHOWN, Problems, by_path
from harness.config.space import Assignment, Parameter
from harness.config.tasks import Candidate
from harness.messages import closest, cut


def check_reference(
    reference: Mapping[str, Any], known: Sequence[Assignment], open_to: Sequence[Parameter], problems: Problems
) -> None:
    """Notes a reference that is no configuration: one is it that has every value of it, and perhaps more.

    Args:
        reference: dotted paths below the trial -> values.
        known: what the configurations set, as far as they are known in advance.
        open_to: the parameters of a search: any of their values may come together.
        problems: notes what is wrong.
    """
    if not reference:
        return
    wanted, configurations = by_path(reference), [by_path(one) for one in known]
    if any(wanted.items() <= one.items() for one in configurations):
        return
    ranges = {parameter.path: parameter for parameter in open_to if not parameter.values}
    configurations += [by_path({one.path: value}) for one in open_to for value in one.extremes()]
    before = len(problems.found)
    for path, value in wanted.items():
        values = [one[path] for one in configurations if path in one]
        if not values:
            paths = dict.fromkeys(path for one in configurations for path in one)
            problems.add(f"reference.{path}", f"no parameter sets it; {closest(path, paths)}")
        elif value not in values and not (path in ranges and ranges[path].in_range(value)):
            shown, near = cut(repr(value), SHOWN), closest(value, dict.fromkeys(map(str, values)))
            problems.add(f"reference.{path}", f"no configuration has {shown}; {near}")
    if len(problems.found) == before and not open_to:
        problems.add("reference", f"no configuration has all of {cut(repr(wanted), SHOWN)}; each has a part of it")


def check_confirmed(
    reference: Mapping[str, Any],
    confirm: Confirm,
    candidates: Sequence[Candidate],
    problems: Problems,
    *,
    stops: bool,
) -> None:
    """Notes a reference of a search that need not be confirmed, whichever come out best.

    Args:
        reference: of the question.
        confirm: what is confirmed.
        candidates: all that are known in advance; none of a Bayesian search.
        problems: notes it.
        stops: whether some of them may be stopped early, so that they are not chosen from.
    """
    wanted = by_path(reference)

    def fits(one: Assignment) -> bool:
        return wanted.items() <= by_path(one).items()

    last = [one.parameters for one in candidates if fits(one.parameters)]
    worst = [one.parameters for one in candidates if not fits(one.parameters)]  # for the reference: all others first
    if not stops or not worst:
        worst += last
    if wanted and not any(map(fits, [*confirm.references, *confirm.chosen(worst)])):
        shown = cut(repr(dict(reference)), SHOWN)
        problems.add("reference", f"{shown} is confirmed only if it is among the best; add it to confirm.references")

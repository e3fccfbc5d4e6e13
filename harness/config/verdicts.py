"""Which combinations of a question make a trial; where one makes none, which value is to blame, or the trial itself."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence

from harness.config.schema import ConfigError, Problems
from harness.config.space import LOOKED_AT, Assignment, Parameter, Space
from harness.config.tasks import Candidate

Value = tuple[str, str]
"""Path of a parameter and one of its values, as text."""


class Verdicts:
    """What each assignment makes: a configuration, or lines that say why it makes none. Each is looked at once."""

    def __init__(self, space: Space, check: Callable[[Assignment], Candidate]):
        self._space, self._check = space, check
        self._made: dict[str, Candidate | tuple[str, ...]] = {}
        self._lines: dict[str, str] = {}  # a mistake is in many combinations: each line is kept once

    def wrong(self, assignment: Assignment) -> tuple[str, ...]:
        """Why an assignment makes no trial; empty where it makes one."""
        made = self._of(assignment)
        return () if isinstance(made, Candidate) else made

    def candidates(self, assignments: Iterable[Assignment]) -> list[Candidate]:
        """What those make that make a trial."""
        return [made for made in map(self._of, assignments) if isinstance(made, Candidate)]

    def _of(self, assignment: Assignment) -> Candidate | tuple[str, ...]:
        name = name_of(assignment)
        if name not in self._made:
            try:
                self._made[name] = self._check(assignment)
            except ConfigError as error:
                self._made[name] = tuple(self._lines.setdefault(line, line) for line in error.problems)
        return self._made[name]

    def values(self, known: Sequence[Assignment], complete: bool, problems: Problems) -> list[Candidate]:
        """A configuration for each value of each parameter; notes values, or a trial, with which nothing is valid.

        Args:
            known: combinations of the space.
            complete: whether there are no others.
            problems: each mistake is one line.
        """
        probes = list(self._space.probes())
        suspects = [one for one in probes if self.wrong(one[2])]
        valid = self.candidates(probe for _, _, probe in probes)
        if suspects or any(map(self.wrong, known)):
            having: dict[Value, list[Assignment]] = {}
            for assignment in known:
                for value in _values(assignment):
                    having.setdefault(value, []).append(assignment)
            more = max(LOOKED_AT // max(len(suspects), 1), 20)
            tried = []
            for parameter, number, probe in suspects:
                value = _value(parameter.path, probe[parameter.path])
                there = [] if complete else list(itertools.islice(self._space.completions(parameter, probe), more))
                there = having.get(value, []) + there
                valid += self.candidates(there)[:1]
                tried.append((_place(parameter, number), value, self.wrong(probe), there))
            self._blame(tried, known, problems)
        return valid

    def _blame(
        self,
        tried: Sequence[tuple[str, Value, tuple[str, ...], list[Assignment]]],
        known: Sequence[Assignment],
        problems: Problems,
    ) -> None:
        """Notes what is wrong with a value in every combination that has it; looks past those that have a worse one."""
        blamed: set[Value] = set()
        everything = [*known, *itertools.chain.from_iterable(there for *_, there in tried)]
        while True:
            left = [one for one in everything if blamed.isdisjoint(_values(one))]
            bare = () if not left or self.candidates(left) else self.wrong({})
            shared = [line for line in bare if all(line in self.wrong(one) for one in left)]
            if shared:
                for line in shared:
                    problems.add("", line)
                return
            new: set[Value] = set()
            for place, value, lines, there in tried:
                rest = [one for one in there if blamed.isdisjoint(_values(one))]
                own = [line for line in lines if line not in bare and all(line in self.wrong(one) for one in rest)]
                if rest and own:
                    new.add(value)
                    for line in own:
                        problems.add(place, line)
            if not new:
                return
            blamed |= new

    def combinations(self, assignments: Iterable[Assignment], problems: Problems) -> None:
        """Notes, once for each reason, combinations that make no trial."""
        first: dict[str, Assignment] = {}
        number: dict[str, int] = {}
        for assignment in assignments:
            for line in self.wrong(assignment):
                first.setdefault(line, assignment)
                number[line] = number.get(line, 0) + 1
        for line, assignment in first.items():
            more = f" (and so with {number[line] - 1:,} more)" if number[line] > 1 else ""
            problems.add(f"parameters {json.dumps(assignment)}", f"{line}{more}")


def name_of(assignment: Assignment) -> str:
    """The same for the same settings."""
    return json.dumps(assignment, default=str)


def _value(path: str, value: object) -> Value:
    return path, json.dumps(value, sort_keys=True, default=str)


def _values(assignment: Assignment) -> list[Value]:
    return [_value(path, value) for path, value in assignment.items()]


def _place(parameter: Parameter, number: int) -> str:
    value = f".values[{number}]" if parameter.values else (".min", ".max")[number]
    return f"parameters.{parameter.path}{value}"

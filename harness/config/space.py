"""Parameters of a search: what may vary, and how it is drawn. The dialect of W&B's sweeps, keyed by dotted path.

ssl_method.temperature: {distribution: log_uniform_values, min: 0.05, max: 1.0}
pretrain.epochs:        {values: [5, 10, 20]}
ssl_method.queue_size:  {values: [1024, 4096], when: {ssl_method.name: moco_v2}}
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.config.conversion import to_number
from harness.config.parsing import RECIPE, with_heads_apart
from harness.config.recipes import merged
from harness.config.schema import ConfigError, Problems, lies_in, set_path
from harness.messages import closest

DISTRIBUTIONS = {
    "uniform": "every number from min to max is equally likely; the default unless both are whole",
    "int_uniform": "every whole number from min to max is equally likely; the default if both are whole",
    "log_uniform_values": "equal ratios are equally likely; min above 0",
    "q_uniform": "uniform, in steps of q above min",
    "q_log_uniform_values": "log_uniform_values, rounded to steps of q above min",
}
"""How a range is drawn from."""

PARAMETER_KEYS = {
    "values": "the choices: plain values, or mappings that set a whole plugin or section",
    "value": "short for one choice",
    "distribution": "how the range from min to max is drawn from; not for a grid",
    "min": "the smallest value, inclusive",
    "max": "the largest value, inclusive",
    "q": "values are steps of this size above min; above 0; of a q_ distribution 1 if left out",
    "when": "dotted path -> value or list of values: the parameter exists only where the trial has one of them; `case` "
    "is the case's name",
}
"""What a parameter may say."""

MAX_COMBINATIONS = 10_000
LOOKED_AT = 500
"""So many combinations of a Bayesian search are checked before it starts, which takes some seconds."""

CASE = "case"
"""The parameter that `cases:` makes: its values are the names of the cases."""

Assignment = dict[str, Any]
"""Dotted path -> chosen value."""


@dataclass(frozen=True)
class Parameter:
    """One thing that varies.

    Attributes:
        path: dotted path below the trial.
        values: the choices; empty where a distribution is given.
        distribution: one of DISTRIBUTIONS, or None.
        low: smallest value of the distribution, inclusive.
        high: largest value, inclusive.
        step: values are multiples of it above `low`; None for a continuous range.
        when: the parameter exists only where each of these paths has one of these values.
    """

    path: str
    values: tuple[Any, ...] = ()
    distribution: str | None = None
    low: float = 0
    high: float = 0
    step: float | None = None
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As a search-space file says it."""
        if self.values:
            about: dict[str, Any] = {"values": list(self.values)}
        else:
            step = {"q": self.step} if self.step else {}
            about = {"distribution": self.distribution, "min": self.low, "max": self.high, **step}
        when = {"when": {path: list(values) for path, values in self.when.items()}} if self.when else {}
        return about | when

    @property
    def logarithmic(self) -> bool:
        """Whether equal ratios are equally likely."""
        return "log" in (self.distribution or "")

    def extremes(self) -> tuple[Any, ...]:
        """The values to try when checking that all values are possible: the choices, or the ends of the range."""
        return self.values or (self.low, self._rounded(self.high))

    def in_range(self, value: Any) -> bool:
        """Whether a value is one of the range, if this has one."""
        number = to_number(float, value)
        if self.values or not isinstance(number, float) or not self.low <= number <= self.high:
            return False
        step = 1 if self.distribution == "int_uniform" else self.step
        return not step or math.isclose((number - self.low) / step, round((number - self.low) / step))

    def draw(self, rng: random.Random) -> Any:
        """One value at random."""
        if self.values:
            return rng.choice(self.values)
        if self.distribution == "int_uniform":
            return rng.randint(int(self.low), int(self.high))
        if self.step and not self.logarithmic:
            return self._at_step(rng.randint(0, self._steps))
        low, high = (math.log(self.low), math.log(self.high)) if self.logarithmic else (self.low, self.high)
        value = rng.uniform(low, high)
        return self._rounded(math.exp(value) if self.logarithmic else value)

    def suggest(self, trial: Suggester) -> Any:
        """One value by Optuna."""
        if self.values:
            labels = [json.dumps(value, sort_keys=True) for value in self.values]
            return self.values[labels.index(trial.suggest_categorical(self.path, labels))]
        if self.distribution == "int_uniform":
            return trial.suggest_int(self.path, int(self.low), int(self.high))
        if self.step and not self.logarithmic:  # counted in steps: whole numbers stay whole
            return self._at_step(trial.suggest_int(self.path, 0, self._steps))
        return self._rounded(trial.suggest_float(self.path, self.low, self.high, log=self.logarithmic))

    @property
    def _steps(self) -> int:
        """How many steps fit into the range; 1e-9 forgives 0.3 / 0.1 = 2.999..."""
        assert self.step
        return math.floor((self.high - self.low) / self.step + 1e-9)

    def _at_step(self, number: int) -> float:
        assert self.step
        return min(self.low + number * self.step, self.high)

    def _rounded(self, value: float) -> float:
        """To the nearest step, and into the range."""
        if self.step:
            return self._at_step(min(max(round((value - self.low) / self.step), 0), self._steps))
        return min(max(value, self.low), self.high)


class Suggester(Protocol):
    """What is used of an Optuna trial."""

    def suggest_categorical(self, name: str, choices: list[str]) -> str:
        """One of the choices."""
        ...

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole number in low .. high."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in [low, high]."""
        ...


@dataclass(frozen=True)
class Space:
    """All parameters of a search over one trial.

    Attributes:
        parameters: in the order of the file; a condition looks only at those before it.
        trial: the trial's mapping, complete with defaults; conditions look at it too.
        cases: named groups of settings, dotted path -> value; the parameter CASE chooses one of them.
        under: for each recipe that parameters and cases may choose, the trial's mapping complete under that recipe.
        alone: whether the trial is one without any of the parameters.
    """

    parameters: tuple[Parameter, ...]
    trial: Mapping[str, Any]
    cases: Mapping[str, Assignment] = field(default_factory=dict)
    under: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    alone: bool = True

    def apply(self, tree: Mapping[str, Any], assignment: Assignment) -> dict[str, Any]:
        """The trial's mapping with the assigned values in it; a shorter path is set before those below it.

        A mapping that names nothing, such as `pretrain: {lr: 0.1}`, changes what it holds and leaves the rest of the
        section as it is; a plugin that is named takes the place of the one that was there. A list of heads sets all of
        them, a single one the first.

        Raises:
            ConfigError: there is nothing below which a path leads.
        """
        copy: dict[str, Any] = json.loads(json.dumps(tree))
        settings = self._settings(assignment)
        for path in sorted(settings, key=lambda path: path.count(".")):
            if path != CASE:
                set_path(copy, path, _over(lookup(copy, path), settings[path]))
        return copy

    def _settings(self, assignment: Assignment) -> Assignment:
        """What an assignment sets, the settings of its case among them; several heads apart, as in the trial."""
        case: Assignment = with_heads_apart(self.cases.get(assignment.get(CASE, ""), {}))
        return case | with_heads_apart(assignment)

    def knows_case(self, assignment: Assignment, place: str, problems: Problems) -> bool:
        """Whether the case of an assignment that a person wrote, if it has one, is one of `cases`; else it is noted."""
        case = assignment.get(CASE)
        if CASE not in assignment or (isinstance(case, str) and case in self.cases):
            return True
        problems.add(f"{place}.{CASE}", f"there is no case {case!r}; {closest(case, self.cases)}")
        return False

    def active(self, parameter: Parameter, assignment: Assignment) -> bool:
        """Whether the parameter's condition holds under an assignment, or this is none that makes a trial."""
        if not parameter.when:
            return True
        try:
            tree = self.looked_at(assignment)
        except ConfigError:  # said where the configuration is parsed
            return True
        return all(lookup(tree, path) in values for path, values in parameter.when.items())

    def looked_at(self, assignment: Assignment) -> dict[str, Any]:
        """What conditions look at under an assignment: the trial's mapping, and the name of the case.

        Raises:
            ConfigError: as of `apply`.
        """
        recipe = self._settings(assignment).get(RECIPE)
        trial = self.under.get(recipe, self.trial) if isinstance(recipe, str) else self.trial
        return self.apply(trial, assignment) | {CASE: assignment.get(CASE)}

    def grid(self, most: int = MAX_COMBINATIONS) -> list[Assignment]:
        """Every combination of values, of a range those of its ends, the last parameter varying fastest.

        Raises:
            ValueError: there are more than so many.
        """
        combinations: list[Assignment] = [{}]
        for parameter in self.parameters:
            extended: list[Assignment] = []
            for assignment in combinations:
                if self.active(parameter, assignment):
                    extended += [assignment | {parameter.path: value} for value in parameter.extremes()]
                else:
                    extended.append(assignment)
                if len(extended) > most:
                    raise ValueError(f"a grid of more than {most:,} combinations; use method random or bayes")
            combinations = extended
        return combinations

    def combinations(self, number: int = LOOKED_AT) -> list[Assignment]:
        """Every combination as of `grid`; where there are more than so many, as many at random."""
        try:
            return self.grid(number)
        except ValueError:
            rng = random.Random(0)
            return [self._assign(lambda parameter: rng.choice(parameter.extremes())) for _ in range(number)]

    def draws(self, seed: int) -> Iterator[Assignment]:
        """Random assignments without end; the same for the same seed."""
        rng = random.Random(seed)
        while True:
            yield self._assign(lambda parameter: parameter.draw(rng))

    def suggest(self, trial: Suggester) -> Assignment:
        """An assignment by Optuna."""
        return self._assign(lambda parameter: parameter.suggest(trial))

    def probes(self) -> Iterator[tuple[Parameter, int, Assignment]]:
        """For every value of every parameter that can exist, an assignment under which it does."""
        for parameter in self.parameters:
            base = self._satisfy(parameter)
            if base is None:
                continue
            for index, value in enumerate(parameter.extremes()):
                yield parameter, index, base | {parameter.path: value}

    def completions(self, parameter: Parameter, probe: Assignment) -> Iterator[Assignment]:
        """Combinations with a parameter's value: first the others one by one, then at random, of ranges the ends.

        Args:
            parameter: that one.
            probe: its value, below what it depends on.
        """
        for other in self.parameters:
            for value in other.extremes():
                fixed = {other.path: value} | probe
                yield self._assign(lambda one, fixed=fixed: fixed.get(one.path, one.extremes()[0]))
        rng = random.Random(0)
        for _ in range(LOOKED_AT):
            one = self._assign(lambda p: probe[p.path] if p is parameter else rng.choice(p.extremes()))
            if parameter.path in one:
                yield one

    def _assign(self, choose: Any) -> Assignment:
        assignment: Assignment = {}
        for parameter in self.parameters:
            if self.active(parameter, assignment):
                assignment[parameter.path] = choose(parameter)
        return assignment

    def unreachable(self) -> list[Parameter]:
        """The parameters whose condition no assignment of the parameters before them fulfils."""
        return [parameter for parameter in self.parameters if self._satisfy(parameter) is None]

    def _satisfy(self, parameter: Parameter) -> Assignment | None:
        """The first assignment of the parameters before this one under which it exists; None if there is none."""
        if not parameter.when:
            return {}
        return next((above for above in self.above(parameter) if self.active(parameter, above)), None)

    def above(self, parameter: Parameter) -> Iterator[Assignment]:
        """Assignments of the parameters before this one that its condition looks at, of a range what decides it."""
        before = itertools.takewhile(lambda one: one.path != parameter.path, self.parameters)
        relevant = [p for p in before if any(self._sets(p, path) for path in parameter.when)]
        tried = [(*p.extremes(), *filter(p.in_range, parameter.when.get(p.path, ()))) for p in relevant]
        for choice in itertools.islice(itertools.product(*tried), MAX_COMBINATIONS):
            assignment = dict(zip((p.path for p in relevant), choice, strict=True))
            for p in relevant:
                assignment = (self._satisfy(p) or {}) | assignment
            if all(self.active(p, assignment) for p in relevant):
                yield assignment

    def _sets(self, parameter: Parameter, path: str) -> bool:
        """Whether a parameter decides what lies at a path; a condition on a path below a value sees that value."""
        paths = [parameter.path]
        if parameter.path == CASE:
            paths += [path for case in self.cases.values() for path in case]
        return RECIPE in paths or any(lies_in(path, own) for own in paths)


def _over(present: Any, given: Any) -> Any:
    names = isinstance(given, Mapping) and not given.keys().isdisjoint(("name", "kind"))
    return merged(present, given) if isinstance(given, Mapping) and not names else given


def lookup(tree: Any, path: str) -> Any:
    """The value at a dotted path; a plugin's shorthand has its name at `.name`; None where there is nothing."""
    for key in path.split("."):
        if isinstance(tree, str) and key == "name":
            return tree
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return tree


def parse_cases(value: Any, path: str, problems: Problems) -> dict[str, Assignment]:
    """The `cases:` section: name -> settings by dotted path; problems are noted."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not value:
        problems.add(path, f"expected a mapping from names to settings, not {value!r}")
        return {}
    for name, settings in value.items():
        if not isinstance(settings, Mapping):
            problems.add(f"{path}.{name}", f"expected settings by dotted path, not {settings!r}")
            return {}
    return {str(name): {str(key): item for key, item in settings.items()} for name, settings in value.items()}


def parse_parameters(value: Any, path: str, method: str, problems: Problems) -> tuple[Parameter, ...]:
    """The `parameters:` section; problems are noted."""
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        problems.add(path, f"expected a mapping from dotted paths to values, not {value!r}")
        return ()
    parsed = [_parse(str(name), about, f"{path}.{name}", method, problems) for name, about in value.items()]
    return tuple(parameter for parameter in parsed if parameter)


def _parse(name: str, about: Any, place: str, method: str, problems: Problems) -> Parameter | None:
    if not isinstance(about, Mapping):
        problems.add(place, f"expected {{values: [...]}} or {{min, max}}, not {about!r}; write {{values: [{about}]}}")
        return None
    if name == "seed":
        problems.add(place, "no parameter of a trial; write `seeds: [0, 1, 2]` beside `parameters`")
        return None
    for key in about:
        if key == "parameters" and isinstance(about[key], Mapping):
            inner = next(iter(about[key]), "KEY")
            problems.add(f"{place}.{key}", f"parameters are not nested; write the whole path, as in {name}.{inner}")
            return None
        if key not in PARAMETER_KEYS:
            problems.add(f"{place}.{key}", f"no such key; {closest(key, PARAMETER_KEYS)}")
            return None
    conditions = about.get("when", {})
    if not isinstance(conditions, Mapping):
        problems.add(f"{place}.when", f"expected a mapping from dotted paths to values, not {conditions!r}")
        return None
    when = {path: tuple(values) if isinstance(values, list) else (values,) for path, values in conditions.items()}
    if "value" in about or "values" in about:
        beside = [key for key in about if key not in ("when", "values" if "values" in about else "value")]
        if beside:
            problems.add(f"{place}.{beside[0]}", "has no meaning beside a list of values; leave one of the two out")
            return None
        values = about.get("values", [about.get("value")])
        if not isinstance(values, list) or not values:
            problems.add(f"{place}.values", f"expected a list with at least one value, not {values!r}")
            return None
        if len({json.dumps(value, sort_keys=True, default=str) for value in values}) < len(values):  # true is not 1
            problems.add(f"{place}.values", "holds a value twice")
        return Parameter(name, tuple(values), when=when)
    if method == "grid":
        problems.add(place, "a grid needs `values`; use method random or bayes for a range")
        return None
    return _parse_range(name, about, place, when, problems)


def _parse_range(
    name: str, about: Mapping[str, Any], place: str, when: Mapping[str, tuple[Any, ...]], problems: Problems
) -> Parameter | None:
    low, high = (to_number(float, about.get(key)) for key in ("min", "max"))
    if not isinstance(low, float) or not isinstance(high, float):
        problems.add(place, "needs `values`, or `min` and `max` as numbers")
        return None
    whole = isinstance(about["min"], int) and isinstance(about["max"], int)
    distribution = about.get("distribution", "int_uniform" if whole else "uniform")
    if distribution in ("log_uniform", "q_log_uniform"):
        problems.add(
            f"{place}.distribution", f"{distribution} takes exponents; write {distribution}_values, which takes values"
        )
        return None
    if not isinstance(distribution, str) or distribution not in DISTRIBUTIONS:
        problems.add(
            f"{place}.distribution", f"no distribution {distribution!r}; {closest(distribution, DISTRIBUTIONS)}"
        )
        return None
    step = to_number(float, about["q"]) if "q" in about else (1.0 if distribution.startswith("q_") else None)
    if not low < high:
        problems.add(place, f"min {about['min']} must be below max {about['max']}")
    elif "log" in distribution and low <= 0:
        problems.add(f"{place}.min", f"{about['min']} must be above 0 for a logarithmic range")
    elif distribution == "int_uniform" and not (low.is_integer() and high.is_integer()):
        problems.add(place, f"int_uniform needs whole numbers, not {about['min']} and {about['max']}")
    elif step is not None and not (isinstance(step, float) and 0 < step <= high - low):
        problems.add(f"{place}.q", f"{about.get('q')!r} must be above 0 and at most max - min")
    else:
        if distribution == "int_uniform":
            return Parameter(name, (), distribution, int(low), int(high), None, when)
        if step is not None and whole and step.is_integer():
            return Parameter(name, (), distribution, int(low), int(high), int(step), when)
        return Parameter(name, (), distribution, low, high, step, when)
    return None

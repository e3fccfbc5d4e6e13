"""What varies and how it is drawn: order, conditions, ranges, Optuna's suggestions."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from typing import Any

import optuna
import pytest

from harness.config.schema import Problems
from harness.config.space import CASE, Parameter, Space, lookup, parse_cases, parse_parameters

DRAWS = 4000


def space(
    parameters: dict[str, Any], trial: dict[str, Any] | None = None, cases: dict[str, Any] | None = None
) -> Space:
    problems = Problems()
    parsed = parse_parameters(parameters, "parameters", "random", problems)
    named = parse_cases(cases, "cases", problems)
    problems.raise_any()
    if named:
        parsed = (Parameter(CASE, tuple(named)), *parsed)
    return Space(parsed, trial or {}, named)


def drawn(about: dict[str, Any], seed: int = 0) -> list[Any]:
    draws = space({"x": about}).draws(seed)
    return [assignment["x"] for assignment in itertools.islice(draws, DRAWS)]


class FakeTrial:
    """Answers like an Optuna trial, always at the same share of the range, and notes what was asked."""

    def __init__(self, share: float):
        self.share = share
        self.asked: list[str] = []

    def suggest_categorical(self, name: str, choices: list[str]) -> str:
        self.asked.append(name)
        assert all(isinstance(choice, str) for choice in choices), "Optuna stores plain values only"
        return choices[min(int(self.share * len(choices)), len(choices) - 1)]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.asked.append(name)
        return low + round(self.share * (high - low))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked.append(name)
        if log:
            return math.exp(math.log(low) + self.share * (math.log(high) - math.log(low)))
        return low + self.share * (high - low)


CONDITIONAL = {
    "method.name": {"values": ["a", "b"]},
    "method.queue": {"values": [1, 2], "when": {"method.name": "b"}},
    "method.depth": {"values": [7, 8], "when": {"method.name": "b", "method.queue": [2, 3]}},
    "size": {"values": [10, 20]},
}


def test_a_grid_varies_the_last_parameter_fastest():
    grid = space({"x": {"values": [1, 2]}, "y": {"values": ["a", "b"]}, "z": {"value": 0}}).grid()
    assert grid == [{"x": x, "y": y, "z": 0} for x in (1, 2) for y in ("a", "b")]


def test_a_grid_follows_conditions():
    expected = []
    for size in (10, 20):
        expected += [{"method.name": "a", "size": size}, {"method.name": "b", "method.queue": 1, "size": size}]
        for depth in (7, 8):
            expected.append({"method.name": "b", "method.queue": 2, "method.depth": depth, "size": size})
    grid = space(CONDITIONAL).grid()
    assert len(grid) == len(expected) == 8
    assert all(assignment in grid for assignment in expected)


def test_a_condition_also_looks_at_the_trial():
    parameters = {"x": {"values": [1, 2], "when": {"method.name": "a"}}}
    assert space(parameters, {"method": "a"}).grid() == [{"x": 1}, {"x": 2}]
    assert space(parameters, {"method": {"name": "b"}}).grid() == [{}]


def test_an_empty_space_has_one_assignment():
    assert space({}).grid() == [{}]


# ---------------------------------------------------------------- random draws


def test_uniform_draws_fill_their_range():
    values = drawn({"min": 0.5, "max": 2.5})
    assert all(0.5 <= value <= 2.5 for value in values)
    # The mean of 4,000 uniform draws of width 2 has a standard error of 0.009.
    assert statistics.fmean(values) == pytest.approx(1.5, abs=0.05)
    assert min(values) < 0.51
    assert max(values) > 2.49


def test_log_uniform_draws_have_the_geometric_mean_as_median():
    values = drawn({"min": 1e-4, "max": 1.0, "distribution": "log_uniform_values"})
    assert all(1e-4 <= value <= 1 for value in values)
    # log10 of the median is -2 with a standard error of 4 / (2 sqrt(4000)) = 0.03.
    assert math.log10(statistics.median(values)) == pytest.approx(-2, abs=0.15)
    assert sum(value < 1e-3 for value in values) / DRAWS == pytest.approx(0.25, abs=0.04)


def test_whole_draws_are_equally_likely_and_include_both_ends():
    values = drawn({"min": 3, "max": 6})
    assert {type(value) for value in values} == {int}
    for value in (3, 4, 5, 6):
        assert values.count(value) / DRAWS == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"min": 0.0, "max": 1.0, "q": 0.25}, [0, 0.25, 0.5, 0.75, 1]),
        ({"min": 0.0, "max": 0.3, "q": 0.1}, [0, 0.1, 0.2, 0.3]),  # 0.3 / 0.1 is 2.999...
        ({"min": 0.0, "max": 1.0, "q": 0.35}, [0, 0.35, 0.7]),  # the largest multiple, not the end
        ({"min": 10, "max": 50, "q": 20}, [10, 30, 50]),
    ],
)
def test_stepped_draws_are_equally_likely_multiples(about, expected):
    values = drawn(about | {"distribution": "q_uniform"})
    for value in expected:
        share = sum(abs(v - value) < 1e-9 for v in values) / DRAWS
        assert share == pytest.approx(1 / len(expected), abs=0.04)
    assert {type(value) for value in values} == {type(about["q"])}
    assert max(values) <= about["max"]


def test_stepped_logarithmic_draws_prefer_the_small():
    values = drawn({"min": 8, "max": 1024, "q": 8, "distribution": "q_log_uniform_values"})
    assert all(type(value) is int and value % 8 == 0 and 8 <= value <= 1024 for value in values)
    assert sum(value < 90 for value in values) / DRAWS == pytest.approx(0.5, abs=0.05)  # 90 = sqrt(8 * 1024)


def test_choices_are_equally_likely():
    values = drawn({"values": ["a", {"name": "b", "size": 3}]})
    assert values.count("a") / DRAWS == pytest.approx(0.5, abs=0.04)
    assert {"name": "b", "size": 3} in values


def test_true_and_one_are_different_choices():
    """`backbone.freeze: {values: [true, 1]}` is all of an encoder, or its first stage."""
    problems = Problems()
    (parameter,) = parse_parameters(
        {"backbone.freeze": {"values": [True, 1, 0, False]}}, "parameters", "grid", problems
    )
    assert (problems.found, parameter.values) == ([], (True, 1, 0, False))


def test_the_same_seed_gives_the_same_draws():
    about = {"min": 1e-4, "max": 1.0, "distribution": "log_uniform_values"}
    assert drawn(about, seed=3) == drawn(about, seed=3)
    assert drawn(about, seed=3) != drawn(about, seed=4)


def test_draws_follow_conditions():
    assignments = list(itertools.islice(space(CONDITIONAL).draws(0), 400))
    assert {frozenset(assignment.items()) for assignment in assignments} == {
        frozenset(assignment.items()) for assignment in space(CONDITIONAL).grid()
    }


# ---------------------------------------------------------------- Optuna


RANGES: list[tuple[dict[str, Any], Callable[[Any], bool]]] = [
    ({"min": 0.5, "max": 2.5}, lambda v: isinstance(v, float) and 0.5 <= v <= 2.5),
    ({"min": 3, "max": 6}, lambda v: v in (3, 4, 5, 6) and isinstance(v, int)),
    ({"min": 1e-4, "max": 1, "distribution": "log_uniform_values"}, lambda v: 1e-4 <= v <= 1),
    ({"min": 10, "max": 50, "q": 20, "distribution": "q_uniform"}, lambda v: v in (10, 30, 50) and isinstance(v, int)),
    ({"min": 0, "max": 1.0, "q": 0.35, "distribution": "q_uniform"}, lambda v: v in (0, 0.35, 0.7)),
    (
        {"min": 8, "max": 1000, "q": 8, "distribution": "q_log_uniform_values"},
        lambda v: isinstance(v, int) and v % 8 == 0 and 8 <= v <= 1000,
    ),
    ({"values": ["a", {"name": "b"}, None, 3]}, lambda v: v in ("a", {"name": "b"}, None, 3)),
]


@pytest.mark.parametrize(("about", "valid"), RANGES)
@pytest.mark.parametrize("share", [0.0, 0.37, 1.0])
def test_suggestions_are_values_of_the_range(about, valid, share):
    assert valid(space({"x": about}).suggest(FakeTrial(share))["x"])


@pytest.mark.parametrize(("about", "valid"), RANGES)
def test_probes_are_values_of_the_range(about, valid):
    assert all(valid(assignment["x"]) for _, _, assignment in space({"x": about}).probes())


def test_suggestions_ask_only_for_what_exists():
    fake = FakeTrial(0.0)
    assert space(CONDITIONAL).suggest(fake) == {"method.name": "a", "size": 10}
    assert fake.asked == ["method.name", "size"]
    fake = FakeTrial(1.0)
    assert space(CONDITIONAL).suggest(fake) == {
        "method.name": "b",
        "method.queue": 2,
        "method.depth": 8,
        "size": 20,
    }


@pytest.mark.filterwarnings("error")
def test_tpe_finds_the_better_branch_of_a_conditional_space():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searched = space(
        {
            "method": {"values": ["a", {"name": "b", "size": 3}]},
            "rate": {"min": 1e-3, "max": 1.0, "distribution": "log_uniform_values", "when": {"method.name": "b"}},
            "width": {"min": 8, "max": 64, "q": 8, "distribution": "q_uniform"},
            "depth": {"min": 1, "max": 9},
        }
    )
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    tried = []
    for _ in range(40):
        trial = study.ask()
        assignment = searched.suggest(trial)
        assert ("rate" in assignment) == (assignment["method"] != "a")
        assert type(assignment["width"]) is int
        score = 0.0 if assignment["method"] == "a" else 1 - abs(math.log10(assignment["rate"]) + 1)
        study.tell(trial, score)
        tried.append((score, assignment))
    assert max(tried, key=lambda pair: pair[0])[0] > 0.8
    later = [assignment["method"] for _, assignment in tried[20:]]
    assert later.count("a") < len(later) / 2


# ---------------------------------------------------------------- cases, values that are mappings, probes


def test_cases_are_one_axis_and_set_several_paths():
    cases = {"plain": {}, "pair": {"method": "b", "labels.start": 5}}
    searched = space({"seedling": {"values": [1]}}, {"method": "a", "labels": {"start": 9, "budget": 2}}, cases)
    assert searched.grid() == [{CASE: "plain", "seedling": 1}, {CASE: "pair", "seedling": 1}]
    plain, pair = (searched.apply(searched.trial, assignment) for assignment in searched.grid())
    assert plain == {"method": "a", "labels": {"start": 9, "budget": 2}, "seedling": 1}
    assert pair == {"method": "b", "labels": {"start": 5, "budget": 2}, "seedling": 1}


def test_a_parameter_overrides_its_case():
    searched = space({"method.size": {"values": [4]}}, {}, {"one": {"method": {"name": "b", "size": 3}}})
    (assignment,) = searched.grid()
    assert searched.apply({}, assignment) == {"method": {"name": "b", "size": 4}}


def test_a_mapping_that_names_nothing_leaves_the_rest_of_its_section_as_it_is():
    cases = {
        "slow": {"pretrain": {"lr": 0.1}, "method": {"size": 2}},
        "other": {"method": {"name": "b"}, "new": {"x": 1}},
    }
    searched = space({"pretrain": {"values": [{"epochs": 9}]}}, {}, cases)
    tree = {"pretrain": {"epochs": 5, "optimizer": "adam"}, "method": {"name": "a", "temperature": 0.2}}
    slow, other = (searched.apply(tree, assignment) for assignment in searched.grid())
    assert slow["method"] == {"name": "a", "temperature": 0.2, "size": 2}
    assert slow["pretrain"] == other["pretrain"] == {"epochs": 9, "optimizer": "adam"}  # a parameter overrides its case
    assert other["method"] == {"name": "b"}
    assert other["new"] == {"x": 1}
    only_case = space({}, {}, cases)
    assert only_case.apply({**tree, "method": "a"}, {CASE: "slow"}) == {
        "pretrain": {"epochs": 5, "optimizer": "adam", "lr": 0.1},
        "method": {"name": "a", "size": 2},
    }


def test_shorter_paths_are_set_before_those_below_them():
    searched = space({"method.size": {"values": [4]}, "method": {"values": [{"name": "b", "depth": 2}]}})
    (assignment,) = searched.grid()
    assert searched.apply({}, assignment) == {"method": {"name": "b", "depth": 2, "size": 4}}


def test_applying_changes_neither_the_tree_nor_the_choices():
    searched = space({"method": {"values": [{"name": "b"}]}, "method.size": {"values": [1, 2]}})
    tree = {"method": {"name": "a"}}
    results = [searched.apply(tree, assignment) for assignment in searched.grid()]
    assert results == [{"method": {"name": "b", "size": size}} for size in (1, 2)]
    assert tree == {"method": {"name": "a"}}
    assert searched.parameters[0].values == ({"name": "b"},)


def test_probes_reach_conditional_parameters():
    searched = space(CONDITIONAL)
    seen = {(parameter.path, number) for parameter, number, _ in searched.probes()}
    assert seen == {(path, number) for path in CONDITIONAL for number in (0, 1)}
    for parameter, _, assignment in searched.probes():
        assert searched.active(parameter, assignment)
    assert not searched.unreachable()


def test_combinations_are_all_with_the_ends_of_ranges_or_random_ones_where_there_are_more():
    searched = space({"x": {"values": ["a", "b"]}, "y": {"min": 1, "max": 9, "when": {"x": "b"}}}, {"x": "a"})
    assert searched.combinations(3) == [{"x": "a"}, {"x": "b", "y": 1}, {"x": "b", "y": 9}]
    few = searched.combinations(2)
    assert len(few) == 2
    assert all(one in searched.combinations(3) for one in few)
    many = space({name: {"min": 0.1, "max": 0.9} for name in "abcdefghijklmnop"})
    assert {one["p"] for one in many.combinations(50)} == {one["a"] for one in many.combinations(50)} == {0.1, 0.9}
    assert many.combinations(50) == many.combinations(50)


def test_probes_reach_parameters_of_a_case():
    cases = {"a": {"method": "a"}, "b": {"method": "b"}}
    searched = space({"method.size": {"values": [1], "when": {"method.name": "b"}}}, {"method": "a"}, cases)
    assert {CASE: "b", "method.size": 1} in [assignment for _, _, assignment in searched.probes()]


def test_a_condition_on_something_later_or_unknown_is_unreachable():
    searched = space({"x": {"values": [1], "when": {"y": 2}}, "y": {"values": [2]}})
    assert [parameter.path for parameter in searched.unreachable()] == ["x"]
    assert [assignment for _, _, assignment in searched.probes()] == [{"y": 2}]


@pytest.mark.parametrize(
    ("path", "value"),
    [("a", "simclr"), ("a.name", "simclr"), ("b.name", "moco"), ("b.size", 3), ("a.size", None), ("c.d", None)],
)
def test_lookup(path, value):
    assert lookup({"a": "simclr", "b": {"name": "moco", "size": 3}}, path) == value

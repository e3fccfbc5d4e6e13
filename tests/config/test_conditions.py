"""A case runs what its name says, and a condition holds for each value that it lists; else one line says why not."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config.plan import load_plan
from harness.config.schema import ConfigError

LABELS = {"start": 20, "budget": 20, "rounds": 1}
CASES = {"random": {"selector": "random"}, "badge_on_ridge": {"selector": "badge", "classifier": "ridge"}}


def ask(parameters: dict[str, Any], cases: dict[str, Any] | None = None, **question: Any) -> Any:
    asked = {"trial": {"labels": LABELS}, "parameters": parameters, **question}
    return load_plan(asked | ({"cases": cases} if cases else {}), {})


def refused(*args: Any, **question: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        ask(*args, **question)
    return caught.value.problems


BOTH = [
    (CASES, "selector", ["random", "margin"], "selector"),
    (CASES, "selector.name", ["random", "margin"], "selector"),
    ({"a": {"selector.name": "badge"}}, "selector", ["random", "margin"], "selector"),
    ({"a": {"selector": {"name": "coreset", "pool_subset": 500}}}, "selector.pool_subset", [200, 300],
     "selector.pool_subset"),
    ({"a": {"pretrain": {"lr": 0.1}}}, "pretrain.lr", [0.2, 0.3], "pretrain.lr"),
    ({"a": {"pretrain.lr": 0.1}}, "pretrain", [{"lr": 0.2}, {"lr": 0.3}], "pretrain.lr"),
    ({"a": {"pretrain": {"epochs": 5}}}, "pretrain", [{"lr": 0.2}, {"lr": 0.3}], "pretrain"),
    ({"a": {"classifier": ["logistic", "knn"]}}, "classifier", ["ridge", "svm"], "classifier"),
    ({"a": {"classifier": ["logistic", "knn"]}}, "beside", [["ridge"], ["svm"]], "beside"),
]  # fmt: skip


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
@pytest.mark.parametrize(("cases", "path", "values", "shared"), BOTH)
def test_what_a_case_sets_no_parameter_replaces(method, cases, path, values, shared):
    search = {} if method == "grid" else {"method": method, "run_cap": 3}
    problems = refused({path: {"values": values}}, cases, **search)
    assert len(problems) == len(cases)
    for name, problem in zip(cases, problems, strict=True):
        assert problem.startswith(f"parameters.{path}: case {name!r} sets {shared} too; take it out of one of the two")


def test_a_range_replaces_nothing_of_a_case_either():
    problems = refused(
        {"pretrain.lr": {"min": 0.1, "max": 0.2}}, {"a": {"pretrain.lr": 0.3}}, method="bayes", run_cap=3
    )
    assert problems == ["parameters.pretrain.lr: case 'a' sets pretrain.lr too; take it out of one of the two"]


BESIDE = [
    ({"a": {"ssl_method": "simclr"}}, "ssl_method.temperature", [0.1, 0.2]),
    ({"a": {"selector.pool_subset": 500}}, "selector", ["random", "margin"]),
    ({"a": {"pretrain": {"epochs": 5}}}, "pretrain.lr", [0.2, 0.3]),
    ({"a": {"recipe": "simclr/small"}}, "pretrain.epochs", [5, 6]),
]


@pytest.mark.parametrize(("cases", "path", "values"), BESIDE)
def test_a_parameter_may_set_what_lies_below_or_beside(cases, path, values):
    assert len(ask({path: {"values": values}}, cases).candidates) == 2


def test_a_parameter_that_exists_where_the_case_sets_nothing_is_the_way_out():
    (problem,) = refused({"selector": {"values": ["random", "margin"]}}, CASES | {"free": {}})[:1]
    assert problem.endswith("take it out of one of the two, or write `when: {case: [free]}`")
    free = {"selector": {"values": ["margin", "coreset"], "when": {"case": ["free"]}}}
    plan = ask(free, CASES | {"free": {}})
    assert [(one.parameters["case"], one.trial.selector.name) for one in plan.candidates] == [
        ("random", "random"), ("badge_on_ridge", "badge"), ("free", "margin"), ("free", "coreset")
    ]  # fmt: skip


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
def test_a_condition_may_name_a_case(method):
    search = {} if method == "grid" else {"method": method, "run_cap": 30}
    cases = {"A": {"ssl_method": "simclr"}, "B": {"ssl_method": "byol"}}
    plan = ask({"pretrain.epochs": {"values": [1, 2], "when": {"case": "A"}}}, cases, **search)
    assert {one.parameters["case"] for one in plan.some_candidates() if "pretrain.epochs" in one.parameters} == {"A"}
    assert load_plan(plan.as_dict(), {}).as_dict() == plan.as_dict()


METHODS = {"ssl_method.name": {"values": ["simclr", "moco_v2", "byol"]}}
UNMATCHED = [
    ({"ssl_method.name": ["moco_v2", "boyl"]}, "ssl_method.name: nothing above it, nor the trial, has 'boyl' there; "
     "did you mean 'byol'?"),
    ({"ssl_method.name": "moco_v2", "labels.start": [20, -3]}, "labels.start: nothing above it, nor the trial, has -3"),
    ({"ssl_method.nam": ["moco_v2", None]}, "ssl_method.nam: nothing above it, nor the trial, has 'moco_v2' there"),
]  # fmt: skip


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
@pytest.mark.parametrize(("when", "said"), UNMATCHED)
def test_each_value_of_a_condition_can_be(method, when, said):
    search = {} if method == "grid" else {"method": method, "run_cap": 3}
    (problem,) = refused(METHODS | {"pretrain.lr": {"values": [0.1, 0.2], "when": when}}, **search)
    assert problem.startswith(f"parameters.pretrain.lr.when.{said}")


@pytest.mark.parametrize("when", [{"ssl_method.name": ["moco_v2", "dino"]}, {"labels.start": [20, 30]}])
def test_a_condition_may_list_what_a_question_that_was_made_narrower_no_longer_has(when):
    assert ask(METHODS | {"pretrain.lr": {"values": [0.1, 0.2], "when": when}}).candidates


def test_a_misspelt_case_in_a_condition_names_the_nearest():
    cases = {"first": {"ssl_method": "simclr"}, "second": {"ssl_method": "byol"}}
    (problem,) = refused({"pretrain.lr": {"values": [0.1, 0.2], "when": {"case": ["first", "secnd"]}}}, cases)
    assert problem.endswith("nothing above it, nor the trial, has 'secnd' there; did you mean 'second'?")


def test_a_condition_on_a_plugin_that_some_values_write_out_looks_at_its_name():
    selectors = {"selector": {"values": ["random", "coreset", {"name": "kmeans", "normalize": "l2"}]}}
    subset = {"values": [100, 200], "when": {"selector": ["coreset", "kmeans"]}}
    (problem,) = refused(selectors | {"selector.pool_subset": subset})
    assert problem.endswith("has 'kmeans' there; write selector.name")
    plan = ask(selectors | {"selector.pool_subset": subset | {"when": {"selector.name": ["coreset", "kmeans"]}}})
    assert len(plan.candidates) == 5


def test_a_condition_may_list_any_value_of_a_range():
    ranges = {"pretrain.epochs": {"min": 1, "max": 9}}
    lists = {"pretrain.lr": {"values": [0.1, 0.2], "when": {"pretrain.epochs": [3, 4]}}}
    assert ask(ranges | lists, method="random", run_cap=3).candidates
    lists["pretrain.lr"]["when"] = {"pretrain.epochs": [3, -1]}
    (problem,) = refused(ranges | lists, method="random", run_cap=3)
    assert "has -1 there" in problem

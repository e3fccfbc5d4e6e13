"""`classifier: [linear, knn]` stays both heads, whatever a question sets of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.config.parsing import read_trial
from harness.config.plan import Plan, load_plan
from harness.config.schema import ConfigError, parse_overrides, set_path

TRIAL = {"ssl_method": "none", "labels": {"start": 50}, "classifier": ["linear", "knn"]}


def ask(*overrides: str, **question: Any) -> Plan:
    return load_plan({"trial": TRIAL, **question}, parse_overrides(list(overrides)))


def heads(plan: Plan) -> list[tuple[str, ...]]:
    trials = [candidate.trial for candidate in (*plan.candidates, *plan.references)]
    return [tuple(head.name for head in (trial.classifier, *trial.beside)) for trial in trials]


CASES = {
    "named": {"classifier.name": "svm"},
    "changed": {"classifier": {"class_weight": "balanced"}},
    "replaced": {"classifier": "ridge"},
    "all replaced": {"classifier": ["ridge", "mlp"]},
    "others replaced": {"beside": ["mlp"]},
    "another thing": {"data.val": 0.2},
}
EXPECTED = [
    ("svm", "knn"), ("linear", "knn"), ("ridge", "knn"), ("ridge", "mlp"), ("linear", "mlp"), ("linear", "knn")
]  # fmt: skip


def test_a_parameter_below_several_heads_is_the_first_ones():
    plan = ask(parameters={"classifier.standardize": {"values": [True, False]}})
    assert heads(plan) == [("linear", "knn")] * 2
    assert [candidate.trial.classifier.standardize for candidate in plan.candidates] == [True, False]


def test_a_list_of_heads_that_is_set_takes_the_place_of_all():
    again = ask("trial.classifier.standardize=false", "trial.classifier=[ridge, svm]")
    assert heads(again) == [("ridge", "svm")]


def test_cases_and_references_set_one_head_or_all():
    assert heads(ask(cases=CASES)) == EXPECTED
    confirm = {"seeds": [7], "references": [{"classifier.class_weight": "balanced"}]}
    assert heads(ask(confirm=confirm)) == [("linear", "knn")] * 2


def test_what_is_kept_has_the_same_heads():
    plan = ask(cases=CASES, parameters={"classifier.standardize": {"values": [False]}})
    again = load_plan(json.loads(json.dumps(plan.as_dict())), {})
    assert [one.configuration for one in again.candidates] == [one.configuration for one in plan.candidates]


def test_a_condition_sees_the_first_of_several_heads():
    plan = ask(parameters={"classifier.lr": {"values": [0.1, 0.2], "when": {"classifier.name": "linear"}}})
    assert [candidate.parameters for candidate in plan.candidates] == [{"classifier.lr": 0.1}, {"classifier.lr": 0.2}]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trial.classifier.class_weight=balanced", ("linear", "knn")),
        ("trial.beside=[mlp]", ("linear", "mlp")),
        ("trial.classifier=[ridge, mlp]", ("ridge", "mlp")),
        ("trial.classifier=knn", ("knn",)),  # as if the file said so
    ],
)
def test_an_override_of_several_heads(override, expected):
    assert heads(ask(override)) == [expected]
    trial = read_trial({"trial": TRIAL}, parse_overrides([override]))
    assert tuple(head.name for head in (trial.classifier, *trial.beside)) == expected


def test_what_lies_below_a_list_cannot_be_set():
    with pytest.raises(ConfigError, match=r"^beside.lr: beside is \['knn'\], which has nothing below; set all of it$"):
        set_path({"beside": ["knn"]}, "beside.lr", 0.1)
    with pytest.raises(ConfigError, match=r"seeds.split: seeds is \[0, 1\]"):
        ask("seeds.split=fresh", seeds=[0, 1])
    with pytest.raises(ConfigError, match=r"parameters.beside.lr.values\[0\]: beside.lr: beside is \["):
        ask(
            parameters={
                "beside.lr": {"values": [0.1]},
                "classifier.lr": {"values": [0.1], "when": {"beside.lr": 0.1}},
            }
        )

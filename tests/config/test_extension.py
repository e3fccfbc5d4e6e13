"""A question that contains another one, and what would make the trials of before others."""

from __future__ import annotations

import pytest

from harness.config.extension import compare_questions, labels_asked
from harness.config.plan import load_plan
from harness.config.schema import parse_overrides

GRID = """
name: q
seeds: [0, 1]
trial: {labels: {start: 20, budget: 10, rounds: 2}, ssl_method: none}
cases: {a: {}, b: {selector: coreset}}
parameters:
  classifier.name: {values: [logistic, ridge]}
  classifier.standardize: {values: [true, false], when: {classifier.name: ridge}}
"""
LISTED = GRID.replace("budget: 10, rounds: 2", "budget: [5, 10]")
RANDOM = """
name: q
method: random
run_cap: 3
confirm: {top: 1, seeds: [5, 6], references: [{pretrain.lr: 0.1}]}
trial: {labels: {start: 20, budget: 10, rounds: 2}}
parameters:
  pretrain.lr: {min: 0.01, max: 1.0}
  ssl_method: {values: [simclr, byol]}
"""
BAYES = RANDOM.replace("method: random", "method: bayes")


def planned(tmp_path, text: str, *overrides: str):
    (tmp_path / "q.yaml").write_text(text)
    return load_plan(tmp_path / "q.yaml", parse_overrides(list(overrides)))


@pytest.mark.parametrize(("text", "more", "said"), [
    (GRID, "seeds=[0, 1, 2]", "seeds: [0, 1] -> [0, 1, 2]"),
    (GRID, "trial.labels.rounds=5", "trial.labels.rounds: 2 -> 5"),
    (GRID, "cases={c: {selector: ual}, a: {}, b: {selector: coreset}}", 'cases.c: nothing -> {"selector": "ual"}'),
    (GRID, "parameters.classifier.name.values=[svm, ridge, logistic]", 'parameters.classifier.name: {"values": ["lo'),
    (LISTED, "trial.labels.budget=[5, 10, 15]", "trial.labels.budget: [5, 10] -> [5, 10, 15]"),
    (RANDOM, "run_cap=9", "run_cap: 3 -> 9"),
    (RANDOM, "seeds=[0, 3]", "seeds: [0] -> [0, 3]"),
    (RANDOM, "confirm.top=4", "confirm.top: 1 -> 4"),
    (RANDOM, "confirm.seeds=[5, 6, 7]", "confirm.seeds: [5, 6] -> [5, 6, 7]"),
    (RANDOM, "confirm.references=[{ssl_method: none}, {pretrain.lr: 0.1}]", 'confirm.references: [{"pret'),
    (RANDOM, "trial.labels.rounds=3", "trial.labels.rounds: 2 -> 3"),
    (BAYES, "run_cap=9", "run_cap: 3 -> 9"),
    (BAYES, "seeds=[0, 3]", "seeds: [0] -> [0, 3]"),
    (BAYES, "parameters.pretrain.lr.max=2.0", "parameters.pretrain.lr: {"),
    (BAYES, "parameters.ssl_method.values=[moco_v2, simclr, byol]", "parameters.ssl_method: {"),
])  # fmt: skip
def test_a_larger_question_contains_the_smaller_one(tmp_path, text, more, said):
    old, new = planned(tmp_path, text), planned(tmp_path, text, more)
    compared = compare_questions(old, new)
    assert not compared.refused
    (line,) = compared.grown
    assert line.startswith(said)
    assert {c.configuration for c in old.candidates} <= {c.configuration for c in new.candidates}
    assert compare_questions(new, old).refused, "the way back is none"


@pytest.mark.parametrize(("text", "other", "said"), [
    (GRID, "metric.name=val/loss", "metric: ["),
    (GRID, "seeds=[1, 0]", "seeds: [0, 1] -> [1, 0]"),
    (GRID, "seeds={values: [0, 1], split: fresh}", 'seeds.split: "same" -> "fresh"'),
    (GRID, "seeds={max: 9, until: resolved}", "seeds.block: null -> 5, and looks are planned in advance"),
    (GRID.replace("[0, 1]", "{max: 9, until: resolved}"), "seeds={max: 12, until: resolved}", "seeds.max: 9 -> 12"),
    (GRID, "trial.labels.rounds=1", "trial.labels.rounds: 2 -> 1"),
    (LISTED, "trial.labels.budget=[5, 15, 10]", "trial.labels.budget: [5, 10] -> [5, 15, 10]"),
    (LISTED, "trial.labels.budget=[5]", "trial.labels.budget: [5, 10] -> [5]"),
    (GRID, "trial.pretrain.epochs=3", "trial.pretrain.epochs: \"auto\" -> 3"),
    (GRID, "trial.ssl_method=byol", 'trial.ssl_method: "none" -> "byol"'),
    (GRID, "cases.b.selector=ual", 'cases.b: {"selector": "coreset"} -> {"selector": "ual"}'),
    (BAYES, "parameters={pretrain.lr: {min: 0.01, max: 1}, ssl_method: {value: byol}, selector: {value: ual}}",
     'parameters.selector: nothing -> {"values": ["ual"]}'),
    (GRID, "parameters.classifier.name.values=[ridge, svm]", "parameters.classifier.name: {"),
    (GRID, "parameters.classifier.standardize.when={classifier.name: [ridge, logistic]}",
     "parameters.classifier.standardize: {"),
    (GRID, "confirm.seeds=[7]", "confirm: null -> {"),
    (RANDOM, "run_cap=2", "run_cap: 3 -> 2"),
    (RANDOM, "parameters.ssl_method.values=[simclr, byol, moco_v2]", "parameters.ssl_method: {"),
    (RANDOM, "parameters.pretrain.lr.max=2.0", "parameters.pretrain.lr: {"),
    (RANDOM, "cases={a: {}}", "cases.a: nothing -> {}"),
    (RANDOM, "confirm.references=[]", "confirm.references: ["),
    (RANDOM, "early_terminate.type=asha", "early_terminate: {"),
    (BAYES, "parameters.pretrain.lr.min=0.1", "parameters.pretrain.lr: {"),
])  # fmt: skip
def test_what_would_make_other_trials_is_refused_by_its_key(tmp_path, text, other, said):
    compared = compare_questions(planned(tmp_path, text), planned(tmp_path, text, other))
    assert [line for line in compared.refused if line.startswith(said)], compared.refused
    assert all(" -> " in line and "\n" not in line for line in compared.refused)


def test_parameters_of_a_random_search_stay_in_their_order(tmp_path):
    turned = RANDOM.replace("  pretrain.lr: {min: 0.01, max: 1.0}\n", "") + "  pretrain.lr: {min: 0.01, max: 1.0}\n"
    (line,) = compare_questions(planned(tmp_path, RANDOM), planned(tmp_path, turned)).refused
    assert line.startswith("parameters: [")


def test_confirmation_may_be_added_to_a_search(tmp_path):
    alone = RANDOM.replace("confirm: {top: 1, seeds: [5, 6], references: [{pretrain.lr: 0.1}]}\n", "")
    assert compare_questions(planned(tmp_path, alone), planned(tmp_path, RANDOM)).grown
    assert compare_questions(planned(tmp_path, RANDOM), planned(tmp_path, alone)).refused


def test_how_trials_are_run_and_shown_may_change(tmp_path):
    free = ["worth=0.05", "resources.cpus=2", "portrait=false", "log_model=best", "description=Why?"]
    compared = compare_questions(planned(tmp_path, GRID), planned(tmp_path, GRID, *free))
    assert not compared.grown
    assert not compared.refused


def test_the_draws_of_a_larger_search_begin_with_those_of_a_smaller_one(tmp_path):
    few, many = (planned(tmp_path, RANDOM, f"run_cap={number}").candidates for number in (4, 40))
    assert [one.parameters for one in many[:4]] == [one.parameters for one in few]


def test_more_rounds_are_the_same_configurations_but_where_a_parameter_sets_them(tmp_path):
    text = "trial: {labels: {start: 20, budget: 10, rounds: 2}}\nparameters: {labels.rounds: {values: [2, 3]}}"
    two, three = planned(tmp_path, text).candidates
    assert two.configuration != three.configuration
    refused = compare_questions(planned(tmp_path, text), planned(tmp_path, text, "trial.labels.rounds=3")).refused
    assert refused == [f'the trial of {{"labels.rounds": 2}}: "{two.configuration}" -> nothing']


@pytest.mark.parametrize(("assignment", "labels"), [
    ({}, 40),
    ({"selector": "margin", "labels.rounds": 3}, 50),
    ({"labels": {"budget": [5, 10]}, "labels.start": 30, "labels.rounds": 0}, 45),
    ({"case": "many"}, 120),
    ({"case": "many", "labels.budget": 0}, 100),
    ({"recipe": "fixmatch", "labels.budget": 0, "labels.rounds": 0}, 20),
    ({"labels.start": "all"}, None),
])  # fmt: skip
def test_a_question_says_how_many_labels_it_asks_of_a_configuration(assignment, labels):
    trial = {"labels": {"start": 20, "budget": 10, "rounds": 2}, "recipe": "simclr"}
    assert labels_asked({"trial": trial, "cases": {"many": {"labels.start": 100}}}, assignment) == labels


def test_a_recipe_says_it_where_the_trial_does_not():
    own = {"mine": {"labels": {"start": 30}}}
    assert labels_asked({"trial": {"recipe": "mine"}, "recipes": own}, {}) == 30
    assert labels_asked({"trial": {}}, {}) is None

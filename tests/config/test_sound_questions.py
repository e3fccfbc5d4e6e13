"""Questions of which every setting matters to some trial are asked, whatever the checks of them look for."""

import json
from pathlib import Path

import pytest
import yaml

from harness.config.plan import load_plan
from harness.config.recipes import merged
from harness.config.schema import ConfigError

TRIAL = {"dataset": "digits", "backbone": {"name": "dcnn3", "width": 4}, "labels": {"start": 20}}
ROUND = TRIAL | {"labels": {"start": 20, "budget": 10, "rounds": 1}}
RATE = {"pretrain.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}}
METHODS = {"ssl_method": {"values": ["byol", "vicreg", "simclr"]}}
SIMCLR = {"ssl_method": "simclr"}
RANDOM, BAYES = {"method": "random", "run_cap": 9}, {"method": "bayes", "run_cap": 9}
EARLY = {"early_terminate": {"type": "asha"}, "confirm": {"top": 1, "seeds": [1]}}

SOUND = {
    "a reference that every configuration is": RANDOM | {
        "trial": ROUND, "reference": {"selector": "random"}, "confirm": {"top": 2, "seeds": [1]},
        "parameters": {"selector": {"values": ["random"]}} | RATE},
    "a reference where all are confirmed": {
        "reference": SIMCLR, "confirm": {"top": 3, "seeds": [1]}, "parameters": METHODS},
    "a reference of which the best is confirmed": RANDOM | {
        "reference": SIMCLR, "confirm": {"top": 3, "distinct": ["ssl_method"], "seeds": [1]},
        "parameters": METHODS | RATE},
    **{f"two draws under seed {seed}, none of which may read the rate": RANDOM | {
        "run_cap": 2, "seeds": [seed], "parameters": {"ssl_method": {"values": ["none", "simclr"]}} | RATE}
       for seed in range(4)},
    "ranges of which one corner makes no trial": BAYES | {
        "parameters": {"pretrain.epochs": {"min": 5, "max": 50}, "pretrain.warmup_epochs": {"min": 0, "max": 10}}},
    "early stopping over normalisations of the same images": RANDOM | EARLY | {
        "parameters": {"data.normalize": {"values": [True, False]}} | RATE},
}  # fmt: skip


@pytest.mark.parametrize("question", SOUND)
def test_it_is_asked(question):
    plan = load_plan({"name": "q", "trial": TRIAL} | SOUND[question], {})
    assert plan.some_candidates()


UNSOUND = {
    "is confirmed only if it is among the best": RANDOM | {
        "reference": SIMCLR, "confirm": {"top": 1, "seeds": [1]}, "parameters": METHODS | RATE},
    "pretrain.lr: no trial reads it": RANDOM | {"trial": TRIAL | {"ssl_method": "none"}, "parameters": RATE},
    "data varies": RANDOM | EARLY | {"parameters": {"data.val": {"values": [50, 100]}} | RATE},
}  # fmt: skip


@pytest.mark.parametrize("said", UNSOUND)
def test_its_neighbour_is_not(said):
    with pytest.raises(ConfigError, match=said):
        load_plan({"name": "q", "trial": TRIAL} | UNSOUND[said], {})


TOGETHER = yaml.safe_load(
    """
dropout by a plugin's values:
  trial: {labels: {start: 20, budget: 5, rounds: 1}}
  parameters:
    backbone: {values: [{name: dcnn3, dropout: 0.1}, {name: dcnn3, dropout: 0.2}]}
    selector: {values: [random, bald]}
dropout by a plugin's values, below:
  trial: {labels: {start: 20, budget: 5, rounds: 1}}
  parameters:
    selector: {values: [random, bald]}
    backbone: {values: [{name: dcnn3, dropout: 0.1}, {name: dcnn3, dropout: 0.2}]}
dropout by two values of each:
  trial: {labels: {start: 20, budget: 5, rounds: 1}}
  parameters: {selector: {values: [bald, mc_dropout]}, backbone.dropout: {values: [0.1, 0.2]}}
dropout under a condition:
  trial: {labels: {start: 20, budget: 5, rounds: 1}}
  parameters:
    selector: {values: [random, bald]}
    backbone.dropout: {values: [0.1, 0.2], when: {selector: bald}}
one dropout under a condition:
  trial: {labels: {start: 20, budget: 5, rounds: 1}}
  parameters:
    selector: {values: [random, bald]}
    backbone.dropout: {values: [0.1], when: {selector: bald}}
a range of dropout under a condition:
  method: random
  run_cap: 4
  trial: {labels: {start: 20, budget: 5, rounds: 1}}
  parameters:
    selector: {values: [random, bald]}
    backbone.dropout: {min: 0.1, max: 0.3, when: {selector: bald}}
a range of dropout, suggested:
  method: bayes
  run_cap: 4
  trial: {labels: {start: 20, budget: 5, rounds: 1}}
  parameters:
    selector: {values: [random, bald]}
    backbone.dropout: {min: 0.1, max: 0.3, when: {selector: bald}}
a head under a condition:
  trial: {labels: {start: 20}}
  parameters:
    mode: {values: [pretrain, joint]}
    classifier: {values: [{name: finetune, epochs: 2}], when: {mode: joint}}
a mode under a condition:
  trial: {labels: {start: 20}}
  parameters:
    classifier: {values: [logistic, finetune]}
    mode: {values: [pretrain, joint], when: {classifier: finetune}}
semi-supervised under a condition:
  trial: {labels: {start: 20}, classifier: {name: finetune, epochs: 2}}
  parameters:
    ssl_method: {values: [simclr, fixmatch]}
    mode: {values: [joint], when: {ssl_method: fixmatch}}
semi-supervised below the mode:
  trial: {labels: {start: 20}, classifier: {name: finetune, epochs: 2}}
  parameters:
    mode: {values: [pretrain, joint]}
    ssl_method: {values: [fixmatch, moby], when: {mode: joint}}
a loss per image from a method:
  trial: {labels: {start: 20, budget: 5, rounds: 1}, ssl_method: none}
  parameters:
    ssl_method: {values: [simclr, byol]}
    selector: {values: [random, high_ssl_loss]}
a warm-up within longer trainings:
  trial: {labels: {start: 20}, pretrain: {epochs: 5}}
  parameters:
    pretrain.epochs: {values: [50, 100]}
    pretrain.warmup_epochs: {values: [0, 10]}
a warm-up under a condition:
  trial: {labels: {start: 20}, pretrain: {epochs: 5}}
  parameters:
    pretrain.epochs: {values: [5, 50]}
    pretrain.warmup_epochs: {values: [1, 10], when: {pretrain.epochs: 50}}
heads that are trained:
  trial: {labels: {start: 20, budget: 5, rounds: 1}}
  parameters:
    selector: {values: [random, learning_loss]}
    classifier: {values: [{name: finetune, epochs: 2}, {name: finetune, epochs: 4}]}
a head that is trained under a condition:
  trial: {labels: {start: 20, budget: 5, rounds: 1}}
  parameters:
    selector: {values: [random, learning_loss]}
    classifier.name: {values: [finetune], when: {selector: learning_loss}}
selectors that start cold:
  trial: {labels: {start: 20, budget: 5, rounds: 2}, selector: margin}
  parameters:
    labels.start: {values: [0, 20]}
    selector: {values: [random, typiclust]}
features beside images:
  trial: {labels: {start: 20}}
  parameters:
    dataset: {values: [digits, {name: embeddings, path: e.npz}]}
    ssl_method: {values: [simclr, byol], when: {dataset: digits}}
a backbone for features:
  trial: {labels: {start: 20}, backbone: dcnn3}
  parameters:
    dataset.name: {values: [digits, embeddings]}
    backbone: {values: [given], when: {dataset.name: embeddings}}
an encoder that selects:
  trial: {labels: {start: 10, budget: 5, rounds: 1}, ssl_method: none, classifier: {name: finetune, epochs: 2}}
  parameters:
    selector: {values: [random, high_ssl_loss]}
    selection: {values: [{ssl_method: simclr, pretrain: {epochs: 2}}], when: {selector: high_ssl_loss}}
a fitted backbone without a method:
  trial: {labels: {start: 20}}
  parameters:
    backbone: {values: [dcnn3, patches]}
    ssl_method: {values: [none], when: {backbone: patches}}
a teacher under a condition:
  trial: {labels: {start: 20}, mode: joint, classifier: {name: finetune, epochs: 2}, ssl_method: moby}
  parameters:
    ssl_method: {values: [moby, distill]}
    teacher: {values: [{classifier: ridge}], when: {ssl_method: distill}}
selectors of one head:
  trial: {labels: {start: 20, budget: 5, rounds: 1}}
  parameters:
    classifier: {values: [logistic, svm]}
    selector: {values: [random, entropy], when: {classifier: logistic}}
a selector for the other head:
  trial: {labels: {start: 20, budget: 5, rounds: 1}, selector: entropy}
  parameters:
    classifier: {values: [logistic, svm]}
    selector: {values: [coreset], when: {classifier: svm}}
rounds unless all is labelled:
  trial: {labels: {start: all}}
  parameters:
    labels.start: {values: [all, 20]}
    labels.budget: {values: [5], when: {labels.start: 20}}
    labels.rounds: {values: [1], when: {labels.start: 20}}
a budget and its rounds:
  trial: {labels: {start: 20}}
  parameters:
    labels.budget: {values: [5, 10]}
    labels.rounds: {values: [1, 2]}
a reference beside a value:
  method: random
  run_cap: 3
  confirm: {top: 1, seeds: [1], references: [{selector: random}]}
  trial: {labels: {start: 20, budget: 5, rounds: 1}, selector: bald}
  parameters: {backbone.dropout: {values: [0.1, 0.2, 0.3]}}
cases that bring dropout:
  trial: {labels: {start: 20, budget: 5, rounds: 1}}
  cases: {low: {backbone.dropout: 0.1}, high: {backbone.dropout: 0.3}}
  parameters: {selector: {values: [random, bald]}}
one case with dropout:
  trial: {labels: {start: 20, budget: 5, rounds: 1}}
  cases: {none: {ssl_method: none}, drop: {backbone.dropout: 0.3}}
  parameters: {selector: {values: [random, bald], when: {case: drop}}}
"""
)
"""Questions of which each combination is valid, though a value beside the bare trial is not."""


@pytest.mark.parametrize("question", TOGETHER)
def test_a_value_is_judged_by_its_combinations(question):
    plan = load_plan({"name": "q", **TOGETHER[question]}, {})
    assert plan.some_candidates()
    again = load_plan(json.loads(json.dumps(plan.as_dict())), {})
    assert [one.configuration for one in again.some_candidates()] == [
        one.configuration for one in plan.some_candidates()
    ]


LABELS = {"labels": {"start": 20, "budget": 5, "rounds": 1}}
WRONG = {
    "parameters.selector.values[1]: trial.backbone: bald needs": {
        "trial": LABELS, "parameters": {"selector": {"values": ["random", "bald"]}, "pretrain.lr": {"values": [1, 2]}}},
    "parameters.pretrain.epochs.values[1]: trial.pretrain.epochs: -5 is below": {
        "trial": LABELS, "parameters": {"selector": {"values": ["random", "bald"]}, "pretrain.epochs": {
            "values": [5, -5]}, "backbone.dropout": {"values": [0.1, 0.2]}}},
    "trial.classifier.name: entropy needs": {
        "trial": LABELS | {"classifier": "svm", "selector": "entropy"},
        "parameters": {"pretrain.lr": {"values": [0.1, 0.2]}, "pretrain.epochs": {"values": [1, 2]}}},
    "metric val/accuracy needs": {
        "trial": LABELS | {"data": {"val": 0}}, "confirm": {"seeds": [1]},
        "parameters": {"selector": {"values": ["random", "margin"]}, "pretrain.epochs": {"values": [1, 2]}}},
    'parameters {"selector": "margin", "labels.start": 0, "pretrain.epochs": 1}: trial.labels.start: selector': {
        "trial": LABELS, "parameters": {"selector": {"values": ["random", "margin"]}, "labels.start": {
            "values": [0, 20]}, "pretrain.epochs": {"values": [1, 2]}}},
}  # fmt: skip


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
@pytest.mark.parametrize("said", WRONG)
def test_one_mistake_is_one_line(method, said):
    cap = {} if method == "grid" else {"run_cap": 30}
    with pytest.raises(ConfigError) as caught:
        load_plan({"name": "q", "method": method, **cap, **WRONG[said]}, {})
    assert len(caught.value.problems) == 1
    if not said.startswith("parameters {") or method != "random":  # which draws in an order of its own
        assert caught.value.problems[0].startswith(said)


HIDDEN = {
    "trial.ssl_method: ": ({"ssl_method": "smclr"}, {"ssl_method": ["simclr", "byol"]}),
    "trial.ssl_method: (?#by its name)": ({"ssl_method": "smclr"}, {"ssl_method.name": ["simclr", "byol"]}),
    "trial.dataset.pth: ": ({"dataset": {"name": "image_folder", "pth": "x"}}, {"dataset": ["digits"]}),
    "trial.pretrain.epochs: ": ({"pretrain": {"epochs": "twenty"}}, {"pretrain.epochs": [1, 2]}),
    "trial.labels.start: ": ({"labels": {"start": -20}}, {"labels.start": [20, 40]}),
    "trial.selector.nmae: ": (LABELS | {"selector": {"nmae": "coreset"}}, {"selector": ["random", "margin"]}),
    "parameters.case: there are no `cases`": ({}, {"case": ["a"]}),
}


@pytest.mark.parametrize("said", HIDDEN)
def test_a_mistake_in_the_trial_is_told_though_a_parameter_replaces_it(said):
    trial, varied = HIDDEN[said]
    with pytest.raises(ConfigError, match=rf"^{said}") as caught:
        load_plan({"name": "q", "trial": trial, "parameters": {p: {"values": v} for p, v in varied.items()}}, {})
    assert len(caught.value.problems) == 1


def test_what_a_plugin_that_varies_takes_is_asked_of_each():
    trial = {"ssl_method": {"queue_size": 1024}}
    assert load_plan({"trial": trial, "parameters": {"ssl_method.name": {"values": ["moco_v2"]}}}, {}).candidates
    with pytest.raises(ConfigError, match="byol has no hyper-parameter 'queue_size'"):
        load_plan({"trial": trial, "parameters": {"ssl_method.name": {"values": ["moco_v2", "byol"]}}}, {})


PARTS = {
    "joint": (
        {"mode": "joint", "ssl_method": "fixmatch", "augmentation": "weak_strong"},
        {"labels": {"start": 40}, "classifier": {"name": "finetune"}},
    ),
    "features": (
        {"backbone": {"name": "given", "dropout": 0.1}},
        {"labels": {"start": 40}, "dataset": {"name": "embeddings", "path": "a.npz"}},
    ),
    "budget": ({"labels": {"budget": 10}}, {"labels": {"start": 20, "rounds": 2}}),
    "selection": ({"selection": {"ssl_method": "simclr"}}, LABELS),
}


@pytest.mark.parametrize("where", ["the question", "a file"])
@pytest.mark.parametrize("part", PARTS)
def test_a_recipe_is_judged_with_the_trial_that_builds_on_it(tmp_path, part, where):
    recipe, trial = PARTS[part]
    name, recipes = "mine", {"recipes": {"mine": recipe}}
    if where == "a file":
        name, recipes = str(tmp_path / "mine.yaml"), {}
        Path(name).write_text(yaml.safe_dump({"trial": recipe}))
    plan = load_plan({**recipes, "trial": {"recipe": name, **trial}}, {})
    written_out = load_plan({"trial": merged(recipe, trial)}, {})
    assert [one.configuration for one in plan.candidates] == [one.configuration for one in written_out.candidates]


def test_a_mistake_in_a_recipe_is_one_line_and_does_not_deny_the_recipe():
    with pytest.raises(ConfigError) as caught:
        load_plan({"recipes": {"mine": {"pretrain": {"epochs": "x"}}}, "trial": {"recipe": "mine"}}, {})
    assert [line.partition(": ")[0] for line in caught.value.problems] == ["recipes.mine.pretrain.epochs"]


def test_a_grid_that_is_tested_at_once_needs_no_validation_images():
    question = {"trial": LABELS | {"data": {"val": 0}}, "parameters": {"selector": {"values": ["random", "margin"]}}}
    assert len(load_plan(question, {}).candidates) == 2
    with pytest.raises(ConfigError, match="metric val/accuracy needs validation images"):
        load_plan(question | {"confirm": {"seeds": [1]}}, {})


RANGE = {"parameters": {"pretrain.epochs": {"min": 1, "max": 9}}}
MISREAD = {
    "method": {"method": "bayesian", "run_cap": 3} | RANGE,
    "run_cap": {"method": "random", "run_cap": "1e1"} | RANGE,
    "seeds.mx": {"seeds": {"mx": 10, "until": "resolved"}},
}


@pytest.mark.parametrize("key", MISREAD)
def test_nothing_is_judged_by_the_default_of_a_setting_that_was_misread(key):
    with pytest.raises(ConfigError) as caught:
        load_plan(MISREAD[key], {})
    assert [line.partition(": ")[0] for line in caught.value.problems] == [key]

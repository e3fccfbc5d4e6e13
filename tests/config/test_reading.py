"""What no trial reads makes no configuration: it is refused, and why it is not read is what the stages' keys say."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from harness.config.parsing import read_trial
from harness.config.plan import load_plan
from harness.config.reading import Reading
from harness.config.schema import ConfigError
from harness.config.tasks import Candidate
from harness.config.trial import ClassifierConfig, PretrainConfig, TrialConfig
from harness.trial.pretraining import pretrain_key

ROUNDS = {"start": 20, "budget": 20, "rounds": 1}
JOINT = {"mode": "joint", "labels": {"start": 20}, "classifier": "finetune"}


def ask(trial: dict[str, Any], parameters: dict[str, Any], **question: Any) -> Any:
    return load_plan({"trial": trial, "parameters": parameters, **question}, {})


def refused(*args: Any, **question: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        ask(*args, **question)
    return caught.value.problems


UNREAD = [
    ({}, "selector", ["random", "margin", "badge"], "there is no round of selection; set labels.budget"),
    ({}, "selector.pool_subset", [100, 200], "there is no round of selection"),
    ({"classifier": "svm"}, "classifier.lr", [0.1, 0.01], "svm does not read it"),
    ({"classifier": {"name": "logistic"}}, "classifier", [{"lr": 0.1}, {"lr": 0.2, "epochs": 3}],
     "logistic does not read it"),
    ({"classifier": {"name": "ridge"}}, "classifier.dims", [10, 20], "ridge does not read it"),
    ({"pretrain": {"optimizer": "adam"}}, "pretrain.momentum", [0.1, 0.9], "optimizer adam with schedule cosine does "),
    ({"pretrain": {"optimizer": "lars"}}, "pretrain.decay_norms", [True, False], "optimizer lars with schedule cosine"),
    ({}, "pretrain.milestones", [[0.5], [0.6]], "optimizer sgd with schedule cosine does not read it"),
    ({"ssl_method": "none"}, "pretrain.lr", [0.1, 0.9], "ssl_method none trains no encoder"),
    ({"ssl_method": "none"}, "pretrain", [{"lr": 0.1}, {"epochs": 9}], "ssl_method none trains no encoder"),
    ({"ssl_method": "none"}, "augmentation", ["pair", "simclr"], "ssl_method none trains no encoder"),
    ({"pretrain": {"epochs": 0}}, "pretrain.batch_size", [16, 32], "`pretrain.epochs: 0` trains no encoder"),
    ({}, "joint.weight", [0.1, 0.5], "it is of mode joint"),
    (JOINT, "pretrain.epochs", [1, 2], "mode joint trains as `classifier` says"),
    (JOINT, "joint.loss_draws", [1, 2], "it is of `joint.unlabeled: lowest_loss`"),
    (JOINT | {"ssl_method": "fixmatch"}, "joint.weight", [0.1, 0.2], "fixmatch makes the loss of the classifier"),
    ({"labels": {"start": "all"}}, "labels.stratified", [True, False], "`start: all` draws no start pool"),
    ({"labels": ROUNDS, "selection": {"pretrain": {"optimizer": "adam"}}}, "selection.pretrain.momentum", [0.1, 0.9],
     "optimizer adam with schedule cosine does not read it"),
    (JOINT | {"ssl_method": "distill", "teacher": {"classifier": "ridge"}}, "teacher.classifier.hidden_dim", [8, 9],
     "ridge does not read it"),
]  # fmt: skip


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
@pytest.mark.parametrize(("trial", "path", "values", "why"), UNREAD)
def test_a_parameter_that_no_trial_reads_is_refused_in_one_line(method, trial, path, values, why):
    search = {} if method == "grid" else {"method": method, "run_cap": 3}
    (problem,) = refused(trial, {path: {"values": values}}, **search)
    assert problem.startswith(f"parameters.{path}: no trial reads it: for {why}")


READ = [
    ({"labels": ROUNDS}, {"selector": ["random", "margin"]}),
    ({"classifier": "linear"}, {"classifier.lr": [0.1, 0.01]}),
    ({"classifier": {"name": "ridge", "representation": "pca"}}, {"classifier.dims": [10, 20]}),
    ({"classifier": "svm"}, {"classifier.name": ["linear", "mlp"], "classifier.lr": [0.1, 0.01]}),
    ({}, {"pretrain.knn_every": [1, 2]}),
    ({"ssl_method": "none", "labels": ROUNDS, "selector": "csal"}, {"augmentation": ["pair", "simclr"]}),
    (JOINT | {"ssl_method": "moby"}, {"augmentation": ["pair", "simclr"], "joint.weight": [0.1, 0.2]}),
]


@pytest.mark.parametrize(("trial", "varied"), READ)
def test_a_parameter_that_is_read_is_a_question(trial, varied):
    parameters = {path: {"values": values} for path, values in varied.items()}
    for search in ({}, {"method": "random", "run_cap": 4}, {"method": "bayes", "run_cap": 4}):
        assert ask(trial, parameters, **search).some_candidates()


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_search_reads_a_parameter_if_one_of_its_trials_does(method):
    varied = {"ssl_method": {"values": ["none", "simclr"]}, "pretrain.lr": {"min": 0.1, "max": 0.9}}
    heads = {"classifier.name": {"values": ["ridge", "svm", "mlp"]}, "classifier.lr": {"values": [0.1, 0.2]}}
    assert ask({"classifier": "svm"}, varied | heads, method=method, run_cap=40).some_candidates()


def test_an_augmentation_is_read_where_a_goal_is_made_of_its_views():
    both = {"augmentation": {"values": ["pair", "simclr"]}}
    goal = {"metric": {"name": "pretrain/alignment"}, "confirm": {"seeds": [1]}}
    assert len(ask({"ssl_method": "none"}, both, **goal).candidates) == 2


def test_combinations_of_a_grid_that_read_the_same_are_refused_with_the_way_out():
    methods = {"ssl_method": {"values": ["none", "simclr"]}}
    views = {"augmentation": {"values": ["pair", "simclr"]}}
    (problem,) = refused({}, methods | views)
    assert problem == (
        'parameters {"ssl_method": "none", "augmentation": "simclr"}: makes the same trial as {"ssl_method": "none", '
        '"augmentation": "pair"}: augmentation changes nothing there, for ssl_method none trains no encoder; give it a '
        "`when` that holds where it is read, below what that looks at"
    )
    views["augmentation"]["when"] = {"ssl_method.name": "simclr"}
    assert len(ask({}, methods | views).candidates) == 3


def test_cases_that_read_the_same_are_refused():
    cases = {"slow": {"ssl_method": "none", "pretrain.lr": 0.1}, "fast": {"ssl_method": "none", "pretrain.lr": 0.9}}
    (problem,) = refused({}, {}, cases=cases)
    assert problem == 'parameters {"case": "fast"}: makes the same trial as {"case": "slow"}'


TRIALS = [
    {}, {"ssl_method": "none"}, {"pretrain": {"epochs": 0}}, {"pretrain": {"optimizer": "adam", "schedule": "step"}},
    {"pretrain": {"optimizer": "lars", "schedule": "plateau"}},
    {"classifier": {"name": "linear", "schedule": "plateau"}},
    {"classifier": {"name": "mlp", "representation": "tsne"}}, {"classifier": "knn"}, {"classifier": "finetune"},
    {"classifier": {"name": "ridge"}}, {"ssl_method": "supcon", "labels": {"start": 50}},
]  # fmt: skip
OTHER: dict[str, Any] = {
    "epochs": 7, "batch_size": 31, "optimizer": "adamw", "lr": 0.123, "momentum": 0.5, "weight_decay": 0.01,
    "decay_norms": False, "schedule": "constant", "warmup_epochs": 0.5, "milestones": (0.3, 0.4), "gamma": 0.2,
    "patience": 3, "clip_norm": 2.0, "resolutions": (0.5, 1.0), "apart": 99, "name": "kernel_ridge",
    "representation": "pca", "standardize": False, "backbone_lr": 0.5, "layer_decay": 0.5, "class_weight": "balanced",
    "hidden_dim": 9, "dims": 9, "neighbors": 3, "temperature": 0.5, "warm_start": True,
}  # fmt: skip


def keys(trial: TrialConfig) -> Any:
    """What names the stages of a trial: two with the same compute the same."""
    return pretrain_key(trial, 0, "data"), trial.classifier.as_read()


@pytest.mark.parametrize("given", TRIALS, ids=str)
def test_what_is_read_is_what_names_the_stages(given):
    trial = read_trial(given, {})
    same = Reading.of(Candidate({}, trial), ["val/accuracy"]).key
    compared = 0
    for section, cls in (("pretrain", PretrainConfig), ("classifier", ClassifierConfig)):
        for name in [item.name for item in fields(cls) if item.name in OTHER]:
            changed = replace(trial, **{section: replace(getattr(trial, section), **{name: OTHER[name]})})
            read = Reading.of(Candidate({}, changed), ["val/accuracy"]).key
            if section == "pretrain" and name == "epochs" and given.get("pretrain") == {"epochs": 0}:
                continue  # then it is trained
            assert (read == same) == (keys(changed) == keys(trial)), (section, name)
            compared += 1
    assert compared > 30

"""The configuration: every mistake is found, with its place and the nearest valid name; nothing else is raised."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from trials import SMALL

from baselines.backbones.dcnn3 import DCNN3
from baselines.ssl_methods.simclr import SimCLR
from harness.config import checks
from harness.config.parsing import apply_overrides, parse_trial
from harness.config.plan import Plan, load_plan
from harness.config.schema import (
    ConfigError,
    Problems,
    as_dict,
    flatten,
    parse_overrides,
    set_path,
)
from harness.config.trial import TrialConfig
from harness.plain_yaml import parse_yaml
from harness.plugins import registry, weights

VALID = """
name: question
method: random
metric: {name: val/accuracy}
run_cap: 3
early_terminate: {type: asha, min_iter: 2}
seeds: [0]
confirm: {top: 1, seeds: [1, 2], references: [{ssl_method: none}]}
reference: {ssl_method: none}
resources: {cpus: 1}
trial:
  dataset: digits
  data: {val: 0.3, imbalance: {kind: step, classes: [0, 1], keep: 5}}
  ssl_method: {name: simclr, temperature: 0.5}
  augmentation: {name: pair, first: crop, second: {name: blur}}
  pretrain: {epochs: 2, batch_size: 64, lr: 1e-3}
  labels: {start: 20, budget: 10, rounds: 2}
  selector: coreset
  classifier: {name: linear, epochs: 5}
parameters:
  ssl_method.temperature: {distribution: log_uniform_values, min: 0.1, max: 1.0}
  pretrain.epochs: {values: [1, 2]}
  selector.name: {values: [random, coreset], when: {pretrain.epochs: 2}}
"""


def read(tmp_path: Path, content: Any, overrides: list[str] | None = None) -> Plan:
    file = tmp_path / "space.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return load_plan(file, parse_overrides(overrides or []))


def problems_of(tmp_path: Path, content: Any, overrides: list[str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, content, overrides)
    return caught.value.problems


def trial(**keys: Any) -> dict[str, Any]:
    return {"trial": keys}


def with_parameter(about: Any, method: str = "random", path: str = "ssl_method.temperature") -> dict[str, Any]:
    return {"method": method, "parameters": {path: about}} | ({} if method == "grid" else {"run_cap": 2})


ROUNDS = {"start": 5, "budget": 5, "rounds": 1}
DROPOUT = {"name": "dcnn3", "dropout": 0.2}

MISTAKES = {
    # one mistake each: the YAML, the dotted path and some words of the message
    "unknown key": ({"metrik": "x"}, "metrik", "did you mean 'metric'?"),
    "unknown key below": (trial(pretrain={"epoch": 3}), "trial.pretrain.epoch", "did you mean 'epochs'?"),
    "unknown plugin": (trial(selector="corset"), "trial.selector", "no selector 'corset'; did you mean 'coreset'?"),
    "unknown hyper-parameter": (
        trial(ssl_method={"name": "simclr", "temprature": 0.1}),
        "trial.ssl_method.temprature",
        "did you mean 'temperature'?",
    ),
    "unknown nested plugin": (trial(augmentation={"first": "crip"}), "trial.augmentation.first", "mean 'crop'?"),
    "unknown plugin in a list": (
        trial(augmentation={"name": "by_view", "views": ["flip", "crip"]}),
        "trial.augmentation.views[1]",
        "mean 'crop'?",
    ),
    "a plugin in place of a list": (
        trial(augmentation={"name": "by_view", "views": "flip"}),
        "trial.augmentation.views",
        "expected a list, not 'flip'",
    ),
    "no plugin in a list": (
        trial(augmentation={"name": "by_view", "views": []}),
        "trial.augmentation",
        "views is empty: name an augmentation for the first view",
    ),
    "wrong type": (trial(pretrain={"epochs": "many"}), "trial.pretrain.epochs", "a whole number or auto, not 'many'"),
    "a share of an epoch": (trial(pretrain={"epochs": 2.5}), "trial.pretrain.epochs", "expected a whole number"),
    "true is no number": (trial(pretrain={"epochs": True}), "trial.pretrain.epochs", "expected a whole number"),
    "below the range": (trial(pretrain={"batch_size": 1}), "trial.pretrain.batch_size", "smallest valid value 2"),
    "above the range": (trial(data={"fraction": 1.5}), "trial.data.fraction", "largest valid value 1"),
    "not above": (trial(pretrain={"lr": 0}), "trial.pretrain.lr", "must be above 0"),
    "infinite": (trial(pretrain={"lr": float("inf")}), "trial.pretrain.lr", "expected a number"),
    "not a number": (trial(pretrain={"lr": float("nan")}), "trial.pretrain.lr", "expected a number"),
    "beyond every float": (trial(pretrain={"lr": 10**400}), "trial.pretrain.lr", "expected a number"),
    "a text of letters": (trial(pretrain={"lr": "fast"}), "trial.pretrain.lr", "a mapping of value, per, not 'fast'"),
    "refused by the plugin": (
        trial(ssl_method={"name": "simclr", "temperature": -1}),
        "trial.ssl_method",
        "temperature",
    ),
    "choice": (trial(pretrain={"optimizer": "sdg"}), "trial.pretrain.optimizer", "did you mean 'sgd'?"),
    "schedule": (trial(classifier={"schedule": "steps"}), "trial.classifier.schedule", "did you mean 'step'?"),
    "milestones that fall": (
        trial(pretrain={"milestones": [0.8, 0.6]}),
        "trial.pretrain.milestones",
        "[0.8, 0.6] must rise and stay below 1",
    ),
    "a milestone at the end": (
        trial(classifier={"name": "linear", "milestones": [1]}),
        "trial.classifier.milestones",
        "stay below 1",
    ),
    "a milestone at the start": (trial(pretrain={"milestones": [0, 0.5]}), "trial.pretrain.milestones[0]", "above 0"),
    "no milestones": (trial(pretrain={"milestones": []}), "trial.pretrain.milestones", "as [0.6, 0.8] does"),
    "milestones in epochs": (trial(pretrain={"milestones": [60, 80]}), "trial.pretrain.milestones", "below 1"),
    "a factor that raises": (trial(pretrain={"gamma": 10}), "trial.pretrain.gamma", "largest valid value 1"),
    "a norm of 0": (trial(classifier={"clip_norm": 0}), "trial.classifier.clip_norm", "must be above 0"),
    "resolutions that fall": (trial(pretrain={"resolutions": [1, 0.5, 1]}), "trial.pretrain.resolutions", "not fall"),
    "resolutions in pixels": (trial(pretrain={"resolutions": [16, 32]}), "trial.pretrain.resolutions", "end with 1"),
    "a last resolution below 1": (trial(pretrain={"resolutions": [0.5]}), "trial.pretrain.resolutions", "end with 1"),
    "no resolutions": (trial(pretrain={"resolutions": []}), "trial.pretrain.resolutions", "as [0.5, 0.75, 1.0] does"),
    "kind of imbalance": (trial(data={"imbalance": {"kind": "stp"}}), "trial.data.imbalance.kind", "mean 'step'?"),
    "kind that is a list": (trial(data={"imbalance": {"kind": ["step"]}}), "trial.data.imbalance.kind", "not one of"),
    "imbalance of no class": (
        trial(data={"imbalance": {"kind": "step", "classes": [], "keep": 5}}),
        "trial.data.imbalance",
        "name at least one class",
    ),
    "imbalance without keep": (
        trial(data={"imbalance": {"kind": "step", "classes": [0]}}),
        "trial.data.imbalance",
        "needs 'keep'",
    ),
    "trial is a list": ({"trial": []}, "trial", "expected a mapping"),
    "trial is false": ({"trial": False}, "trial", "expected a mapping"),
    "rounds without budget": (trial(labels={"start": 5, "rounds": 2}), "trial.labels.budget", "at least 1"),
    "budget without rounds": (trial(labels={"start": 5, "budget": 2}), "trial.labels.rounds", "at least 1 round"),
    "budgets and other rounds": (
        trial(labels={"start": 5, "budget": [2, 3], "rounds": 3}),
        "trial.labels.rounds",
        "`budget` lists 2; leave `rounds` out",
    ),
    "a round that buys nothing": (trial(labels={"start": 5, "budget": [2, 0]}), "trial.labels.budget", "at least 1"),
    "fewer shown than the largest budget": (
        trial(labels={"start": 5, "budget": [2, 9]}, selector={"name": "random", "pool_subset": 5}),
        "trial.selector.pool_subset",
        "use at least 9",
    ),
    "all and rounds": (trial(labels={"budget": 5, "rounds": 2}), "trial.labels", "leaves nothing to select"),
    "no labels at all": (trial(labels={"start": 0}), "trial.labels", "nothing to train on"),
    "cold start": (
        trial(labels={"start": 0, "budget": 5, "rounds": 1}, selector="entropy"),
        "trial.labels.start",
        "'entropy' cannot start without labels",
    ),
    "no loss per image": (
        trial(labels=ROUNDS, selector="high_ssl_loss", ssl_method="none"),
        "trial.selector",
        "high_ssl_loss ranks by a loss per image, which none does not define; use an ssl_method that does",
    ),
    "no loss per image, within another selector": (
        trial(labels=ROUNDS, selector={"name": "refine", "final": "high_ssl_loss"}, ssl_method="none"),
        "trial.selector",
        "refine ranks by a loss per image, which none does not define; use an ssl_method that does",
    ),
    "no dropout, within another selector": (
        trial(labels=ROUNDS, selector={"name": "refine", "strategies": ["margin", {"name": "bald", "num_samples": 5}]}),
        "trial.backbone",
        "refine needs dropout, and dcnn3 has none; set its dropout above 0",
    ),
    "no dropout": (
        trial(labels=ROUNDS, selector="bald"),
        "trial.backbone",
        "bald needs dropout, and dcnn3 has none; set its dropout above 0",
    ),
    "dropout that pixels bypass": (
        trial(labels=ROUNDS, selector="bald", backbone=DROPOUT, classifier={"representation": "raw"}),
        "trial.classifier.representation",
        "use features",
    ),
    "probabilities of votes": (
        trial(labels=ROUNDS, selector="margin", classifier="svm"),
        "trial.classifier.name",
        "margin needs the classes' probabilities, which svm does not give; use logistic, or a selector that reads",
    ),
    "a linear layer of neighbours": (
        trial(labels=ROUNDS, selector="alfa_mix", classifier="knn"),
        "trial.classifier.name",
        "alfa_mix needs a linear last layer, which knn does not give; use logistic",
    ),
    "a linear layer of kernels, for one of several selectors": (
        trial(labels=ROUNDS, selector="refine", classifier="kernel_ridge"),
        "trial.classifier.name",
        "refine needs a linear last layer, which kernel_ridge does not give; use logistic",
    ),
    "the gradients of a linear layer, of kernels": (
        trial(labels=ROUNDS, selector="badge", classifier="kernel_ridge"),
        "trial.classifier.name",
        "badge needs a linear last layer, which kernel_ridge does not give; use logistic",
    ),
    "the Fisher information of a linear layer, of neighbours": (
        trial(labels=ROUNDS, selector="bait", classifier="knn"),
        "trial.classifier.name",
        "bait needs a linear last layer, which knn does not give; use logistic",
    ),
    "a companion of a fixed head": (
        trial(labels=ROUNDS, selector="learning_loss", classifier="svm"),
        "trial.classifier.name",
        "learning_loss trains a module beside an encoder, which svm leaves alone; use finetune",
    ),
    "a companion of a joint training": (
        trial(labels=ROUNDS, selector="ta_vaal", classifier="finetune", mode="joint"),
        "trial.mode",
        "ta_vaal trains a module beside a fine-tuned encoder alone; use pretrain",
    ),
    "a companion of a compiled backbone": (
        trial(labels=ROUNDS, selector="learning_loss", classifier="finetune", compute={"compile": True}),
        "trial.compute.compile",
        "use false",
    ),
    "finetune on pca": (
        trial(classifier={"name": "finetune", "representation": "pca"}),
        "trial.classifier.representation",
        "only `features`",
    ),
    "test as goal": ({"metric": {"name": "test/accuracy"}}, "metric.name", "did you mean 'val/accuracy'?"),
    "unknown metric": ({"metric": {"name": "val/acuracy"}}, "metric.name", "did you mean 'val/accuracy'?"),
    "metric of an epoch": ({"metric": {"name": "pretrain/loss"}}, "metric.name", "use val/accuracy"),
    "metric is a text": ({"metric": "val/accuracy"}, "metric", "expected a mapping"),
    "no metric": ({"metric": []}, "metric", "one or more"),
    "a metric twice": ({"metric": [{}, {}]}, "metric", "different metrics"),
    "no seeds": ({"seeds": []}, "seeds", "one or more"),
    "a seed twice": ({"seeds": [1, 1]}, "seeds", "different"),
    "seeds are a text": ({"seeds": "0, 1"}, "seeds", "expected a list"),
    "negative seed": ({"seeds": [0, -1]}, "seeds[1]", "-1 is below"),
    "seeds used again": ({"confirm": {"seeds": [0, 1]}}, "confirm.seeds", "must be fresh"),
    "no run_cap": ({"method": "random", "parameters": {"pretrain.epochs": {"values": [1]}}}, "run_cap", "needs"),
    "run_cap of a grid": ({"run_cap": 3}, "run_cap", "leave it out"),
    "random without parameters": ({"method": "random", "run_cap": 3}, "parameters", "at least one parameter"),
    "comparison cut short": ({"early_terminate": {"type": "asha"}}, "early_terminate", "every trial must finish"),
    "name with a slash": ({"name": "a/b"}, "name", "cannot name a folder"),
    "name of the cache": ({"name": "Data"}, "name", "'Data' is taken: stages, data, mlflow.db"),
    "name of a database's lock": ({"name": "mlflow.db.lock"}, "name", "is taken"),
    "name of 300 characters": ({"name": "x" * 300}, "name", "has 300 bytes; at most 200 can name a folder"),
    "name with a line break": ({"name": "a\nb"}, "name", "cannot name a folder"),
    "name with a blank behind": ({"name": "a "}, "name", "did you mean 'a'?"),
    "name is a number": ({"name": 3}, "name", "expected a text"),
    "parameter of nothing": (
        with_parameter({"values": [1]}, "grid", "ssl_method.temprature"),
        "parameters.ssl_method.temprature.values[0]",
        "did you mean 'temperature'?",
    ),
    "impossible choice": (
        with_parameter({"values": [0.1, -1]}, "grid"),
        "parameters.ssl_method.temperature.values[1]",
        "temperature",
    ),
    "impossible end of a range": (
        with_parameter({"min": -1, "max": 0.5}),
        "parameters.ssl_method.temperature.min",
        "temperature",
    ),
    "seed as a parameter": (
        with_parameter({"values": [0, 1]}, "grid", "seed"),
        "parameters.seed",
        "write `seeds: [0, 1, 2]` beside `parameters`",
    ),
    "nested parameters": (
        with_parameter({"parameters": {"temperature": {"values": [0.1]}}}, "grid", "ssl_method"),
        "parameters.ssl_method.parameters",
        "write the whole path, as in ssl_method.temperature",
    ),
    "a key of W&B's service": ({"entity": "me"}, "entity", "no such key; a key of W&B's service: leave it out"),
    "empty choice": (with_parameter({"values": []}), "parameters.ssl_method.temperature.values", "at least one value"),
    "a value twice": (with_parameter({"values": [1, 1]}), "parameters.ssl_method.temperature.values", "twice"),
    "min above max": (with_parameter({"min": 2, "max": 1}), "parameters.ssl_method.temperature", "min 2 must be below"),
    "log range from 0": (
        with_parameter({"min": 0, "max": 1, "distribution": "log_uniform_values"}),
        "parameters.ssl_method.temperature.min",
        "above 0",
    ),
    "log_uniform": (
        with_parameter({"min": 0.1, "max": 1, "distribution": "log_uniform"}),
        "parameters.ssl_method.temperature.distribution",
        "write log_uniform_values",
    ),
    "distribution": (
        with_parameter({"min": 0.1, "max": 1, "distribution": "unifrom"}),
        "parameters.ssl_method.temperature.distribution",
        "did you mean 'uniform'?",
    ),
    "whole range of shares": (
        with_parameter({"min": 0.1, "max": 1, "distribution": "int_uniform"}),
        "parameters.ssl_method.temperature",
        "whole numbers",
    ),
    "step beyond the range": (
        with_parameter({"min": 0.1, "max": 1, "distribution": "q_uniform", "q": 2}),
        "parameters.ssl_method.temperature.q",
        "at most max - min",
    ),
    "only one end": (with_parameter({"min": 0.1}), "parameters.ssl_method.temperature", "`min` and `max`"),
    "values and a range": (
        with_parameter({"values": [1], "min": 0}),
        "parameters.ssl_method.temperature.min",
        "no meaning beside",
    ),
    "range in a grid": (with_parameter({"min": 0, "max": 1}, "grid"), "parameters.ssl_method.temperature", "`values`"),
    "key of a parameter": (
        with_parameter({"valeus": [1]}),
        "parameters.ssl_method.temperature.valeus",
        "did you mean 'values'?",
    ),
    "parameter without values": (with_parameter(3), "parameters.ssl_method.temperature", "write {values: [3]}"),
    "condition is a text": (
        with_parameter({"values": [1], "when": "simclr"}, "grid"),
        "parameters.ssl_method.temperature.when",
        "expected a mapping",
    ),
    "condition on nothing": (
        with_parameter({"values": [1], "when": {"ssl_metod.name": "simclr"}}, "grid"),
        "parameters.ssl_method.temperature.when",
        "never holds",
    ),
    "case is a text": ({"cases": {"a": "b"}}, "cases.a", "expected settings by dotted path"),
    "impossible case": (
        {"cases": {"a": {}, "b": {"selector": "corset"}}},
        "parameters.case.values[1]",
        "did you mean 'coreset'?",
    ),
    "impossible reference": (
        {"confirm": {"references": [{"selector": "corset"}]}},
        "confirm.references[0]",
        "did you mean 'coreset'?",
    ),
    "one trial twice": (
        with_parameter({"values": ["simclr", {"name": "simclr"}]}, "grid", "ssl_method"),
        'parameters {"ssl_method": {"name": "simclr"}}',
        "the same trial as",
    ),
    "a grid without end": (
        {"trial": {"classifier": "linear"}, "parameters": {f"{p}.{q}": {"values": list(range(1, 31))} for p, q in [
            ("pretrain", "epochs"), ("pretrain", "weight_decay"), ("classifier", "epochs"), ("classifier", "neighbors"),
        ]}},
        "parameters",
        "more than 10,000 combinations",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_with_file_path_and_nearest_valid_value(tmp_path, mistake):
    content, path, words = MISTAKES[mistake]
    found = problems_of(tmp_path, content)
    expected = f"{tmp_path / 'space.yaml'}: {path}: "
    assert any(problem.startswith(expected) and words in problem for problem in found), found
    assert len(found) == 1, found


def test_the_valid_file_has_no_mistake(tmp_path):
    assert len(read(tmp_path, VALID).candidates) == 3


@pytest.mark.parametrize(
    "keys",
    [
        {"selector": "bald", "backbone": DROPOUT},
        {"selector": "high_ssl_loss"},
        {"selector": "typiclust", "classifier": "svm"},
        {"selector": "drop_query", "classifier": "svm"},
        {"selector": "margin", "classifier": "knn"},
        {"selector": "alfa_mix", "classifier": "ridge"},
        {"selector": "learning_loss", "classifier": "finetune"},
        {"selector": "learning_loss", "classifier": ["finetune", "linear"]},
        {"selector": "bald", "ssl_method": "none", "labels": {"start": 5}},
        {"selector": "learning_loss", "labels": {"start": "all"}},
    ],
    ids=str,
)
def test_a_trial_that_gives_what_its_selector_reads_or_selects_nothing_is_no_mistake(tmp_path, keys):
    assert len(read(tmp_path, trial(labels=ROUNDS) | trial(**{"labels": ROUNDS} | keys)).candidates) == 1


def test_several_mistakes_are_reported_together(tmp_path):
    content = {
        "metrik": 1,
        "seeds": [],
        "method": "grid",
        "trial": {"pretrain": {"epoch": 3, "lr": -1}, "selector": "corset"},
        "parameters": {"pretrain.epochs": {"values": []}},
    }
    found = problems_of(tmp_path, content)
    for path in ("metrik", "seeds", "trial.pretrain.epoch", "trial.pretrain.lr", "trial.selector", "parameters."):
        assert sum(f"space.yaml: {path}" in problem for problem in found) == 1, (path, found)
    assert len(found) == 6


def test_every_mistake_of_the_constructors_is_reported_together(tmp_path):
    content = trial(ssl_method={"name": "simclr", "temperature": -1}, augmentation={"name": "noise", "std": -1})
    found = problems_of(tmp_path, content)
    assert len(found) == 2
    assert any("temperature" in problem for problem in found)
    assert any("std" in problem for problem in found)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(tmp_path):
    (problem,) = problems_of(tmp_path, trial(compute={"device": "cuda"}))
    assert "trial.compute.device" in problem
    assert "no CUDA device" in problem


def test_a_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "augment.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"augmnt.yaml: no such file; did you mean 'augment.yaml'\?"):
        load_plan(tmp_path / "augmnt.yaml", {})
    with pytest.raises(ConfigError, match="no such folder"):
        load_plan(tmp_path / "nowhere" / "augment.yaml", {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_plan(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1, 2", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("date: 2020-13-45", "not valid YAML"),
        ("a: !!python/object:os.system x", "not valid YAML"),
        ("a: !!bool perhaps", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("trial: {dataset: 2020-01-01}", "read as a date"),
        ("3: digits", "not a text"),
        ("- 1\n- 2", "expected a mapping"),
        ("", "expected a mapping"),
        ("parameters: &a {x: *a}", "alias"),
        ("a: &a [1,1,1,1,1,1,1,1]\n" + "".join(
            f"{new}: &{new} [{','.join(8 * ['*' + old])}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
        ), "alias"),
    ],
)  # fmt: skip
def test_what_is_not_plain_yaml_is_refused(tmp_path, text, words):
    (problem,) = problems_of(tmp_path, text)
    assert words in problem
    assert "space.yaml" in problem


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "space.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_plan(tmp_path / "space.yaml", {})


# ---------------------------------------------------------------- overrides


def test_an_override_sets_a_leaf_and_turns_shorthand_into_a_mapping(tmp_path):
    text = "trial: {ssl_method: simclr, selector: random}\n"
    overrides = ["trial.ssl_method.temperature=0.5", "trial.pretrain.epochs=7", "trial.selector=coreset", "name=other"]
    plan = read(tmp_path, text, overrides)
    (candidate,) = plan.candidates
    assert plan.name == "other"
    assert candidate.trial.ssl_method.hyperparameters == {"temperature": 0.5}
    assert candidate.trial.ssl_method.name == "simclr"
    assert candidate.trial.pretrain.epochs == 7
    assert candidate.trial.selector.name == "coreset"


def test_an_override_reaches_the_leaves_of_parameters(tmp_path):
    plan = read(tmp_path, VALID, ["parameters.pretrain.epochs.values=[2]", "parameters.ssl_method.temperature.min=0.9"])
    assert {candidate.parameters["pretrain.epochs"] for candidate in plan.candidates} == {2}
    assert all(candidate.parameters["ssl_method.temperature"] >= 0.9 for candidate in plan.candidates)


@pytest.mark.parametrize("override", ["trial.pretrain.epochs", "=3", "a=[1", "a=2020-13-45", "a={1: 2}"])
def test_an_override_that_is_none_is_refused(tmp_path, override):
    (problem,) = problems_of(tmp_path, VALID, [override])
    assert problem.startswith(f"--set {override}: ")


def test_an_override_of_an_unknown_key_is_refused(tmp_path):
    (problem,) = problems_of(tmp_path, VALID, ["trial.pretrain.epoch=3"])
    assert "trial.pretrain.epoch: no such key; did you mean 'epochs'?" in problem


def test_set_path_leaves_the_mappings_of_others_alone():
    shared = {"name": "simclr"}
    tree = {"a": shared, "b": shared}
    set_path(tree, "a.temperature", 1)
    assert tree == {"a": {"name": "simclr", "temperature": 1}, "b": {"name": "simclr"}}


def test_overrides_apply_in_order():
    tree: dict[str, Any] = {}
    apply_overrides(tree, parse_overrides(["a.b=1", "a.c={d: 2}", "a.b=3"]))
    assert tree == {"a": {"b": 3, "c": {"d": 2}}}


# ---------------------------------------------------------------- the canonical form


def test_the_canonical_form_reads_back_as_itself():
    problems = Problems()
    config = parse_trial(parse_yaml(VALID)["trial"], "trial", problems)
    assert config is not None
    assert not problems.found
    again = parse_trial(parse_yaml(yaml.safe_dump(as_dict(config))), "trial", problems)
    assert as_dict(again) == as_dict(config)
    assert flatten(as_dict(config))["augmentation.second.name"] == "blur"


def test_an_empty_trial_is_the_defaults():
    assert parse_trial(None, "trial", Problems()) == TrialConfig()


# ---------------------------------------------------------------- fuzz

ODD = [
    None, True, False, 0, -1, 1, 2.5, 1e300, float("inf"), float("nan"), 10**400, "", "x", "1e-4", ":", "a:b", "..",
    "os:path", "random", "\0", [], [[]], [None], [1, "a"], {}, {"name": "x"}, {"values": [1]}, {"kind": []},
    {"name": None}, {"name": ["simclr"]}, {"name": "harness.api:Selector"}, {"": 1},
]  # fmt: skip


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    if isinstance(tree, dict | list):
        pairs = list(tree.items() if isinstance(tree, dict) else enumerate(tree))
        return [(tree, key) for key, _ in pairs] + [place for _, item in pairs for place in _places(item)]
    return []


def _mutate(tree: Any, rng: random.Random) -> None:
    container, key = rng.choice(_places(tree))
    kind = rng.randrange(4)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[rng.choice(["when", "name", "nmae", "values", "min", "x.y", ".", "", key + "x"])] = rng.choice(ODD)
    elif kind == 2:
        container[key] = copy.deepcopy(rng.choice(_places(tree))[0]) if rng.random() < 0.3 else rng.choice(ODD)
    else:
        container[key] = rng.choice(ODD)


def _acceptable(tmp_path: Path, text: str) -> bool:
    """Whether it is a plan; anything but a plan or a ConfigError with non-empty lines fails the test."""
    problems: list[str] = []
    try:
        read(tmp_path, text)
    except ConfigError as error:
        problems = error.problems
        assert problems
    assert all(problem.startswith(str(tmp_path)) for problem in problems)
    return not problems


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_are_plans_or_config_errors(tmp_path, seed):
    rng = random.Random(seed)
    outcomes = []
    for _ in range(60):
        tree = parse_yaml(VALID)
        for _ in range(rng.randint(1, 3)):
            tree = copy.deepcopy(tree)  # without aliases
            if _places(tree):
                _mutate(tree, rng)
        outcomes.append(_acceptable(tmp_path, yaml.safe_dump(tree)))
    assert not all(outcomes)


@pytest.mark.timeout(60)
def test_garbage_is_a_config_error(tmp_path):
    rng = random.Random(0)
    alphabet = VALID + "&*!|>%@`\"'{}[],:#-?\t\n 0123456789.eE"
    for _ in range(300):
        _acceptable(tmp_path, "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 80))))
        cut = list(VALID)
        for _ in range(rng.randint(1, 6)):
            cut[rng.randrange(len(cut))] = rng.choice(alphabet)
        _acceptable(tmp_path, "".join(cut[: rng.randint(1, len(cut))]))


class NeedsValues(DCNN3):
    """Computes with the values of tensors, as ViTs do with their drop path rates."""

    def __init__(self, image_shape, *, rate: float = 0.1):
        super().__init__(image_shape, width=4)
        self.rate = rate
        self.rates = [x.item() for x in torch.linspace(0, rate, 3)]
        weight = next(self.parameters()).detach().numpy()
        weight -= weight.mean()


class Probes(SimCLR):
    """Asks its backbone how many features it has, and a tensor for numbers."""

    def __init__(self, backbone, *, steps: int = 3):
        super().__init__(backbone)
        self.steps = steps
        with torch.no_grad():
            self.probed = backbone(torch.zeros(2, 3, 64, 64)).shape[1]
        self.temperatures = torch.linspace(0.04, 0.07, steps).tolist()


class BadNumber(NeedsValues):
    """Fails of itself where there are values."""

    def __init__(self, image_shape, *, rate: float = 0.1):
        super().__init__(image_shape, rate=rate)
        raise RuntimeError("no such rate")


@pytest.mark.parametrize("method", ["simclr", "byol", f"{__name__}:Probes"])
@pytest.mark.parametrize("backbone", [{"name": "dcnn3", "width": 4}, f"{__name__}:NeedsValues"])
def test_networks_that_compute_with_values_are_constructed(backbone, method):
    before, problems = torch.get_rng_state(), Problems()
    config = parse_trial({**SMALL, "backbone": backbone, "ssl_method": method}, "trial", problems)
    assert problems.found == []
    outlined = checks.try_backbone(checks.Tried.of(config.backbone))
    assert all(parameter.is_meta for parameter in outlined.parameters())
    assert torch.equal(before, torch.get_rng_state())


def test_what_fails_with_values_says_so_and_weights_are_not_loaded_for_it(monkeypatch):
    problems = Problems()
    parse_trial({**SMALL, "backbone": f"{__name__}:BadNumber"}, "trial", problems)
    assert problems.found == ["trial.backbone: RuntimeError: no such rate"]
    monkeypatch.setattr(weights, "read_checkpoint", lambda _: pytest.fail("weights were loaded"))
    problems = Problems()
    parse_trial({**SMALL, "backbone": {"name": f"{__name__}:NeedsValues", "weights": __file__}}, "trial", problems)
    assert problems.found == []


def test_a_method_that_changes_its_backbone_does_not_change_that_of_the_next(monkeypatch):
    seen = []

    def build(spec, *positional):
        if spec.kind == "ssl_methods":
            seen.append(len(list(positional[0].children())))
            positional[0].add_module("added", torch.nn.Identity())
        return original(spec, *positional)

    original = registry.build
    monkeypatch.setattr(registry, "build", build)
    checks.try_method.cache_clear()
    for method in ("simclr", "byol"):
        parse_trial({**SMALL, "ssl_method": method}, "trial", Problems())
    assert len(seen) == 2
    assert seen[0] == seen[1]

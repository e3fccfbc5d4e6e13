"""Recipes: how a trial is laid over one, what can be wrong, and that those of selbench are complete."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config import recipes
from harness.config.parsing import parse_trial, read_trial, recipe_trial
from harness.config.plan import Plan, load_plan
from harness.config.recipes import merged
from harness.config.schema import ConfigError, Problems, as_dict, parse_overrides
from harness.config.trial import ScaledRate
from harness.plugins.__main__ import main as list_plugins


def parsed(tree: dict[str, Any]) -> dict[str, Any]:
    problems = Problems()
    config = parse_trial(tree, "trial", problems)
    problems.raise_any()
    assert config is not None
    return as_dict(config)


def problems_of(tree: Any) -> list[str]:
    problems = Problems()
    assert parse_trial(tree, "trial", problems) is None
    return problems.found


def write(file: Path, **content: Any) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(file)


@pytest.fixture
def mine(tmp_path) -> str:
    """A recipe of the user's own."""
    return write(
        tmp_path / "mine.yaml",
        trial={
            "ssl_method": {"name": "simclr", "temperature": 0.3, "hidden_dim": 64},
            "augmentation": {"name": "pair", "first": {"name": "crop", "scale": [0.5, 1.0]}, "second": "blur"},
            "pretrain": {"epochs": 7, "lr": 0.5},
            "data": {"imbalance": {"kind": "step", "classes": [0, 1], "keep": 5}},
            "classifier": {"name": "linear", "epochs": 9, "lr": 0.25},
            "selector": "coreset",
        },
        variants={"tiny": {"trial": {"pretrain": {"epochs": 1}, "ssl_method": {"hidden_dim": 8}}}},
    )


# ---------------------------------------------------------------- the rules of merging

CASES = {
    # what the recipe says, what the user says, what holds
    "a value": (1, 2, 2),
    "keys of both": ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
    "deeper": ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
    "a list is one value": ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
    "null is a value": ({"a": 1}, {"a": None}, {"a": None}),
    "an empty section says nothing": ({"a": {"b": 1}}, {"a": None}, {"a": {"b": 1}}),
    "no imbalance": ({"a": {"kind": "step", "keep": 5}}, {"a": None}, {"a": None}),
    "the same plugin": ({"name": "x", "p": 1}, {"name": "x", "q": 2}, {"name": "x", "p": 1, "q": 2}),
    "the same plugin, short": ({"name": "x", "p": 1}, "x", {"name": "x", "p": 1}),
    "no plugin named": ({"name": "x", "p": 1}, {"p": 2}, {"name": "x", "p": 2}),
    "the recipe's is short": ("x", {"p": 2}, {"name": "x", "p": 2}),
    "both short": ("x", "y", "y"),
    "another plugin": ({"name": "x", "p": 1}, {"name": "y", "q": 2}, {"name": "y", "q": 2}),
    "another plugin, short": ({"name": "x", "p": 1}, "y", {"name": "y"}),
    "another kind": ({"kind": "step", "keep": 5}, {"kind": "long", "ratio": 9}, {"kind": "long", "ratio": 9}),
    "a text in place of a section": ({"epochs": 1}, "many", "many"),
    "a number in place of a rule": ({"lr": {"value": 0.06, "per": 128}}, {"lr": 0.1}, {"lr": 0.1}),
    "a rule in place of a number": (
        {"lr": 0.1},
        {"lr": {"value": 0.06, "per": 128}},
        {"lr": {"value": 0.06, "per": 128}},
    ),
    "half of a rule": ({"lr": {"value": 0.06, "per": 128}}, {"lr": {"value": 0.3}}, {"lr": {"value": 0.3, "per": 128}}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_given_is_laid_over_the_recipe(case):
    recipe, given, expected = CASES[case]
    before = json.dumps([recipe, given])
    assert merged(recipe, given) == expected
    assert json.dumps([recipe, given]) == before, "neither is changed"


def test_a_trial_takes_what_it_does_not_say_from_its_recipe(mine):
    resolved = parsed({"recipe": mine, "pretrain": {"epochs": 3}, "ssl_method": "simclr", "selector": "random"})
    assert (resolved["pretrain"]["epochs"], resolved["pretrain"]["lr"]) == (3, 0.5)
    assert resolved["ssl_method"]["temperature"] == 0.3
    assert resolved["selector"] == {"name": "random", "pool_subset": None, "normalize": None}
    assert resolved["classifier"]["epochs"] == 9
    assert resolved["pretrain"]["batch_size"] == parsed({})["pretrain"]["batch_size"]


def test_another_plugin_has_its_own_defaults(mine):
    resolved = parsed({"recipe": mine, "ssl_method": "moco_v2", "augmentation": {"first": {"name": "flip"}}})
    assert resolved["ssl_method"] == parsed({"ssl_method": "moco_v2"})["ssl_method"]
    assert resolved["augmentation"]["first"] == {"name": "flip", "probability": 0.5}
    assert resolved["augmentation"]["second"]["name"] == "blur"


def test_heads_side_by_side_keep_the_settings_of_the_recipes_head(mine):
    resolved = parsed({"recipe": mine, "classifier": ["linear", "knn"]})
    assert (resolved["classifier"]["name"], resolved["classifier"]["epochs"]) == ("linear", 9)
    assert [head["name"] for head in resolved["beside"]] == ["knn"]
    assert parsed({"recipe": mine, "classifier": "svm"})["classifier"]["epochs"] == 100


def test_a_recipe_is_a_way_to_write_the_same_trial(mine):
    written_out = yaml.safe_load(Path(mine).read_text())["trial"] | {"labels": {"start": 20}}
    assert parsed({"recipe": mine, "labels": {"start": 20}}) == parsed(written_out)
    assert parsed({"recipe": None}) == parsed({})


def test_a_variant_is_laid_over_its_recipe(mine):
    resolved = parsed({"recipe": f"{mine}/tiny"})
    assert (resolved["pretrain"]["epochs"], resolved["pretrain"]["lr"]) == (1, 0.5)
    assert (resolved["ssl_method"]["hidden_dim"], resolved["ssl_method"]["temperature"]) == (8, 0.3)
    assert parsed({"recipe": mine})["ssl_method"]["hidden_dim"] == 64


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("moco", "trial.recipe: no recipe 'moco'; did you mean 'moco_v2'?"),
        ("../simclr", "trial.recipe: no recipe '../simclr'; known: "),
        ("", "trial.recipe: no recipe ''; known: "),
        ("simclr/smal", "trial.recipe: recipe 'simclr' has no variant 'smal'; did you mean 'small'?"),
        ("byol/small", "trial.recipe: recipe 'byol' has no variant 'small'; none is known"),
        ("nowhere/mine.yaml", "trial.recipe: nowhere/mine.yaml: no such file; no such folder"),
        (3, "trial.recipe: expected a recipe's name, or the path of a recipe file, not 3"),
        ({"name": "simclr"}, "trial.recipe: expected a recipe's name"),
    ],
)
def test_an_unknown_recipe_is_one_line_with_its_place_and_the_nearest_name(name, words):
    (problem,) = problems_of({"recipe": name})
    assert problem.startswith(words)


def test_a_misspelt_key_is_met_with_recipe():
    assert problems_of({"recpie": "simclr"}) == ["trial.recpie: no such key; did you mean 'recipe'?"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"trial": {"pretrain": {"epoch": 3}}}, "trial.pretrain.epoch: no such key; did you mean 'epochs'?"),
        ({"trial": {"ssl_method": {"name": "simclr", "temperature": -1}}}, "trial.ssl_method: "),
        ({"trial": {}, "sauce": "a paper"}, "sauce: no such key; did you mean 'source'?"),
        ({"source": "a paper"}, "needs 'trial'"),
        ({"trial": {"recipe": "simclr"}}, "trial.recipe: a recipe builds on no other"),
        ({"trial": {}, "deviations": "none"}, "deviations: expected a list, not 'none'"),
        ({"trial": {}, "variants": {"small": {"trail": {}}}}, "variants.small.trail: no such key"),
    ],
)
def test_a_mistake_inside_a_recipe_names_its_file(tmp_path, content, words):
    file = write(tmp_path / "mine.yaml", **content)
    found = problems_of({"recipe": file})
    assert any(problem.startswith(f"trial.recipe: {file}: {words}") for problem in found), found


def test_a_mistake_of_the_users_is_not_the_recipes(mine):
    assert problems_of({"recipe": mine, "pretrain": {"epochs": -1}}) == [
        "trial.pretrain.epochs: -1 is below the smallest valid value 0"
    ]


# ---------------------------------------------------------------- search spaces


def read(tmp_path: Path, text: str, *overrides: str) -> Plan:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return load_plan(file, parse_overrides(list(overrides)))


CHOICE = """
trial: {labels: {start: 20}, pretrain: {epochs: 2}}
parameters: {recipe: {values: [simclr, moco_v2, byol]}}
"""

NAMED = """
trial: {labels: {start: 20}, pretrain: {epochs: 2}}
confirm: {seeds: [4], references: [{recipe: simsiam}]}
cases:
  MoCo: {recipe: moco_v2}
  SimCLR: {recipe: simclr, ssl_method.temperature: 0.2}
  none: {ssl_method: none}
"""

OVER = """
trial: {recipe: simclr_ual, pretrain: {epochs: 2}}
parameters: {ssl_method: {values: [simclr, byol]}, classifier.name: {values: [linear, knn]}}
"""

LEAVES = """
trial: {recipe: simclr, pretrain: {epochs: 2}}
parameters: {pretrain.momentum: {values: [0.1, 0.2]}, ssl_method.temperature: {values: [0.5, 0.1]}}
"""

CONDITIONAL = """
trial: {labels: {start: 20}}
parameters:
  recipe: {values: [simclr, moco_v2]}
  ssl_method.queue_size: {values: [64, 128], when: {ssl_method.name: moco_v2}}
  pretrain.lr: {values: [0.1, 0.2], when: {recipe: simclr}}
"""


def test_a_sweep_chooses_among_recipes(tmp_path):
    trials = [candidate.trial for candidate in read(tmp_path, CHOICE).candidates]
    assert [trial.ssl_method.name for trial in trials] == ["simclr", "moco_v2", "byol"]
    assert [trial.pretrain.rate for trial in trials] == [0.06, 0.06, 0.015]
    assert {trial.pretrain.epochs for trial in trials} == {2}, "the user's keys win"
    assert {trial.backbone.name for trial in trials} == {"resnet18"}


SCALED = {
    "another batch size": ("simclr", "batch_size: {values: [64, 128, 512]}", [0.03, 0.06, 0.24]),
    "a number takes the rule's place": ("simclr", "lr: {values: [1, 2]}", [1.0, 2.0]),
    "the rule's own number": ("byol", "lr.value: {values: [1, 2]}", [1.0, 2.0]),
    "Adam's rate, which has none": ("simclr/small", "batch_size: {values: [64, 128]}", [3e-3, 3e-3]),
}


@pytest.mark.parametrize("case", SCALED)
def test_a_recipes_rate_follows_its_batch_size(tmp_path, case):
    recipe, parameter, rates = SCALED[case]
    plan = read(tmp_path, f"trial: {{recipe: {recipe}}}\nparameters: {{pretrain.{parameter}}}")
    assert [candidate.trial.pretrain.rate for candidate in plan.candidates] == rates


@pytest.mark.parametrize("name", recipes.recipe_names())
def test_a_recipe_whose_source_scales_the_rate_does_so(name):
    """Its settings name the rule, of the optimizer that it takes: `SGD 0.06 x batch / 128`."""
    _, recipe, _ = recipes.find_recipe(name)
    pretrain = read_trial({"recipe": name}, {}).pretrain
    named = re.search(rf"\b{pretrain.optimizer}\s[^,;]*x batch\s/\s\d+", recipe.settings, re.IGNORECASE)
    assert isinstance(pretrain.lr, ScaledRate) == bool(named)


def test_cases_and_references_name_recipes(tmp_path):
    plan = read(tmp_path, NAMED)
    trials = [candidate.trial for candidate in plan.candidates]
    assert [trial.ssl_method.name for trial in trials] == ["moco_v2", "simclr", "none"]
    assert trials[1].ssl_method.hyperparameters["temperature"] == 0.2
    assert plan.confirm_tasks([])[0].candidate.trial.ssl_method.name == "simsiam"


def test_conditions_see_what_the_chosen_recipe_says(tmp_path):
    plan = read(tmp_path, CONDITIONAL)
    assert [candidate.parameters for candidate in plan.candidates] == [
        {"recipe": "simclr", "pretrain.lr": 0.1},
        {"recipe": "simclr", "pretrain.lr": 0.2},
        {"recipe": "moco_v2", "ssl_method.queue_size": 64},
        {"recipe": "moco_v2", "ssl_method.queue_size": 128},
    ]


def test_a_condition_sees_the_recipe_of_the_trial(tmp_path):
    text = "trial: {recipe: moco_v2}\nparameters: {pretrain.lr: {values: [0.1, 0.2], when: {recipe: moco_v2}}}"
    assert len(read(tmp_path, text).candidates) == 2


@pytest.mark.parametrize("text", [CHOICE, NAMED, OVER, LEAVES, CONDITIONAL, "trial: {recipe: simclr/small}"])
def test_what_is_kept_reads_back_as_the_same_plan_without_the_files(tmp_path, monkeypatch, text):
    plan = read(tmp_path, text)
    kept = yaml.safe_dump(plan.as_dict(), sort_keys=False)
    monkeypatch.setattr(recipes, "FOLDER", tmp_path / "nowhere")
    again = read(tmp_path, kept)
    assert [(c.parameters, c.configuration) for c in again.candidates] == [
        (c.parameters, c.configuration) for c in plan.candidates
    ]
    assert again.as_dict() == plan.as_dict()
    assert [t.trial_id for t in again.confirm_tasks([])] == [t.trial_id for t in plan.confirm_tasks([])]


def test_what_is_kept_is_resolved(tmp_path):
    kept = read(tmp_path, LEAVES).as_dict()
    assert kept["recipes"] is None
    assert "recipe" not in kept["trial"]
    assert (kept["trial"]["pretrain"]["epochs"], kept["trial"]["backbone"]["name"]) == (2, "resnet18")
    chosen = read(tmp_path, CHOICE).as_dict()
    assert chosen["recipes"]["byol"]["pretrain"]["lr"] == {"value": 0.015, "per": 128}
    assert chosen["recipes"]["byol"]["classifier"]["epochs"] == 100


def test_overrides_choose_a_recipe_and_reach_into_it(tmp_path):
    text = "trial: {labels: {start: 20}}"
    overrides = ["trial.recipe=moco_v2", "trial.ssl_method.queue_size=64", "trial.pretrain.epochs=1"]
    (candidate,) = read(tmp_path, text, *overrides).candidates
    assert candidate.trial.ssl_method.name == "moco_v2"
    assert candidate.trial.ssl_method.hyperparameters["queue_size"] == 64
    assert (candidate.trial.pretrain.epochs, candidate.trial.pretrain.lr) == (1, 0.06)


def test_an_unknown_recipe_in_a_sweep_has_its_place(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, CHOICE, "parameters.recipe.values=[simclr, moco]")
    (problem,) = caught.value.problems
    assert "space.yaml: parameters.recipe.values[1]: trial.recipe: no recipe 'moco'; did you mean 'moco_v2'?" in problem


def test_one_trial_alone_takes_a_recipe(tmp_path, mine):
    file = tmp_path / "trial.yaml"
    file.write_text("labels: {start: 20}\n")
    config = read_trial(file, {"trial.recipe": str(mine)})
    assert (config.ssl_method.hyperparameters["temperature"], config.pretrain.epochs) == (0.3, 7)
    kept = tmp_path / "kept.yaml"
    kept.write_text(yaml.safe_dump(read(tmp_path, CHOICE).as_dict() | {"trial": {"recipe": "byol"}}))
    assert read_trial(kept, {}).pretrain.rate == 0.015


@pytest.mark.parametrize("content", ["labels: {start: 20}\n", "name: q\ntrial: {labels: {start: 20}}\n"])
def test_one_trial_alone_takes_no_setting_that_it_would_not_look_at(tmp_path, content):
    file = tmp_path / "trial.yaml"
    file.write_text(content)
    with pytest.raises(
        ConfigError, match=r"pretrain\.epochs: one trial has no such setting; its own lie below `trial`"
    ):
        read_trial(file, {"pretrain.epochs": 3})
    assert read_trial(file, {"trial.pretrain.epochs": 3}).pretrain.epochs == 3


# ---------------------------------------------------------------- those that come with selbench

NAMES = {
    "barlow_twins", "byol", "dino", "fixmatch", "mixmatch", "mobyv2al", "moco_v2", "self_classifier", "simclr",
    "simclr_ual", "simsiam", "supcon", "supervised", "swav", "vicreg",
}  # fmt: skip


def test_the_recipes_are_all_there():
    assert set(recipes.recipe_names()) >= NAMES


@pytest.mark.parametrize("name", recipes.recipe_names())
def test_a_recipe_is_complete(name):
    recipe = recipes.load_recipe(recipes.FOLDER / f"{name}.yaml")
    assert recipe.description.endswith(".")
    assert recipe.description.count(". ") == 0, "one sentence"
    assert recipe.source
    assert "https://" in recipe.source or name == "simclr_ual"
    assert recipe.settings
    assert recipe.deviations
    assert all(sentence.endswith(".") for sentence in recipe.deviations)
    assert {"backbone", "ssl_method", "augmentation"} <= recipe.trial.keys()
    optimization = recipe.trial["classifier" if recipe.trial.get("mode") == "joint" else "pretrain"]
    assert {"epochs", "batch_size", "optimizer", "lr", "weight_decay", "schedule"} <= optimization.keys()
    for variant in (recipe.variants or {}).values():
        assert variant.description
        assert variant.settings


@pytest.mark.parametrize("name", recipes.recipe_names())
def test_a_recipe_is_a_valid_trial(name):
    recipe = recipes.load_recipe(recipes.FOLDER / f"{name}.yaml")
    for used in [name, *(f"{name}/{variant}" for variant in recipe.variants or {})]:
        problems = Problems()
        assert recipe_trial(used, "trial.recipe", problems), problems.found


@pytest.mark.parametrize("name", ["mobyv2al_table2", "mobyv2al_table3"])
def test_the_tables_of_mobyv2al_are_plans(name):
    plan = load_plan(Path("search_spaces/papers") / f"{name}.yaml", {})
    methods = {candidate.trial.ssl_method.name for candidate in plan.candidates}
    assert methods >= {"moby", "moco_v2", "byol"}
    assert {candidate.trial.classifier.epochs for candidate in plan.candidates} == {200}


def test_recipes_are_listed(capsys, monkeypatch):
    assert list_plugins(["--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out) if entry["kind"] == "recipes"}
    assert set(listed) >= {*NAMES, "simclr/small"}
    entry = listed["moco_v2"]
    assert (entry["provider"], entry["hyperparameters"]["pretrain.lr"]) == ("selbench", 0.06)
    assert "2003.04297" in entry["source"]
    assert len(entry["deviations"]) >= 3
    assert listed["simclr/small"]["hyperparameters"]["backbone"] == "dcnn3"
    monkeypatch.setenv("COLUMNS", "250")
    assert list_plugins([]) == 0
    assert listed["byol"]["summary"][:20] in capsys.readouterr().out


def test_a_broken_recipe_does_not_hide_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    write(tmp_path / "broken.yaml", trail={})
    write(tmp_path / "good.yaml", description="Good.", trial={"backbone": "dcnn3"})
    broken, good = recipes.describe_recipes()
    assert "trail: no such key; did you mean 'trial'?" in broken["error"]
    assert good["summary"] == "Good."

"""The JSON schema of search spaces: what the dialect allows it allows, a typo it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from harness.config import plan, space, trial
from harness.config.comment import opening_comment
from harness.config.json_schema import schema
from harness.plain_yaml import parse_yaml
from harness.plugins import registry

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "search_spaces").rglob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    Draft7Validator.check_schema(schema())
    return Draft7Validator(schema())


def test_the_committed_schema_is_that_of_the_code():
    committed = json.loads((ROOT / "search_spaces/schema.json").read_text(encoding="utf-8"))
    assert committed == json.loads(json.dumps(schema())), "python -m harness.config > search_spaces/schema.json"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_search_space_is_valid_and_names_the_schema(validator, file):
    assert [error.message for error in validator.iter_errors(parse_yaml(file.read_text("utf-8")))] == []
    named = file.read_text("utf-8").partition("\n")[0].removeprefix("# yaml-language-server: $schema=")
    assert (file.parent / named).resolve() == ROOT / "search_spaces/schema.json"


def test_a_comment_to_editors_is_no_part_of_the_question():
    for file in FILES:
        assert "yaml-language-server" not in opening_comment(file)
        assert opening_comment(file).startswith("# ")


@pytest.mark.parametrize("section", [trial.TrialConfig, plan.SweepSettings], ids=lambda section: section.__name__)
def test_no_key_is_missing(section):
    made = schema()
    definitions = {**made["definitions"], section.__name__: made["definitions"][section.__name__]}
    waiting, seen = [section], set()
    while waiting:
        cls = waiting.pop()
        seen.add(cls)
        keys = {item.name for item in dataclasses.fields(cls)}
        assert keys <= set(definitions[cls.__name__]["properties"]), cls.__name__
        named = [name for name in definitions if f'"#/definitions/{name}"' in json.dumps(definitions[cls.__name__])]
        for known in (*vars(trial).values(), *vars(plan).values()):
            if getattr(known, "__name__", "") in named and dataclasses.is_dataclass(known) and known not in seen:
                waiting.append(known)
    assert len(seen) > 4
    assert set(plan.QUESTION_KEYS) == set(made["properties"])
    assert set(space.PARAMETER_KEYS) == set(made["definitions"]["parameter"]["properties"])


@pytest.mark.parametrize("kind", registry.CONTRACTS)
def test_no_plugin_and_no_hyperparameter_is_missing(validator, kind):
    slot = {"datasets": "dataset", "backbones": "backbone", "ssl_methods": "ssl_method", "selectors": "selector"}
    key = slot.get(kind, "augmentation")
    for entry in registry.describe_plugins():
        if entry["kind"] == kind and "<" not in entry["name"]:
            spelled = json.loads(json.dumps({"name": entry["name"], **entry["hyperparameters"]}))
            for value in (entry["name"], spelled):
                assert [e.message for e in validator.iter_errors({"trial": {key: value}})] == [], value


@pytest.mark.parametrize(
    "content",
    [
        {"methd": "grid"},
        {"method": "gird"},
        {"run_cap": 0},
        {"trial": {"pretrain": {"epoch": 3}}},
        {"trial": {"pretrain": {"epochs": -1}}},
        {"trial": {"pretrain": {"lr": 0}}},
        {"trial": {"pretrain": {"lr": "1e-3"}}},
        {"trial": {"pretrain": {"optimizer": "sdg"}}},
        {"trial": {"selector": "corset"}},
        {"trial": {"ssl_method": {"name": "simclr", "temprature": 0.5}}},
        {"trial": {"classifier": ["linear", "kn"]}},
        {"trial": {"data": {"imbalance": {"kind": "step", "keep": 3}}}},
        {"parameters": {"pretrain.epoch": {"values": [1]}}},
        {"parameters": {"pretrain.epochs": {"vales": [1]}}},
        {"parameters": {"pretrain.lr": {"distribution": "log", "min": 0.1, "max": 1}}},
        {"cases": {"a": {"pretrain.epoch": 1}}},
    ],
    ids=str,
)
def test_a_mistake_is_refused(validator, content):
    assert list(validator.iter_errors(content))


@pytest.mark.parametrize(
    "content",
    [
        {"metric": [{"name": "val/accuracy"}, {"name": "time/total_seconds", "goal": "minimize"}]},
        {"trial": {"recipe": "moco_v2/small", "pretrain": None, "labels": {"start": "all"}}},
        {"trial": {"recipe": "mine.yaml", "selector": "my_module:Mine", "backbone": "torchvision/resnet50"}},
        {"trial": {"ssl_method": {"temperature": 1e-1}, "augmentation": {"name": "pair", "first": {"name": "crop"}}}},
        {"trial": {"classifier": ["linear", {"name": "knn", "neighbors": 3}]}},
        {"parameters": {"recipe": {"values": ["simclr", "byol"]}, "augmentation.first.strength": {"min": 0, "max": 1}}},
        {"parameters": {"ssl_method.queue_size": {"values": [1, 2], "when": {"ssl_method.name": "moco_v2"}}}},
    ],
    ids=str,
)
def test_what_the_dialect_allows_is_allowed(validator, content: dict[str, Any]):
    assert [error.message for error in validator.iter_errors(content)] == []

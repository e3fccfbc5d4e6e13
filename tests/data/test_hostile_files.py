"""Files that try to run code: nothing is loaded in a way that could, and what is only read imports nothing."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sweep_folder import SweepFolder

from baselines.datasets.npz import Npz
from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.plugins import weights
from harness.records.folder import open_folder
from harness.records.rows import mapping
from harness.report import write as report
from harness.tracking import tracker
from harness.trial.stages import Checkpoint

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "harness").rglob("*.py"), *(ROOT / "baselines").rglob("*.py")])

EVIL_YAML = [
    "a: !!python/object/apply:os.mkdir [{exploded}]",
    "!!python/object/new:os.mkdir [{exploded}]",
    "a: !!python/module:evil",
    "a: !!python/name:evil.Evil",
    "a: !!python/object:evil.Evil {{}}",
]


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a source file: what is called, as written."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def unsafe(name: str, call: ast.Call) -> str | None:
    """Why a call may run code that a file holds."""
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    module, _, function = name.rpartition(".")
    if module == "yaml" and "load" in function:
        return "yaml"
    if name == "torch.load" and given.get("weights_only") != "True":
        return "torch.load"
    if name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
        return "np.load"
    picklers = ("pickle", "marshal", "shelve", "joblib", "dill", "cloudpickle")
    if module in picklers and function in ("load", "loads", "open"):
        return "pickle"
    return "exec" if name in ("eval", "exec", "compile") else None


def test_no_source_loads_a_file_in_a_way_that_runs_its_code():
    seen = [name for file in SOURCES for name, _ in calls(file)]
    assert {"torch.load", "np.load"} <= set(seen)
    found = [(file, call.lineno, unsafe(name, call)) for file in SOURCES for name, call in calls(file)]
    assert [item for item in found if item[2]] == []


@pytest.mark.parametrize(
    "line", ["yaml.load(x)", "yaml.unsafe_load(x)", "yaml.safe_load(x)", "torch.load(x)",
             "torch.load(x, weights_only=False)", "np.load(x, allow_pickle=True)", "pickle.load(x)", "eval(x)"],
)  # fmt: skip
def test_the_search_for_such_calls_finds_them(line):
    assert unsafe(line.partition("(")[0], ast.parse(line).body[0].value)


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a folder where it is imported."""
    explode = f"import os\nos.mkdir({str(tmp_path / 'exploded')!r})\n"
    (tmp_path / "evil.py").write_text(f"{explode}from harness.api import Selector\nclass Evil(Selector): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "exploded"


@pytest.mark.parametrize("text", EVIL_YAML)
def test_yaml_runs_nothing(tmp_path, evil, text):
    (tmp_path / "question.yaml").write_text(text.format(exploded=evil))
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_plan(tmp_path / "question.yaml", {})
    with pytest.raises(ValueError, match="is damaged"):
        mapping(tmp_path / "question.yaml")
    assert not evil.exists()


class Bomb:
    def __init__(self, exploded: Path):
        self.exploded = exploded

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.exploded),)


def test_checkpoints_and_arrays_run_nothing(tmp_path, evil):
    torch.save({"state_dict": {"weight": torch.ones(1)}, "x": Bomb(evil)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="no checkpoint of tensors and plain values"):
        weights.read_checkpoint(tmp_path / "weights.pt")
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    checkpoint.save({"x": Bomb(evil)})  # with a right checksum
    assert checkpoint.load() is None
    images, labels = np.zeros((4, 2, 2), dtype=np.uint8), np.array([Bomb(evil)] * 4, dtype=object)
    np.savez(tmp_path / "set.npz", train_images=images, train_labels=labels)
    with pytest.raises(ValueError, match=r"set.npz"):
        Npz(path=str(tmp_path / "set.npz")).open()
    assert not evil.exists()


def test_a_sweeps_folder_that_is_only_read_imports_no_class_it_names(tmp_path, evil):
    """`module:Class` runs code, but only where a person names the file to `harness.sweep` or `harness.trial`."""
    named = {"name": "evil:Evil"}
    trial = {"dataset": {"name": "digits"}, "ssl_method": {"name": "simclr"}, "selector": named}
    sweep = SweepFolder(tmp_path / "sweep", trial=trial, parameters={"selector": {"values": [named]}})
    rows = sweep.trial("c1", 1, {"selector": named}, {100: 0.7, 200: 0.8})
    assert json.dumps(rows)
    report.write_report(sweep.path)
    tracker.sync(sweep.path, f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "mine.yaml").write_text("trial: {selector: random}")
    with pytest.raises(ConfigError, match=r"names evil:Evil, which this question does not"):
        open_folder(sweep.path, load_plan(tmp_path / "mine.yaml", {}), resume=True)
    assert not evil.exists()
    (tmp_path / "named.yaml").write_text(yaml.safe_dump({"trial": {"selector": named}}))
    with pytest.raises(ConfigError):
        load_plan(tmp_path / "named.yaml", {})
    assert evil.exists(), "the module that the person named is imported; else this test could not fail"

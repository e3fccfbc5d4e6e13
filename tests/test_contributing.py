"""The code in CONTRIBUTING.md is complete: it runs as it stands and passes what it says it passes."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest
import torch

from harness import testing
from harness.plugins import registry

GUIDE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def example(tmp_path, monkeypatch):
    """example(class name): the class of that name, from the code block that defines it."""
    monkeypatch.syspath_prepend(tmp_path)

    def load(class_name):
        (block,) = (code for code in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if class_name in code)
        module = f"contributing_{class_name.lower()}"
        (tmp_path / f"{module}.py").write_text(block)
        return getattr(importlib.import_module(module), class_name)

    return load


@pytest.mark.parametrize(("kind", "class_name"), [("selectors", "NearestToMean"), ("ssl_methods", "AlignUniform")])
def test_example_keeps_its_promises(example, kind, class_name):
    plugin = example(class_name)
    testing.check_imports(plugin)
    assert set(re.findall(r"^from (\w+\.?\w*) import", inspect.getsource(sys.modules[plugin.__module__]), re.M)) <= {
        "__future__", "torch", "harness.api",
    }  # fmt: skip
    getattr(testing, f"check_{kind[:-1]}")(plugin)
    assert registry.find_plugin(kind, f"{plugin.__module__}:{class_name}") is plugin


def test_selector_picks_the_images_nearest_to_the_mean(example):
    pool = testing.make_pool()
    mean = pool.features.mean(0)
    by_distance = sorted(pool.unlabeled.tolist(), key=lambda index: float((pool.features[index] - mean).square().sum()))
    assert example("NearestToMean")().select(pool, 5, rng=torch.Generator()).tolist() == by_distance[:5]


def test_files_and_names_in_the_guide_exist():
    root = Path(__file__).parents[1]
    invented = {"baselines/selectors/nearest_to_mean.py"}
    paths = set(re.findall(r"`((?:harness|baselines|tests|examples|benchmarks)/[\w/.]*)`", GUIDE)) - invented
    assert len(paths) >= 6
    assert [path for path in sorted(paths) if not (root / path).exists()] == []
    assert set(re.findall(r"^    (make [\w-]+)", GUIDE, re.MULTILINE)) == {
        "make check",
        "make test",
        "make test-browser",
    }
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{target}:" in makefile for target in ("check", "test", "test-slow"))

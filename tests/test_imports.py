"""Who may import what: a trial runs without the trackers and schedulers, and the lint rule keeps it so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from trials import SMALL

ROOT = Path(__file__).resolve().parent.parent
ABSENT = ("ray", "mlflow", "optuna", "pandas", "matplotlib", "rich")

WITHOUT = f"""
import runpy, sys

from importlib.machinery import PathFinder

find = PathFinder.find_spec

def find_others(name, path=None, target=None):
    return None if name.partition(".")[0] in {ABSENT} else find(name, path, target)

PathFinder.find_spec = find_others
sys.argv[0] = "harness.trial"
runpy.run_module("harness.trial", run_name="__main__")
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_trial_needs_neither_ray_nor_mlflow_nor_anything_to_draw_with(tmp_path):
    file = tmp_path / "trial.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "selector": "coreset"}))
    folders = ["--stages", str(tmp_path / "stages"), "--cache", str(tmp_path / "data")]
    done = run(WITHOUT, str(file), "--test", "--portrait", str(tmp_path / "portrait.npz"), *folders)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "portrait.npz").stat().st_size > 1000
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["step_kind"], last["step"]) == ("labels", 40)
    assert 0 <= last["metrics"]["test/accuracy"] <= 1


def test_what_is_taken_away_cannot_be_imported():
    done = run(WITHOUT.replace('runpy.run_module("harness.trial", run_name="__main__")', "import ray"))
    assert "No module named 'ray'" in done.stderr


def banned(module: Path, code: str) -> list[str]:
    """The codes of ruff's findings in a module of that path, under the project's rules."""
    command = [sys.executable, "-m", "ruff", "check", "--output-format", "json", "--stdin-filename", str(module), "-"]
    done = subprocess.run(command, cwd=ROOT, input=code, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1), done.stderr
    return [finding["code"] for finding in json.loads(done.stdout)]


@pytest.mark.parametrize("package", ["ray", "mlflow", "optuna"])
@pytest.mark.parametrize(
    "form", ["import {0}", "from {0} import tune", "import {0}.tune", "from {0}.tune import Tuner"]
)
def test_the_lint_rule_rejects_imports_in_the_wrong_place(package, form):
    code = f'"""Scratch."""\n\n{form.format(package)}\n'
    for place in (
        "harness/scratch.py",
        "harness/trial/run.py",
        "harness/report/read.py",
        "baselines/selectors/scratch.py",
    ):
        assert "TID251" in banned(ROOT / place, code), place


@pytest.mark.parametrize(
    ("package", "home"),
    [
        ("ray", "harness/sweep/driver.py"),
        ("ray", "harness/sweep/cluster.py"),
        ("optuna", "harness/sweep/search.py"),
        ("optuna", "harness/report/importance.py"),
        ("mlflow", "harness/tracking/server.py"),
    ],
)
def test_the_lint_rule_accepts_imports_at_home(package, home):
    assert "TID251" not in banned(ROOT / home, f'"""Scratch."""\n\nimport {package}\n')


def test_no_module_imports_what_is_another_modules_to_import():
    """Also where a lint comment would silence the rule."""
    homes = {
        "ray": ("harness/sweep/",),
        "optuna": ("harness/sweep/", "harness/report/importance.py"),
        "mlflow": ("harness/tracking/",),
    }
    for folder in ("harness", "baselines"):
        for file in (ROOT / folder).rglob("*.py"):
            for line in file.read_text().splitlines():
                words = line.split()
                if words[:1] in (["import"], ["from"]) and len(words) > 1:
                    package = words[1].partition(".")[0]
                    place = file.relative_to(ROOT).as_posix()
                    assert place.startswith(homes.get(package, ("",))), f"{file}: {line}"


def test_baselines_import_nothing_of_the_harness_but_the_contracts():
    allowed = {"harness.api", "harness.embeddings_file", "harness.image_file", "harness.seeding", "harness.tables"}
    for file in (ROOT / "baselines").rglob("*.py"):
        for line in file.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]) and words[1].partition(".")[0] == "harness":
                names = {f"harness.{words[3]}"} if words[1] == "harness" else {words[1]}
                assert names <= allowed, f"{file}: {line}"

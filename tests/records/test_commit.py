"""The commit in a sweep's environment is that of the code that ran, or none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOLD = "import json; from harness.records.environment import commit_of_code; print(json.dumps(commit_of_code()))"


def git(folder: Path, *arguments: str) -> str:
    me = ["-c", "user.name=me", "-c", "user.email=me@here"]
    return subprocess.run(["git", *me, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("of_harness", [True, False])
def test_the_commit_is_that_of_the_code(tmp_path, of_harness):
    ignore = shutil.ignore_patterns("__pycache__")
    for package in ("harness", "baselines"):
        shutil.copytree(ROOT / package, tmp_path / "packages" / package, ignore=ignore)
    git(tmp_path, "init", "-q")
    (tmp_path / "mine.txt").write_text("somebody's\n")
    git(tmp_path, "add", "mine.txt", *(["packages"] if of_harness else []))
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()

    def told() -> dict:
        command = [sys.executable, "-c", TOLD]
        ended = subprocess.run(command, cwd=tmp_path / "packages", check=True, capture_output=True, text=True)
        return json.loads(ended.stdout)

    assert told() == ({"commit": commit, "dirty": False} if of_harness else {"commit": None, "dirty": None})
    (tmp_path / "mine.txt").write_text("changed\n")
    assert told()["dirty"] is (True if of_harness else None)

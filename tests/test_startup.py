"""What a command imports before it says anything: nothing that takes seconds and that it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SLOW = {"torch", "numpy", "scipy", "yaml", "rich"}
SLOWER = {"ray", "mlflow", "optuna", "pandas", "matplotlib", "torchvision", "sklearn", "scipy", "numba", "openTSNE"}
COMMANDS = ("sweep", "trial", "report", "plugins", "embed", "tracking")

RUN = """
import runpy, sys

module, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as exit:
    assert not exit.code, exit
print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported_by(*command: str) -> set[str]:
    """The top-level packages that a command has imported when it ends."""
    done = subprocess.run([sys.executable, "-c", RUN, *command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("imported:")[2].split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_imports_nothing_that_takes_time(name):
    assert imported_by(f"harness.{name}", "--help") & (SLOW | SLOWER) == set()


@pytest.mark.parametrize(
    "command", [("harness.sweep", "search_spaces/augment.yaml", "--dry-run", "--quiet"), ("harness.plugins", "--json")]
)
def test_checking_a_question_and_listing_plugins_import_torch_and_no_other_library_of_seconds(command):
    packages = imported_by(*command)
    assert "torch" in packages
    assert packages & SLOWER == set()


def test_a_sweep_begins_without_the_libraries_of_its_report():
    code = "import sys, harness.sweep.session; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    packages = set(done.stdout.split())
    assert "ray" in packages
    assert packages & {"matplotlib", "scipy", "sklearn", "mlflow", "torchvision"} == set()

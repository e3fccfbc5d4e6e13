"""Every script in benchmarks/ runs, with as little work as it takes, and prints its figures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "augmentation": "--num-images 64 --repeats 1",
    "cheap_trials": "random --rows 360 --dims 16 --labels 20 --rounds 1 --seeds 1",
    "end_to_end": "--toy",
    "encoding": "dcnn3_32px --rounds 1 --most 32",
    "gpu": "--toy",
    "large_records": "--megabytes 0.2 --configurations 2 --rounds 1",
    "neighbours": "faiss --rows 600 --asked 50",
    "page": "--trials 12",
    "patches": "--rounds 1 --patches 20",
    "pick": "margin --rows 800 --dims 16",
    "plane_maps": "tsne --rows 300",
    "pretrain": "--batches 1 dcnn3",
    "reporting": "--trials 2 --seconds 1 --every 0.5",
    "selectors": "coreset --rows 400 --small-rows 300",
    "selectors_scale": "margin coreset --rows 2000 3000",
    "startup": "--runs 1",
    "statistics": "--quick",
    "sweep_overhead": "--trials 2",
    "training": "--images 4 --rounds 1",
}
"""Script -> arguments under which it takes seconds."""


LONG = {
    "cheap_trials": "runs trials",
    "end_to_end": "starts Ray twice",
    "gpu": "trains a ResNet-18",
    "large_records": "starts Ray twice",
    "page": "draws a page",
    "pick": "trains heads",
    "plane_maps": "draws a map",
    "sweep_overhead": "starts Ray twice",
    "training": "compiles a network",
}


def script(name: str) -> object:
    return pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])


@pytest.mark.parametrize("name", [script(name) for name in SMALL])
def test_a_benchmark_prints_its_figures(name):
    command = [sys.executable, "-m", f"benchmarks.{name}", *SMALL[name].split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    figures = [line for line in done.stdout.splitlines() if line.startswith("figure ")]
    assert figures
    assert [line for line in figures if not re.fullmatch(r"figure \w+ -?\d+(\.\d+)?", line)] == []


def test_every_benchmark_is_tried():
    assert {file.stem for file in (ROOT / "benchmarks").glob("*.py")} == set(SMALL)

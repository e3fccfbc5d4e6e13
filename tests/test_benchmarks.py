"""Every script in benchmarks/ runs, with as little work as it takes, and prints its figures."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "augmentation": "--num-images 64 --repeats 1",
    "cheap_trials": "random --rows 360 --dims 16 --labels 20 --rounds 1 --seeds 1",
    "coverage": "--rows 1200 --labeled 20 --budget 40",
    "decoding": "--files 80 --side 8",
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
    "selectors": "probcover --rows 400 --small-rows 300",
    "selectors_scale": "margin coreset --rows 2000 3000",
    "startup": "--runs 1 help_sweep plugins",
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


def figures_of(name: str, arguments: str, seconds: float) -> dict[str, float]:
    """What a script prints, in so many seconds at most."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("figure ")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"figure \w+ -?\d+(\.\d+)?", line)] == []
    return {figure: float(value) for _, figure, value in map(str.split, lines)}


@pytest.mark.parametrize("name", [script(name) for name in SMALL])
def test_a_benchmark_prints_its_figures(name):
    assert figures_of(name, SMALL[name], 500)


CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
"""As benchmarks/page.py looks for it."""

LIMITS = {
    "page --compared 500": {"page_mb": 10, "page_write_cpu_s": 60, "page_opened_s": 5},
    "large_records": {"large_report_cpu_s": 60, "large_resume_cpu_s": 60},
    "decoding --stored 40000": {"stored_decoding_own_megabytes": 60, "stored_reading_own_megabytes": 30},
}
"""Script with its arguments -> figures, each with the most that docs/reliability.md says it may be."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("asked", LIMITS)
def test_what_is_large_stays_below_its_limits(asked):
    """2,000 trials on a page; 200 MB of records; 1.1 GB of images: in the processor's seconds, on one page, in MB."""
    name, _, arguments = asked.partition(" ")
    if "page_opened_s" in LIMITS[asked] and not (find_spec("playwright") and any(map(shutil.which, CHROMIUM))):
        pytest.skip("there is no Chromium to open the page: make test-browser installs it")
    figures = figures_of(name, arguments, 1700)
    print(figures)
    assert figures.keys() >= LIMITS[asked].keys()
    over = {figure: figures[figure] for figure, most in LIMITS[asked].items() if figures[figure] > most}
    assert over == {}


def test_every_benchmark_is_tried():
    assert {file.stem for file in (ROOT / "benchmarks").glob("*.py")} == set(SMALL)

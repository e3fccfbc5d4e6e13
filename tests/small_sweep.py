"""What tests of sweeps share: trials that take a moment, sweeps of them, and what their folders tell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import yaml

from harness.records import rows as record_rows
from harness.sweep.command import main

HERE = Path(__file__).parent

NUMBER = 12

TRIAL = {
    "dataset": "digits",
    "data": {"val": 0.2},
    "backbone": {"name": "dcnn3", "width": 4},
    "ssl_method": {"name": "simclr", "hidden_dim": 16, "projection_dim": 8},
    "augmentation": {"first": "crop", "second": "noise"},
    "pretrain": {"epochs": 2, "batch_size": 128},
    "labels": {"start": 20, "budget": 10, "rounds": 1},
    "classifier": {"name": "linear", "epochs": 5},
}


def write(folder: Path, **space) -> Path:
    file = folder / f"{space.get('name', 'question')}.yaml"
    file.write_text("# A question?\n" + yaml.safe_dump({"trial": TRIAL, "portrait": False, **space}))
    return file


def options(folder: Path) -> list[str]:
    return ["--results", f"{folder}/runs", "--stages", f"{folder}/stages", "--cache", f"{folder}/data"]


def run(folder: Path, file: Path, *more: str) -> int:
    return main([str(file), *options(folder), *more])


def rows(folder: Path) -> list[dict]:
    records, unreadable = record_rows.read_rows(folder)
    assert unreadable == 0
    return records


def endings(folder: Path) -> Counter:
    return Counter(
        record_rows.last(history)["status"]
        for history in record_rows.by_trial(record_rows.read_rows(folder)[0]).values()
    )


SLOW = """
import time
import torch
from harness.api import Selector

class Slow(Selector):
    "Takes its time, and says that it ran."
    def __init__(self, *, log: str = "", seconds: float = 1.0):
        self.log = log
        self.seconds = seconds
    def select(self, pool, budget, *, rng):
        time.sleep(self.seconds)
        with open(self.log, "a") as file:
            file.write("selected\\n")
        return pool.unlabeled[:budget]
"""


def surroundings(folder: Path) -> dict[str, str]:
    """The environment in which a sweep finds its selector."""
    return {**os.environ, "PYTHONPATH": f"{folder}:{HERE}:{HERE.parent}"}


def start(folder: Path, file: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "harness.sweep", str(file), *options(folder), *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=surroundings(folder), stdout=pipe, stderr=pipe, text=True)


def wait_for_endings(sweep: Path, number: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 500
    while not (sweep / "rows.jsonl").exists() or sum(endings(sweep).values()) - endings(sweep)["running"] < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no trial ended"
        time.sleep(0.1)


def question(folder: Path, number: int) -> Path:
    """A search space of so many trials that each take a moment."""
    (folder / "slow_plugin.py").write_text(SLOW)
    selector = {"name": "slow_plugin:Slow", "log": str(folder / "selections.log"), "seconds": 1.0}
    trial = {**TRIAL, "ssl_method": "none", "selector": selector}
    return write(folder, name="it's #1", trial=trial, seeds=list(range(number)))


def begin(
    folder: Path, *before: str, number: int = NUMBER, more: Iterable[str] = (), **variables: str
) -> subprocess.Popen:
    """A sweep of so many trials that each take a moment, in a session of its own.

    Args:
        folder: made here; all that the sweep needs and leaves lies in it.
        before: the beginning of the command line.
        number: of trials.
        more: of its options.
        variables: of the environment.
    """
    folder.mkdir()
    file = question(folder, number)
    command = [*before, sys.executable, "-m", "harness.sweep", str(file), *options(folder), *more]
    environment = surroundings(folder) | variables
    pipe = subprocess.PIPE
    settings = {"env": environment, "stdout": pipe, "stderr": pipe, "text": True, "start_new_session": True}
    return subprocess.Popen(command, preexec_fn=hang_up_as_in_a_terminal, **settings)


def hang_up_as_in_a_terminal() -> None:
    """Who runs these tests under `nohup` ignores the signal, and so would the sweep, as it should there."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

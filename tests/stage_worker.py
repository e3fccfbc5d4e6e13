"""What the other processes of `test_stages` run: a stage that counts how often it is computed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import torch

from harness.trial.stages import Checkpoint, StageCache

KEY = {"seed": 1, "part": {"a": 1, "b": [1, 2]}}


def note(log: Path, text: str) -> None:
    """Appends a line in one write, so that lines of several processes do not mix."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def race(root: Path, log: Path, barrier: Barrier) -> None:
    """Needs the stage at the same moment as the others."""

    def compute(_: Checkpoint) -> dict[str, torch.Tensor]:
        note(log, "computed")
        time.sleep(0.3)
        return {"value": torch.arange(1000)}

    barrier.wait()
    stage = StageCache(root).run("pretrain", KEY, compute)
    note(log, f"got {int(stage.value['value'].sum())} {stage.seconds!r} {stage.cached}")


def stall(root: Path, started: Event) -> None:
    """Computes half of the stage, saves it, and waits to be killed."""

    def compute(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
        checkpoint.save({"half": torch.tensor([1.0, 2.0])})
        started.set()
        time.sleep(600)
        raise AssertionError("nobody killed this process")

    StageCache(root).run("pretrain", KEY, compute)


def goes_on(states: list[Any]) -> Callable[[Checkpoint], dict[str, Any]]:
    """A computation of the stage that `stall` began; it adds what it goes on from to `states`."""

    def compute(checkpoint: Checkpoint) -> dict[str, Any]:
        states.append(checkpoint.load())
        return {"whole": states[-1]["half"].sum()}

    return compute

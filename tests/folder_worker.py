"""What another process of `test_folder` runs: it holds a sweep's folder until it is told to go."""

from __future__ import annotations

from multiprocessing.synchronize import Event
from pathlib import Path

from harness.config.plan import load_plan
from harness.records.folder import open_folder


def hold(folder: Path, question: Path, held: Event, leave: Event) -> None:
    lock = open_folder(folder, load_plan(question, {}), resume=False)
    held.set()
    leave.wait(60)
    lock.release()

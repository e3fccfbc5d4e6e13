"""The memory of a trial's process, watched from within."""

from __future__ import annotations

import mmap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from harness.trial import memory
from harness.trial.memory import GIBIBYTE, own_memory, watched_memory

pytestmark = pytest.mark.skipif(own_memory() is None, reason="this system does not tell what a process holds")


def take(size: int) -> np.ndarray:
    """Memory that the process did not hold before, whatever its allocator has kept."""
    taken = np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=np.uint8)
    taken[:] = 1
    return taken


def held() -> float:
    """What the process still holds after giving back what earlier tests freed, as `watched_memory` does first."""
    memory.return_freed_memory()
    return (own_memory() or 0) / GIBIBYTE


def test_what_a_process_takes_counts_and_what_is_mapped_does_not(tmp_path):
    before = held()
    taken = take(2**27)
    assert held() - before == pytest.approx(0.125, abs=0.02)
    np.save(tmp_path / "a.npy", taken)
    del taken
    before = held()
    assert int(np.load(tmp_path / "a.npy", mmap_mode="c").sum()) == 2**27
    assert held() - before < 0.02


def test_too_much_is_told_once_with_what_was_held():
    causes: list[str] = []
    with watched_memory(held() + 0.1, causes.append):
        taken = take(2**28)
        deadline = time.monotonic() + 10
        while not causes and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(3 * memory.MEMORY_POLL_SECONDS)
    del taken
    (cause,) = causes
    assert cause.startswith("MemoryError: the trial held ")
    assert "resources.memory_gb is " in cause


def test_enough_is_not_told_and_nothing_goes_on_watching():
    causes: list[str] = []
    for limit in (held() + 1, None):
        with watched_memory(limit, causes.append):
            time.sleep(3 * memory.MEMORY_POLL_SECONDS)
        assert not any(thread.name == "memory" for thread in threading.enumerate())
    assert causes == []


def test_a_system_that_does_not_tell_is_known(monkeypatch):
    monkeypatch.setattr(memory, "STATUS", Path("/nowhere"))
    assert not memory.can_watch_memory()

"""What tests of sweeps share: plugins of their own; and no driver outlives the test that started it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
import pytest

TESTS = Path(__file__).parents[1]


@pytest.fixture
def workers_find_the_plugins(monkeypatch):
    """Those of the tests, by the environment that a sweep gives its workers."""
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}:{TESTS.parent}")


@pytest.fixture(autouse=True)
def _drivers_end():
    """A test that fails leaves no sweep behind, whose trials would slow down all that follow."""
    yield
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if "harness.sweep" in child.cmdline():
                child.kill()
                child.wait()

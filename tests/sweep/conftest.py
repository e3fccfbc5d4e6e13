"""No driver outlives the test that started it."""

from __future__ import annotations

import contextlib

import psutil
import pytest


@pytest.fixture(autouse=True)
def _drivers_end():
    """A test that fails leaves no sweep behind, whose trials would slow down all that follow."""
    yield
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if "harness.sweep" in child.cmdline():
                child.kill()
                child.wait()

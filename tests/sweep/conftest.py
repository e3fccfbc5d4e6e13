"""What tests of sweeps share: plugins of their own; and no driver outlives the test that started it."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.fixture
def workers_find_the_plugins(monkeypatch):
    """Those of the tests, by the environment that a sweep gives its workers."""
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}:{TESTS.parent}")


@pytest.fixture(autouse=True)
def _drivers_end(drivers_end):
    """In every test of this folder."""

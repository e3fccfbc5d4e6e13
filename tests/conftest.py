"""Fixtures that several files share: decoded data, and places for trials."""

import pytest


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder of decoded data."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def fresh(cache, tmp_path):
    """Makes benches with the same data and no common stage."""
    from trials import Bench  # imports torch, which files without a trial may not need

    numbers = iter(range(100))
    return lambda: Bench(cache, tmp_path / f"stages{next(numbers)}")

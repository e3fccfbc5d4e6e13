"""Fixtures that several files share: decoded data, and places for trials."""

import contextlib
import os

import psutil
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before anything imports torch: threads of two workers wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="module")
def no_tracking_server():
    """What a test tells MLflow about its server stays in its file: MLflow hands it on in the environment."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


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


@pytest.fixture
def drivers_end():
    """A test that fails leaves no sweep behind, whose trials would slow down all that follow."""
    yield
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if "harness.sweep" in child.cmdline():
                child.kill()
                child.wait()

"""A selector in a package of its own: installed by pip, listed, and held to the same checks as the built-in ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "information_density"
CHECK = """
from harness.plugins import registry
from harness.testing import check_imports, check_selector

plugin = registry.find_plugin("selectors", "information_density")
check_imports(plugin)
check_selector(plugin)
print(registry.build(registry.PluginSpec("selectors", "information_density", {"beta": 2.0})).beta)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs Python in the checkout with the example installed beside it."""
    target = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source") / EXAMPLE.name
    # A copy, because building leaves files beside the source.
    source.mkdir()
    for file in EXAMPLE.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", target, source], check=True, capture_output=True)

    def run(*arguments):
        environment = os.environ | {"PYTHONPATH": str(target)}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=EXAMPLE.parents[1],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    return run


def test_the_package_is_listed(run):
    listed = json.loads(run("-m", "harness.plugins", "--json"))
    (entry,) = (item for item in listed if item["name"] == "information_density")
    assert entry["kind"] == "selectors"
    assert entry["provider"].startswith("selbench-information-density (")
    assert "Settles" in entry["summary"]
    assert entry["hyperparameters"] == {"beta": 1.0, "pool_subset": None, "normalize": None}
    assert "error" not in entry


def test_the_packages_selector_keeps_its_promises(run):
    assert run("-c", CHECK).strip() == "2.0"

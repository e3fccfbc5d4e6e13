"""Examples in docstrings run and print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

from harness import api, testing

ROOT = Path(__file__).resolve().parents[1]


def modules():
    """The modules whose source has an example."""
    for folder in ("harness", "baselines"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if ">>> " in file.read_text(encoding="utf-8"):
                yield ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("module", list(modules()))
def test_examples_run(module):
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried
    assert not failed, "see the output"


@pytest.mark.parametrize(
    ("contract", "check"),
    [
        (api.Augmentation, testing.check_augmentation),
        (api.SSLMethod, testing.check_ssl_method),
        (api.Selector, testing.check_selector),
    ],
)
def test_a_plugin_that_is_an_example_keeps_its_contract(contract, check):
    known = vars(importlib.import_module(contract.__module__))
    (example,) = doctest.DocTestFinder(recurse=False).find(contract, globs=known)
    code = next(one.source for one in example.examples if one.source.startswith("class "))
    names = dict(example.globs)
    exec(code, names)
    (plugin,) = (value for name, value in names.items() if name not in example.globs and isinstance(value, type))
    plugin.__doc__ = "An example."
    check(plugin)


@pytest.mark.parametrize("contract", [api.Augmentation, api.SSLMethod, api.Selector])
def test_the_contracts_show_how_they_are_kept(contract):
    assert doctest.DocTestFinder(recurse=False).find(contract)[0].examples

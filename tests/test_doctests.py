"""Examples in docstrings run and print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

from harness import api

ROOT = Path(__file__).resolve().parents[1]


def modules():
    """The modules whose source has an example."""
    for folder in ("harness", "baselines"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if ">>> " in file.read_text(encoding="utf-8"):
                yield ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("module", modules())
def test_examples_run(module):
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried
    assert not failed, "see the output"


@pytest.mark.parametrize("contract", [api.Augmentation, api.SSLMethod, api.Selector])
def test_the_contracts_show_how_they_are_kept(contract):
    assert doctest.DocTestFinder(recurse=False).find(contract)[0].examples

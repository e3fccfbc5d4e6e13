"""Saved encoders as models of MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from tracked import SELECTORS, dump, runs

from baselines.backbones.dcnn3 import DCNN3
from harness import embed
from harness.encoders import saved
from harness.encoders.saved import SavedEncoder
from harness.tracking.models import fetch_model, write_model
from harness.tracking.tracker import sync


def save_encoder(sweep, trial, seed=0):
    """Random weights as the saved encoder of a trial."""
    torch.manual_seed(seed)
    backbone, head = DCNN3((1, 8, 8), width=2), torch.nn.Linear(8, 2)
    about = {
        "trial": trial,
        "seed": 1,
        "backbone": {"name": "dcnn3", "width": 2},
        "image_shape": [1, 8, 8],
        "upright": True,
        "inputs": {"shape": [1, 8, 8], "scale": [1.0, 1.0], "mean": [0.3], "std": [0.2], "normalized_by": "data"},
        "precision": "float32",
        "channels_last": False,
        "head": {"name": "linear"},
        "class_names": ["cat", "dog"],
        "packages": {"torch": "2.15.0"},
    }
    state = {"head": head.state_dict(), "mean": torch.zeros(1), "std": torch.ones(1)}
    saved.write_encoder(sweep.path / "models" / trial, about, backbone.state_dict(), state)
    return SavedEncoder.load(sweep.path / "models" / trial, "cpu")


def models(uri):
    client = MlflowClient(uri)
    return client.search_logged_models([client.get_experiment_by_name("selectors").experiment_id])


def test_a_saved_encoder_becomes_a_model_that_loads_and_says_the_same(sweep, uri, tmp_path, capsys):
    import mlflow

    for seed in (1, 2):
        sweep.trial("c1", seed, SELECTORS, {100: 0.7 + 0.01 * seed})
    sync(sweep.path, uri)
    encoder = save_encoder(sweep, "confirm-c1-s2")  # saved when the trials' runs were closed already
    sync(sweep.path, uri)
    before = dump(uri)
    sync(sweep.path, uri)
    assert dump(uri) == before
    (model,) = models(uri)
    shown = runs(uri)
    run, parent = shown["confirm-c1-s2"], shown[""]
    assert (model.name, model.status, model.source_run_id) == ("encoder", "READY", run.info.run_id)
    assert parent.data.tags["best_model"] == f"runs:/{run.info.run_id}/encoder"

    images = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    expected = encoder.embed(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    previous = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/encoder")
        assert np.allclose(loaded.predict(images), expected.numpy(), atol=1e-6)
        logits = loaded.predict(images, params={"output": "logits"})
        assert np.allclose(logits, encoder.head(expected).numpy(), atol=1e-6)
        assert loaded.metadata.signature.inputs.inputs[0].shape == (-1, 8, 8, 1)
        assert loaded.input_example.shape == (2, 8, 8, 1)
        with pytest.raises(mlflow.exceptions.MlflowException):
            loaded.predict(images.astype(np.float32))
    finally:
        mlflow.set_tracking_uri(previous)

    Image.fromarray(images[0, :, :, 0]).save(tmp_path / "image.png")
    for name in (f"runs:/{run.info.run_id}/encoder", parent.info.run_id, model.model_uri):
        output = tmp_path / "e.npz"
        arguments = [name, str(tmp_path / "image.png"), "--tracking-uri", uri, "--output", str(output)]
        assert embed.main([*arguments, "--device", "cpu"]) == 0, capsys.readouterr().err
        assert np.allclose(np.load(output)["embeddings"], expected[:1].numpy(), atol=1e-5)
        output.unlink()
    without = shown["confirm-c1-s1"].info.run_id
    mistakes = {
        without: "was the sweep run with log_model?",
        f"runs:/{without}/encoder": "no encoder was logged",
        "0" * 32: "not found",
        "models:/m-0": "not found",
        "runs:/latest": "is not a run's id, runs:/<id>",
    }
    for name, message in mistakes.items():
        assert embed.main([name, str(tmp_path / "image.png"), "--tracking-uri", uri]) == 2
        errors = capsys.readouterr().err
        assert message in errors
        assert errors.count("\n") == 1


def test_sync_brings_back_a_model_whose_files_the_server_has_lost(sweep, uri, tmp_path):
    sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    save_encoder(sweep, "confirm-c1-s1")
    sync(sweep.path, uri)
    (before,) = models(uri)
    for file in (tmp_path / "mlflow_artifacts").rglob("model.json"):
        file.unlink()
    sync(sweep.path, uri)
    (after,) = models(uri)
    assert (after.model_id != before.model_id, after.status) == (True, "READY")
    assert SavedEncoder.load(fetch_model(after.model_uri, uri, tmp_path / "fetched"), "cpu")


def test_other_weights_take_the_place_of_a_model_and_a_cut_off_upload_is_sent_again(sweep, uri, monkeypatch):
    sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    save_encoder(sweep, "confirm-c1-s1")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "finalize_logged_model", lambda *_: (_ for _ in ()).throw(ConnectionError("reset")))
        with pytest.raises(ConnectionError):
            sync(sweep.path, uri)
    sync(sweep.path, uri)
    (first,) = models(uri)
    assert first.status == "READY"
    save_encoder(sweep, "confirm-c1-s1", seed=1)
    sync(sweep.path, uri)
    (second,) = models(uri)
    assert second.model_id != first.model_id


def without_paths():
    """The environment in which nothing of this checkout is imported unless a model brings it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_a_model_takes_the_module_of_its_backbone_along(sweep, tmp_path, monkeypatch):
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "my_backbone.py").write_text(
        "from baselines.backbones.dcnn3 import DCNN3\n\n\nclass Mine(DCNN3):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "plugin"))
    save_encoder(sweep, "a")
    file = sweep.path / "models" / "a" / "model.json"
    about = json.loads(file.read_text())
    about["backbone"]["name"] = "my_backbone:Mine"
    file.write_text(json.dumps(about))
    write_model(tmp_path / "model", file.parent, "m-1", "1")
    assert sorted(path.name for path in (tmp_path / "model" / "code").iterdir()) == [
        "baselines", "harness", "my_backbone.py",
    ]  # fmt: skip
    load = (
        f"import mlflow; mlflow.pyfunc.load_model({str(tmp_path / 'model')!r}); import harness; print(harness.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", load],
        cwd=tmp_path,
        env=without_paths(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "model" / "code"))


def test_a_model_names_what_the_code_of_its_backbone_imports(sweep, tmp_path, monkeypatch):
    (tmp_path / "tabled.py").write_text(
        "import timm\nfrom tabled_helper import DCNN3\n\n\nclass Mine(DCNN3):\n    pass\n"
    )
    (tmp_path / "tabled_helper.py").write_text(
        "def f():\n    import pandas\n\n\nfrom baselines.backbones.dcnn3 import DCNN3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    save_encoder(sweep, "a")
    file = sweep.path / "models" / "a" / "model.json"
    about = json.loads(file.read_text())
    about["backbone"]["name"] = "tabled:Mine"
    file.write_text(json.dumps(about))
    write_model(tmp_path / "model", file.parent, "m-1", "1")
    named = dict(
        line.split("==") for line in (tmp_path / "model" / "requirements.txt").read_text().split() if "=" in line
    )
    assert {name: named.get(name) for name in ("timm", "pandas")} == {
        name: version(name) for name in ("timm", "pandas")
    }
    assert named["torch"] == about["packages"]["torch"], "as it was where the encoder was saved"
    assert not [name for name in named if name.startswith("nvidia")], "what libraries require they name themselves"

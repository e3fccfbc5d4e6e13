"""Encoders as ONNX files: the same features for any number of images, and one line where that cannot be."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from baselines.backbones.dcnn3 import DCNN3
from baselines.backbones.resnet18 import ResNet18
from baselines.backbones.vit import ViT
from harness import embed
from harness.encoders import to_onnx
from harness.encoders.saved import SavedEncoder, write_encoder
from harness.trial.runtime import resized

BACKBONES = {
    "dcnn3": ({"width": 4}, DCNN3),
    "vit": ({"dim": 12, "depth": 2, "heads": 2}, ViT),
    "resnet18": ({}, ResNet18),
}


def save(folder, name, image_shape=(1, 8, 8), shown=(3, 16, 16)):
    """A saved encoder with random weights and statistics, which sees grey images as larger colour ones."""
    settings, cls = BACKBONES[name]
    torch.manual_seed(0)
    backbone = cls(shown, **settings)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
    inputs = {"shape": shown, "scale": [2.0, 2.0], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    about = {
        "trial": "t",
        "backbone": {"name": name, **settings},
        "image_shape": image_shape,
        "upright": True,
        "inputs": inputs | {"normalized_by": "own"},
        "precision": "float32",
        "channels_last": True,
        "head": None,
        "class_names": ["a", "b"],
    }
    write_encoder(folder, about, backbone.state_dict(), None)
    return folder


def exported(tmp_path, name):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    encoder = SavedEncoder.load(save(tmp_path / "model", name), "cpu")
    assert to_onnx.write_onnx(encoder, tmp_path / "e.onnx") == (1, 16, 16)
    return encoder, runtime.InferenceSession(tmp_path / "e.onnx", providers=["CPUExecutionProvider"])


def check(encoder, session):
    pixels = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    large = resized(pixels / 255, (16, 16))
    expected = encoder.embed(pixels).numpy()
    for count in (1, 5):
        (given,) = session.run(None, {"images": large[:count].numpy()})
        assert np.abs(given - expected[:count]).max() < 1e-4 * np.abs(expected).max()


def test_the_file_gives_the_embeddings_of_any_number_of_images(tmp_path):
    encoder, session = exported(tmp_path, "dcnn3")
    check(encoder, session)
    about = json.loads(session.get_modelmeta().custom_metadata_map["selbench"])
    assert about["images"] == "float32 [B, 1, 16, 16] in [0, 1]"
    assert about["class_names"] == ["a", "b"]
    assert about["preparation"] == to_onnx.image_steps(encoder)
    assert (about["image_shape"], about["precision"]) == ([1, 8, 8], "float32")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.onnx", "model"]


def test_how_images_are_brought_to_its_form_is_said(tmp_path):
    """From a picture of any size to the trial's embedding, by nothing but what is said."""
    encoder = SavedEncoder.load(save(tmp_path / "model", "dcnn3"), "cpu")
    assert to_onnx.image_steps(encoder) == (
        "turned upright, cropped around the centre to 8:8, resized to 8 x 8, then to 16 x 16, bicubic and antialiased"
    )
    picture, pixels = tmp_path / "wide.png", np.random.default_rng(0).integers(0, 256, (30, 50), dtype=np.uint8)
    Image.fromarray(pixels).save(picture)
    ((_, expected),) = embed.embedded(encoder, [picture], {})

    def apart(*sides):
        prepared = Image.fromarray(pixels[:, 10:40])
        for side in sides:
            prepared = prepared.resize((side, side), Image.Resampling.BICUBIC)
        with torch.no_grad():
            given = to_onnx.Normalised(encoder).eval()(torch.from_numpy(np.array(prepared))[None, None] / 255)
        return np.abs(given.numpy() - expected).max() / np.abs(expected).max()

    assert apart(8, 16) < 0.03, "torch rounds to another level of 256 here and there"
    assert apart(16) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "resnet18"])
def test_transformers_and_batch_normalisation_are_exported_too(tmp_path, name):
    check(*exported(tmp_path, name))


@pytest.mark.slow
def test_another_result_than_torchs_leaves_no_file(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    model = save(tmp_path / "model", "dcnn3")
    export = to_onnx.Normalised.forward
    calls = []

    def drifting(self, images):
        calls.append(1)
        return export(self, images) * (1 if len(calls) < 2 else 1.01)

    monkeypatch.setattr(to_onnx.Normalised, "forward", drifting)
    assert embed.main([str(model), "--onnx", str(tmp_path / "e.onnx")]) == 2
    assert "gives other features than torch" in capsys.readouterr().err
    assert not (tmp_path / "e.onnx").exists()


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    model = save(tmp_path / "model", "dcnn3")
    assert embed.main([str(model), "--onnx", str(tmp_path / "e.onnx")]) == 2
    assert "onnx is not installed: pip install 'selbench[onnx]'" in capsys.readouterr().err

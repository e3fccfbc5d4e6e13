"""Weights from the files of other toolkits: found under any prefix, reported, refused if of another network."""

import argparse
import os
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from baselines.backbones.dcnn3 import DCNN3
from baselines.backbones.resnet18 import ResNet18
from baselines.backbones.vit import ViT
from harness.api import PublishedWeights
from harness.plugins import registry
from harness.plugins.registry import PluginSpec, build
from harness.plugins.weights import identity, load_state, load_weights

SHAPE = (3, 16, 16)
WIDTH = 4


def small(seed=0, image_shape=SHAPE):
    torch.manual_seed(seed)
    return DCNN3(image_shape, width=WIDTH)


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def same(backbone, other):
    return all(torch.equal(a, b) for a, b in zip(backbone.parameters(), other.parameters(), strict=True))


HEAD = {"fc.weight": torch.zeros(10, 64), "fc.bias": torch.zeros(10)}

trained = small(seed=1)
own = trained.state_dict()  # layers.0.weight, ...
inner = {name.removeprefix("layers."): value for name, value in own.items()}
other = small(seed=2).state_dict()
LAYOUTS = {
    "the state itself": (own, "the top"),
    "the wrapped network": (inner, "the top"),
    "a trainer's file": ({"epoch": 3, "state_dict": own | HEAD, "args": argparse.Namespace(lr=0.1)}, "state_dict.*"),
    "data parallel": ({"model": prefixed(inner, "module.") | HEAD}, "model.module.*"),
    "moco": (
        {
            "state_dict": prefixed(inner, "module.encoder_q.")
            | prefixed({n.removeprefix("layers."): v for n, v in other.items()}, "module.encoder_k.")
            | {"module.queue": torch.zeros(4, 8)}
        },
        "state_dict.module.encoder_q.*",
    ),
    "byol": (
        {"model_state_dict": prefixed(own, "online_network.") | prefixed(other, "target_network.")},
        "model_state_dict.online_network.*",
    ),
    "dino": (
        {"student": prefixed(other, "module.backbone."), "teacher": prefixed(own, "backbone."), "epoch": 100},
        "teacher.backbone.*",
    ),
    "our own stages": (
        {"method": prefixed(own, "backbone.") | prefixed(other, "teacher_backbone.") | {"head.weight": torch.zeros(3)}},
        "method.backbone.*",
    ),
    "nested twice": (
        {"a": {"b": {"encoder": inner}}, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}},
        "a.b.encoder.*",
    ),
    "half precision": ({"model": {name: value.half() for name, value in own.items()}}, "model.*"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_encoder_is_found_in_every_layout(layout, tmp_path, capsys):
    content, place = LAYOUTS[layout]
    torch.save(content, tmp_path / "weights.pt")
    backbone = small()
    load_weights(backbone, str(tmp_path / "weights.pt"))
    expected = small(seed=1).half().float() if layout == "half precision" else trained
    assert same(backbone, expected)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"weights {tmp_path / 'weights.pt'}: 6 of 6 tensors, 100.0% of the parameters, from {place}"
    assert not any("warning" in line for line in said)


def test_a_sequential_of_the_networks_children_is_found():
    """As in `nn.Sequential(*list(resnet.children())[:-1])`."""
    torch.manual_seed(1)
    theirs = resnet18(weights=None)
    content = prefixed(nn.Sequential(*list(theirs.children())[:-1]).state_dict(), "backbone.")
    backbone = ResNet18((3, 64, 64))
    report = load_state(backbone, content, "simclr.ckpt")
    theirs.fc = nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(backbone.eval()(images), theirs.eval()(images))
    assert report == "weights simclr.ckpt: 120 of 120 tensors, 100.0% of the parameters, from backbone.*"


def test_what_is_left_is_reported():
    content = prefixed(own, "net.") | {"net.layers.6.weight": torch.zeros(1), "net.fc.weight": torch.zeros(2)}
    content |= {"net.fc.bias": torch.zeros(2), "queue": torch.zeros(2)}
    del content["net.layers.0.weight"], content["net.layers.0.bias"]
    backbone = small()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(ValueError, match="less than half of the backbone") as raised:
        load_state(backbone, content, "x.pt")
    assert str(raised.value).splitlines() == [
        # 3 -> 4 -> 8 -> 16 channels: of 112 + 296 + 1168 parameters, 296 and the last bias are there
        "weights x.pt: 3 of 6 tensors, 19.8% of the parameters, from net.*",
        "  warning: missing, left at their initial values: layers.0.weight (1), layers.0.bias (1)",
        "  warning: of another shape, left at its initial values: "
        "layers.6.weight, [1] in the file, [16, 8, 3, 3] in the backbone",
        "  in the file, but not of the backbone: net.fc (2), queue (1)",
        "  less than half of the backbone: these are weights of another network",
    ]
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_half_of_the_backbone_is_loaded_with_a_warning(tmp_path, capsys):
    torch.save({name: value for name, value in own.items() if name != "layers.0.weight"}, tmp_path / "part.pt")
    backbone = small()
    first = backbone.layers[0].weight.clone()
    load_weights(backbone, str(tmp_path / "part.pt"))
    assert torch.equal(backbone.layers[0].weight, first)
    assert torch.equal(backbone.layers[6].weight, trained.layers[6].weight)
    assert "warning: missing, left at their initial values: layers.0.weight (1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3}, "no tensor of this backbone is in it\n  it holds: no tensors"),
        ({"model": {"a.b.c": torch.zeros(2), "a.b.d": torch.zeros(3)}}, "it holds: model.a (2)"),
        (torch.zeros(3), "it holds: no tensors"),
    ],
)
def test_a_file_without_the_backbone_is_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=re.escape(message)):
        load_weights(small(), str(tmp_path / "x.pt"))


class Code:
    """Anything but tensors and plain values."""


def test_a_file_with_code_in_it_is_not_run(tmp_path):
    torch.save({"model": Code()}, tmp_path / "code.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    for name in ("code.pt", "text.pt"):
        with pytest.raises(ValueError, match=rf"weights: .*{name} is no checkpoint of tensors and plain values"):
            load_weights(small(), str(tmp_path / name))


@pytest.mark.parametrize("name", ["w.bin", "W.SAFETENSORS", "w.pt", "other.safetensors"])
def test_a_file_is_known_by_its_first_bytes(tmp_path, name, capsys):
    if name == "other.safetensors":
        torch.save(own, tmp_path / name)
    else:
        save_file(own, tmp_path / name)
    backbone = small()
    load_weights(backbone, str(tmp_path / name))
    assert same(backbone, trained)


def test_what_no_file_of_weights_holds_is_said_without_torchs_advice(tmp_path):
    torch.save({"model": Code()}, tmp_path / "code.pt")
    (tmp_path / "page.pt").write_text("<html>an error page</html>")
    said = {
        "code.pt": r"\(it holds \S+\.Code, which is code\)",
        "page.pt": r"\(it begins as neither a file of torch nor",
    }
    for name, words in said.items():
        with pytest.raises(ValueError, match=words) as raised:
            load_weights(small(), str(tmp_path / name))
        assert "weights_only" not in str(raised.value)
        assert str(raised.value).isprintable()


def spoilt(value):
    return own | {"layers.3.weight": value(own["layers.3.weight"])}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            spoilt(lambda weight: weight * torch.nan),
            "layers.3.weight holds 288 of 288 numbers that are NaN or infinity",
        ),
        (
            spoilt(lambda weight: weight.double() + 1e39),
            "layers.3.weight holds 288 of 288 numbers that are NaN or infinity",
        ),
        (spoilt(lambda weight: weight.to(torch.complex64)), "layers.3.weight is complex64, and float32 is needed"),
        (spoilt(lambda weight: weight.to(torch.int8)), "layers.3.weight is int8, and float32 is needed"),
        (spoilt(lambda weight: weight.to_sparse()), "layers.3.weight is sparse_coo, and float32 is needed"),
    ],
)
def test_weights_that_are_no_plain_numbers_are_refused_and_nothing_is_loaded(content, words):
    backbone = small()
    with pytest.raises(ValueError, match=f"^weights w.pt: model.{words}$"):
        load_state(backbone, {"model": content}, "w.pt")
    assert same(backbone, small())


def test_weights_of_another_width_are_told_by_a_shape():
    wide = DCNN3(SHAPE, width=2 * WIDTH).state_dict()
    words = "it holds 6 tensors of its names in other shapes, such as net.layers.0.weight: [8, 3, 3, 3] in the file, "
    with pytest.raises(ValueError, match=re.escape(words + "[4, 3, 3, 3] in the backbone")):
        load_state(small(), prefixed(wide, "net."), "w.pt")


def test_a_folder_is_no_file_of_weights(tmp_path):
    (tmp_path / "train.py").touch()
    with pytest.raises(ValueError, match=r"is a folder; and no file in it ends in \.pt, "):
        load_weights(small(), str(tmp_path))
    (tmp_path / "best.pth").touch()
    with pytest.raises(ValueError, match=rf"is a folder; did you mean '{tmp_path}/best.pth'\?"):
        load_weights(small(), str(tmp_path))


def test_weights_for_colours_serve_grey_images():
    """The same features as of the image in three equal channels."""
    colour, grey = small(seed=1), small(image_shape=(1, 16, 16))
    report = load_state(grey, own, "rgb.pt")
    assert "6 of 6" in report
    images = torch.randn(2, 1, 16, 16)
    assert torch.allclose(grey(images), colour(images.expand(-1, 3, -1, -1)), atol=1e-6)


def test_a_vit_of_parameters_of_its_own_is_found(tmp_path):
    torch.manual_seed(1)
    vit = ViT(SHAPE, dim=12, depth=1, heads=2)
    torch.save({"encoder": vit.state_dict()}, tmp_path / "vit.pt")
    spec = {"name": "vit", "dim": 12, "depth": 1, "heads": 2, "weights": str(tmp_path / "vit.pt")}
    assert same(build(registry.as_spec("backbones", spec), SHAPE), vit)


# --- names and files ---


class Offers(DCNN3):
    """Offers weights."""

    @classmethod
    def published_weights(cls):
        return {"BEST": PublishedWeights("best-1234.pt", lambda: own | HEAD)}


def test_published_weights_are_loaded_by_name(capsys):
    backbone = Offers(SHAPE, width=WIDTH)
    load_weights(backbone, "BEST")
    assert same(backbone, trained)
    assert "in the file, but not of the backbone: fc (2)" in capsys.readouterr().err
    assert identity(Offers, "BEST") == "best-1234.pt"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_that_are_not_there_are_a_mistake_on_any_device(device, tmp_path):
    (tmp_path / "moco_v2.pt").touch()
    for weights, nearest in (("BEAST", "did you mean 'BEST'?"), (f"{tmp_path}/moco.pt", f"{tmp_path}/moco_v2.pt")):
        with torch.device(device), pytest.raises(ValueError, match=f"is neither a file nor published .*{nearest}"):
            load_weights(Offers(SHAPE), weights)


def test_nothing_is_read_on_the_meta_device(tmp_path):
    (tmp_path / "x.pt").write_text("no checkpoint")
    with torch.device("meta"):
        build(PluginSpec("backbones", "dcnn3", {"weights": str(tmp_path / "x.pt")}), SHAPE)


def test_identity_is_that_of_the_content(tmp_path):
    a, b = tmp_path / "a.pt", tmp_path / "b.pt"
    a.write_bytes(b"one")
    b.write_bytes(b"one")
    first = identity(DCNN3, str(a))
    assert identity(DCNN3, str(b)) == first
    a.write_bytes(b"two")
    os.utime(a, ns=(0, 0))  # whatever the resolution of the file system's clock
    assert identity(DCNN3, str(a)) != first

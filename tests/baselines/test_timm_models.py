"""Any network of timm as a backbone: the same network, images that do not fit, weights of files and of timm's tags."""

import re

import pytest
import timm
import torch

from baselines.backbones import timm_model
from baselines.backbones.timm_model import TimmModel
from harness.plugins import registry, weights
from harness.plugins.registry import PluginSpec, build, find_plugin
from harness.trial.companions import stage_outputs

SMALL = {
    "test_byobnet": (256, 4),
    "test_convnext": (64, 4),
    "test_efficientnet": (256, 5),
    "test_mambaout": (256, 4),
    "test_maxvit": (128, 5),
    "test_nfnet": (192, 5),
    "test_resnet": (96, 4),
    "test_vit": (64, 6),
}
"""Features and stages of timm's own test networks."""


def new(name, image_shape=(3, 64, 64), **settings):
    return build(PluginSpec("backbones", f"timm/{name}", settings), image_shape)


@pytest.mark.parametrize("name", SMALL)
def test_features_are_timms_and_stages_come_in_order(name):
    backbone = new(name).eval()
    theirs = timm.create_model(name, num_classes=0, **({"img_size": 64} if "vit" in name else {})).eval()
    theirs.load_state_dict(backbone.layers.state_dict())
    images = torch.randn(2, 3, 64, 64)
    called = []
    for position, stage in enumerate(backbone.stages()):
        stage.register_forward_hook(lambda _, __, out, position=position: called.append((position, len(out))))
    with torch.no_grad():
        features = backbone(images)
        assert torch.equal(features, theirs(images))
    assert (backbone.feature_dim, len(backbone.stages())) == SMALL[name] == (features.shape[1], len(called))
    assert called == [(position, 2) for position in range(len(called))]


def test_companions_see_channels_before_places():
    with torch.device("meta"), torch.no_grad():
        backbone = new("test_mambaout").eval()
        with stage_outputs(backbone) as outputs:
            backbone(torch.empty(1, 3, 64, 64))
    shapes = [tuple(output.shape[1:]) for output in outputs]
    expected = [(info["num_chs"], 64 // info["reduction"]) for info in backbone.layers.feature_info]
    assert shapes == [(channels, side, side) for channels, side in expected]


def test_transformers_are_built_for_the_size_of_the_images_and_others_take_several():
    assert new("test_vit", (3, 32, 32)).layers.patch_embed.img_size == (32, 32)
    with pytest.raises(ValueError, match=r"backbone 'timm/test_vit2': it cannot take images of 40x41; timm says: "):
        new("test_vit2", (3, 40, 41))(torch.empty(1, 3, 40, 41))
    with torch.no_grad():
        assert new("test_resnet", (3, 48, 48)).eval()(torch.randn(1, 3, 96, 96)).shape == (1, 96)


def test_grey_images_are_images_in_three_equal_channels(tmp_path):
    colour = new("test_resnet").eval()
    torch.save(colour.layers.state_dict(), tmp_path / "colour.pt")
    grey = new("test_resnet", (1, 64, 64), weights=str(tmp_path / "colour.pt")).eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.allclose(grey(images), colour(images.expand(-1, 3, -1, -1)), atol=1e-5)


def test_a_seed_gives_the_same_weights_whether_the_size_was_tried_before_or_not():
    states = []
    for _ in range(2):  # the first call tries the size
        torch.manual_seed(0)
        states.append(new("test_efficientnet", (3, 72, 72)).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_dropout_is_checked():
    with pytest.raises(ValueError, match=r"dropout = 1.0 is not in \[0, 1\)"):
        new("test_vit", dropout=1.0)
    assert new("test_vit", dropout=0.5).dropouts()


def test_members_are_plugins_of_one_file():
    member = find_plugin("backbones", "timm/resnet18")
    assert issubclass(member, TimmModel)
    assert find_plugin("backbones", "timm/resnet18") is member
    assert (member.__name__, member.__module__) == ("resnet18", TimmModel.__module__)
    for wrong in ("timm/resnet18_", "timm/resnet18.a1_in1k", "tim/resnet18"):
        with pytest.raises(ValueError, match=re.escape(f"no backbone '{wrong}'; did you mean 'timm/resnet18'?")):
            find_plugin("backbones", wrong)
    assert registry.plugin_names("backbones").count("timm/<name>") == 1


def test_without_timm_it_names_the_extra(monkeypatch):
    monkeypatch.setattr(timm_model, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=re.escape("timm is not installed: pip install 'selbench[timm]'")):
        find_plugin("backbones", "timm/a_name_that_was_never_asked_for")


# --- weights ---


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_file_of_timm_gives_timms_features(tmp_path, capsys, kind):
    torch.manual_seed(7)
    file = tmp_path / f"model.{kind}"
    state = timm.create_model("test_efficientnet").state_dict()
    if kind == "pt":
        torch.save({"state_dict": state}, file)
    else:
        from safetensors.torch import save_file

        save_file(state, file)
    ours = new("test_efficientnet", weights=str(file)).eval()
    overlay = {"file": str(file)}
    theirs = timm.create_model("test_efficientnet", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs.eval()(images))
    assert "100.0% of the parameters" in capsys.readouterr().err


def test_a_file_that_only_ends_in_safetensors_is_known_by_what_it_holds(tmp_path):
    file = tmp_path / "model.safetensors"
    torch.save({"weight": torch.ones(2)}, file)
    assert torch.equal(weights.read_checkpoint(file)["weight"], torch.ones(2))
    file.write_bytes(b"neither the one nor the other")
    with pytest.raises(ValueError, match=r"model\.safetensors") as raised:
        weights.read_checkpoint(file)
    assert "\n" not in str(raised.value)


def test_names_of_published_weights_are_timms_tags():
    known = find_plugin("backbones", "timm/resnet18").published_weights()
    assert {"DEFAULT", "a1_in1k", "tv_in1k"} <= set(known)
    assert known["DEFAULT"].identity == known["a1_in1k"].identity == "timm/resnet18.a1_in1k"
    assert find_plugin("backbones", "timm/test_vit_relpos").published_weights() == {}
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=r"'a1_in2k' is neither a file nor published .*'a1_in1k'"),
    ):
        new("resnet18", weights="a1_in2k")


def test_published_weights_are_fetched_by_timm(monkeypatch, capsys):
    create = timm.create_model

    def created(name, pretrained=False, **settings):
        if pretrained:
            assert name == "test_resnet.r160_in1k"
            torch.manual_seed(7)
        return create(name, **settings)

    monkeypatch.setattr(timm, "create_model", created)
    backbone = new("test_resnet", weights="r160_in1k")
    torch.manual_seed(7)
    expected = create("test_resnet").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in backbone.layers.state_dict().items())
    assert "but not of the backbone: fc (2)" in capsys.readouterr().err


def test_without_a_network_it_says_where_they_are(monkeypatch):
    create = timm.create_model

    def refuse(name, pretrained=False, **settings):
        if pretrained:
            raise OSError("no route to host\nsecond line")
        return create(name, **settings)

    monkeypatch.setattr(timm, "create_model", refuse)
    message = r"timm's weights test_resnet.r160_in1k are not .* from timm/test_resnet.r160_in1k \(no route to host\); "
    with pytest.raises(FileNotFoundError, match=message) as raised:
        new("test_resnet", weights="DEFAULT")
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_base_patch16_224", "mobilenetv3_small_050"])
def test_common_networks_have_features_and_stages(name):
    with torch.device("meta"), torch.no_grad():
        backbone = new(name, (3, 224, 224)).eval()
        assert backbone(torch.empty(2, 3, 224, 224)).shape == (2, backbone.feature_dim)
    assert len(backbone.stages()) >= 4

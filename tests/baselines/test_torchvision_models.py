"""Any classifier of torchvision as a backbone: the same network, images that do not fit, published weights."""

import re
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models._api import WeightsEnum

from baselines.backbones.resnet18 import ResNet18
from baselines.backbones.torchvision_model import TorchvisionModel
from harness.plugins import registry
from harness.plugins.registry import PluginSpec, build, find_plugin
from harness.trial.companions import stage_outputs

MEMBERS = TorchvisionModel.members()
ONE_OF_EACH = {
    "alexnet": (4096, 3),
    "convnext_tiny": (768, 8),
    "densenet121": (1024, 7),
    "efficientnet_b0": (1280, 9),
    "googlenet": (1024, 12),
    "inception_v3": (2048, 16),
    "maxvit_t": (512, 4),
    "mnasnet0_5": (1280, 6),
    "mobilenet_v2": (1280, 19),
    "mobilenet_v3_small": (1024, 13),
    "regnet_y_400mf": (440, 4),
    "resnet18": (512, 4),
    "shufflenet_v2_x0_5": (1024, 5),
    "squeezenet1_0": (512, 8),
    "swin_t": (768, 8),
    "swin_v2_t": (768, 8),
    "vgg11_bn": (4096, 5),
    "vit_b_16": (768, 12),
}
"""Features and stages of one network of each make."""


def new(name, image_shape=(3, 224, 224), **settings):
    return build(PluginSpec("backbones", f"torchvision/{name}", settings), image_shape)


def called_stages(backbone, images):
    """The positions of the stages in the order in which they are called, and whether each returns a tensor [B, ...]."""
    called = []
    for position, stage in enumerate(backbone.stages()):
        stage.register_forward_hook(lambda _, __, out, position=position: called.append((position, len(out))))
    features = backbone(images)
    return called, features


def check_member(name, channels):
    with torch.device("meta"), torch.no_grad():
        backbone = new(name, (channels, 224, 224)).eval()
        called, features = called_stages(backbone, torch.empty(2, channels, 224, 224))
    assert features.shape == (2, backbone.feature_dim)
    assert called == [(position, 2) for position in range(len(called))]
    assert len(called) == len(backbone.stages()) > 1
    return backbone.feature_dim, len(called)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_companions_see_channels_before_places(name):
    with torch.device("meta"), torch.no_grad():
        backbone = new(name).eval()
        with stage_outputs(backbone) as outputs:
            backbone(torch.empty(1, 3, 224, 224))
    maps = [tuple(output.shape[1:]) for output in outputs if output.ndim == 4]
    assert maps or name.startswith("vit")
    assert all(height == width for _, height, width in maps), maps


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_network_of_each_make_has_features_and_stages(name):
    assert check_member(name, channels=1) == ONE_OF_EACH[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(MEMBERS) - set(ONE_OF_EACH)))
def test_every_network_has_features_and_stages(name):
    check_member(name, channels=3)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_features_are_what_the_last_layer_reads(name):
    torch.manual_seed(0)
    ours = new(name, (3, 64, 64)).eval()
    theirs = torchvision.models.get_model(name, weights=None).eval()
    theirs.load_state_dict(ours.layers.state_dict(), strict=False)
    read = []
    last = [module for module in theirs.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    last.register_forward_hook(lambda _, inputs, __: read.append(inputs[0]))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        theirs(images)
        features = ours(images)
    (expected,) = read
    if expected.ndim == 4:  # squeezenet's last layer is a convolution, before the pooling
        expected = expected.relu().mean((2, 3))
    assert torch.allclose(features, expected, atol=1e-6)


def test_grey_images_are_images_in_three_equal_channels():
    grey, colour = (new("mobilenet_v3_small", (channels, 64, 64)).eval() for channels in (1, 3))
    state = colour.state_dict()
    first = next(name for name, value in state.items() if value.ndim == 4)
    grey.load_state_dict(state | {first: state[first].sum(1, keepdim=True)})
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.allclose(grey(images), colour(images.expand(-1, 3, -1, -1)), atol=1e-5)


def test_dropout_is_ours_alone():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    for dropout in (0.0, 0.5):
        backbone = new("squeezenet1_1", (3, 64, 64), dropout=dropout).train()  # torchvision's has a dropout of 0.5
        with torch.no_grad():
            assert torch.equal(backbone(images), backbone(images)) == (dropout == 0.0)
    with pytest.raises(ValueError, match=r"dropout = 1.0 is not in \[0, 1\)"):
        new("squeezenet1_1", dropout=1.0)


def test_a_seed_gives_the_same_weights_whether_the_size_was_tried_before_or_not():
    states = []
    for _ in range(2):  # the first call tries the size
        torch.manual_seed(0)
        states.append(new("regnet_y_400mf", (3, 96, 96)).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("name", "image_shape"),
    [("inception_v3", (3, 32, 32)), ("alexnet", (3, 32, 32)), ("vit_b_16", (3, 40, 40)), ("vit_b_16", (3, 32, 64))],
)
def test_images_that_do_not_fit_are_refused(name, image_shape):
    size = f"{image_shape[1]}x{image_shape[2]}"
    message = f"backbone 'torchvision/{name}': it cannot take images of {size}; torchvision says: "
    with pytest.raises(ValueError, match=re.escape(message)):
        new(name, image_shape)


def test_members_are_plugins_of_one_file():
    member = find_plugin("backbones", "torchvision/resnet50")
    assert issubclass(member, TorchvisionModel)
    assert find_plugin("backbones", "torchvision/resnet50") is member
    assert (member.__name__, member.__module__) == ("resnet50", TorchvisionModel.__module__)
    with pytest.raises(
        ValueError, match=re.escape("no backbone 'torchvision/resnet5'; did you mean 'torchvision/resnet50'?")
    ):
        find_plugin("backbones", "torchvision/resnet5")
    with pytest.raises(ValueError, match=re.escape("did you mean 'torchvision/shufflenet_v2_x0_5'?")):
        find_plugin("backbones", "shufflenet_v2_x0_5")
    assert registry.plugin_names("backbones").count("torchvision/<name>") == 1


# --- published weights ---


@pytest.fixture
def published(monkeypatch):
    """Stands for the download: torchvision gets the state of networks of seed 7."""

    def get_state_dict(self, *arguments, **settings):
        with torch.random.fork_rng():
            torch.manual_seed(7)
            model = next(name for name in MEMBERS if self in torchvision.models.get_model_weights(name))
            return torchvision.models.get_model(model, weights=None).state_dict()

    monkeypatch.setattr(WeightsEnum, "get_state_dict", get_state_dict)


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1"])
def test_published_weights_are_loaded(weights, capsys):
    backbone = new("mobilenet_v3_small", (3, 64, 64), weights=weights)
    torch.manual_seed(7)
    expected = torchvision.models.mobilenet_v3_small(weights=None).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in backbone.layers.state_dict().items())
    assert f"weights {weights}: 242 of 242 tensors, 100.0% of the parameters" in capsys.readouterr().err


@pytest.mark.usefixtures("published")
def test_resnets_with_another_stem_say_that_it_keeps_its_initial_values(capsys):
    backbone = build(PluginSpec("backbones", "resnet18", {"weights": "IMAGENET1K_V1"}), (3, 32, 32))
    torch.manual_seed(7)
    expected = torchvision.models.resnet18(weights=None).layer4[1].conv2.weight
    assert torch.equal(backbone.layers.layer4[1].conv2.weight, expected)
    said = capsys.readouterr().err
    assert "warning: of another shape, left at its initial values: layers.conv1.weight, [64, 3, 7, 7] in" in said
    assert "but not of the backbone: fc (2)" in said


def test_names_of_published_weights_are_those_of_torchvision():
    known = find_plugin("backbones", "torchvision/resnet50").published_weights()
    assert set(known) == {"DEFAULT", "IMAGENET1K_V1", "IMAGENET1K_V2"}
    assert known["DEFAULT"].identity == known["IMAGENET1K_V2"].identity != known["IMAGENET1K_V1"].identity
    assert ResNet18.published_weights().keys() == {"DEFAULT", "IMAGENET1K_V1"}
    with torch.device("meta"):
        new("resnet50", weights="IMAGENET1K_V2")
        with pytest.raises(ValueError, match=r"weights = 'IMAGENET1K_V3' is neither a file nor published .*V[12]'"):
            new("resnet50", weights="IMAGENET1K_V3")


def test_without_a_network_it_says_what_to_put_where(monkeypatch):
    def refuse(self, *arguments, **settings):
        raise URLError("no route to host")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", refuse)
    message = r"torchvision's weights IMAGENET1K_V1 of mobilenet_v3_small are not in .*checkpoints .*no route.*put http"
    with pytest.raises(FileNotFoundError, match=message) as raised:
        new("mobilenet_v3_small", (3, 64, 64), weights="IMAGENET1K_V1")
    assert "\n" not in str(raised.value)

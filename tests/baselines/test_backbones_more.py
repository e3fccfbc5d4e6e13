"""The other backbones: published sizes, another implementation with the same weights, small images, dropout."""

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, resnet34, resnet50, resnet101, vgg16_bn

from baselines.backbones.dcnn3 import DCNN3
from baselines.backbones.resnet18 import ResNet18
from baselines.backbones.resnet34 import ResNet34
from baselines.backbones.resnet50 import ResNet50
from baselines.backbones.resnet101 import ResNet101
from baselines.backbones.vgg16 import VGG16
from baselines.backbones.vit import ViT
from baselines.backbones.wide_resnet28 import WideResNet28


def parameters(backbone):
    return sum(parameter.numel() for parameter in backbone.parameters())


@pytest.mark.parametrize("network", [DCNN3, ResNet18, VGG16])
def test_stages_are_read_after_their_activation(network):
    torch.manual_seed(0)
    backbone, outputs = network((3, 16, 16)).eval(), []
    for stage in backbone.stages():
        stage.register_forward_hook(lambda _, __, output: outputs.append(output))
    backbone(torch.randn(2, 3, 16, 16))
    assert len(outputs) >= 3
    assert all((output >= 0).all() for output in outputs)


# --- ResNets ---

PUBLISHED_RESNETS = {ResNet34: (21_797_672, 512), ResNet50: (25_557_032, 2048), ResNet101: (44_549_160, 2048)}
"""Parameters with the ImageNet classifier and stem, and features; from torchvision's documentation."""


@pytest.mark.parametrize("resnet", PUBLISHED_RESNETS)
@pytest.mark.parametrize(("image_shape", "kernel"), [((3, 32, 32), 3), ((1, 28, 28), 3), ((3, 64, 64), 7)])
def test_resnet_has_its_published_size_and_a_stem_that_fits(resnet, image_shape, kernel):
    published, features = PUBLISHED_RESNETS[resnet]
    with torch.device("meta"):
        backbone = resnet(image_shape)
    without_ends = published - (features * 1000 + 1000) - 3 * 49 * 64
    assert backbone.feature_dim == features
    assert parameters(backbone) == without_ends + image_shape[0] * kernel**2 * 64


@pytest.mark.parametrize(("ours", "theirs"), [(ResNet34, resnet34), (ResNet50, resnet50), (ResNet101, resnet101)])
def test_resnet_is_that_of_torchvision(ours, theirs):
    with torch.device("meta"):
        reference, backbone = theirs(weights=None), ours((3, 64, 64))
    keys = {key for key in reference.state_dict() if not key.startswith("fc.")}
    assert {key.removeprefix("layers.") for key in backbone.state_dict()} == keys


# --- VGG-16 ---


def test_vgg16_has_its_published_size():
    # torchvision's 138,365,992 without the classifier's 25088 x 4096, 4096 x 4096 and 4096 x 1000 layers
    classifier = (25_088 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 1000 + 1000)
    with torch.device("meta"):
        assert parameters(VGG16((3, 32, 32))) == 138_365_992 - classifier
        assert parameters(VGG16((1, 32, 32))) == 138_365_992 - classifier - 2 * 9 * 64


def test_vgg16_is_that_of_torchvision():
    torch.manual_seed(0)
    ours = VGG16((3, 64, 64)).eval()
    theirs = vgg16_bn(weights=None).features.eval()
    theirs.load_state_dict({key.removeprefix("layers."): value for key, value in ours.state_dict().items()})
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs(images).mean(dim=(2, 3)), atol=1e-6)


@pytest.mark.parametrize(("size", "num_pools"), [(8, 3), (28, 4), (32, 5), (64, 5)])
def test_vgg16_leaves_out_poolings_that_would_leave_nothing(size, num_pools):
    backbone = VGG16((1, size, size)).eval()
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in backbone.layers) == num_pools
    with torch.no_grad():
        assert backbone(torch.zeros(1, 1, size, size)).shape == (1, 512)


# --- Wide ResNet ---


@pytest.mark.parametrize(("width", "published"), [(2, 1_467_610), (10, 36_479_194)])
def test_wide_resnet_has_its_published_size(width, published):
    """With a classifier of ten classes: 1.5 M (Oliver et al. 2018) and 36.5 M (the paper's table 4)."""
    with torch.device("meta"):
        backbone = WideResNet28((3, 32, 32), width=width)
    assert backbone.feature_dim == 64 * width
    assert parameters(backbone) + (64 * width * 10 + 10) == published


def test_wide_resnet_has_28_layers():
    backbone = WideResNet28((3, 32, 32))
    deep = [m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    shortcuts = [m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(deep) + len(shortcuts) == 28  # 1 + 3 * 4 * 2, and three shortcuts; the classifier is not counted
    assert len(deep) == 25


@pytest.mark.parametrize(("size", "last"), [(32, 8), (64, 8)])
def test_wide_resnet_halves_large_images_once_more(size, last):
    backbone = WideResNet28((3, size, size), width=1)
    sizes = []
    backbone.layers[-4].register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[2]))
    backbone(torch.zeros(1, 3, size, size))
    assert sizes == [last]


def test_wide_resnet_block_is_the_papers():
    """Table 1 and figure 1 (d), with functions instead of modules."""
    torch.manual_seed(0)
    backbone = WideResNet28((3, 32, 32)).eval()
    block, x = backbone.layers[5], torch.randn(2, 32, 8, 8)  # the first of the second group

    def normalised(x, norm):
        return (x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()

    before = normalised(x, block.norm1).clamp(min=0)
    hidden = nn.functional.conv2d(before, block.conv1.weight, stride=2, padding=1)
    out = nn.functional.conv2d(normalised(hidden, block.norm2).clamp(min=0), block.conv2.weight, padding=1)
    expected = out + nn.functional.conv2d(before, block.shortcut.weight, stride=2)
    assert torch.allclose(block(x), expected, atol=1e-4)


# --- ViT ---


def torchvision_vit(ours, size):
    """torchvision's network with the weights of ours."""
    patch = ours.embed.stride[0]
    theirs = VisionTransformer(size, patch, ours.depth, ours.heads, ours.dim, 4 * ours.dim, num_classes=1)
    theirs.heads = nn.Identity()
    names = {"linear1": "mlp.0", "linear2": "mlp.3", "norm1": "ln_1", "norm2": "ln_2", "self_attn": "self_attention"}
    state = {}
    for key, value in ours.state_dict().items():
        if key.startswith("blocks."):
            _, number, name, rest = key.split(".", 3)
            state[f"encoder.layers.encoder_layer_{number}.{names[name]}.{rest}"] = value
        elif key.startswith("embed."):
            state[key.replace("embed", "conv_proj")] = value
        elif key.startswith("norm."):
            state[key.replace("norm", "encoder.ln")] = value
    positions = ours.positions.flatten(2).transpose(1, 2)
    state["encoder.pos_embedding"] = torch.cat([ours.class_position, positions], dim=1)
    state["class_token"] = ours.class_token
    theirs.load_state_dict(state)
    return theirs


@pytest.mark.parametrize("training", [False, True])
def test_vit_is_that_of_torchvision(training):
    torch.manual_seed(0)
    ours = ViT((3, 32, 32), dim=24, depth=3, heads=4)
    theirs = torchvision_vit(ours, 32)
    images = torch.randn(2, 3, 32, 32)
    ours.train(training)
    assert torch.allclose(ours(images), theirs.train(training)(images), atol=1e-5)


@pytest.mark.parametrize(
    ("image_shape", "patch", "tokens"),
    [((3, 32, 32), None, 64), ((1, 28, 28), None, 49), ((3, 64, 96), None, 24), ((3, 32, 32), 8, 16)],
)
def test_vit_patches_fit_the_image(image_shape, patch, tokens):
    backbone = ViT(image_shape, patch=patch, dim=12, depth=1, heads=2)
    assert backbone.positions[0, 0].numel() == tokens
    assert backbone(torch.zeros(2, *image_shape)).shape == (2, 12)


def test_vit_interpolates_its_positions_for_other_sizes():
    torch.manual_seed(0)
    backbone = ViT((3, 32, 32), dim=12, depth=1, heads=2).eval()
    nn.init.ones_(backbone.positions)  # constant positions stay constant
    image = torch.randn(1, 3, 24, 16)
    other = ViT((3, 24, 16), dim=12, depth=1, heads=2).eval()
    state = backbone.state_dict() | {"positions": torch.ones_like(other.positions)}
    other.load_state_dict(state)
    assert torch.allclose(backbone(image), other(image), atol=1e-5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"dim": 10, "heads": 4}, "dim = 10 is no multiple of heads = 4; use 12"),
        ({"patch": 5}, "patch = 5 does not divide the image, 32x32"),
        ({"patch": 0}, "patch = 0 does not divide the image, 32x32"),
        ({"depth": 0}, "depth = 0 is not >= 1"),
        ({"heads": 0}, "heads = 0 is not >= 1"),
        ({"dim": 0}, "dim = 0 is not >= 1"),
    ],
)
def test_vit_refuses_impossible_values(setting, message):
    with pytest.raises(ValueError, match=message):
        ViT((3, 32, 32), **setting)


def test_wide_resnet_refuses_no_channels():
    with pytest.raises(ValueError, match="width = 0 is not >= 1"):
        WideResNet28((3, 32, 32), width=0)


# --- dropout ---

DROPOUT = [DCNN3, ResNet18, VGG16, WideResNet28, ViT]


@pytest.mark.parametrize("backbone", DROPOUT)
def test_dropout_acts_in_training_mode_alone(backbone):
    torch.manual_seed(0)
    network = backbone((3, 16, 16), dropout=0.5)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()  # its statistics would move
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert not torch.equal(network(images), network(images))
        network.eval()
        assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("backbone", [*DROPOUT, ResNet34, ResNet50, ResNet101])
@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_impossible_dropout_is_refused(backbone, dropout):
    with torch.device("meta"), pytest.raises(ValueError, match=r"dropout = .* is not in \[0, 1\)"):
        backbone((3, 32, 32), dropout=dropout)


@pytest.mark.parametrize("backbone", DROPOUT)
def test_weights_load_whatever_the_dropout(backbone):
    with torch.device("meta"):
        assert backbone((3, 32, 32), dropout=0.5).state_dict().keys() == backbone((3, 32, 32)).state_dict().keys()

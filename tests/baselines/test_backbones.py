"""Sizes of the backbones, counted by hand."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from baselines.backbones.dcnn3 import DCNN3
from baselines.backbones.resnet18 import ResNet18


def parameters(backbone):
    return sum(parameter.numel() for parameter in backbone.parameters())


@pytest.mark.parametrize(
    ("image_shape", "features"),
    [((3, 32, 32), 2048), ((1, 28, 28), 1152), ((1, 8, 8), 128), ((3, 96, 96), 18432), ((3, 9, 17), 256)],
)
def test_dcnn3_has_128_channels_at_an_eighth_of_the_size(image_shape, features):
    backbone = DCNN3(image_shape)
    assert backbone.feature_dim == features
    assert backbone(torch.zeros(2, *image_shape)).shape == (2, features)


def test_dcnn3_parameters():
    # weights 3 * 3 * in * out and one bias per output channel, three times
    rgb = (9 * 3 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 128 + 128)
    assert rgb == 93_248
    assert parameters(DCNN3((3, 32, 32))) == rgb
    assert parameters(DCNN3((1, 32, 32))) == rgb - 9 * 2 * 32
    assert parameters(DCNN3((3, 32, 32), width=1)) == (27 + 1) + (18 + 2) + (72 + 4)


def test_dcnn3_is_convolution_relu_and_max_pooling():
    """With one channel and hand-set kernels: a bright pixel survives three poolings, a dark one does not."""
    backbone = DCNN3((1, 8, 8), width=1)
    for layer in backbone.layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
            layer.weight.data[0, 0, 1, 1] = 1
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 0, 0] = 5  # a corner: 'same' padding keeps it
    image[0, 0, 7, 7] = -9
    assert backbone(image).tolist() == [[5, 0, 0, 0]]


@pytest.mark.parametrize("image_shape", [(3, 7, 32), (3, 32, 7)])
def test_dcnn3_refuses_images_that_it_cannot_halve(image_shape):
    with pytest.raises(ValueError, match=r"smaller than 8x8"):
        DCNN3(image_shape)


def test_dcnn3_starts_as_keras_does_where_it_is_asked_to():
    torch.manual_seed(0)
    layers = [layer for layer in DCNN3((3, 32, 32), init="glorot").modules() if isinstance(layer, nn.Conv2d)]
    for layer, (before, after) in zip(layers, ((3, 32), (32, 64), (64, 128)), strict=True):
        bound = (6 / (9 * before + 9 * after)) ** 0.5  # Glorot & Bengio 2010, Eq. (16), with 3 x 3 weights a channel
        assert not layer.bias.any()
        assert 0.95 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert float(layer.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.05)
    with pytest.raises(ValueError, match="init = 'keras' is neither torch nor glorot"):
        DCNN3((3, 32, 32), init="keras")


def test_dcnn3_refuses_no_channels():
    with pytest.raises(ValueError, match="width = 0 is not >= 1"):
        DCNN3((3, 32, 32), width=0)


@pytest.mark.parametrize(
    ("image_shape", "kernel", "stride", "pool"),
    [
        ((3, 32, 32), 3, 1, nn.Identity),
        ((1, 28, 28), 3, 1, nn.Identity),
        ((3, 63, 100), 3, 1, nn.Identity),
        ((3, 64, 64), 7, 2, nn.MaxPool2d),
        ((1, 64, 96), 7, 2, nn.MaxPool2d),
    ],
)
def test_resnet18_stem_fits_the_image(image_shape, kernel, stride, pool):
    backbone = ResNet18(image_shape)
    stem = backbone.layers.conv1
    assert (stem.in_channels, stem.kernel_size, stem.stride) == (image_shape[0], (kernel, kernel), (stride, stride))
    assert type(backbone.layers.maxpool) is pool
    # Published size of ResNet-18: 11,689,512 with a classifier of 512 * 1000 + 1000 and a stem of 3 * 7 * 7 * 64.
    without_stem = 11_689_512 - 513_000 - 3 * 49 * 64
    assert parameters(backbone) == without_stem + image_shape[0] * kernel**2 * 64


@pytest.mark.parametrize("image_shape", [(3, 32, 32), (1, 64, 64), (3, 64, 64)])
def test_resnet18_stem_is_initialised_like_the_rest(image_shape):
    """Kaiming, fan-out, for ReLU: standard deviation sqrt(2 / (64 * kernel^2))."""
    torch.manual_seed(0)
    weight = ResNet18(image_shape).layers.conv1.weight
    expected = (2 / (64 * weight.shape[2] ** 2)) ** 0.5
    assert weight.std().item() == pytest.approx(expected, rel=0.1)


def test_resnet18_on_large_images_is_that_of_torchvision():
    torch.manual_seed(0)
    ours = ResNet18((3, 64, 64)).eval()
    theirs = resnet18(weights=None)
    theirs.fc = nn.Identity()
    theirs.load_state_dict(ours.layers.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs.eval()(images))

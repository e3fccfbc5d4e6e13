"""Sizes of images that a backbone does not take are refused in one line, before anything runs."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from trials import configure

from harness.api import Augmentation, Backbone
from harness.plugins.registry import PluginSpec
from harness.trial import __main__ as command
from harness.trial.sizes import check_sizes, view_sizes

IMAGES = SimpleNamespace(image_shape=(3, 32, 32), mean=(0.5,) * 3, std=(0.2,) * 3)
SMALL_CROP = {"name": "crop", "size": 16}
FINETUNE = {"name": "finetune", "augmentation": SMALL_CROP}
LOCAL = {"name": "swav", "num_local_views": 2}
MULTI_CROP = {"name": "multi_crop", "local_views": {"name": "simclr", "size": 16}}
BY_VIEW = {"name": "by_view", "views": ["simclr", SMALL_CROP]}
ANY_SIZE = {"backbone": {"name": "wide_resnet28", "width": 1}}
JOINT = {"mode": "joint", "labels": {"start": 20}, "ssl_method": "fixmatch", **ANY_SIZE}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a crop": (
        {"augmentation": SMALL_CROP},
        "augmentation: view 0 is 16x16, which DCNN3 does not take (64 features instead of 256); "
        "change its size or the backbone",
    ),
    "a crop inside a pair": (
        {"augmentation": {"name": "pair", "first": "flip", "second": SMALL_CROP}},
        "augmentation: view 0 is 16x16, which DCNN3 does not take",
    ),
    "a crop of one view": (
        {"augmentation": BY_VIEW},
        "augmentation: view 1 is 16x16, which DCNN3 does not take",
    ),
    "small crops": (
        {"augmentation": MULTI_CROP, "ssl_method": LOCAL},
        "augmentation: view 2 is 16x16, which DCNN3 does not take",
    ),
    "crops that five poolings leave nothing of": (
        {"augmentation": MULTI_CROP, "ssl_method": LOCAL, "backbone": "vgg16"},
        "augmentation: view 2 is 16x16, which VGG16 does not take",
    ),
    "a share of the sides": (
        {"augmentation": {"name": "simclr", "size": 0.75}},
        "augmentation: view 0 is 24x24, which DCNN3 does not take",
    ),
    "a resolution": (
        {"pretrain": {"resolutions": [0.5, 1.0]}},
        "pretrain.resolutions: 0.5 of 32x32 is 16x16, which DCNN3 does not take (64 features instead of 256); "
        "change the shares or the backbone",
    ),
    "the classifier's crop": (
        {"classifier": FINETUNE},
        "classifier.augmentation: the images are 16x16, which DCNN3 does not take",
    ),
    "that of a classifier beside": (
        {"beside": [FINETUNE]},
        "beside[0].augmentation: the images are 16x16, which DCNN3 does not take",
    ),
    "a transformer's patches": (
        {"augmentation": {"name": "crop", "size": 18}, "backbone": {"name": "vit", "dim": 12, "depth": 1, "heads": 1}},
        "augmentation: view 0 is 18x18, which ViT does not take (patch = 4 does not divide the image, 18x18)",
    ),
    "local views that are large": (
        {"ssl_method": LOCAL, "augmentation": "simclr", **ANY_SIZE},
        "ssl_method.num_local_views: 2 views are to be small crops, and the augmentation makes them 32x32, the global "
        "ones 32x32; use 0, or multi_crop as the augmentation",
    ),
    "DINO's, too": (
        {"ssl_method": {"name": "dino", "num_local_views": 4}, "augmentation": "weak_strong", **ANY_SIZE},
        "ssl_method.num_local_views: 4 views are to be small crops",
    ),
    "a filter wider than the crop": (
        {"augmentation": {"name": "pair", "first": SMALL_CROP, "second": {"name": "blur", "kernel_size": 33}}},
        "augmentation: view 0: ValueError: kernel_size = 33 must be at most 31 for 16 x 16 images",
    ),
    "views that are mixed": (
        {**JOINT, "augmentation": BY_VIEW, "classifier": {"name": "finetune"}},
        "augmentation: view 1 is 16x16, and fixmatch needs views of the size of the labelled images, 32x32",
    ),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_a_size_that_does_not_fit_is_refused(settings, message):
    settings = {"labels": {"start": 20}, **settings}
    with pytest.raises(ValueError, match=r"does not take|small crops|at most 31|needs views") as caught:
        check_sizes(configure(**settings), IMAGES)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"augmentation": SMALL_CROP, **ANY_SIZE},
        {"augmentation": BY_VIEW, "ssl_method": "byol", **ANY_SIZE},
        {"augmentation": MULTI_CROP, "ssl_method": LOCAL, "backbone": "resnet18"},
        {"augmentation": {"name": "crop", "size": 32}},
        {"classifier": FINETUNE, **ANY_SIZE},
        {"pretrain": {"resolutions": [0.5, 1.0]}, **ANY_SIZE},
        {"pretrain": {"resolutions": [0.5, 1.0], "epochs": 0}},  # nothing is pre-trained
        {"classifier": {"name": "linear", "augmentation": SMALL_CROP}},  # nothing is fine-tuned
    ],
)
def test_a_size_that_fits_is_not(settings):
    check_sizes(configure(**{"labels": {"start": 20}, **settings}), IMAGES)


class Wrong(Backbone):
    """Says that it has more features than it gives."""

    def __init__(self, image_shape, *, more: int = 1, values: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(image_shape[0], 4, 17)
        self.more, self.values = more, values
        self.feature_dim = 4 + more

    def forward(self, images):
        features = self.conv(images).mean((2, 3))
        return features * features.abs().max().item() if self.values else features


class Map(Wrong):
    """Gives a map."""

    def forward(self, images):
        return self.conv(images)


@pytest.mark.parametrize("method", ["none", "simclr"])
@pytest.mark.parametrize(
    ("backbone", "side", "words"),
    [
        ({"name": "Wrong"}, 32, "backbone: Wrong does not take images of 32x32 (4 features instead of 5); change it"),
        ({"name": "Wrong", "values": True}, 32, "does not take images of 32x32 (4 features instead of 5)"),
        ({"name": "Map"}, 32, "does not take images of 32x32 (its output for 2 images is [2, 4, 16, 16] instead of"),
        ({"name": "Wrong", "more": 0}, 8, "backbone: Wrong does not take images of 8x8 ("),
        ({"name": "Wrong", "more": 0, "values": True}, 8, "backbone: Wrong does not take images of 8x8 ("),
        ({"name": "Wrong", "more": 0, "values": True}, 32, None),
    ],
)
def test_a_backbone_is_tried_on_the_images_themselves(method, backbone, side, words):
    named = {**backbone, "name": f"{__name__}:{backbone['name']}"}
    config = configure(backbone=named, ssl_method=method, labels={"start": 20}, augmentation="flip")
    images = SimpleNamespace(image_shape=(3, side, side), mean=(0.5,) * 3, std=(0.2,) * 3)
    if words is None:
        return check_sizes(config, images)
    with pytest.raises(ValueError, match="does not take images of") as caught:
        check_sizes(config, images)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


class Halved(Augmentation):
    """Refuses an empty batch, as code over single images does."""

    def __call__(self, images, *, view, rng):
        return torch.stack([image[:, ::2, ::2] / 255 for image in images])


def test_the_sizes_of_views_are_those_that_the_augmentation_makes(monkeypatch):
    monkeypatch.delitem(sys.modules, "baselines.augmentations.kernels", raising=False)
    multi = PluginSpec("augmentations", "multi_crop", {"local_views": {"name": "crop", "size": 0.4}})
    assert view_sizes(multi, 4, (3, 32, 48), "augmentation") == [(32, 48)] * 2 + [(13, 19)] * 2
    assert "baselines.augmentations.kernels" not in sys.modules  # nothing is compiled for it
    assert view_sizes(PluginSpec("augmentations", f"{__name__}:Halved"), 1, (3, 32, 48), "augmentation") == [(16, 24)]


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    file = tmp_path / "trial.yaml"
    file.write_text("augmentation: {name: crop, size: 4}\nlabels: {start: 20}\n", encoding="utf-8")
    arguments = [str(file), "--stages", str(tmp_path / "stages"), "--cache", str(tmp_path / "cache")]
    assert command.main(arguments) == 2
    *_, line = capsys.readouterr().err.splitlines()  # after what is said of the data
    assert line.startswith("augmentation: view 0 is 4x4, which DCNN3 does not take")
    assert not list((tmp_path / "stages").glob("*/*"))

"""Recipes have the augmentation and the heads that their source instantiates, or say so.

Most name Lightly's CIFAR-10 benchmark. Its script, docs/source/getting_started/benchmarks/cifar10_benchmark.py of
commit e8d317f, whose lines are given below, is in no package; the classes that it instantiates are.
"""

from __future__ import annotations

from typing import Any

import pytest
from lightly import transforms
from lightly.models.modules import heads
from torch import nn

from baselines.augmentations.by_view import ByView
from baselines.backbones.resnet18 import ResNet18
from baselines.ssl_methods.heads import CosineLayer
from harness.config.parsing import read_trial
from harness.config.recipes import FOLDER, load_recipe, recipe_names
from harness.plugins import registry

BYOL_TRANSFORM = transforms.BYOLTransform(  # lines 168-171
    view_1_transform=transforms.BYOLView1Transform(input_size=32, gaussian_blur=0.0),
    view_2_transform=transforms.BYOLView2Transform(input_size=32, gaussian_blur=0.0),
)
SIMCLR_TRANSFORM = transforms.SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0)  # lines 174-178
TRANSFORMS = {  # lines 240-254: which method has which
    "barlow_twins": BYOL_TRANSFORM,
    "byol": BYOL_TRANSFORM,
    "dcl": SIMCLR_TRANSFORM,
    "dino": transforms.DINOTransform(  # lines 199-204
        global_crop_size=32, n_local_views=0, cj_strength=0.5, gaussian_blur=(0, 0, 0)
    ),
    "moco_v2": SIMCLR_TRANSFORM,
    "nnclr": SIMCLR_TRANSFORM,
    "simclr": SIMCLR_TRANSFORM,
    "simsiam": transforms.SimSiamTransform(input_size=32, gaussian_blur=0.0),  # lines 181-184
    "swav": transforms.SwaVTransform(  # lines 190-196; without the largest scale it refuses one size of crops
        crop_sizes=[32],
        crop_counts=[2],
        crop_min_scales=[0.14],
        crop_max_scales=[1.0],
        cj_strength=0.5,
        gaussian_blur=0,
    ),
}
TWO_LAYERS = [(512, 2048, nn.BatchNorm1d(2048), nn.ReLU()), (2048, 2048, None, None)]
HEADS = {
    "barlow_twins": heads.ProjectionHead(TWO_LAYERS),
    "byol": heads.BYOLProjectionHead(512, 1024, 256),
    "dcl": heads.SimCLRProjectionHead(512, 512, 128),
    "dino": heads.ProjectionHead([(512, 2048, nn.BatchNorm1d(2048), nn.GELU()), (2048, 256, None, None)]),
    "moco_v2": heads.MoCoProjectionHead(512, 512, 128),
    "nnclr": heads.ProjectionHead([TWO_LAYERS[0], (2048, 256, nn.BatchNorm1d(256), None)]),
    "simclr": heads.SimCLRProjectionHead(512, 512, 128),
    "simsiam": heads.ProjectionHead([TWO_LAYERS[0], (2048, 2048, nn.BatchNorm1d(2048), None)]),
    "swav": heads.SwaVProjectionHead(512, 512, 128),
}
OTHER_HEADS = {
    "dino": "The head has two hidden layers, the benchmark's CIFAR script one",
    "simsiam": "The batch normalisation at the projector's end has no weights",
}
"""Recipe -> the deviation that says in what its head is another one."""


def steps_of(transform: Any) -> list[Any]:
    """The single operations of a transform, whatever they are wrapped in."""
    inner = transform if hasattr(transform, "transforms") else getattr(transform, "transform", transform)
    if type(inner).__name__ != "Compose":
        return [transform]
    return [step for part in inner.transforms for step in steps_of(part)]


def jitter_of(jitter: Any) -> tuple[float, ...]:
    """Brightness, contrast, saturation and hue of torchvision's ColorJitter, which keeps ranges around 1 and 0."""
    sides = (jitter.brightness, jitter.contrast, jitter.saturation)
    return (*(side[1] - 1 for side in sides), jitter.hue[1])


def theirs(transform: Any) -> dict[str, Any]:
    """What one view's transform does."""
    about: dict[str, Any] = {"solarize": 0.0}
    for step in steps_of(transform):
        kind = type(step).__name__
        if kind == "RandomResizedCrop":
            about |= {
                "scale": tuple(step.scale),
                "ratio": tuple(step.ratio),
                "filter": getattr(step.interpolation, "value", step.interpolation),
            }
            assert tuple(step.size) == (32, 32)
        elif kind == "RandomHorizontalFlip":
            about["flip"] = step.p
        elif kind == "RandomApply":
            (jitter,) = step.transforms
            about |= {"jitter": jitter_of(jitter), "jittered": step.p}
        elif kind == "RandomGrayscale":
            about["grey"] = step.p
        elif kind == "GaussianBlur":
            about["blur"] = step.prob
        elif kind == "RandomSolarization":
            about["solarize"] = step.prob
            assert step.threshold == 128
        elif kind == "ColorJitter":  # of SwAV: without a strength it changes nothing
            assert not any((step.brightness, step.contrast, step.saturation, step.hue))
        else:
            assert kind in ("ToTensor", "Normalize", "RandomRotate", "RandomVerticalFlip", "ToImage", "ToDtype"), kind
            assert getattr(step, "p", getattr(step, "prob", 0)) == 0
    return about


def ours(augmentation: Any) -> dict[str, Any]:
    """What one of our views is made by."""
    steps = {type(step).__name__: step for step in augmentation.steps}
    crop, jitter = steps["Crop"], steps["ColorJitter"]
    chance = {name: steps[name].probability if name in steps else 0.0 for name in ("Blur", "Solarize")}
    return {
        "scale": tuple(crop.scale),
        "ratio": tuple(crop.ratio),
        "filter": crop.interpolation,
        "flip": steps["Flip"].probability,
        "jitter": (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue),
        "jittered": jitter.probability,
        "grey": steps["Grayscale"].probability,
        "blur": chance["Blur"],
        "solarize": chance["Solarize"],
    }


def assert_alike(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        alike = found[name] == value if isinstance(value, str) else found[name] == pytest.approx(value)
        assert alike, f"{name}: {found[name]}, the benchmark's is {value}"


def test_all_recipes_that_name_the_benchmark_are_compared():
    about = {name: load_recipe(FOLDER / f"{name}.yaml") for name in recipe_names()}
    assert {name for name, recipe in about.items() if "Lightly's" in recipe.settings} == set(TRANSFORMS) == set(HEADS)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_recipe_has_the_views_of_the_benchmark(name):
    made = registry.build(read_trial({"recipe": name}, {}).augmentation)
    views = made.parts() if isinstance(made, ByView) else (made, made)
    assert len(TRANSFORMS[name].transforms) == len(views) == 2
    for view, transform in zip(views, TRANSFORMS[name].transforms, strict=True):
        assert_alike(ours(view), theirs(transform))


def script(scale: float, saturation: float, filter: str, solarize: float = 0.0) -> dict[str, Any]:
    """What is alike in the scripts of CIFAR and of DINO, with what differs."""
    jitter = (0.4, 0.4, saturation, 0.1)
    about = {"scale": (scale, 1.0), "ratio": (3 / 4, 4 / 3), "filter": filter, "flip": 0.5, "jitter": jitter}
    return about | {"jittered": 0.8, "grey": 0.2, "blur": 0.0, "solarize": solarize}


SCRIPTS = {
    # SupContrast, main_supcon.py, set_loader
    "supcon": [script(0.2, 0.4, "bilinear")] * 2,
    # solo-learn, scripts/pretrain/cifar/vicreg.yaml, lines 34-58; the crop of its pretrain_dataloader.py is bicubic
    "vicreg": [script(0.2, 0.2, "bicubic", solarize=0.1)] * 2,
    # self-classifier, src/utils.py, lines 135-165, with the scale of scripts/ablation/augmentations/
    # train_100ep_no_multicrop.sh, line 41; it blurs images of 224 pixels, which is a deviation
    "self_classifier": [script(0.14, 0.2, "bicubic"), script(0.14, 0.2, "bicubic", solarize=0.2)],
}
"""Recipe -> what its source's script says of each view, read there: these are in no package."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_recipe_has_the_views_of_its_script(name):
    made = registry.build(read_trial({"recipe": name}, {}).augmentation)
    views = made.parts() if isinstance(made, ByView) else (made, made)
    for view, expected in zip(views, SCRIPTS[name], strict=True):
        assert_alike(ours(view), expected)


def layers_of(head: nn.Module) -> list[tuple[Any, ...]]:
    """Kind and widths of each layer; linear layers before a normalisation need no bias, so it is not compared."""
    about: list[tuple[Any, ...]] = []
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            about.append(("linear", layer.in_features, layer.out_features))
        elif isinstance(layer, nn.BatchNorm1d):
            about.append(("norm", layer.num_features, layer.affine))
        elif not list(layer.children()) and not isinstance(layer, CosineLayer):
            about.append((type(layer).__name__,))
    return about


@pytest.mark.parametrize("name", HEADS)
def test_a_recipe_has_the_head_of_the_benchmark_or_says_that_it_has_another(name):
    recipe, config = load_recipe(FOLDER / f"{name}.yaml"), read_trial({"recipe": name}, {})
    method = registry.build(config.ssl_method, ResNet18((3, 32, 32)))
    same = layers_of(getattr(method, "projector", None) or method.head) == layers_of(HEADS[name])
    said = [sentence for sentence in recipe.deviations if sentence.startswith(OTHER_HEADS.get(name, "-"))]
    assert same != bool(said)

"""Every plugin that can be named passes the checks of its kind.

Data sets whose files are not part of a checkout pass the checks that need no files; `tests/test_datasets.py` reads
small copies of their formats.
"""

from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from data_files import png, save_split
from PIL import Image

from baselines import BUILTINS
from harness import testing
from harness.plugins import registry
from harness.testing import datasets
from harness.testing.common import COMMON_CHECKS, check_imports, hyperparameters_are_keywords

ABSENT_DATASETS = {
    "cifar10": "a download of 163 MiB",
    "cifar100": "a download of 161 MiB",
    "fashion_mnist": "a download of 30 MiB",
    "oxford_iiit_pet": "a download of 774 MiB",
    "stl10": "a download of 2.5 GiB",
    "svhn": "a download of 235 MiB",
}

FILLING_QUEUE = {"training_lowers_the_loss": "keys replace the random directions in the queue, and are harder to beat"}

LARGE_FEATURES = {
    "features_do_not_depend_on_the_batch": "untrained, its features reach 5e4, whose rounding exceeds the tolerance"
}

EXCEPTIONS: dict[tuple[str, str], dict[str, str]] = {
    ("backbones", "resnet101"): LARGE_FEATURES,
    ("backbones", "timm/test_resnet"): {
        "gradients_reach_every_parameter": "timm starts with residual branches that are multiplied by 0"
    },
    ("ssl_methods", "distill"): {"order_of_images_is_irrelevant": "each place in the batch has its own random partner"},
    ("ssl_methods", "mae"): {"order_of_images_is_irrelevant": "each place in the batch has its own mask"},
    ("ssl_methods", "mixmatch"): {
        "order_of_images_is_irrelevant": "each place in the batch has its own random partner"
    },
    ("ssl_methods", "moco_v2"): FILLING_QUEUE,
}
"""(kind, name) -> check -> why this plugin cannot keep it. A check that passes after all fails here."""

ROUNDED: dict[tuple[str, str], dict[str, str]] = {
    ("selectors", "skactiveml/Badge"): {
        "positions_mean_nothing": "scikit-activeml begins with np.argmax, which takes the first of equal images"
    },
}
"""As `EXCEPTIONS`, but kept on some machines: where equal images differ by rounding, nobody is first."""

NARROW: dict[str, object] = {"hidden_dim": 64, "projection_dim": 32}
SMALLER: dict[tuple[str, str], dict[str, object]] = {
    ("backbones", "patches"): {"num_patches": 40, "num_samples": 2000},
    ("selectors", "active_ft"): {"num_iterations": 5},
    ("selectors", "cdal_rl"): {"epochs": 3, "hidden_dim": 8},
    ("selectors", "core_gcn"): {"num_steps": 10, "hidden_dim": 16},
    ("selectors", "refine"): {"depth": 1, "num_parts": 9, "part_size": 20},
    ("selectors", "ta_vaal"): {"epochs": 0.2, "batch_size": 8, "width": 2},
    ("selectors", "uncertain_gcn"): {"num_steps": 10, "hidden_dim": 16},
    ("selectors", "vaal"): {"epochs": 0.2, "batch_size": 8, "width": 2},
    ("ssl_methods", "barlow_twins"): NARROW,
    ("ssl_methods", "byol"): NARROW,
    ("ssl_methods", "dino"): {"hidden_dim": 64, "bottleneck_dim": 32, "num_prototypes": 64},
    ("ssl_methods", "fixmatch"): {"threshold": 0.0},  # an untrained network is sure of nothing
    ("ssl_methods", "lejepa"): NARROW | {"num_directions": 64},
    ("ssl_methods", "mixmatch"): {"ramp": 0.0, "weight": 1.0},
    ("ssl_methods", "moby"): NARROW,
    ("ssl_methods", "nnclr"): NARROW | {"predictor_dim": 64},
    ("ssl_methods", "pseudo_label"): {"start": 0.0, "full": 0.0},
    ("ssl_methods", "self_classifier"): NARROW,
    ("ssl_methods", "simsiam"): NARROW,
    ("ssl_methods", "vicreg"): NARROW,
}
"""(kind, name) -> hyper-parameters with which the checks take seconds, or what the training ramps up counts at once."""

QUICK_STRATEGIES = ("Badge", "MaxHerding", "QueryByCommittee", "TypiClust", "UncertaintySampling")
SLOW_STRATEGIES = (
    *("BatchBALD", "Clue", "ContrastiveAL", "CoreSet", "CostEmbeddingAL", "DiscriminativeAL", "Falcun", "GreedyBALD"),
    *("GreedySamplingX", "ProbCover", "ProbabilisticAL", "Quire", "RandomSampling"),
)

MEMBERS = {
    "timm/": ("test_convnext", "test_efficientnet", "test_mambaout", "test_resnet", "test_vit"),
    "torchvision/": ("mobilenet_v3_small", "regnet_y_400mf", "resnet18", "squeezenet1_1", "swin_t", "vit_b_16"),
    "skactiveml/": QUICK_STRATEGIES + SLOW_STRATEGIES,
}
"""The members of families that are checked: of torchvision and timm some of different makes, of scikit-activeml all."""

SLOW_BACKBONES = (
    *("resnet34", "resnet50", "resnet101", "vgg16", "wide_resnet28"),
    *(f"torchvision/{name}" for name in MEMBERS["torchvision/"] if name != "mobilenet_v3_small"),
    *(f"timm/{name}" for name in MEMBERS["timm/"] if name != "test_vit"),
)
SLOW = {("backbones", name) for name in SLOW_BACKBONES}
SLOW |= {("selectors", f"skactiveml/{name}") for name in SLOW_STRATEGIES}
"""Plugins whose checks take long on a CPU, whatever their hyper-parameters: `make test-slow` runs those."""

OPTIONAL = {
    prefix: pytest.mark.skipif(find_spec(module) is None, reason=f"{module} is not installed")
    for prefix, module in (("skactiveml/", "skactiveml"), ("timm/", "timm"))
}

pytestmark = pytest.mark.timeout(300)  # a plugin that takes longer belongs in SMALLER


def names(kind):
    """The built-in plugins of a kind, with those members of families that are checked."""
    return [name + member for name in BUILTINS[kind] for member in MEMBERS.get(name, ("",))]


def built_ins(*kinds):
    def marks(kind, name):
        optional = [mark for prefix, mark in OPTIONAL.items() if name.startswith(prefix)]
        return [*optional, pytest.mark.slow] if (kind, name) in SLOW else optional

    return [pytest.param(kind, name, marks=marks(kind, name)) for kind in kinds for name in names(kind)]


def factory(kind, name, **settings):
    """Called like the class, with these settings, and with plugins among them built as a configuration builds them."""
    plugin = registry.find_plugin(kind, name)
    if any(registry.nested_kind(hint) for hint in registry.hints(plugin).values()):
        return partial(registry.build, registry.PluginSpec(kind, name, settings))
    return partial(plugin, **settings) if settings else plugin


def check(kind, name, plugin=None, **options):
    run = getattr(testing, f"check_{kind[:-1]}")
    plugin = plugin or factory(kind, name, **SMALLER.get((kind, name), {}))
    try:
        run(plugin, exempt=EXCEPTIONS.get((kind, name)), **options)
    except AssertionError:
        if (kind, name) not in ROUNDED:
            raise
        run(plugin, exempt=ROUNDED[kind, name], **options)


@pytest.mark.parametrize(("kind", "name"), built_ins("augmentations", "backbones", "ssl_methods", "selectors"))
def test_plugin_keeps_its_promises(kind, name):
    check(kind, name)


@pytest.mark.parametrize(("kind", "name"), SMALLER)
def test_plugin_that_is_checked_smaller_keeps_its_defaults(kind, name):
    hyperparameters_are_keywords(factory(kind, name), kind)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", BUILTINS["augmentations"])
def test_augmentation_keeps_its_promises_on_cuda(name):
    check("augmentations", name, device="cuda")


OF_FILES = {"embeddings", "huggingface", "image_folder", "manifest", "npz"}
"""The data sets that read files of one's own; they are given some."""


@pytest.mark.parametrize("name", sorted(set(BUILTINS["datasets"]) - {*OF_FILES, *ABSENT_DATASETS}))
def test_dataset_keeps_its_promises(name):
    check("datasets", name)


def test_image_folder_keeps_its_promises(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(4):
            pixels = np.full((6, 9, 3), 20 * number, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.png")
    check("datasets", "image_folder", partial(registry.find_plugin("datasets", "image_folder"), path=str(tmp_path)))


def test_huggingface_keeps_its_promises(tmp_path):
    files = [png(np.full((3, 6, 9), 20 * number, dtype=np.uint8)) for number in range(12)]
    save_split(tmp_path / "train", files, [number % 2 for number in range(12)], names=["cat", "dog"])
    check("datasets", "huggingface", partial(registry.find_plugin("datasets", "huggingface"), path=str(tmp_path)))


def test_manifest_keeps_its_promises(tmp_path):
    rows = ["path,label"]
    for number in range(12):
        Image.fromarray(np.full((6, 9, 3), 20 * number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number},{['cat', 'dog', '', 'dog'][number % 4]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    plugin = registry.find_plugin("datasets", "manifest")
    check("datasets", "manifest", partial(plugin, path=str(tmp_path / "labels.csv")))


def test_npz_keeps_its_promises(tmp_path):
    images = np.random.default_rng(0).integers(256, size=(12, 6, 9, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x_train=images, y_train=np.arange(12) % 3)
    check("datasets", "npz", partial(registry.find_plugin("datasets", "npz"), path=str(tmp_path / "images.npz")))


@pytest.mark.parametrize("name", ABSENT_DATASETS)
def test_dataset_without_its_files_keeps_the_other_promises(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    plugin = factory("datasets", name)
    for check in COMMON_CHECKS:
        check(plugin, "datasets")
    datasets.identity_is_stable(plugin)


@pytest.mark.parametrize(("kind", "name"), built_ins(*registry.CONTRACTS))
def test_plugin_imports_the_contracts_alone(kind, name):
    check_imports(registry.find_plugin(kind, name))


def test_tables_name_plugins():
    assert set(ABSENT_DATASETS) <= set(BUILTINS["datasets"])
    assert set(MEMBERS) == {name for kind in registry.CONTRACTS for name in BUILTINS[kind] if name.endswith("/")}
    known = {(kind, name) for kind in registry.CONTRACTS for name in names(kind)}
    assert set(EXCEPTIONS) | set(SMALLER) | SLOW <= known

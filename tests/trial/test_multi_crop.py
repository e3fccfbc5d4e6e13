"""Two large and several small crops: a trial trains on them, and they cost less than as many large ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from trials import configure, results

from baselines.backbones.wide_resnet28 import WideResNet28
from harness.plugins import registry
from harness.plugins.registry import PluginSpec, as_spec
from harness.records import portrait
from harness.trial.alone import run_trial
from harness.trial.pretraining import pretrain_key

METHODS = {
    "swav": {"name": "swav", "num_prototypes": 20, "hidden_dim": 16, "projection_dim": 8},
    "dino": {"name": "dino", "num_prototypes": 20, "hidden_dim": 16, "bottleneck_dim": 8},
}


@pytest.mark.parametrize("name", METHODS)
def test_a_trial_trains_on_small_crops(fresh, name):
    config = configure(
        backbone={"name": "wide_resnet28", "width": 1},
        ssl_method={**METHODS[name], "num_local_views": 4},
        augmentation="multi_crop",
        pretrain={"epochs": 2, "batch_size": 32},
        data={"fraction": 0.08},
        labels={"start": 20},
    )
    rows, _ = fresh().run(config)
    epochs = [metrics for kind, _, metrics, _ in rows if kind == "epoch"]
    assert len(epochs) == 2
    assert all(math.isfinite(metrics["pretrain/loss"]) for metrics in epochs)
    assert len({metrics["pretrain/embedding_std"] for metrics in epochs}) == 2  # the encoder moves
    assert results(rows) == results(fresh().run(config)[0])


LARGE, SMALL, TEACHER = 3, 3 / 4, 1
"""What a view costs: forward and backward pass, those of a quarter of the pixels, a forward pass alone."""


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("swav", (2 * LARGE + 4 * SMALL) / (6 * LARGE)),
        ("dino", (2 * LARGE + 4 * SMALL + 2 * TEACHER) / (6 * LARGE + 2 * TEACHER)),
    ],
)
def test_two_large_and_four_small_crops_cost_what_their_pixels_say(name, share):
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)

    def operations(augmentation: PluginSpec) -> int:
        made = registry.build(augmentation)
        spec = as_spec("ssl_methods", {**METHODS[name], "num_local_views": 4})
        method = registry.build(spec, WideResNet28((3, 32, 32), width=1))
        views = [made(images, view=view, rng=torch.Generator()) for view in range(method.num_views)]
        with FlopCounterMode(display=False) as counter:
            method.loss(views)["loss"].backward()
        return counter.get_total_flops()

    ratio = operations(PluginSpec("augmentations", "multi_crop")) / operations(PluginSpec("augmentations", "simclr"))
    assert ratio == pytest.approx(share, abs=0.01)


def test_what_makes_each_view_is_in_the_stages_key():
    def key(solarize: float) -> Any:
        views = ["simclr", {"name": "simclr", "solarize": solarize}]
        return pretrain_key(configure(augmentation={"name": "by_view", "views": views}), 0, "data")

    assert key(0.1) == key(0.1)
    assert key(0.1) != key(0.2)


def test_a_portrait_shows_the_large_views_and_the_small_ones(cache, tmp_path):
    trial = {
        "data": {"fraction": 0.08},
        "backbone": {"name": "wide_resnet28", "width": 1},
        "ssl_method": {**METHODS["swav"], "num_local_views": 2},
        "augmentation": "multi_crop",
        "pretrain": {"epochs": 1, "batch_size": 32, "knn_every": 0},
        "labels": {"start": 20},
        "classifier": "knn",
    }
    file = tmp_path / "portrait.npz"
    assert run_trial(trial, stages=tmp_path / "stages", cache=cache, portrait=file).warning is None
    kept = portrait.unpack(file.read_bytes())
    assert kept.operations == ("simclr 1", "simclr 2", "views")
    assert kept.views.shape[1:] == (7, 8, 8, 3)  # the image, and two draws of each

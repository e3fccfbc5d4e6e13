"""Whole small trials on a GPU: every method, head, selector and backbone computes there, in bfloat16 as by default."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from trials import configure, rounds_of

from baselines import BUILTINS

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

DEVICE = "cuda"
NARROW: dict[str, Any] = {"hidden_dim": 64, "projection_dim": 32}
JOINT: dict[str, Any] = {"mode": "joint", "classifier": {"name": "finetune", "epochs": 1}}
VIT: dict[str, Any] = {"backbone": {"name": "vit", "patch": 2, "dim": 16, "depth": 1, "heads": 2}}
PATCHES: dict[str, Any] = {"name": "patches", "size": 3, "num_patches": 30, "num_samples": 2000}
NOT_PRETRAINED = {"ssl_method": "none", "backbone": {"name": "dcnn3", "width": 4, "dropout": 0.1}}

METHODS: dict[str, dict[str, Any]] = {
    **{name: {} for name in sorted(BUILTINS["ssl_methods"])},
    "dino": {"ssl_method": {"name": "dino", "hidden_dim": 64, "bottleneck_dim": 32, "num_prototypes": 64}},
    "distill": JOINT
    | {"ssl_method": "distill", "augmentation": "identity", "teacher": {"backbone": PATCHES, "classifier": "ridge"}},
    "fixmatch": JOINT | {"ssl_method": "fixmatch", "augmentation": "weak_strong", "joint": {"ema": 0.9}},
    "mae": VIT | {"ssl_method": "mae"},
    "mixmatch": JOINT | {"ssl_method": "mixmatch", "augmentation": "weak"},
    "pseudo_label": JOINT | {"ssl_method": "pseudo_label", "augmentation": "weak"},
    "moby, joint": JOINT | {"ssl_method": "moby", "joint": {"unlabeled": "lowest_loss", "loss_draws": 2}},
}
DESCENT = ("linear", "mlp", "finetune")
HEADS = (*DESCENT, "logistic", "ridge", "kernel_ridge", "svm", "knn")
SELECTORS: dict[str, Any] = {
    **{name: name for name in sorted(BUILTINS["selectors"]) if not name.endswith("/")},
    "active_ft": {"name": "active_ft", "num_iterations": 5},
    "cdal_rl": {"name": "cdal_rl", "epochs": 3, "hidden_dim": 8},
    "core_gcn": {"name": "core_gcn", "num_steps": 10, "hidden_dim": 16},
    "refine": {"name": "refine", "depth": 1, "num_parts": 9, "part_size": 20},
    "schedule": {"name": "schedule", "first": "typiclust", "then": "margin", "until": 30},
    "ta_vaal": {"name": "ta_vaal", "epochs": 0.2, "batch_size": 8, "width": 2},
    "uncertain_gcn": {"name": "uncertain_gcn", "num_steps": 10, "hidden_dim": 16},
    "vaal": {"name": "vaal", "epochs": 0.2, "batch_size": 8, "width": 2},
}
READ_VIEWS = ("csal", "high_ssl_loss", "low_ssl_loss")
READ_TRAINING = ("learning_loss", "ta_vaal")
TRAINED = {"classifier": {"name": "finetune", "epochs": 2}}
BACKBONES: dict[str, Any] = {
    "patches": {"backbone": PATCHES, "ssl_method": "none"},
    "resnet18": {"backbone": "resnet18"},
    "vit": VIT,
    "pca": {"ssl_method": "none", "classifier": {"name": "linear", "representation": "pca", "dims": 5, "epochs": 2}},
    "selection": {"selection": {"backbone": "dcnn3", "ssl_method": "simclr"}, "selector": "typiclust"},
    "apart": {"pretrain__apart": 4},
    "resolutions": VIT | {"pretrain__resolutions": [0.5, 1.0]},
}


def passes(fresh: Any, settings: dict[str, Any]) -> None:
    """The trial ends, with an accuracy in every round and the peak of the GPU's memory."""
    compute = {"compute__device": DEVICE, "compute__precision": "auto", "pretrain__epochs": 1}
    rows, totals = fresh().run(configure(**{**compute, **settings}))
    rounds = rounds_of(rows)
    assert [row[1] for row in rounds] == [20, 30, 40]
    assert all(0 <= row[2]["val/accuracy"] <= 1 for row in rounds)
    assert all(math.isfinite(value) for value in totals.values())


@pytest.mark.parametrize("name", METHODS)
def test_method(fresh, name):
    narrow = NARROW if name in ("barlow_twins", "byol", "moby", "nnclr", "simsiam", "vicreg") else {}
    passes(fresh, METHODS[name] or {"ssl_method": {"name": name, **narrow}})


@pytest.mark.parametrize("head", HEADS)
def test_head(fresh, head):
    passes(fresh, NOT_PRETRAINED | {"classifier": {"name": head, "epochs": 2} if head in DESCENT else head})


@pytest.mark.parametrize("name", SELECTORS)
def test_selector(fresh, name):
    if name == "ual":
        pytest.importorskip("openTSNE")
    needs = {"ssl_method": "simclr"} if name in READ_VIEWS else TRAINED if name in READ_TRAINING else {}
    passes(fresh, NOT_PRETRAINED | needs | {"selector": SELECTORS[name]})


@pytest.mark.parametrize("name", BACKBONES)
def test_way(fresh, name):
    passes(fresh, BACKBONES[name])

"""The SSL loss as a score of images: a mean over draws, whatever the order of the pool."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.augmentations.noise import Noise
from baselines.backbones.dcnn3 import DCNN3
from baselines.ssl_methods.self_classifier import SelfClassifier
from baselines.ssl_methods.simclr import SimCLR
from baselines.ssl_methods.swav import SwAV
from harness.api import Images
from harness.config.trial import ClassifierConfig, ComputeConfig
from harness.seeding import seeded
from harness.trial import models
from harness.trial.models import Encoder, PoolOutputs
from harness.trial.runtime import Runtime

CLASSES, EACH, DRAWS = 4, 24, 60


def sorted_pool() -> Tensor:
    """u8 [96, 1, 8, 8], class after class, each of a brightness and a stripe of its own."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 80, (CLASSES, EACH, 1, 8, 8), generator=rng)
    for label in range(CLASSES):
        images[label, :, :, 2 * label : 2 * label + 2] += 150
    return images.flatten(0, 1).to(torch.uint8)


def losses(method: Any, images: Tensor, seed: int, num_draws: int = 1) -> Tensor:
    compute = ComputeConfig(device="cpu", precision="float32", channels_last=False)
    runtime = Runtime.of(compute, torch.tensor([0.4]), torch.tensor([0.3]))
    encoder = Encoder(method.backbone, "", runtime, {"pool": Images(images)}, ClassifierConfig(), 0)
    return PoolOutputs(encoder, None, method, Noise(), seed).ssl_loss(num_draws)


@pytest.mark.parametrize(
    "make",
    [
        lambda backbone: SimCLR(backbone, hidden_dim=16, projection_dim=8, temperature=0.2),
        lambda backbone: SwAV(backbone, num_prototypes=8, hidden_dim=16, projection_dim=8, epsilon=0.5),
        lambda backbone: SelfClassifier(backbone, num_classes=6, hidden_dim=16, projection_dim=8),
    ],
    ids=["simclr", "swav", "self_classifier"],
)
def test_the_score_of_an_image_does_not_depend_on_the_order_of_the_pool(monkeypatch, make):
    """Batches of one class would compare, and balance, each image against its own kind alone."""
    monkeypatch.setattr(models, "EVALUATION_BATCH", EACH)
    with seeded(0, "weights"):
        method = make(DCNN3((1, 8, 8), width=4))
    images = sorted_pool()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    drawn = torch.stack([losses(method, images, seed) for seed in range(DRAWS)])  # [DRAWS, N]
    moved = torch.stack([losses(method, images[order], DRAWS + seed)[order.argsort()] for seed in range(DRAWS)])
    error = ((drawn.var(0) + moved.var(0)) / DRAWS).sqrt()
    deviates = (drawn.mean(0) - moved.mean(0)) / error
    assert deviates.square().mean() < 1.6  # of N equal laws: 1, with a deviation of at most about 0.2


def test_a_score_is_the_mean_of_its_draws():
    """Of as many passes as asked for, each image once in each."""
    with seeded(0, "weights"):
        method = SimCLR(DCNN3((1, 8, 8), width=4), hidden_dim=16, projection_dim=8)
    images, seen = sorted_pool(), []
    score = method.sample_loss

    def noting(views: list[Tensor]) -> Tensor:
        seen.append(len(views[0]))
        return score(views).clone().fill_(float(len(seen)))  # the draw's number: one batch holds all

    method.sample_loss = noting  # type: ignore[method-assign]
    assert losses(method, images, 0, num_draws=3).tolist() == [2.0] * len(images)
    assert seen == [len(images)] * 3

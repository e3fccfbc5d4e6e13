"""Optimizers and learning rates: LARS against its equation, schedules by hand and against torch's."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from good_plugins import GoodBackbone
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from baselines.backbones.resnet18 import ResNet18
from baselines.backbones.vit import ViT
from harness.config.trial import ClassifierConfig, Optimization, PretrainConfig, ScaledRate
from harness.trial.lengths import for_images
from harness.trial.optimizers import (
    LARS,
    DivergedError,
    build_optimizer,
    check_finite,
    descend,
    encoder_shares,
    learning_rate,
    plateau_factor,
    set_learning_rate,
)


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def loss_of(model: nn.Module, step: int) -> Tensor:
    images = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(step))
    return (model(images) - 1).square().mean()


# ---------------------------------------------------------------- LARS


def slow_lars(weights: list[float], gradient: list[float], velocity: list[float], s: dict[str, Any]) -> None:
    """One step of a layer in place, number by number."""
    local = 1.0
    if s["adapted"]:
        gradient = [g + s["weight_decay"] * w for g, w in zip(gradient, weights, strict=True)]
        weight_norm = math.sqrt(sum(w * w for w in weights))
        gradient_norm = math.sqrt(sum(g * g for g in gradient))
        if weight_norm and gradient_norm:
            local = 0.001 * weight_norm / gradient_norm
    for i, g in enumerate(gradient):
        velocity[i] = s["momentum"] * velocity[i] + s["lr"] * local * g
        weights[i] -= velocity[i]


def test_lars_equals_its_equation_step_by_step():
    model = network()
    optimizer = LARS(model.parameters(), 0.5, momentum=0.9, weight_decay=0.1)
    slow = [parameter.flatten().tolist() for parameter in model.parameters()]
    velocities = [[0.0] * len(weights) for weights in slow]
    for step in range(6):
        lr = 5.0 / (step + 1)  # the rate falls: whether it enters the velocity shows
        set_learning_rate(optimizer, lr)
        descend(optimizer, loss_of(model, step))
        for parameter, weights, velocity in zip(model.parameters(), slow, velocities, strict=True):
            settings = {"lr": lr, "momentum": 0.9, "weight_decay": 0.1, "adapted": parameter.ndim > 1}
            assert parameter.grad is not None
            slow_lars(weights, parameter.grad.flatten().tolist(), velocity, settings)
            torch.testing.assert_close(parameter.flatten(), torch.tensor(weights), atol=1e-5, rtol=1e-5)


def test_lars_moves_a_layer_of_zeros_and_survives_a_gradient_of_zeros():
    zeros, ones = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([zeros, ones], 0.1, momentum=0.0)
    zeros.grad, ones.grad = torch.ones(2, 2), torch.zeros(2, 2)
    optimizer.step()
    assert torch.equal(zeros, torch.full((2, 2), -0.1))
    assert torch.equal(ones, torch.ones(2, 2))


def test_lars_goes_on_from_its_state_dict():
    model = network()
    optimizer = LARS(model.parameters(), 2.0, weight_decay=0.01)
    for step in range(3):
        descend(optimizer, loss_of(model, step))
    twin = copy.deepcopy(model)
    again = LARS(twin.parameters(), 9.0)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 6):
        descend(optimizer, loss_of(model, step))
        descend(again, loss_of(twin, step))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_lars_refuses_what_is_below_zero():
    with pytest.raises(ValueError, match=r"weight_decay = -1 is not >= 0"):
        LARS(network().parameters(), 0.1, weight_decay=-1)


# ---------------------------------------------------------------- what is decayed, what is clipped


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_decay_norms_false_keeps_the_decay_off_one_dimensional_parameters(name):
    model = network()
    config = Optimization(optimizer=name, weight_decay=0.3, decay_norms=False)
    found = {
        id(parameter): group["weight_decay"]
        for group in build_optimizer(model.parameters(), config).param_groups
        for parameter in group["params"]
    }
    assert [found[id(p)] for p in model.parameters()] == [0.3, 0.0, 0.0, 0.0, 0.3, 0.0]
    (everything,) = build_optimizer(model.parameters(), Optimization(optimizer=name, weight_decay=0.3)).param_groups
    assert everything["weight_decay"] == 0.3


def test_one_dimensional_parameters_without_a_gradient_of_the_loss_stay_unless_decayed():
    for decays in (True, False):
        bias = nn.Parameter(torch.ones(3))
        optimizer = build_optimizer([bias], Optimization(lr=0.1, weight_decay=0.5, decay_norms=decays))
        descend(optimizer, 0 * bias.sum())
        assert torch.equal(bias, torch.full((3,), 0.95 if decays else 1.0))


def test_lars_is_built_with_its_settings():
    optimizer = build_optimizer(
        network().parameters(), Optimization(optimizer="lars", lr=0.3, momentum=0.8, weight_decay=1e-6)
    )
    assert isinstance(optimizer, LARS)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.3, 0.8, 1e-6)
    assert group["trust_coefficient"] == 0.001


def test_the_gradient_is_clipped_over_all_parameters():
    weights, bias = nn.Parameter(torch.zeros(1, 1)), nn.Parameter(torch.zeros(1))
    for clip, expected in [(None, (3.0, 4.0)), (1.0, (0.6, 0.8)), (10.0, (3.0, 4.0))]:
        for parameter in (weights, bias):
            parameter.data.zero_()
        optimizer = torch.optim.SGD([{"params": [weights]}, {"params": [bias]}], 1.0)
        descend(optimizer, -(3 * weights.sum() + 4 * bias.sum()), clip)
        assert (float(weights.detach()), float(bias.detach())) == pytest.approx(expected, rel=1e-5)


# ---------------------------------------------------------------- learning rates


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.0), (0.05, 1.0), (0.1, 2.0), (0.49, 2.0), (0.5, 0.4), (0.74, 0.4), (0.75, 0.08), (0.99, 0.08)],
)
def test_steps_by_hand(progress, expected):
    config = PretrainConfig(epochs=100, lr=2.0, schedule="step", milestones=(0.5, 0.75), gamma=0.2, warmup_epochs=10.0)
    assert learning_rate(config, progress) == pytest.approx(expected)


def test_constant_and_cosine_read_no_losses():
    for schedule, expected in (("constant", 2.0), ("cosine", 1.0)):
        config = PretrainConfig(epochs=10, lr=2.0, schedule=schedule, patience=0)
        assert learning_rate(config, 0.5, [1.0] * 5) == pytest.approx(expected)


def test_a_plateau_lowers_the_learning_rate_of_the_epochs_after_it():
    config = PretrainConfig(epochs=10, lr=2.0, schedule="plateau", patience=1, gamma=0.5, warmup_epochs=1.0)
    rates = [learning_rate(config, n / 10, [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0][:n]) for n in range(8)]
    assert rates == [0.0, 2.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5]
    assert learning_rate(config, 0.05) == 1.0  # half the warm-up


def curves() -> list[list[float]]:
    rng = torch.Generator().manual_seed(0)
    noisy = [(torch.rand(60, generator=rng) + 2 * torch.rand(1, generator=rng)).tolist() for _ in range(20)]
    falling = [[1 / (1 + n // 7) for n in range(60)], [1.0] * 60, [1 - 5e-5 * n for n in range(60)]]
    return noisy + falling


@pytest.mark.parametrize("patience", [0, 1, 5, 10])
@pytest.mark.parametrize("gamma", [0.1, 0.7])
def test_plateaus_are_those_of_torch(patience, gamma):
    for losses in curves():
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 1.0)
        peer = ReduceLROnPlateau(optimizer, factor=gamma, patience=patience, eps=0.0)
        for number, loss in enumerate(losses, start=1):
            peer.step(loss)
            expected = optimizer.param_groups[0]["lr"]
            assert plateau_factor(losses[:number], patience, gamma) == pytest.approx(expected, rel=1e-9)


def test_a_negative_loss_that_stands_still_is_a_plateau():
    assert plateau_factor([-0.9] * 6, patience=2, gamma=0.1) == pytest.approx(0.1)
    assert plateau_factor([-0.9 - 0.01 * n for n in range(6)], patience=0, gamma=0.1) == 1
    assert plateau_factor([], patience=0, gamma=0.1) == 1


# ---------------------------------------------------------------- divergence


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_weights_after_a_good_loss_are_a_divergence(bad):
    model = network()
    check_finite(model, 0.5, 3, name="pre-training", key="pretrain.lr")
    with pytest.raises(DivergedError, match=r"pre-training loss is .* in epoch 3; try a smaller pretrain.lr"):
        check_finite(model, bad, 3, name="pre-training", key="pretrain.lr")
    model[0].bias.data[1] = bad
    if math.isinf(bad):
        model[0].bias.data[2] = -bad  # opposite infinities do not cancel
    with pytest.raises(DivergedError, match=r"not finite after epoch 3, .* loss was 0.5; try a smaller pretrain.lr"):
        check_finite(model, 0.5, 3, name="pre-training", key="pretrain.lr")


# ---------------------------------------------------------------- shares of the learning rate


def slow_shares(backbone, stages, backbone_lr, decay):
    """By the names of the parameters: each stage is a list of prefixes, the stem first, what follows the last last."""
    shares = {}
    for name, parameter in backbone.named_parameters():
        (depth,) = (
            depth for depth, prefixes in enumerate(stages) if any(name.startswith(prefix) for prefix in prefixes)
        )
        share = backbone_lr
        for _ in range(len(stages) - 1 - depth):
            share *= decay
        shares[parameter] = share
    return shares


RESNET = [["layers.conv1", "layers.bn1"], *[[f"layers.layer{n}"] for n in (1, 2, 3, 4)], ["layers.fc"]]
TRANSFORMER = [["embed", "class_"], *[[f"blocks.{n}."] for n in range(3)], ["norm"]]
TRANSFORMER[0].append("positions")
WHOLE = [["none"], [""], ["none"]]


@pytest.mark.parametrize(
    ("backbone", "stages"),
    [
        (lambda: ResNet18((3, 32, 32)), RESNET),
        (lambda: ViT((3, 32, 32), depth=3), TRANSFORMER),
        (lambda: GoodBackbone((3, 32, 32)), WHOLE),
    ],
)
def test_layer_decay_is_that_of_the_stages_by_name(backbone, stages):
    network = backbone()
    shares = encoder_shares(network, 0.3, 0.65)
    expected = slow_shares(network, stages, 0.3, 0.65)
    assert shares.keys() == expected.keys() == set(network.parameters())
    assert all(share == pytest.approx(expected[parameter]) for parameter, share in shares.items())
    assert set(encoder_shares(network, 1.0, 1.0).values()) == {1.0}


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars"])
def test_every_parameter_moves_by_its_share_of_the_rate(name):
    """Against one optimizer for each parameter, with the rate that is its share."""
    torch.manual_seed(0)
    model, alone = network(), network()
    alone.load_state_dict(model.state_dict())
    shares = {parameter: 0.25 * place for place, parameter in enumerate(model.parameters())}
    config = Optimization(optimizer=name, lr=0.1, weight_decay=0.01)
    optimizer = build_optimizer(model.parameters(), config, shares)
    others = [
        build_optimizer([parameter], replace(config, lr=max(share * 0.1, 1e-12)))
        for parameter, share in zip(alone.parameters(), shares.values(), strict=True)
    ]
    for step in range(4):
        lr = 0.1 / (step + 1)
        set_learning_rate(optimizer, lr)
        descend(optimizer, loss_of(model, step))
        for other, share in zip(others, shares.values(), strict=True):
            set_learning_rate(other, lr * share)
            other.zero_grad()
        loss_of(alone, step).backward()
        for other in others:
            other.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(model.parameters(), alone.parameters(), strict=True))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_shares_and_norms_that_are_not_decayed_make_groups_of_both():
    model = network()
    shares = dict.fromkeys(list(model.parameters())[:2], 0.5)
    config = Optimization(optimizer="sgd", lr=0.2, weight_decay=0.3, decay_norms=False)
    groups = build_optimizer(model.parameters(), config, shares).param_groups
    settings = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert [settings[id(p)] for p in model.parameters()] == [
        (0.1, 0.3), (0.1, 0.0), (0.2, 0.0), (0.2, 0.0), (0.2, 0.3), (0.2, 0.0)
    ]  # fmt: skip


# ---------------------------------------------------------------- a rate in proportion to the batch


@pytest.mark.parametrize("cls", [PretrainConfig, ClassifierConfig, Optimization])
@pytest.mark.parametrize(("batch_size", "rate"), [(32, 0.015), (128, 0.06), (512, 0.24), (48, 0.0225)])
def test_a_scaled_rate_trains_as_the_number_that_it_makes(cls, batch_size, rate):
    scaled = cls(epochs=3, batch_size=batch_size, lr=ScaledRate(0.06, 128), schedule="cosine")
    number = replace(scaled, lr=rate)
    trained = []
    for config in (scaled, number):
        model = network()
        optimizer = build_optimizer(model.parameters(), config)
        for step in range(6):
            set_learning_rate(optimizer, learning_rate(config, step / 6))
            optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()
        trained.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*trained, strict=True))
    assert scaled.as_read() == number.as_read(), "they are one stage"


@pytest.mark.parametrize("images", [100, 432, 700, 9000])
def test_a_scaled_rate_follows_the_batch_that_stands_for_auto(images):
    asked = PretrainConfig(lr=ScaledRate(0.06, 128))
    assert asked.as_read()["lr"] == {"value": 0.06, "per": 128}, "as long as nobody knows the images"
    settings = for_images(asked, images)
    assert settings.rate == pytest.approx(0.06 * settings.batch_size / 128)

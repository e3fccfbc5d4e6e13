"""The self-supervised loop: resumable to the bit, seeded, scheduled as written; and how it is watched."""

from __future__ import annotations

import copy
import itertools
import math
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.augmentations.identity import Identity
from baselines.augmentations.noise import Noise
from baselines.backbones.dcnn3 import DCNN3
from baselines.ssl_methods.byol import BYOL
from baselines.ssl_methods.simclr import SimCLR
from harness.api import Backbone, Images, SSLMethod
from harness.config.trial import ClassifierConfig, ComputeConfig, PretrainConfig
from harness.seeding import seeded
from harness.trial import knn, resolutions
from harness.trial.epochs import Watch
from harness.trial.optimizers import DivergedError, build_optimizer, scheduled
from harness.trial.pretrain import Examples, pretrain
from harness.trial.runtime import Runtime
from harness.trial.stages import Checkpoint

MEASURED = ("pretrain/knn_accuracy", "pretrain/rankme")
CONFIG = PretrainConfig(epochs=4, batch_size=16, lr=0.05, warmup_epochs=1.0)
IMAGES = Images(torch.randint(256, (70, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))


class Killed(BaseException):
    """The process ends here."""


class Restless(SSLMethod):
    """Everything that is easily lost at a resume: dropout, batch statistics, a moving average, a queue."""

    def __init__(self, backbone: DCNN3):
        super().__init__(backbone)
        self.head = nn.Sequential(nn.Linear(backbone.feature_dim, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.register_buffer("average", torch.zeros(8))
        self.seen: list[tuple[int, float]] = []
        self.steps: list[float] = []

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        a, b = (self.head(self.backbone(view)) for view in views)
        self.average.lerp_(a.mean(0).detach(), 0.1)
        loss = (a - b).square().mean() + (a - self.average).square().mean()
        return {"loss": loss, "distance": (a - b).abs().mean()}

    def after_step(self, progress: float) -> None:
        self.steps.append(progress)


class AnySize(Backbone):
    """Takes images of any size, and notes which it saw in training."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.feature_dim = 4
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        if not images.is_meta:
            self.sizes.append(tuple(images.shape[2:]))
        return self.layers(images)


class Sized(Restless):
    """On a backbone for any size."""

    def __init__(self, _: Any):
        super().__init__(AnySize())


class AlwaysDue(Checkpoint):
    """Saves after every epoch."""

    due = True


def runtime() -> Runtime:
    compute = ComputeConfig(device="cpu", precision="float32", channels_last=False)
    return Runtime.of(compute, torch.tensor([0.5]), torch.tensor([0.25]))


def method(cls: type = Restless, seed: int = 0) -> Any:
    with seeded(seed, "init"):
        return cls(DCNN3((1, 8, 8), width=2))


def train(model: SSLMethod, file: Any, seed: int = 0, config: PretrainConfig = CONFIG, on_epoch: Any = None) -> Any:
    watch = Watch(
        AlwaysDue(file),
        on_epoch or (lambda epoch, metrics: None),
        lambda: dict.fromkeys(MEASURED, float(next(model.parameters()).detach().sum())),
        MEASURED,
    )
    return pretrain(model, Examples(IMAGES, Noise()), config, runtime(), seed, watch)


def timeless(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if "second" not in name} for row in history]


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("cls", [Restless, SimCLR])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "lars"])
@pytest.mark.parametrize("last", [1, 3])
def test_a_resumed_run_is_the_uninterrupted_run_to_the_bit(tmp_path, cls, optimizer, last):
    assert_resumable(tmp_path, cls, replace(CONFIG, optimizer=optimizer, decay_norms=False, clip_norm=0.5), last)


def test_a_run_whose_batches_hold_clusters_apart_resumes_to_the_bit(tmp_path):
    assert_resumable(tmp_path, Restless, replace(CONFIG, apart=20), last=2)


def test_likely_positives_are_kept_apart(tmp_path):
    """Of fourteen images, five times each, a batch of fourteen seldom holds two of one kind, where random ones do."""
    kinds = torch.arange(70) % 14
    images = Images(IMAGES[kinds])

    class Noting(Restless):
        def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
            pairs = torch.cdist(views[0].flatten(1), views[0].flatten(1)) < 1e-3
            self.twins = getattr(self, "twins", 0) + int(pairs.sum()) - len(views[0])
            return super().loss(views)

    twins = {}
    for apart in (0, 14):
        model = method(Noting)
        config = replace(CONFIG, epochs=1, batch_size=14, apart=apart)
        pretrain(model, Examples(images, Identity()), config, runtime(), 0, Watch())
        twins[apart] = model.twins
    assert twins[14] < twins[0] / 5


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "plateau"])
@pytest.mark.parametrize("last", [1, 3])
def test_a_run_resumes_to_the_bit_with_every_schedule(tmp_path, schedule, last):
    settings = {"patience": 0, "gamma": 0.5, "milestones": (0.3, 0.8), "resolutions": (0.5, 1.0)}
    history = assert_resumable(tmp_path, Sized, replace(CONFIG, epochs=6, schedule=schedule, **settings), last)
    assert (history[-1]["pretrain/learning_rate"] < CONFIG.lr) == (schedule != "constant")


def assert_resumable(tmp_path: Any, cls: type, config: PretrainConfig, last: int) -> list[dict[str, float]]:
    """A run killed after epoch `last` and resumed equals the uninterrupted one, whose history is returned."""
    whole = train(method(cls), tmp_path / "whole.pt", config=config)

    def kill(epoch: int, _: Any) -> None:
        if epoch == last + 1:
            raise Killed

    with pytest.raises(Killed):
        train(method(cls), tmp_path / "killed.pt", config=config, on_epoch=kill)
    torch.rand(1000)  # another process has another global state
    seen: list[int] = []
    resumed = method(cls, seed=99)  # its initial weights must not matter
    result = train(resumed, tmp_path / "killed.pt", config=config, on_epoch=lambda epoch, _: seen.append(epoch))
    assert seen == list(range(1, config.epochs + 1))
    assert same(result["method"], whole["method"])
    assert timeless(result["history"]) == timeless(whole["history"])
    return whole["history"]


def test_the_same_seed_gives_the_same_history_and_another_seed_another(tmp_path):
    first, again, other = (
        train(method(), tmp_path / f"{number}.pt", seed=seed) for number, seed in enumerate([5, 5, 6])
    )
    assert same(first["method"], again["method"])
    assert timeless(first["history"]) == timeless(again["history"])
    assert timeless(first["history"]) != timeless(other["history"])


def test_the_global_generator_is_neither_read_nor_moved(tmp_path):
    torch.manual_seed(1)
    first = train(method(), tmp_path / "1.pt")
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))
    torch.manual_seed(2)
    assert same(first["method"], train(method(), tmp_path / "2.pt")["method"])


def test_what_is_logged_and_when(tmp_path):
    model = method()
    config = PretrainConfig(**{**vars(CONFIG), "epochs": 5, "knn_every": 2})
    started = time.perf_counter()
    result = train(model, tmp_path / "c.pt", config=config)
    measured = [number for number, row in enumerate(result["history"], 1) if "pretrain/knn_accuracy" in row]
    assert measured == [2, 4, 5], "every second epoch, and after the last"
    assert all(
        {"pretrain/loss", "pretrain/distance", "pretrain/learning_rate"} <= row.keys() for row in result["history"]
    )
    # 70 images make 5 batches of 14
    assert model.steps == pytest.approx([step / 25 for step in range(1, 26)])
    seconds = sum(70 / row["throughput/pretrain_images_per_second"] for row in result["history"])
    assert 0 < seconds < time.perf_counter() - started


@pytest.mark.parametrize(
    ("epochs", "measured"),
    [(1, [1]), (20, [*range(1, 21)]), (21, [*range(2, 21, 2), 21]), (91, [*range(5, 91, 5), 91])],
)
def test_an_encoder_is_measured_at_most_twenty_times_where_nobody_says(epochs, measured):
    config = PretrainConfig(epochs=epochs)
    assert [epoch for epoch in range(1, epochs + 1) if config.measures(epoch)] == list(measured)


def test_the_logged_loss_is_the_mean_over_the_epoch(tmp_path):
    losses: list[float] = []

    class Constant(Restless):
        def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
            losses.append(float(len(losses)))
            return {"loss": next(self.parameters()).sum() * 0 + losses[-1]}

    result = train(method(Constant), tmp_path / "c.pt")
    assert [row["pretrain/loss"] for row in result["history"]] == [2, 7, 12, 17]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_a_divergence(tmp_path, bad):
    class Diverging(Restless):
        def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
            found = super().loss(views)
            return {"loss": found["loss"] * (bad if self.average.abs().sum() > 0.05 else 1)}

    with pytest.raises(DivergedError, match=r"in epoch \d; try a smaller pretrain.lr"):
        train(method(Diverging), tmp_path / "c.pt")


def test_weights_that_the_last_step_spoilt_are_a_divergence(tmp_path):
    class Spoilt(Restless):
        def after_step(self, progress: float) -> None:
            if progress == 1:
                self.head[0].weight.data[0, 0] = math.nan

    with pytest.raises(DivergedError, match=r"not finite after epoch 4, .*; try a smaller pretrain.lr"):
        train(method(Spoilt), tmp_path / "c.pt")


def test_a_batch_larger_than_the_pool_is_refused(tmp_path):
    config = PretrainConfig(batch_size=71)
    with pytest.raises(ValueError, match=r"batch_size 71 is larger than the pool; use at most 70"):
        train(method(), tmp_path / "c.pt", config=config)


def test_simclr_learns(tmp_path):
    config = PretrainConfig(epochs=15, batch_size=16, optimizer="adam", lr=3e-3)
    history = train(method(SimCLR), tmp_path / "c.pt", config=config)["history"]
    assert history[-1]["pretrain/loss"] < 0.9 * history[0]["pretrain/loss"]


# ---------------------------------------------------------------- learning rate


@pytest.mark.parametrize(
    ("schedule", "progress", "warmup", "expected"),
    [
        ("constant", 0.0, 0.0, 2.0),
        ("constant", 0.9, 0.0, 2.0),
        ("constant", 0.05, 0.1, 1.0),
        ("constant", 0.5, 0.1, 2.0),
        ("cosine", 0.0, 0.0, 2.0),
        ("cosine", 0.5, 0.0, 1.0),
        ("cosine", 0.25, 0.0, 1 + math.sqrt(0.5)),
        ("cosine", 1.0, 0.0, 0.0),
        ("cosine", 0.0, 0.2, 0.0),
        ("cosine", 0.1, 0.2, 1.0),
        ("cosine", 0.2, 0.2, 2.0),
        ("cosine", 0.6, 0.2, 1.0),
    ],
)
def test_learning_rates_by_hand(schedule, progress, warmup, expected):
    assert scheduled(2.0, schedule, progress, warmup) == pytest.approx(expected)


def test_the_loop_uses_the_schedule(tmp_path):
    rates: list[float] = []
    model = method()
    train(model, tmp_path / "c.pt", on_epoch=lambda epoch, metrics: rates.append(metrics["pretrain/learning_rate"]))
    # 5 steps an epoch; the last of epoch e is at progress (e - 1/5) / 4; a quarter of it all is warm-up
    expected = [0.05 * 0.8] + [0.025 * (1 + math.cos(math.pi * (5 * e - 1 - 5) / 15)) for e in (2, 3, 4)]
    assert rates == pytest.approx(expected)


def test_optimizers_take_their_settings():
    parameters = [nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1), requires_grad=False)]
    sgd = build_optimizer(parameters, PretrainConfig(optimizer="sgd", lr=0.3, momentum=0.7, weight_decay=0.1))
    assert isinstance(sgd, torch.optim.SGD)
    (group,) = sgd.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"], len(group["params"])) == (0.3, 0.7, 0.1, 1)
    for name, cls in [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]:
        optimizer = build_optimizer(parameters, ClassifierConfig(optimizer=name, weight_decay=0.2))
        assert type(optimizer) is cls
        assert optimizer.param_groups[0]["weight_decay"] == 0.2


def test_a_plateau_of_the_training_loss_lowers_the_rate(tmp_path):
    class Flat(Restless):
        def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
            return {"loss": next(self.parameters()).sum() * 0 + 1}

    config = replace(CONFIG, schedule="plateau", patience=0, gamma=0.5, warmup_epochs=0.0)
    history = train(method(Flat), tmp_path / "c.pt", config=config)["history"]
    assert [row["pretrain/learning_rate"] for row in history] == [0.05, 0.05, 0.025, 0.0125]


def test_the_loop_clips_gradients(tmp_path):
    moved = []
    for clip in (1e-6, None):
        model = method()
        before = copy.deepcopy(dict(model.named_parameters()))
        train(model, tmp_path / f"{clip}.pt", config=replace(CONFIG, weight_decay=0.0, clip_norm=clip))
        moved.append(max(float((p - before[name]).detach().abs().max()) for name, p in model.named_parameters()))
    assert moved[0] < 1e-5 < moved[1]


# ---------------------------------------------------------------- resolutions


@pytest.mark.parametrize(
    ("shares", "epochs", "expected"),
    [
        ((1.0,), 3, [1, 1, 1]),
        ((0.5, 0.75, 1.0), 6, [0.5, 0.5, 0.75, 0.75, 1, 1]),
        ((0.5, 1.0), 5, [0.5, 0.5, 1, 1, 1]),
        ((0.5, 0.75, 1.0), 2, [0.75, 1]),
        ((0.5, 0.75, 1.0), 1, [1]),
    ],
)
def test_spans_of_the_resolutions_by_hand(shares, epochs, expected):
    assert [resolutions.share_of(shares, epoch, epochs) for epoch in range(1, epochs + 1)] == expected


def test_the_loop_shows_smaller_images_first_and_evaluates_whole_ones(tmp_path):
    model = method(Sized)
    train(model, tmp_path / "c.pt", config=replace(CONFIG, resolutions=(0.5, 0.75, 1.0)))
    sizes = [size for size, _ in itertools.groupby(model.backbone.sizes)]
    assert sizes == [(4, 4), (6, 6), (8, 8)]
    model.backbone.sizes.clear()
    runtime().forward(model.backbone, IMAGES)
    assert set(model.backbone.sizes) == {(8, 8)}


def test_a_resized_view_is_the_mean_of_its_pixels_where_sides_are_halved_and_flat_images_stay_flat():
    view = torch.rand(2, 3, 8, 12)
    half = resolutions.resize(view, 0.5)
    assert half.shape == (2, 3, 4, 6)
    torch.testing.assert_close(half[..., 1:-1, 1:-1].mean(), view.mean(), atol=0.1, rtol=0)
    assert 0 <= float(half.min()) <= float(half.max()) <= 1
    stripes = torch.arange(16).remainder(4).eq(0).float().expand(1, 1, 16, 16)  # aliased, they would be lost
    torch.testing.assert_close(resolutions.resize(stripes, 0.25), torch.full((1, 1, 4, 4), 0.25), atol=0.1, rtol=0)
    assert resolutions.resize(view, 1.0) is view


# ---------------------------------------------------------------- compilation


def test_a_compiled_backbone_keeps_its_names_and_copies_and_is_itself_again_afterwards(monkeypatch):
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: compiled.append(call.__self__) or call)
    model = method(BYOL)
    names = list(model.state_dict())
    where = replace(runtime(), compile=True)
    with where.compiled(model):
        assert compiled == [model.backbone, model.target[0]]
        assert list(model.state_dict()) == names
        twin = copy.deepcopy(model.backbone)
        assert twin._compiled_call_impl is None
        assert same(twin.state_dict(), model.backbone.state_dict())
    assert model.backbone._compiled_call_impl is None
    compiled.clear()
    with runtime().compiled(model):
        assert not compiled


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_compiled_run_is_nearly_the_eager_run_and_resumes_to_the_bit(tmp_path, monkeypatch):
    eager = train(method(BYOL), tmp_path / "eager.pt")
    where = replace(runtime(), compile=True)
    monkeypatch.setitem(globals(), "runtime", lambda: where)
    compiled = train(method(BYOL), tmp_path / "compiled.pt")
    for a, b in zip(eager["history"], compiled["history"], strict=True):
        assert a["pretrain/loss"] == pytest.approx(b["pretrain/loss"], rel=1e-3)
    assert_resumable(tmp_path, BYOL, CONFIG, 2)


# ---------------------------------------------------------------- k-NN and collapse


def slow_votes(queries: Tensor, bank: Tensor, labels: Tensor, k: int, t: float, skip_self: bool) -> Tensor:
    shares = torch.zeros(len(queries), int(labels.max()) + 1)
    for i, query in enumerate(queries):
        near = []
        for j, other in enumerate(bank):
            if not (skip_self and i == j):
                near.append((float(query @ other / (query.norm() * other.norm())), int(labels[j])))
        near = sorted(near, reverse=True)[:k]
        total = sum(math.exp(similarity / t) for similarity, _ in near)
        for similarity, label in near:
            shares[i, label] += math.exp(similarity / t) / total
    return shares


@pytest.mark.parametrize("leave_one_out", [True, False])
@pytest.mark.parametrize("k", [1, 5, 1000])
def test_votes_equal_a_slow_loop(leave_one_out, k):
    rng = torch.Generator().manual_seed(0)
    bank, labels = torch.randn(60, 4, generator=rng), torch.arange(60) % 3
    queries = bank if leave_one_out else torch.randn(25, 4, generator=rng)
    found = knn.votes(queries, bank, labels, 3, neighbors=k, temperature=0.2, leave_one_out=leave_one_out)
    torch.testing.assert_close(found, slow_votes(queries, bank, labels, k, 0.2, leave_one_out), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.sum(1), torch.ones(len(queries)))


def test_leave_one_out_accuracy_equals_a_slow_loop_beyond_one_block():
    rng = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (1100,), generator=rng)
    features = F.one_hot(labels, 3) + 0.6 * torch.randn(1100, 3, generator=rng)
    rows = torch.cat([torch.arange(20), torch.arange(1080, 1100)])
    slow = torch.zeros(40, 3)
    for n, i in enumerate(rows.tolist()):
        others = torch.cat([torch.arange(i), torch.arange(i + 1, 1100)])
        slow[n] = slow_votes(features[i : i + 1], features[others], labels[others], 20, 0.1, False)
    found = knn.votes(features, features, labels, 3, neighbors=20, temperature=0.1, leave_one_out=True)
    torch.testing.assert_close(found[rows], slow, atol=1e-4, rtol=0)
    assert knn.accuracy(features, labels) == float((found.argmax(1) == labels).float().mean())


def test_of_one_image_nothing_is_known():
    assert math.isnan(knn.accuracy(torch.ones(1, 3), torch.tensor([0])))


def test_leave_one_out_does_not_see_the_answer():
    features, labels = torch.randn(400, 16, generator=torch.Generator().manual_seed(2)), torch.arange(400) % 2
    assert knn.accuracy(features, labels, neighbors=1) < 0.62  # with themselves among the neighbours it were 1

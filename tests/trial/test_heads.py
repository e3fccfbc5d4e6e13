"""How labels are used: every head learns, equals its reference, and survives odd label sets; representations too."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import Tensor, nn

from baselines.augmentations.center_crop import CenterCrop
from baselines.augmentations.identity import Identity
from baselines.augmentations.noise import Noise
from baselines.backbones.dcnn3 import DCNN3
from harness.api import Augmentation, Backbone, Images
from harness.config.trial import ClassifierConfig, ComputeConfig
from harness.seeding import derive, seeded
from harness.trial import heads, represent, svm
from harness.trial.epochs import Watch
from harness.trial.models import Encoder
from harness.trial.optimizers import DivergedError
from harness.trial.runtime import Runtime
from harness.trial.stages import Checkpoint

HEADS = ["logistic", "linear", "mlp", "ridge", "kernel_ridge", "svm", "knn"]


def settings(name: str, **changes: Any) -> ClassifierConfig:
    return ClassifierConfig(**{"name": name, "epochs": 60, "lr": 0.01, "hidden_dim": 32} | changes)


def clouds(n: int = 120, classes: int = 4, dims: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Well separated clouds f32 [n, dims] of very different scales per dimension, and their labels."""
    rng = torch.Generator().manual_seed(seed)
    centers = 4 * torch.randn(classes, dims, generator=torch.Generator().manual_seed(42))
    labels = torch.arange(n) % classes
    points = centers[labels] + 0.4 * torch.randn(n, dims, generator=rng)
    return points * torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 3.0]) + 2, labels


def predict(config: ClassifierConfig, x: Tensor, y: Tensor, queries: Tensor, k: int = 4, seed: int = 0) -> Tensor:
    state = heads.fit(config, x, y, k, seed)
    return heads.predictor(config, state, x, y, k)(queries)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_learns_a_separable_problem(name):
    x, y = clouds()
    queries, truth = clouds(seed=1)
    scores = predict(settings(name), x, y, queries)
    assert scores.shape == (120, 4)
    assert scores.dtype == torch.float32
    assert float((scores.argmax(1) == truth).float().mean()) > 0.98


@pytest.mark.parametrize("name", HEADS)
def test_classes_that_were_never_labelled_are_never_predicted(name):
    x, y = clouds()
    kept = (y == 1) | (y == 3)
    scores = predict(settings(name), x[kept], y[kept], x, k=5)
    assert scores.shape == (120, 5)
    assert torch.isfinite(scores).all()
    assert set(scores.argmax(1).unique().tolist()) <= {1, 3}
    assert torch.equal(scores.argmax(1)[kept], y[kept])


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("labels", [[2], [2, 2, 2]])
def test_one_class_and_one_label_are_predicted_everywhere(name, labels):
    x, _ = clouds()
    scores = predict(settings(name, epochs=200), x[: len(labels)], torch.tensor(labels), x[: len(labels)])
    assert torch.isfinite(scores).all()
    assert scores.argmax(1).tolist() == labels
    everywhere = predict(settings(name), x[: len(labels)], torch.tensor(labels), x)
    assert torch.isfinite(everywhere).all()
    if name not in ("linear", "mlp"):
        assert set(everywhere.argmax(1).tolist()) == {2}


@pytest.mark.parametrize("name", HEADS)
def test_the_same_seed_gives_the_same_scores_whatever_was_drawn_before(name):
    x, y = clouds()
    first = predict(settings(name, epochs=3), x, y, x, seed=1)
    torch.rand(10)
    np.random.default_rng(0)
    assert torch.equal(first, predict(settings(name, epochs=3), x, y, x, seed=1))
    if name in ("linear", "mlp"):
        assert not torch.equal(first, predict(settings(name, epochs=3), x, y, x, seed=2))


def test_a_linear_head_is_a_minimum_of_the_cross_entropy():
    """Without regularisation, on overlapping classes, gradient descent ends where scikit-learn's solver does."""
    from sklearn.linear_model import LogisticRegression

    rng = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    x = torch.randn(300, 2, generator=rng) + torch.tensor([[0.0, 0], [1.5, 0], [0, 1.5]])[y]
    config = settings("linear", epochs=300, batch_size=300, lr=0.1, schedule="cosine")
    ours = predict(config, x, y, x, k=3).softmax(1)
    theirs = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000).fit(x.numpy(), y.numpy()).predict_proba(x.numpy())
    torch.testing.assert_close(ours, torch.from_numpy(theirs).float(), atol=0.01, rtol=0)


def test_standardisation_makes_scales_irrelevant_and_ignores_constants():
    x, y = clouds()
    x = torch.cat([x, torch.full((120, 1), 7.0)], dim=1)
    scaled = x * torch.tensor([1e3, 1e-2, 1, 1, 1, 1, 1.0])
    first, second = (predict(settings("linear"), part, y, part) for part in (x, scaled))
    torch.testing.assert_close(first, second, atol=1e-2, rtol=1e-2)
    state = heads.fit(settings("linear"), x, y, 4, 0)
    torch.testing.assert_close(state["mean"], x.mean(0))
    torch.testing.assert_close(state["std"][:6], torch.from_numpy(x.numpy().std(0))[:6])
    assert float(state["std"][6]) == 1
    raw = heads.fit(settings("linear", standardize=False), x, y, 4, 0)
    assert (float(raw["mean"]), float(raw["std"])) == (0, 1)


@pytest.mark.parametrize(
    ("class_weight", "weights", "scoring"), [("none", None, "accuracy"), ("balanced", "balanced", "balanced_accuracy")]
)
def test_the_svm_is_scikit_learns_best_of_the_grid(class_weight, weights, scoring):
    x, y = clouds(n=60, seed=3)
    y[:8] = 0
    x = x + 3 * torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    config = settings("svm", class_weight=class_weight)
    state = heads.fit(config, x, y, 4, seed=5)
    scaled = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    folds = StratifiedKFold(5, shuffle=True, random_state=derive(5, "classifier/svm") % 2**32)
    grid = svm.svm_grid(torch.from_numpy(scaled))
    assert grid[0]["gamma"] == pytest.approx([factor / 6 for factor in (0.03, 0.1, 0.3, 1, 3)])  # 1 / 6 is `scale`
    search = GridSearchCV(SVC(class_weight=weights), grid, cv=folds, scoring=scoring).fit(scaled, y.numpy())
    assert state["svm"] == search.best_params_ | {"class_weight": weights}
    ours = heads.predictor(config, state, x, y, 4)(x)
    np.testing.assert_allclose(ours.numpy(), search.decision_function(scaled), rtol=1e-4, atol=1e-4)
    assert ours.argmax(1).tolist() == search.predict(scaled).tolist()


def test_every_width_of_the_svm_learns_from_hundreds_of_standardised_dimensions():
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    points = torch.randn(3, 400, generator=rng)[labels] + torch.randn(120, 400, generator=rng)
    x = (points - points.mean(0)) / points.std(0, correction=0)
    grid = svm.svm_grid(x)[0]
    for gamma in grid["gamma"]:
        accuracies = [cross_val_score(SVC(C=C, gamma=gamma), x, labels, cv=3).mean() for C in grid["C"]]
        assert max(accuracies) > 0.9, gamma


def test_a_two_class_svm_decides_as_scikit_learn():
    x, y = clouds(n=40, classes=2)
    scores = predict(settings("svm"), x, y + 1, x, k=4)
    assert scores.argmax(1).tolist() == (y + 1).tolist()


def test_nearest_neighbours_with_a_large_temperature_are_scikit_learns_on_cosines():
    x, y = clouds(n=80, seed=4)
    x = x + 4 * torch.randn(80, 6, generator=torch.Generator().manual_seed(1))
    queries, _ = clouds(n=50, seed=5)
    scores = predict(settings("knn", neighbors=7, temperature=1e6), x, y, queries)
    peer = KNeighborsClassifier(7, metric="cosine", algorithm="brute").fit(x.numpy(), y.numpy())
    shares = torch.from_numpy(peer.predict_proba(queries.numpy())).float()
    torch.testing.assert_close(scores.exp(), shares.clamp_min(1e-6), atol=1e-4, rtol=0)


def test_a_classifier_that_diverges_says_so():
    x, y = clouds()
    with pytest.raises(
        DivergedError, match=r"classifier's loss is (nan|inf) in epoch \d+; try a smaller classifier.lr"
    ):
        heads.fit(settings("mlp", optimizer="sgd", lr=1e20), x, y, 4, 0)


# ---------------------------------------------------------------- finetune

STRIPES = torch.zeros(60, 1, 8, 8, dtype=torch.uint8)
STRIPES[::2, :, ::2] = 255
STRIPES[1::2, :, :, ::2] = 255
STRIPE_LABELS = torch.arange(60) % 2


class Normalised(Backbone):
    """A backbone with dropout and batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(DCNN3((1, 8, 8), width=2), nn.Dropout(0.2), nn.BatchNorm1d(8))
        self.feature_dim = 8

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Killed(BaseException):
    """The process ends here."""


class Dying(Checkpoint):
    """Saves after every epoch, until it dies in the place of saving epoch `last`."""

    due = True

    def __init__(self, file: Any, last: int):
        super().__init__(file)
        self.last = last

    def save(self, state: dict[str, Any]) -> None:
        if len(state["history"]) == self.last + 1:
            raise Killed
        super().save(state)


def runtime() -> Runtime:
    compute = ComputeConfig(device="cpu", precision="float32", channels_last=False)
    return Runtime.of(compute, torch.tensor([0.5]), torch.tensor([0.5]))


def backbone() -> Normalised:
    with seeded(0, "backbone/init"):
        return Normalised()


def labeled(view: Augmentation) -> heads.Labeled:
    return heads.Labeled(Images(STRIPES), STRIPE_LABELS, view)


def tune(encoder: Backbone, checkpoint: Checkpoint, seed: int = 0, **changes: Any) -> heads.FinetunedModel:
    config = settings("finetune", **{"epochs": 6, "batch_size": 16} | changes)
    model = heads.finetuned_model(encoder, 2, runtime(), seed)
    heads.finetune(model, labeled(Noise()), config, runtime(), seed, Watch(checkpoint))
    return model


def test_finetuning_changes_a_copy_of_the_encoder(tmp_path):
    encoder = backbone()
    before = copy.deepcopy(encoder.state_dict())
    model = tune(encoder, Checkpoint(tmp_path / "c.pt"), epochs=30)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    moved = [name for name, value in model.backbone.named_parameters() if not torch.equal(before[name], value)]
    assert len(moved) == len(list(encoder.parameters()))
    logits = runtime().forward(model, Images(STRIPES))
    assert float((logits.argmax(1) == STRIPE_LABELS).float().mean()) == 1


def test_finetuning_starts_at_the_encoders_weights():
    encoder = backbone()
    model = heads.finetuned_model(encoder, 2, runtime(), 0)
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), model.backbone.parameters(), strict=True))
    other = heads.finetuned_model(encoder, 2, runtime(), 1)
    assert not torch.equal(model.head.weight, other.head.weight)


class Slow(Normalised):
    """Counts the images that it encodes."""

    seen = 0

    def forward(self, images):
        Slow.seen += len(images)
        return super().forward(images)


def fixed(encoder: Backbone, view: Augmentation, **changes: Any) -> heads.FinetunedModel:
    config = settings("finetune", **{"epochs": 6, "batch_size": 16, "backbone_lr": 0.0} | changes)
    model = heads.finetuned_model(encoder, 2, runtime(), 0, fixed=config.backbone_lr == 0)
    heads.finetune(model, labeled(view), config, runtime(), 0, Watch(Checkpoint(Path("unused"), every_seconds=1e9)))
    return model


def test_an_encoder_without_a_rate_stays_and_sees_fixed_views_once():
    Slow.seen = 0
    with seeded(0, "backbone/init"):
        encoder = Slow()
    model = fixed(encoder, CenterCrop(keep=0.8))
    assert Slow.seen == len(STRIPES)
    before = encoder.state_dict()
    assert all(torch.equal(before[name], value) for name, value in model.backbone.state_dict().items())

    class Drawn(CenterCrop):
        draws = True

    again = fixed(encoder, Drawn(keep=0.8))
    assert Slow.seen == 7 * len(STRIPES)
    assert torch.allclose(model.head.weight, again.head.weight, atol=1e-4)
    assert not torch.allclose(fixed(encoder, Identity()).head.weight, model.head.weight, atol=1e-3)


def test_the_encoder_has_a_rate_of_its_own(tmp_path):
    encoder = backbone()
    before = dict(encoder.named_parameters())

    def moved(**changes: Any) -> float:
        model = tune(encoder, Checkpoint(tmp_path / str(changes)), optimizer="sgd", epochs=1, batch_size=99, **changes)
        return sum(float((value - before[name]).norm()) for name, value in model.backbone.named_parameters())

    assert moved(backbone_lr=0.1) == pytest.approx(0.1 * moved(), rel=1e-3)
    assert moved(layer_decay=0.5) < 0.6 * moved()


@pytest.mark.parametrize("last", [1, 4])
def test_finetuning_resumed_is_finetuning_uninterrupted_to_the_bit(tmp_path, last):
    whole = tune(backbone(), Checkpoint(tmp_path / "whole.pt"))
    with pytest.raises(Killed):
        tune(backbone(), Dying(tmp_path / "c.pt", last))
    torch.rand(100)
    resumed = tune(backbone(), Checkpoint(tmp_path / "c.pt"))
    states = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(tune(backbone(), Checkpoint(tmp_path / "d.pt"), seed=1).head.weight, whole.head.weight)


@pytest.mark.parametrize(
    ("optimizer", "schedule"), [("sgd", "plateau"), ("adam", "constant"), ("adamw", "step"), ("lars", "cosine")]
)
def test_finetuning_resumes_to_the_bit_with_every_optimizer_and_schedule(tmp_path, optimizer, schedule):
    settings = {"milestones": (0.3, 0.6), "patience": 0, "gamma": 0.3, "warmup_epochs": 1.5, "weight_decay": 0.1}
    settings |= {"optimizer": optimizer, "schedule": schedule, "decay_norms": False, "clip_norm": 0.1}
    whole = tune(backbone(), Checkpoint(tmp_path / "whole.pt"), **settings)
    with pytest.raises(Killed):
        tune(backbone(), Dying(tmp_path / "c.pt", 3), **settings)
    resumed = tune(backbone(), Checkpoint(tmp_path / "c.pt"), **settings)
    states = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def rates_of(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[float]:
    """The learning rate of every step of training a linear head, 4 epochs of 2 steps."""
    rates: list[float] = []
    monkeypatch.setattr(heads, "set_learning_rate", lambda optimizer, lr: rates.append(lr))
    x, y = clouds(n=32)
    heads.fit(settings("linear", **{"epochs": 4, "batch_size": 16, "lr": 1.0} | changes), x, y, 4, 0)
    return rates


def test_heads_are_trained_with_the_schedule_and_the_warm_up(monkeypatch):
    expected = [0.0, 0.5, 1, 1, 0.1, 0.1, 0.01, 0.01]
    found = rates_of(monkeypatch, schedule="step", milestones=(0.5, 0.75), warmup_epochs=1.0)
    assert found == pytest.approx(expected)


def test_heads_lower_the_rate_when_the_mean_loss_stands_still(monkeypatch):
    means: list[tuple[float, ...]] = []
    monkeypatch.setattr(heads, "learning_rate", lambda config, progress, losses: means.append(tuple(losses)) or 0.0)
    x, y = clouds(n=33)
    config = settings("linear", epochs=3, batch_size=20, optimizer="sgd", momentum=0.0, standardize=False)
    state = heads.fit(config, x, y, 4, 0)  # the rate is 0: each epoch's mean is that of the untrained head
    head = nn.Linear(6, 4)
    head.load_state_dict(state["head"])
    mean = float(nn.functional.cross_entropy(head(x), y).detach())
    assert [len(losses) for losses in means] == [0, 0, 1, 1, 2, 2]
    assert means[-1] == pytest.approx((mean, mean), rel=1e-5)


def test_a_head_whose_last_step_spoils_the_weights_says_so():
    x, y = clouds()
    with pytest.raises(DivergedError, match=r"weights are not finite after epoch 1, .*; try a smaller classifier.lr"):
        heads.fit(settings("linear", optimizer="sgd", lr=3e38, epochs=1, weight_decay=1e3), x, y, 4, 0)


def test_a_finetuned_backbone_is_compiled_for_training_alone(tmp_path, monkeypatch):
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: compiled.append(call.__self__) or call)
    where = replace(runtime(), compile=True)
    model = heads.finetuned_model(backbone(), 2, where, 0)
    config, checkpoint = settings("finetune", epochs=1), Checkpoint(tmp_path / "c.pt")
    heads.finetune(model, labeled(Identity()), config, where, 0, Watch(checkpoint))
    assert model.backbone in compiled
    assert model.backbone._compiled_call_impl is None


def test_a_single_image_can_be_finetuned_on(tmp_path):
    model = heads.finetuned_model(DCNN3((1, 8, 8), width=2), 2, runtime(), 0)
    config = settings("finetune", epochs=2)
    one = heads.Labeled(Images(STRIPES[:1]), torch.tensor([1]), Identity())
    heads.finetune(model, one, config, runtime(), 0, Watch(Checkpoint(tmp_path / "c.pt")))


# ---------------------------------------------------------------- representations


def encoder_of(representation: str, **changes: Any) -> Encoder:
    rng = torch.Generator().manual_seed(0)
    parts = {
        name: Images(torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8, generator=rng))
        for name, n in (("pool", 60), ("val", 20), ("test", 9))
    }
    config = ClassifierConfig(representation=representation, **changes)
    return Encoder(DCNN3((1, 8, 8), width=2).eval(), "", runtime(), parts, config, seed=3)


def test_features_are_the_encoders_in_any_batch():
    encoder = encoder_of("features")
    found = encoder.features("pool")
    with torch.no_grad():
        for i in (0, 31, 59):
            image = (encoder.parts["pool"][torch.tensor([i])].float() / 255 - 0.5) / 0.5
            torch.testing.assert_close(found[i], encoder.backbone(image)[0], atol=1e-5, rtol=1e-5)
    assert encoder.inputs("val") is encoder.features("val")
    assert encoder.cost.seconds > 0


def test_raw_is_the_pixels():
    encoder = encoder_of("raw")
    images = encoder.parts["val"][torch.arange(20)]
    assert torch.equal(encoder.inputs("val"), images.flatten(1).float() / 255)
    torch.testing.assert_close(encoder.input_of(images.float() / 255), encoder.inputs("val"))


def test_pca_equals_scikit_learns_up_to_sign_and_is_fitted_on_the_pool():
    encoder = encoder_of("pca", dims=4)
    peer = PCA(4, svd_solver="full").fit(encoder.features("pool").numpy())
    for part in ("val", "pool", "test"):  # val first: the map must still be the pool's
        expected = torch.from_numpy(peer.transform(encoder.features(part).numpy()))
        found = encoder.inputs(part)
        signs = (found * expected).sum(0).sign()
        torch.testing.assert_close(found * signs, expected, atol=1e-2, rtol=1e-2)


def test_pca_of_fewer_dimensions_than_asked_for():
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    assert represent.fit_pca(x, 50, seed=0)(x).shape == (10, 3)


def test_tsne_keeps_neighbours_and_places_others_one_by_one():
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    points = 8 * torch.eye(3, 10)[labels] + 0.3 * torch.randn(90, 10, generator=rng)
    pool, others = points[:60], points[60:]
    mapped, place = represent.fit_tsne(pool, 5, seed=0)
    placed = place(others)
    assert mapped.shape == (60, 2)
    nearest = torch.cdist(placed, mapped).argmin(1)
    assert torch.equal(labels[:60][nearest], labels[60:])
    again, _ = represent.fit_tsne(pool, 5, seed=0)
    assert torch.equal(mapped, again)


def test_the_map_of_the_pool_does_not_depend_on_the_other_images():
    first, second = encoder_of("tsne"), encoder_of("tsne")
    second.backbone = first.backbone
    second.parts = {**second.parts, "val": second.parts["test"]}
    first.inputs("val"), second.inputs("val")
    assert torch.equal(first.inputs("pool"), second.inputs("pool"))

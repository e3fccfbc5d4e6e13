"""Logistic and ridge heads against scikit-learn and against leaving images out one by one; weights of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifierCV
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor
from trials import configure

from baselines.augmentations.identity import Identity
from baselines.backbones.dcnn3 import DCNN3
from baselines.ssl_methods.simclr import SimCLR
from harness.api import Images
from harness.config.schema import ConfigError
from harness.config.trial import ClassifierConfig, ComputeConfig, JointConfig
from harness.seeding import generator, seeded
from harness.trial import heads, joint, logistic, ridge
from harness.trial.classes import draw_of, folds_of, image_weights, with_unseen
from harness.trial.epochs import Watch
from harness.trial.joint import JointModel, Material
from harness.trial.ridge import Decomposition
from harness.trial.runtime import Runtime

BALANCES = ["none", "balanced"]


def overlapping(
    n: int = 90, dims: int = 5, seed: int = 0, counts: tuple[int, ...] = (3, 2, 1)
) -> tuple[Tensor, Tensor]:
    """Clouds f32 [n, dims] that overlap, with the classes in the proportion of `counts`."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).repeat(n // sum(counts))
    centers = torch.randn(len(counts), dims, generator=torch.Generator().manual_seed(7))
    return centers[labels] + torch.randn(n, dims, generator=rng) * 1.2, labels


def scores_of(name: str, x: Tensor, y: Tensor, queries: Tensor, k: int = 3, **changes: Any) -> tuple[Any, Tensor]:
    config = ClassifierConfig(name=name, **changes)
    state = heads.fit(config, x, y, k, 0)
    return state, heads.predictor(config, state, x, y, k)(queries)


def standardised(x: Tensor, like: Tensor) -> np.ndarray:
    return ((x - like.mean(0)) / like.std(0, correction=0)).double().numpy()


# ---------------------------------------------------------------- logistic


@pytest.mark.parametrize("class_weight", BALANCES)
@pytest.mark.parametrize("counts", [(3, 2, 1), (2, 1)])
@pytest.mark.parametrize("dims", [5, 200])
def test_logistic_is_scikit_learns_at_the_strength_that_was_chosen(class_weight, counts, dims):
    x, y = overlapping(dims=dims, counts=counts)
    queries, _ = overlapping(dims=dims, seed=1, counts=counts)
    state, ours = scores_of("logistic", x, y, queries, len(counts), class_weight=class_weight)
    peer = LogisticRegression(
        C=state["C"], tol=1e-10, max_iter=10_000, class_weight=None if class_weight == "none" else "balanced"
    )
    theirs = peer.fit(standardised(x, x), y.numpy()).predict_proba(standardised(queries, x))
    np.testing.assert_allclose(ours.double().softmax(1).numpy(), theirs, atol=1e-4)


@pytest.mark.parametrize("class_weight", BALANCES)
@pytest.mark.parametrize("seed", range(3))
def test_the_strength_is_that_of_the_lowest_loss_of_images_held_out(class_weight, seed):
    x, y = overlapping(seed=seed)
    w = image_weights(y, class_weight)
    chosen = logistic.choose_strength(x, y, w, torch.Generator().manual_seed(seed))
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=rng)
    x, y, w = x[order], y[order], w[order]
    folds = folds_of(y, 5, rng)
    losses = []
    for strength in logistic.CHOICES:
        loss = 0.0
        for fold in range(5):
            train, held = folds != fold, (folds == fold).nonzero().flatten()
            model = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
            model.fit(x[train].double().numpy(), y[train].numpy(), sample_weight=w[train].numpy())
            for i, p in zip(held.tolist(), model.predict_log_proba(x[held].double().numpy()), strict=True):
                loss -= float(w[i]) * p[int(y[i])]
        losses.append(loss)
    assert chosen == logistic.CHOICES[int(np.argmin(losses))]


@pytest.mark.parametrize("repeated", [False, True], ids=["all differ", "each twice"])
def test_few_images_are_fitted_in_the_space_that_they_span(monkeypatch, repeated):
    x, y = overlapping(n=48, dims=70)
    y[::2] = torch.arange(24) % 3  # every other label says nothing: the choice of C is clear
    if repeated:
        x, y = x[:24].repeat(2, 1), y[:24].repeat(2)
    directions, coordinates = logistic.spanned(x)
    assert coordinates.shape == (48, 48)
    torch.testing.assert_close(coordinates @ directions.T, x.double())
    fast, _ = scores_of("logistic", x, y, x)
    monkeypatch.setattr(logistic, "WORTHWHILE", 0.0)
    assert logistic.spanned(x)[0] is None
    slow, _ = scores_of("logistic", x, y, x)
    assert fast["C"] == slow["C"]
    for part in ("weight", "bias"):
        torch.testing.assert_close(fast[part], slow[part], atol=2e-5, rtol=1e-4)


def test_more_noise_is_met_with_a_stronger_penalty():
    x, y = overlapping(n=120)
    noisy = torch.cat([x, torch.randn(120, 200, generator=torch.Generator().manual_seed(1))], dim=1)
    strengths = [scores_of("logistic", part, y, part)[0]["C"] for part in (x, noisy)]
    assert strengths[1] < strengths[0]


def test_where_no_image_can_be_held_out_the_strength_is_1():
    x, _ = overlapping()
    state, scores = scores_of("logistic", x[:3], torch.arange(3), x[:3])
    assert state["C"] == 1
    assert scores.argmax(1).tolist() == [0, 1, 2]


RARE = torch.tensor([0] * 400 + [1] * 2 + [2] * 30)


@pytest.mark.parametrize("labels", [RARE[:402], RARE], ids=["two classes", "three"])
@pytest.mark.parametrize("name", ["logistic", "kernel_ridge"])
def test_a_rare_class_is_among_the_images_that_a_head_is_chosen_by(monkeypatch, name, labels):
    """Whichever a draw of them leaves out, the choice is as if the rarest had been drawn."""
    monkeypatch.setattr(logistic, "FOLDED", 20)
    monkeypatch.setattr(ridge, "LEFT_OUT", 20)
    x = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(0))
    x[labels == 1] = torch.tensor([30.0, 0, 0])  # that is told apart by a weak penalty
    for seed in range(5):
        state = heads.fit(ClassifierConfig(name=name), x, labels, 3, seed)
        scores = heads.predictor(ClassifierConfig(name=name), state, x, labels, 3)(x)
        assert scores[labels == 1].argmax(1).tolist() == [1, 1]


@pytest.mark.parametrize("size", [3, 20, 60, 432])
def test_a_draw_holds_every_class_and_is_uniform_but_for_that(size):
    for seed in range(5):
        drawn = draw_of(RARE, size, generator(seed, "draw"))
        uniform = torch.randperm(len(RARE), generator=generator(seed, "draw"))[:size]
        assert len(drawn) == len(drawn.unique()) == size
        assert RARE[drawn].unique().tolist() == [0, 1, 2]
        if size >= 60:
            assert int((RARE[drawn] == 1).sum()) == 2
        if (RARE[uniform].bincount(minlength=3) >= torch.tensor([5, 2, 5])).all():
            assert torch.equal(drawn, uniform)


def test_folds_are_stratified_and_none_holds_a_whole_class():
    labels = torch.tensor([0] * 23 + [1] * 2 + [2] + [3] * 9)
    for seed in range(5):
        folds = folds_of(labels, 5, torch.Generator().manual_seed(seed))
        assert folds[labels == 2].tolist() == [-1]
        for k in (0, 1, 3):
            counts = folds[labels == k].bincount(minlength=5)
            assert counts.max() - counts.min() <= 1
            assert len(folds[labels == k].unique()) > 1
    assert not torch.equal(folds, folds_of(labels, 5, torch.Generator().manual_seed(0)))


def test_a_class_without_labels_has_little_probability_and_a_finite_loss():
    scores = torch.tensor([[2.0, 1.0], [0.0, 5.0]])
    p = with_unseen(scores, torch.tensor([1, 3]), 3, 5).softmax(1)
    torch.testing.assert_close(p[:, [1, 3]] / p[:, [1, 3]].sum(1, keepdim=True), scores.softmax(1))
    torch.testing.assert_close(p[:, [0, 2, 4]], (p[:, [1, 3]].sum(1, keepdim=True) / 8).expand(-1, 3))


# ---------------------------------------------------------------- ridge


@pytest.mark.parametrize("class_weight", BALANCES)
@pytest.mark.parametrize("dims", [5, 150])
@pytest.mark.parametrize("counts", [(3, 2, 1), (2, 1)])
def test_ridge_is_scikit_learns_but_for_a_factor(class_weight, dims, counts):
    x, y = overlapping(dims=dims, counts=counts)
    queries, _ = overlapping(dims=dims, seed=1, counts=counts)
    state, ours = scores_of("ridge", x, y, queries, len(counts), class_weight=class_weight)
    scaled, w = standardised(x, x), image_weights(y, class_weight).double()
    unit = Decomposition.of_inputs(torch.from_numpy(scaled), w).unit()
    peer = RidgeClassifierCV(
        [unit * factor for factor in ridge.PENALTIES], class_weight=None if class_weight == "none" else "balanced"
    ).fit(scaled, y.numpy())
    assert state["penalty"] == pytest.approx(peer.alpha_)
    theirs = torch.from_numpy(peer.decision_function(standardised(queries, x))).float()
    theirs = torch.stack([-theirs, theirs], dim=1) if theirs.ndim == 1 else theirs
    factor = (ours * theirs).sum() / theirs.square().sum()
    torch.testing.assert_close(ours, factor * theirs, atol=1e-4, rtol=1e-3)


def test_the_mean_squared_length_is_the_unit_of_the_penalty():
    x, _ = overlapping(dims=7)
    assert Decomposition.of_inputs(x.double(), torch.ones(90).double()).unit() == pytest.approx(
        float((x - x.mean(0)).square().sum(1).mean()), rel=1e-5
    )


@pytest.mark.parametrize("class_weight", BALANCES)
@pytest.mark.parametrize("dims", [4, 60])
def test_what_an_image_scores_when_left_out_is_what_the_others_say_of_it(class_weight, dims):
    x, y = overlapping(n=24, dims=dims)
    x, w = x.double(), image_weights(y, class_weight).double()
    targets = torch.randn(24, 2, generator=torch.Generator().manual_seed(0)).double()
    penalties = torch.tensor([0.2, 3.0, 50.0]).double()
    scores = Decomposition.of_inputs(x, w).left_out(targets, penalties)
    for penalty, ours in zip(penalties.tolist(), scores, strict=True):
        for i in range(24):
            rest = torch.arange(24) != i
            peer = Ridge(alpha=penalty).fit(x[rest].numpy(), targets[rest].numpy(), sample_weight=w[rest].numpy())
            np.testing.assert_allclose(ours[i].numpy(), peer.predict(x[i : i + 1].numpy())[0], atol=1e-8)


@pytest.mark.parametrize("numbers", [1, 5 * 60 * 3])
def test_the_penalty_is_the_same_however_many_are_tried_at_a_time(monkeypatch, numbers):
    x, y = overlapping(n=60)
    decomposed, targets = Decomposition.of_inputs(x.double(), torch.ones(60).double()), 2 * torch.eye(3).double()[y] - 1
    whole = ridge.choose_penalty(decomposed, targets)
    monkeypatch.setattr(ridge, "SCORES_AT_ONCE", numbers)
    parts = ridge.choose_penalty(decomposed, targets)
    assert (parts.penalty, parts.error) == (whole.penalty, pytest.approx(whole.error, rel=1e-12))
    torch.testing.assert_close(parts.scores, whole.scores, rtol=1e-12, atol=1e-12)


def mapped(kernel: Tensor) -> np.ndarray:
    """f64 [L, L]: points whose inner products are the kernel's."""
    values, vectors = torch.linalg.eigh(kernel)
    return (vectors * values.clamp_min(0).sqrt()).numpy()


@pytest.mark.parametrize("class_weight", BALANCES)
def test_kernel_ridge_is_ridge_in_the_kernels_space(class_weight):
    x, y = overlapping(n=48)
    queries, _ = overlapping(n=12, seed=1)
    state, ours = scores_of("kernel_ridge", x, y, queries, class_weight=class_weight, standardize=False)
    w = image_weights(y, class_weight).double().numpy()
    everything = torch.cat([x, queries]).double()
    points = mapped(torch.exp(-state["gamma"] * torch.cdist(everything, everything).square()))
    targets = 2 * np.eye(3)[y] - 1
    peer = Ridge(alpha=state["penalty"]).fit(points[:48], targets, sample_weight=w)
    theirs = torch.from_numpy(peer.predict(points[48:])).float()
    factor = (ours * theirs).sum() / theirs.square().sum()
    torch.testing.assert_close(ours, factor * theirs, atol=1e-3, rtol=1e-3)


def test_kernel_ridge_scores_alike_far_from_the_origin():
    (x, y), (queries, _) = overlapping(n=96), overlapping(n=60, seed=1)
    x, queries = ((64 * values).round() / 64 for values in (x, queries))  # so that 4096 is added without rounding
    _, near = scores_of("kernel_ridge", x, y, queries, standardize=False)
    _, far = scores_of("kernel_ridge", x + 4096, y, queries + 4096, standardize=False)
    torch.testing.assert_close(far, near, atol=1e-3, rtol=1e-3)


def test_kernel_ridge_chooses_by_the_error_of_images_left_out():
    """Every width and penalty, each image left out and predicted by a model of its own."""
    x, y = overlapping(n=24)
    x, targets = x.double(), 2 * np.eye(3)[y] - 1
    squared = torch.cdist(x, x).square()
    median = float(squared[~torch.eye(24, dtype=torch.bool)].median())
    errors = {}
    for width in ridge.RBF_WIDTHS:
        kernel = torch.exp(-width / median * squared)
        points = mapped(kernel)
        unit = float(np.square(points - points.mean(0)).sum(1).mean())
        for penalty in [unit * factor for factor in ridge.PENALTIES]:
            error = 0.0
            for i in range(24):
                rest = np.arange(24) != i
                peer = Ridge(alpha=penalty).fit(points[rest], targets[rest])
                error += float(np.square(peer.predict(points[i : i + 1])[0] - targets[i]).sum())
            errors[width / median, penalty] = error
    state = ridge.fit_kernel_ridge(x.float(), y, torch.ones(24), torch.Generator())
    best = min(errors, key=errors.__getitem__)
    assert (state["gamma"], state["penalty"]) == pytest.approx(best, rel=1e-4)


def test_scores_are_as_sharp_as_images_left_out_allow():
    rng = torch.Generator().manual_seed(0)
    targets = 2 * torch.nn.functional.one_hot(torch.arange(60) % 3).double() - 1
    scores = targets + torch.randn(60, 3, generator=rng).double()
    w = torch.rand(60, generator=rng).double()
    factors = np.geomspace(0.01, 1000, 2000)
    losses = []
    for factor in factors:
        p = (factor * scores).softmax(1)[torch.arange(60), targets.argmax(1)]
        losses.append(float(-(w * p.log()).sum()))
    assert ridge.sharpness(scores, targets, w) == pytest.approx(factors[int(np.argmin(losses))], rel=0.01)


def test_too_many_labels_for_a_kernel_are_refused():
    from harness.trial.run import label_budget

    config = configure(classifier=["logistic", "kernel_ridge"], labels={"start": "all"})
    assert label_budget(config, 10_000) == 10_000
    with pytest.raises(ValueError, match="kernel_ridge takes at most 10000 labels, not 10001; use ridge"):
        label_budget(config, 10_001)


# ---------------------------------------------------------------- weights of classes


def test_balanced_weights_are_scikit_learns():
    labels = torch.tensor([0, 0, 0, 2, 2, 5])
    expected = compute_sample_weight("balanced", labels.numpy())
    assert image_weights(labels, "balanced").tolist() == pytest.approx(expected.tolist())
    assert image_weights(labels, "none").tolist() == [1] * 6


def test_a_balanced_linear_head_is_a_minimum_of_the_weighted_cross_entropy():
    x, y = overlapping(n=180, dims=2)
    descent = {"epochs": 300, "batch_size": 180, "lr": 0.1, "schedule": "cosine"}
    _, ours = scores_of("linear", x, y, x, class_weight="balanced", **descent)
    peer = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000, class_weight="balanced").fit(x.numpy(), y.numpy())
    theirs = torch.from_numpy(peer.predict_proba(x.numpy())).float()
    torch.testing.assert_close(ours.softmax(1), theirs, atol=0.01, rtol=0)


@pytest.mark.parametrize("name", ["logistic", "linear", "mlp", "ridge", "kernel_ridge"])
def test_balanced_heads_recall_rare_classes(name):
    x, y = overlapping(n=200, dims=3, counts=(18, 1, 1))
    queries, truth = overlapping(n=600, dims=3, seed=1)
    recalls = []
    for class_weight in BALANCES:
        _, scores = scores_of(name, x, y, queries, class_weight=class_weight, epochs=40, lr=0.03, hidden_dim=8)
        recalls.append(balanced_accuracy_score(truth, scores.argmax(1)))
    assert recalls[1] > recalls[0] + 0.05


def shades(jointly: bool, class_weight: str) -> float:
    """Balanced accuracy of an encoder trained on grey images, of which one in ten is of the brighter class."""
    rng = torch.Generator().manual_seed(0)
    labels = (torch.arange(80) % 10 == 0).long()
    brightness = 110 + 20 * labels + 25 * torch.randn(80, generator=rng)
    images = Images(brightness.clamp(0, 255).to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous())
    compute = ComputeConfig(device="cpu", precision="float32", channels_last=False)
    where = Runtime.of(compute, torch.tensor([0.43]), torch.tensor([0.1]))
    config = ClassifierConfig(name="finetune", epochs=15, batch_size=80, lr=0.02, class_weight=class_weight)
    with seeded(0, "init"):
        backbone = DCNN3((1, 8, 8), width=2)
        method = SimCLR(backbone, hidden_dim=4, projection_dim=4)
    labeled = heads.Labeled(images, labels, Identity())
    model: Any
    if jointly:
        model = JointModel(method, 2)
        material = Material(labeled, images.subset(torch.arange(0)), Identity())
        joint.train(model, material, config, JointConfig(weight=0.0), where, 0, Watch())
    else:
        model = heads.finetuned_model(backbone, 2, where, 0)
        heads.finetune(model, labeled, config, where, 0, Watch())
    return balanced_accuracy_score(labels, where.forward(model, images).argmax(1))


@pytest.mark.parametrize("jointly", [False, True])
def test_training_an_encoder_with_balanced_classes_recalls_the_rare_one(jointly):
    assert shades(jointly, "balanced") > shades(jointly, "none") + 0.05


def test_class_weights_are_refused_where_the_method_makes_the_loss():
    classifier = {"name": "finetune", "class_weight": "balanced"}
    assert configure(mode="joint", ssl_method="simclr", classifier=classifier).classifier.class_weight == "balanced"
    with pytest.raises(ConfigError, match=r"trial.classifier.class_weight: fixmatch makes the loss of the classifier"):
        configure(mode="joint", ssl_method="fixmatch", classifier=classifier)


# ---------------------------------------------------------------- the default


def test_the_head_of_a_frozen_encoder_is_logistic_regression():
    assert configure(classifier={}).classifier.name == "logistic"
    assert configure(classifier={"standardize": False}).classifier.name == "logistic"


@pytest.mark.parametrize("given", [{"epochs": 30}, {"lr": 0.1, "epochs": 30}])
def test_settings_that_the_default_head_would_ignore_ask_for_a_name(given):
    names = " and ".join(sorted(given))
    with pytest.raises(ConfigError, match=f"trial.classifier: logistic, the default, reads no {names}; give the name"):
        configure(classifier=given)
    with pytest.raises(ConfigError, match=rf"trial.beside\[0\]: logistic, the default, reads no {names}"):
        configure(classifier=["linear", given])


def test_the_choice_of_a_head_depends_on_its_seed_alone():
    x, y = overlapping()
    first, again = (logistic.fit_logistic(x, y, torch.ones(90), generator(3, "a")) for _ in range(2))
    assert torch.equal(first["weight"], again["weight"])

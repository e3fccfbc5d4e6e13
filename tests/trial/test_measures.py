"""Scores of an encoder without labels, against slow references; what a trial measures, with and without validation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import entropy
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier
from trials import configure, rounds_of

from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.metrics import LABEL_FREE, METRICS
from harness.trial import knn, measures
from harness.trial.measures import alignment, alpha_req, embedding_std, rankme, uniformity


def features(n: int = 60, dims: int = 20, seed: int = 0) -> torch.Tensor:
    """f32 [n, dims] that vary less and less from one dimension to the next."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, dims, generator=rng) / torch.arange(1, dims + 1) + 0.3


def test_embedding_std():
    rng = torch.Generator().manual_seed(0)
    isotropic = torch.randn(4000, 64, generator=rng)
    assert embedding_std(isotropic) == pytest.approx(1, abs=0.02)
    assert embedding_std(7 * isotropic) == pytest.approx(embedding_std(isotropic))
    collapsed = torch.randn(64, generator=rng) + 1e-4 * isotropic
    assert embedding_std(collapsed) < 1e-3
    line = torch.randn(4000, 1, generator=rng).sign() * torch.randn(64, generator=rng)
    assert 0.5 < embedding_std(line) < 0.9  # E|n| = 0.8 of a normal direction: on a line, not isotropic


@pytest.mark.parametrize(("n", "dims"), [(60, 20), (20, 60)])
def test_rankme_is_the_exponential_of_the_entropy_of_the_singular_values(n, dims):
    x = features(n, dims)
    singular = np.linalg.svd(x.double().numpy(), compute_uv=False)
    assert rankme(x) == pytest.approx(math.exp(entropy(singular / singular.sum())), rel=1e-6)
    assert rankme(5 * x) == pytest.approx(rankme(x))


def test_rankme_counts_the_directions_that_are_equally_strong():
    assert rankme(torch.eye(12)[:, :7].repeat(3, 1)) == pytest.approx(7)
    assert rankme(torch.outer(torch.arange(1.0, 30), torch.randn(5))) == pytest.approx(1, abs=1e-4)


def test_alpha_req_is_the_weighted_slope_of_the_logarithms():
    x = features(200, 120)
    eigenvalues = np.linalg.eigvalsh(np.cov(x.double().numpy(), rowvar=False))[::-1]
    rank = np.arange(4, 101)
    fit = LinearRegression().fit(np.log(rank)[:, None], np.log(eigenvalues[rank - 1]), sample_weight=1 / rank)
    assert alpha_req(x) == pytest.approx(-fit.coef_[0], rel=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("dims", [12, 150])
def test_alpha_req_finds_the_exponent_of_a_power_law(alpha, dims):
    rng = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(F.pad(torch.randn(300, dims, generator=rng), (1, 0), value=1.0).double()).Q[:, 1:]
    x = basis * torch.arange(1, dims + 1).double() ** (-alpha / 2)  # columns that are orthogonal and have mean 0
    assert alpha_req(x + 7) == pytest.approx(alpha, abs=1e-6)


def test_alpha_req_of_too_few_directions_is_no_number():
    assert math.isnan(alpha_req(features(50, 4)))
    assert math.isnan(alpha_req(torch.ones(50, 30)))


def test_alignment_is_the_mean_squared_distance_of_unit_vectors():
    a, b = features(), features(seed=1)
    pairs = [(p / np.linalg.norm(p) - q / np.linalg.norm(q)) ** 2 for p, q in zip(a.numpy(), b.numpy(), strict=True)]
    assert alignment(a, b) == pytest.approx(np.mean([pair.sum() for pair in pairs]), rel=1e-5)
    assert alignment(a, 3 * a) == pytest.approx(0, abs=1e-9)


def test_uniformity_is_the_log_of_the_mean_potential_of_pairs():
    x = features()
    unit = (x / x.norm(dim=1, keepdim=True)).double().numpy()
    potentials = [math.exp(-2 * float(np.sum((unit[i] - unit[j]) ** 2))) for i in range(len(x)) for j in range(i)]
    assert uniformity(x) == pytest.approx(math.log(np.mean(potentials)), rel=1e-5)
    assert uniformity(torch.ones(9, 5)) == pytest.approx(0, abs=1e-9)


def test_the_sample_depends_on_the_number_of_images_alone():
    assert measures.sample_rows(10).tolist() == list(range(10))
    rows = measures.sample_rows(5000)
    assert len(rows.unique()) == measures.SAMPLE
    assert torch.equal(rows, measures.sample_rows(5000))
    assert int(rows.max()) > 4000


def test_k_nn_by_the_pool_is_the_fields_protocol():
    rng = torch.Generator().manual_seed(0)
    labels, known = torch.arange(90) % 3, torch.arange(600) % 3
    centers = torch.randn(3, 8, generator=rng)
    x, bank = (centers[y] + 1.5 * torch.randn(len(y), 8, generator=rng) for y in (labels, known))
    weigh = lambda distances: np.exp((1 - distances) / 0.1)  # noqa: E731
    peer = KNeighborsClassifier(200, metric="cosine", algorithm="brute", weights=weigh)
    expected = peer.fit(bank.numpy(), known.numpy()).score(x.numpy(), labels.numpy())
    assert knn.accuracy_by_bank(x, labels, bank, known) == pytest.approx(expected)


# ---------------------------------------------------------------- in a trial


def test_a_trial_reports_the_scores_per_epoch_and_at_its_end(fresh):
    rows, totals = fresh().run(configure(labels__rounds=1))
    epochs = [metrics for kind, _, metrics, _ in rows if kind == "epoch"]
    for metrics in epochs:
        assert set(LABEL_FREE) | {"pretrain/knn_accuracy"} <= metrics.keys()
        for name in LABEL_FREE:
            assert METRICS[name].low <= metrics[name] <= METRICS[name].high
    assert all(totals[name] == epochs[-1][name] for name in LABEL_FREE)
    assert epochs[0]["pretrain/alignment"] != epochs[1]["pretrain/alignment"]


def test_an_encoder_that_is_not_trained_has_scores_too(fresh):
    bench = fresh()
    _, totals = bench.run(configure(ssl_method="none", labels__rounds=1))
    _, again = bench.run(configure(ssl_method="none", labels__rounds=1))
    assert all(totals[name] == again[name] for name in LABEL_FREE)
    _, jointly = fresh().run(
        configure(mode="joint", classifier={"name": "finetune", "epochs": 1, "batch_size": 20}, labels__rounds=1)
    )
    assert not set(LABEL_FREE) & jointly.keys()


def test_k_nn_by_the_pool_is_measured_where_it_is_asked_for_and_found_again(fresh):
    settings = {"labels": {"start": "all"}, "pretrain__epochs": 1}
    bench = fresh()
    asked = configure(**settings, pretrain__knn_of_pool=True)
    rows, _ = bench.run(asked)
    assert 0 <= rows[0][2]["pretrain/knn_pool_accuracy"] <= 1
    found, _ = bench.run(configure(**settings))  # the same stage, of which this was not asked
    assert "pretrain/knn_pool_accuracy" not in found[0][2]
    again, _ = bench.run(asked)
    assert again[0][2] == rows[0][2]
    for wrong in ({"labels": {"start": 20}}, {"data__val": 0}):
        with pytest.raises(ConfigError, match=r"trial.pretrain.knn_of_pool: asks the labels of all training images"):
            configure(**(settings | {"pretrain__knn_of_pool": True} | wrong))


def test_without_validation_images_a_trial_reads_no_label_of_theirs(fresh):
    rows, totals = fresh().run(configure(data__val=0, labels__rounds=1, classifier=["logistic", "knn"]), with_test=True)
    assert totals["labels/val"] == 0
    names = {name for _, _, metrics, _ in rows for name in metrics}
    assert not [name for name in names if name.startswith("val/") or "knn_accuracy" in name]
    assert {"test/accuracy", "test/accuracy/knn", "test/ece", "pretrain/rankme"} <= names
    assert rounds_of(rows)[-1][3].confusion_matrix["split"] == "test"
    rows, _ = fresh().run(configure(data__val=0, labels__rounds=1))
    assert rounds_of(rows)[-1][3].confusion_matrix is None


SEARCH = {"method": "random", "run_cap": 2, "parameters": {"ssl_method.temperature": {"values": [0.1, 0.2, 0.5]}}}


def goal(name: str, **more: str) -> dict[str, object]:
    return {"metric": {"name": name, **more}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trial": {"data": {"val": 0}}}, "metric val/accuracy needs validation images, and data.val is 0"),
        (goal("val/loss") | {"trial": {"classifier": "knn"}}, "val/loss needs probabilities, and knn gives none"),
        (goal("val/ece") | {"trial": {"classifier": "svm"}}, "val/ece needs probabilities, and svm gives none"),
        (goal("val/recall"), "val/recall is measured class by class; use val/balanced_accuracy"),
        (goal("pretrain/alpha_req"), "metric.goal: pretrain/alpha_req is better neither high nor low"),
        (goal("pretrain/loss"), "pretrain/loss is measured in every epoch, not once per trial"),
        (
            goal("pretrain/rankme") | {"trial": {"mode": "joint", "classifier": "finetune"}},
            "pretrain/rankme is that of an encoder trained before its classifier",
        ),
        (
            goal("time/total_seconds") | {"trial": {"data": {"val": 0}}, "early_terminate": {"type": "asha"}},
            "early_terminate judges time/total_seconds by validation images",
        ),
        (
            goal("pretrain/rankme") | {"trial": {"pretrain": {"knn_every": 0}}, "early_terminate": {"type": "median"}},
            "early_terminate sees nothing of pre-training with trial.pretrain.knn_every: 0",
        ),
        (
            {"trial": {"dataset": "embeddings", "ssl_method": "none"}, "early_terminate": {"type": "asha"}}
            | {"parameters": {"labels.start": {"values": [10, 20]}}},
            "embeddings gives features, which train none",
        ),
        (
            goal("time/total_seconds") | {"trial": {
                "data": {"val": 0}, "mode": "joint", "classifier": "finetune", "joint": {"validate_every": 1}
            }},
            "trial.joint.validate_every: there are no validation images",
        ),
    ],
)  # fmt: skip
def test_goals_that_a_trial_does_not_measure_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        load_plan(SEARCH | settings, {})


@pytest.mark.parametrize("name", [*LABEL_FREE])
def test_scores_without_labels_are_goals_of_a_search_without_validation(name):
    more = {} if METRICS[name].goal else {"goal": "maximize"}
    plan = load_plan(SEARCH | goal(name, **more) | {"trial": {"data": {"val": 0}}}, {})
    assert plan.metric[0].direction == (METRICS[name].goal or "maximize")

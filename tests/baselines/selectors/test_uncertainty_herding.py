"""Uncertainty Herding: its weights, its temperature, its radius."""

import numpy as np
import pytest
import torch
from pools import blobs, make_pool, picks_of, rng, valid
from sklearn.linear_model import Ridge

from baselines.selectors.max_herding import MaxHerding
from baselines.selectors.uncertainty_herding import (
    PENALTIES,
    UncertaintyHerding,
    calibrating_temperature,
    left_out_accuracy,
    smallest_distance,
)


def a_pool(n=60, num_classes=4, num_labeled=8, scale=3.0, seed=0):
    features, cluster = blobs(n, 6, num_clusters=num_classes, spread=0.6, seed=seed)
    logits = scale * torch.randn(n, num_classes, generator=rng(seed + 100))
    labeled = torch.randperm(n, generator=rng(seed))[:num_labeled]
    return make_pool(features=features, logits=logits, labels=cluster, labeled=labeled)


def uncertainties(logits, measure):
    """By the textbook, in float64."""
    p = torch.softmax(logits.double(), 1).sort(dim=1, descending=True).values.numpy()
    return {
        "margin": 1 - (p[:, 0] - p[:, 1]),
        "entropy": -(p * np.log(p)).sum(1),
        "least_confidence": 1 - p[:, 0],
    }[measure]


@pytest.mark.parametrize("measure", ["margin", "entropy", "least_confidence"])
def test_picks_are_those_of_the_plain_loop(measure):
    for seed in range(4):
        pool = a_pool(seed=seed)
        points = torch.nn.functional.normalize(pool.features.double()).numpy()
        weights = uncertainties(pool.logits / 2.5, measure)
        weights[pool.labeled] = 0  # as in the authors' code
        kernel = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1) / 0.4**2)
        centers = pool.labeled.tolist()
        for _ in range(10):
            gain = (weights * np.maximum(kernel - kernel[centers].max(axis=0), 0)).sum(axis=1)
            gain[centers] = -np.inf
            centers.append(int(gain.argmax()))
        selector = UncertaintyHerding(uncertainty=measure, temperature=2.5, radius=0.4)
        assert selector.select(pool, 10, rng=rng()).tolist() == centers[8:]


def test_where_all_are_as_uncertain_it_is_max_herding():
    pool = a_pool(scale=0.0)
    radius = smallest_distance(torch.nn.functional.normalize(pool.features[pool.labeled]))
    expected = picks_of(MaxHerding(radius=radius), pool, 10)
    assert torch.equal(UncertaintyHerding().select(pool, 10, rng=rng()), expected)
    cold = make_pool(features=pool.features)  # reading logits would fail
    assert torch.equal(UncertaintyHerding().select(cold, 10, rng=rng()), picks_of(MaxHerding(), cold, 10))


def test_with_a_narrow_kernel_it_takes_the_most_uncertain():
    pool = a_pool()
    order = uncertainties(pool.logits, "margin")[pool.unlabeled].argsort()[::-1][:10]
    picks = UncertaintyHerding(temperature=1.0, radius=0.01).select(pool, 10, rng=rng())
    assert picks.tolist() == pool.unlabeled[order.copy()].tolist()


def test_uncertain_regions_are_covered_and_confident_ones_left_alone():
    features = torch.eye(4).repeat_interleave(20, dim=0) + 0.05 * torch.randn(80, 4, generator=rng())
    logits = torch.tensor([8.0, 0.0]).repeat(80, 1)
    logits[20:60] = torch.tensor([0.2, 0.0])
    picks = UncertaintyHerding(temperature=1.0, radius=0.5).select(
        make_pool(features=features, logits=logits, labeled=[0]), 2, rng=rng()
    )
    assert sorted((picks // 20).tolist()) == [1, 2]


def test_radius_is_the_smallest_distance_of_two_labelled_images():
    points = torch.nn.functional.normalize(torch.randn(30, 5, generator=rng()))
    assert smallest_distance(points) == pytest.approx(float(torch.pdist(points.double()).min()), rel=1e-4)
    assert smallest_distance(points.repeat(2, 1)) == pytest.approx(smallest_distance(points), rel=1e-4)
    assert smallest_distance(points[:1]) == smallest_distance(points[:1].repeat(3, 1)) == smallest_distance(points[:0])
    assert smallest_distance(points[:0]) == 1.0


@pytest.mark.parametrize("accuracy", [0.45, 0.6, 0.8])
def test_temperature_makes_confidence_meet_accuracy(accuracy):
    logits = 10 * torch.randn(500, 5, generator=rng())
    temperature = calibrating_temperature(logits, accuracy)
    assert 1 < temperature < 20
    assert float(torch.softmax(logits / temperature, 1).amax(1).mean()) == pytest.approx(accuracy, abs=2e-3)


def test_temperature_stays_within_its_range():
    logits = torch.randn(100, 5, generator=rng())
    assert calibrating_temperature(logits, 1.0) == 1.0  # never sharper than the classifier
    assert calibrating_temperature(1000 * logits, 0.2) == pytest.approx(20, abs=0.01)


def test_left_out_accuracy_is_that_of_refits():
    points, labels = blobs(40, 5, num_clusters=4, spread=0.8)
    points = torch.nn.functional.normalize(points)
    x, y = points.double().numpy(), torch.nn.functional.one_hot(labels, 6).double().numpy()
    scores = {}
    for penalty in PENALTIES:
        left_out = np.empty_like(y)
        for i in range(40):
            rest = np.arange(40) != i
            left_out[i] = Ridge(penalty, fit_intercept=False).fit(x[rest], y[rest]).predict(x[i : i + 1])
        scores[penalty] = (((left_out - y) ** 2).sum(), (left_out.argmax(1) == labels.numpy()).mean())
    assert 0.3 < min(scores.values())[1] < 1
    assert left_out_accuracy(points, labels, 6, rng=rng()) == pytest.approx(min(scores.values())[1])


def test_what_was_never_seen_elsewhere_is_not_expected_to_be_right():
    points = torch.eye(5)
    assert left_out_accuracy(points, torch.arange(5), 5, rng=rng()) == 0
    assert left_out_accuracy(points[:1], torch.zeros(1, dtype=torch.int64), 5, rng=rng()) == 0
    assert left_out_accuracy(torch.ones(6, 5), torch.zeros(6, dtype=torch.int64), 5, rng=rng()) == 1


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_pools_without_structure(scale):
    for features in (torch.zeros(20, 3), torch.ones(20, 3), 1e20 * torch.randn(20, 3)):
        pool = make_pool(features=features, logits=scale * torch.randn(20, 4, generator=rng()), labeled=[0, 1, 2])
        assert valid(UncertaintyHerding().select(pool, 17, rng=rng()), pool, 17)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"uncertainty": "margins"}, "uncertainty = 'margins' is none of 'margin', 'entropy', 'least_confidence'"),
        ({"temperature": 0.0}, "temperature = 0.0 is not > 0"),
        ({"radius": -1.0}, "radius = -1.0 is not > 0"),
        ({"num_targets": 0}, "num_targets = 0 is not >= 1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        UncertaintyHerding(**settings)

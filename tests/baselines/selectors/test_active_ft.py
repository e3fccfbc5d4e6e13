"""ActiveFT against loops over the released loss, and what its paper claims: picks distributed like the pool."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from pools import blobs, make_pool, rng, valid
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import normalize

from baselines.selectors.active_ft import ActiveFT, mismatch, nearest_left, nearest_point


def mismatch_by_loops(features, points, temperature, balance):
    """Term by term; the gradient reaches the nearest point's own vector, not those it is compared with."""
    total = 0.0
    for image in features:
        similar = (points.detach() @ image).tolist()
        nearest = points[max(range(len(points)), key=similar.__getitem__)]
        drawn = torch.exp(image @ nearest / temperature)
        repelled = sum(torch.exp(other.detach() @ nearest / temperature) for other in points)
        total = total - torch.log(drawn / (drawn + balance * repelled))
    return total / len(features)


@pytest.mark.parametrize("num_fixed", [0, 4])
@pytest.mark.parametrize(("temperature", "balance"), [(0.07, 1.0), (0.5, 0.25)])
def test_loss_and_gradient_are_those_of_the_released_code(temperature, balance, num_fixed, monkeypatch):
    monkeypatch.setattr("baselines.selectors.active_ft.BLOCK_ELEMENTS", 16)  # several blocks
    features = normalize(torch.randn(30, 5, generator=rng(), dtype=torch.float64))
    start = torch.randn(6, 5, generator=rng(1), dtype=torch.float64)
    fixed = normalize(torch.randn(num_fixed, 5, generator=rng(2), dtype=torch.float64))
    points = start.clone().requires_grad_()
    ours = mismatch(features, nearest_point(features, fixed)[0], fixed, normalize(points), temperature, balance)
    gradient = torch.autograd.grad(ours, points)[0]
    points = start.clone().requires_grad_()
    theirs = mismatch_by_loops(features, torch.cat([fixed, normalize(points)]), temperature, balance)
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs, points)[0], rtol=1e-7, atol=1e-10)
    if num_fixed == 0:
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)


def test_every_point_takes_the_nearest_image_that_is_left(monkeypatch):
    monkeypatch.setattr("baselines.selectors.active_ft.BLOCK_ELEMENTS", 40)
    points, features = normalize(torch.randn(12, 3, generator=rng())), normalize(torch.randn(20, 3, generator=rng(1)))
    left, expected = list(range(20)), []
    for point in points.double():
        expected.append(max(left, key=lambda i: float(features[i].double() @ point)))
        left.remove(expected[-1])
    assert nearest_left(points, features).tolist() == expected


def transport_cost(points, picks):
    """The Earth mover's distance of the picks from all points, which are a multiple of them, by optimal assignment."""
    cost = torch.cdist(points, points[picks].repeat(len(points) // len(picks), 1)).numpy()
    return cost[linear_sum_assignment(cost)].mean()


def test_picks_are_nearer_to_the_law_of_the_pool_than_their_start():
    """Theorem 1 of the paper: optimising brings the Earth mover's distance down."""
    features = normalize(blobs(120, 8, num_clusters=6, spread=0.5)[0])
    pool, gains = make_pool(features=features), []
    for seed in range(6):
        start, end = (ActiveFT(num_iterations=n, lr=0.01).select(pool, 12, rng=rng(seed)) for n in (0, 60))
        gains.append(transport_cost(features, start) - transport_cost(features, end))
    assert np.mean(gains) > 3 * np.std(gains) / math.sqrt(len(gains)) > 0


def test_a_later_round_keeps_away_from_what_is_labelled():
    """The same images twice, once with six labelled ones more: the same start, but points that these repel."""
    angle = torch.cat([torch.linspace(0, 1, 80), torch.linspace(0, 0.2, 6)])
    features = torch.stack([angle.cos(), angle.sin()], dim=1)
    selector, gaps = ActiveFT(num_iterations=60, lr=0.01), []
    for seed in range(4):
        alone = selector.select(make_pool(features=features[:80]), 6, rng=rng(seed))
        beside = selector.select(make_pool(features=features, labeled=range(80, 86)), 6, rng=rng(seed))
        gaps.append(float(angle[beside].mean() - angle[alone].mean()))
    assert min(gaps) > 0.02


def test_a_batch_of_the_images_is_drawn_where_there_are_more():
    features = blobs(120, 6)[0]
    pool = make_pool(features=features)
    quick = partial(ActiveFT, num_iterations=20, lr=0.02)
    small, whole, default = (
        quick(**size).select(pool, 30, rng=rng()) for size in ({"batch_size": 8}, {"batch_size": 120}, {})
    )
    assert valid(small, pool, 30)
    assert not torch.equal(small, whole)
    assert torch.equal(whole, default)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e15])
def test_features_without_a_direction_or_of_any_length(scale):
    features = blobs(40, 4)[0] * scale
    pool = make_pool(features=features, labeled=[0, 1])
    assert valid(ActiveFT(num_iterations=20).select(pool, 38, rng=rng()), pool, 38)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": 0.0}, "temperature = 0.0 is not > 0"),
        ({"balance": float("nan")}, "balance = nan is not > 0"),
        ({"lr": -1.0}, "lr = -1.0 is not > 0"),
        ({"num_iterations": -1}, "num_iterations = -1 is not >= 0"),
        ({"batch_size": 0}, "batch_size = 0 is not >= 1"),
    ],
)
def test_impossible_values_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        ActiveFT(**setting)

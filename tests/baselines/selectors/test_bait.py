"""BAIT: its greedy steps against explicit inverses, its information against autograd's."""

import numpy as np
import pytest
import torch
from pools import blobs, make_pool, rng, valid

from baselines.selectors.bait import Bait, forward_backward


def slow(logits, features, labeled, budget, regularization):
    """Every trace by an explicit inverse, of expected outer products of the two outcomes' gradients."""
    p = torch.softmax(logits.double(), 1).amax(1).numpy()
    h = features.double().numpy()
    # the log likelihood's gradient in the direction of the predicted class: (1 - p) h if it is right, -p h if not
    information = np.array(
        [q * np.outer((1 - q) * x, (1 - q) * x) + (1 - q) * np.outer(q * x, q * x) for q, x in zip(p, h, strict=True)]
    )
    total, fisher = len(labeled) + budget, information.mean(axis=0)
    m = regularization * np.eye(h.shape[1]) + information[labeled].mean(axis=0) * len(labeled) / total
    scaled = information * budget / total
    picks, candidates = [], [i for i in range(len(h)) if i not in labeled]

    def trace(matrix):
        return np.trace(np.linalg.inv(matrix) @ fisher)

    for _ in range(min(2 * budget, len(candidates))):
        left = [i for i in candidates if i not in picks]
        picks.append(min(left, key=lambda i: trace(m + scaled[i])))
        m = m + scaled[picks[-1]]
    while len(picks) > budget:
        worst = min(picks, key=lambda i: trace(m - scaled[i]))
        m = m - scaled[worst]
        picks.remove(worst)
    return picks


@pytest.mark.parametrize("regularization", [0.01, 1.0])
def test_picks_are_those_of_explicit_inverses(regularization):
    for seed in range(4):
        features = 3 * torch.randn(30, 5, generator=rng(seed))
        logits = 2 * torch.randn(30, 4, generator=rng(seed + 50))
        labeled = [1, 5, 8][: 1 + seed % 3]
        pool = make_pool(penultimate=features, logits=logits, labeled=labeled)
        picks = Bait(regularization=regularization).select(pool, 6, rng=rng())
        assert picks.tolist() == slow(logits, features, labeled, 6, regularization)


def test_of_a_random_part_as_candidates_the_trace_is_nearly_that_of_all(monkeypatch):
    features, logits = blobs(1200, 6)[0], 2 * torch.randn(1200, 4, generator=rng(5))
    pool = make_pool(penultimate=features, logits=logits, labeled=[0, 1, 2])
    p = logits.double().softmax(dim=1).amax(dim=1)
    gradients = features.double() * (p * (1 - p)).sqrt().unsqueeze(1)

    def trace(picks):
        m = torch.eye(6, dtype=torch.float64) / 100 + gradients[picks].T @ gradients[picks]
        return float(torch.trace(torch.linalg.inv(m) @ gradients.T @ gradients))

    of_all = trace(Bait(regularization=0.01).select(pool, 40, rng=rng()))
    monkeypatch.setattr("baselines.selectors.bait.MOST_CANDIDATES", 400)
    picks = Bait(regularization=0.01).select(pool, 40, rng=rng())
    assert valid(picks, pool, 40)
    assert of_all < trace(picks) < 1.25 * of_all
    chance = trace(pool.unlabeled[torch.randperm(1197, generator=rng())[:40]])
    assert chance > 2 * of_all


def test_information_is_that_of_the_binary_likelihood():
    """E[gradient gradient^T] of log p(right) by autograd is p (1 - p) h h^T."""
    h, logit = torch.randn(4, generator=rng(), dtype=torch.float64), torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    p = torch.softmax(logit, 0).max()
    w = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    log_odds = torch.log(p / (1 - p)) + h @ w
    expected = torch.zeros(4, 4, dtype=torch.float64)
    for probability, sign in ((p, 1), (1 - p, -1)):
        (gradient,) = torch.autograd.grad(torch.nn.functional.logsigmoid(sign * log_odds), w, retain_graph=True)
        expected += probability * torch.outer(gradient, gradient)
    np.testing.assert_allclose(p * (1 - p) * torch.outer(h, h), expected, rtol=1e-10)


def test_many_updates_keep_the_forms_exact():
    x = torch.randn(200, 12, generator=rng(), dtype=torch.float64) * torch.logspace(0, 3, 12, dtype=torch.float64)
    fisher, eye = x.T @ x / 200, torch.eye(12, dtype=torch.float64)
    picks = forward_backward(x, eye, fisher, 60)

    def trace(rows):
        return float((torch.linalg.inv(eye + x[rows].T @ x[rows]) @ fisher).trace())

    assert len(picks.unique()) == 60
    random = np.mean([trace(torch.randperm(200, generator=rng(seed))[:60]) for seed in range(20)])
    assert trace(picks) < 0.8 * random
    left = torch.ones(200, dtype=torch.bool).index_fill(0, picks, False).nonzero().squeeze(1)
    swaps = [trace(torch.cat([picks[picks != old], new[None]])) for old in picks[:5] for new in left[:20]]
    assert trace(picks) < np.mean(swaps)


def fresh(x, start, fisher, budget):
    """The picks where M^-1 is found anew for each of them."""
    picks = []

    def forms(rows):
        inverse = torch.linalg.inv(start + x[rows].T @ x[rows])
        return ((x @ inverse @ fisher @ inverse) * x).sum(dim=1), ((x @ inverse) * x).sum(dim=1)

    for _ in range(min(2 * budget, len(x))):
        quadratic, leverage = forms(picks)
        gain = quadratic / (1 + leverage)
        gain[picks] = -torch.inf
        picks.append(int(gain.argmax()))
    while len(picks) > budget:
        quadratic, leverage = forms(picks)
        picks.pop(int((quadratic / (1 - leverage))[picks].argmin()))
    return picks


@pytest.mark.parametrize(("num_images", "dims", "budget"), [(400, 64, 100), (300, 64, 40), (200, 32, 10)])
@pytest.mark.parametrize("regularization", [1e-20, 1e-9, 1e-7])
def test_a_small_regularization_costs_no_digits_that_decide(num_images, dims, budget, regularization):
    features = torch.randn(num_images, dims, generator=rng(1))
    pool = make_pool(penultimate=features, logits=torch.zeros(num_images, 2), labeled=[0])
    x = features.double() / 2  # p = 1/2
    fisher, longest = x.T @ x / num_images, float(x.square().sum(dim=1).max())
    start = torch.eye(dims, dtype=torch.float64) * 1e-5 * longest + torch.outer(x[0], x[0]) / (1 + budget)
    picks = Bait(regularization=regularization * longest).select(pool, budget, rng=rng())
    scaled = x[1:] * (budget / (1 + budget)) ** 0.5
    assert sorted(picks.tolist()) == sorted(1 + row for row in fresh(scaled, start, fisher, budget))


@pytest.mark.parametrize("regularization", [1e-5, 1e-3, 1.0])
def test_a_regularization_from_there_on_is_the_one_that_is_asked_for(regularization):
    x = torch.randn(200, 16, generator=rng(2), dtype=torch.float64)
    start = torch.eye(16, dtype=torch.float64) * regularization * float(x.square().sum(dim=1).max())
    fisher = x.T @ x / 200
    assert sorted(forward_backward(x, start, fisher, 30).tolist()) == sorted(fresh(x, start, fisher, 30))


def test_uncertain_images_in_unknown_directions_are_taken():
    features = 5 * torch.eye(4).repeat_interleave(10, dim=0) + 0.1 * torch.randn(40, 4, generator=rng())
    logits = torch.tensor([0.2, 0.0]).repeat(40, 1)
    logits[30:] = torch.tensor([9.0, 0.0])  # nothing to be learnt there
    pool = make_pool(penultimate=features, logits=logits, labeled=range(10))
    assert sorted((Bait().select(pool, 2, rng=rng()) // 10).tolist()) == [1, 2]


@pytest.mark.parametrize("scale", [0.0, 1e-8, 1e8, 1e18])
def test_pools_without_structure(scale):
    features = scale * torch.cat([torch.ones(10, 6), torch.randn(10, 6, generator=rng())])
    for logits in (torch.zeros(20, 3), 1e4 * torch.randn(20, 3, generator=rng())):
        pool = make_pool(penultimate=features, logits=logits, labeled=[0, 12])
        for budget in (1, 9, 18):
            assert valid(Bait().select(pool, budget, rng=rng()), pool, budget)


def test_equals_have_no_preferred_position():
    pool = make_pool(penultimate=torch.ones(30, 3), logits=torch.zeros(30, 2), labeled=[0])
    assert len({int(Bait().select(pool, 1, rng=rng(seed))) for seed in range(40)}) > 15


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"regularization = 0 is not > 0"):
        Bait(regularization=0)
    features = blobs(10, 3)[0]
    features[4, 1] = torch.inf
    with pytest.raises(ValueError, match="penultimate of 1 of 10 images are not finite"):
        Bait().select(make_pool(penultimate=features, logits=torch.zeros(10, 2), labeled=[0]), 2, rng=rng())

"""FALCUN: the law of its draws."""

from itertools import permutations

import numpy as np
import pytest
import torch
from pools import make_pool, rng, valid

from baselines.selectors.falcun import Falcun


def law(p, picked, gamma):
    """f64 [n]: the probability of each image to be the next, from the definition."""
    ordered = np.sort(p, axis=1)
    uncertainty = 1 - (ordered[:, -1] - ordered[:, -2])
    distance = uncertainty.copy()
    for i in picked:
        distance = np.minimum(distance, np.abs(p - p[i]).sum(axis=1))
    left = [i for i in range(len(p)) if i not in picked]
    spread = np.ptp(distance[left])
    scaled = (distance - distance[left].min()) / (spread if spread > 0 else 1)
    weight = np.array([(scaled[i] + uncertainty[i]) ** gamma if i in left else 0.0 for i in range(len(p))])
    return weight / weight.sum()


@pytest.mark.parametrize("gamma", [1.0, 3.0])
def test_draws_follow_the_law(gamma):
    logits = torch.tensor([[1.5, 0.0, 0.0], [0.0, 1.2, 0.0], [0.2, 0.0, 0.0], [1.6, 0.1, 0.0]])
    p = torch.softmax(logits.double(), 1).numpy()
    pool, draws = make_pool(logits=logits), 1500
    expected = {
        (a, b, c): draws * law(p, [], gamma)[a] * law(p, [a], gamma)[b] * law(p, [a, b], gamma)[c]
        for a, b, c in permutations(range(4), 3)
    }
    count = dict.fromkeys(expected, 0)
    g = rng()
    for _ in range(draws):
        count[tuple(Falcun(gamma=gamma).select(pool, 3, rng=g).tolist())] += 1
    assert all(count[k] == 0 for k, value in expected.items() if value == 0)
    chi_square = sum((count[k] - value) ** 2 / value for k, value in expected.items() if value > 0)
    assert chi_square < 49.7  # the 0.999 quantile with 23 degrees of freedom


def test_with_a_large_gamma_it_is_greedy():
    logits = 2 * torch.randn(60, 5, generator=rng())
    p, expected = torch.softmax(logits.double(), 1).numpy(), []
    for _ in range(10):
        expected.append(int(law(p, expected, 50).argmax()))
    assert Falcun(gamma=3000.0).select(make_pool(logits=logits), 10, rng=rng()).tolist() == expected


def test_first_uncertain_images_and_then_diverse_ones():
    """As the paper says: it slowly goes from the decision boundary to diversity."""
    unsure, sure = torch.tensor([[0.1, 0.0, -9.0]]), 6 * torch.eye(3)
    logits = torch.cat([unsure.repeat(30, 1), sure.repeat_interleave(10, dim=0)])
    picks = Falcun().select(make_pool(logits=logits), 5, rng=rng())
    assert int(picks[0]) < 30
    kinds = {0 if pick < 30 else 1 + (pick - 30) // 10 for pick in picks.tolist()}
    assert len(kinds) >= 2


def test_confident_predictions_are_still_told_apart():
    logits = torch.tensor([[0.0, 60.0], [0.0, 80.0], [0.0, 80.0], [0.0, 80.0]])  # margins of 1.0 in float64
    firsts = {int(Falcun().select(make_pool(logits=logits), 1, rng=rng(seed))) for seed in range(20)}
    assert firsts == {0}


@pytest.mark.parametrize("logits", [torch.zeros(12, 3), torch.eye(3).repeat(4, 1) * 1e4])
def test_pools_without_structure(logits):
    pool = make_pool(logits=logits, labeled=[3])
    assert valid(Falcun().select(pool, 11, rng=rng()), pool, 11)
    firsts = {int(Falcun().select(pool, 1, rng=rng(seed))) for seed in range(60)}
    assert len(firsts) > 8


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"gamma = -1.0 is not >= 0"):
        Falcun(gamma=-1.0)

"""FreeSel against the law of its draws, by loops over the released one."""

from itertools import permutations

import numpy as np
import pytest
import torch
from pools import blobs, make_pool, rng, valid
from scipy.stats import chisquare
from torch.nn.functional import normalize

from baselines.selectors.free_sel import FreeSel, SquaredCosineDistance


def law(features, labeled, budget):
    """The probability of every sequence of draws: weight d^2, d the least cosine distance from what was drawn."""
    directions = [row / np.linalg.norm(row) for row in features.double().numpy()]
    left = [i for i in range(len(directions)) if i not in labeled]
    probabilities = {}
    for sequence in permutations(left, budget):
        probability, drawn = 1.0, list(labeled)
        for pick in sequence:
            weights = {i: min((1 - directions[i] @ directions[j] for j in drawn), default=1.0) ** 2 for i in left}
            probability *= weights[pick] / sum(weights[i] for i in left if i not in drawn)
            drawn.append(pick)
        probabilities[sequence] = probability
    return probabilities


@pytest.mark.parametrize("labeled", [[], [4]])
def test_draws_follow_the_released_law(labeled, monkeypatch):
    monkeypatch.setattr("baselines.selectors.kmeans_plus_plus.BATCH", 4)
    features = torch.tensor([[1.0, 0.0], [3.0, 1.5], [0.0, 0.5], [-1.0, -1.0], [1.0, -1.0]])
    pool, draws, g = make_pool(features=features, labeled=labeled), 1500, rng()
    expected = {sequence: draws * p for sequence, p in law(features, labeled, 2).items()}
    count = dict.fromkeys(expected, 0)
    for _ in range(draws):
        count[tuple(FreeSel().select(pool, 2, rng=g).tolist())] += 1
    often = [sequence for sequence, n in expected.items() if n > 5]
    assert len(often) >= 9
    seen = [count[sequence] for sequence in often]
    means = [expected[sequence] for sequence in often]
    assert chisquare([*seen, draws - sum(seen)], [*means, draws - sum(means)]).pvalue > 0.001


def test_weights_are_squared_cosine_distances():
    features = 10 * torch.randn(20, 4, generator=rng()) + 3
    rows, others = torch.arange(0, 20, 2), torch.arange(1, 20, 2)
    unit = normalize(features.double())
    expected = (1 - unit[rows] @ unit[others].T) ** 2
    torch.testing.assert_close(
        SquaredCosineDistance(features).block(rows, others).double(), expected, atol=1e-6, rtol=0
    )


def test_picks_lie_in_all_directions_before_any_is_visited_twice():
    """Four tight bundles of directions of unequal sizes, of all lengths: four picks, one of each."""
    sizes = [70, 20, 5, 5]
    angle = torch.cat([k * 1.57 + 0.001 * torch.randn(n, generator=rng(k)) for k, n in enumerate(sizes)])
    length = torch.rand(100, generator=rng()) * 50 + 0.1
    features = length[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    bundle = torch.arange(4).repeat_interleave(torch.tensor(sizes))
    for seed in range(10):
        picks = FreeSel().select(make_pool(features=features), 4, rng=rng(seed))
        assert sorted(bundle[picks].tolist()) == [0, 1, 2, 3]
    picks = FreeSel().select(make_pool(features=features, labeled=[0, 75, 92]), 1, rng=rng())
    assert int(bundle[picks]) == 3


@pytest.mark.parametrize("scale", [0.0, 1e15])
def test_features_without_a_direction_or_of_any_length(scale):
    pool = make_pool(features=blobs(40, 4)[0] * scale, labeled=[0, 1])
    assert valid(FreeSel().select(pool, 38, rng=rng()), pool, 38)

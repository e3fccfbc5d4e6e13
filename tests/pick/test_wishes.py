"""Wishes: the objective against brute force, its greedy maximum against a plain loop, and none of them by default."""

from __future__ import annotations

from itertools import combinations, permutations
from math import e, sqrt

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from harness.config.trial import ClassifierConfig
from harness.pick import batch, choice
from harness.pick.choice import Way
from harness.pick.wishes import Shortlist, Wishes
from harness.plugins.registry import PluginSpec
from harness.trial.selection import Bought

BUDGET, SIZE = 3, 9


def value(shortlist: Shortlist, batch: tuple[int, ...]) -> float:
    """F by its definition, in plain loops."""
    points, size = shortlist.points.double().numpy(), len(shortlist.points)
    wishes, counts = shortlist.wishes, shortlist.counts.tolist()
    total = sum(1 - row / size for row in batch) / shortlist.budget
    covered = 0.0
    for c in range(size):
        near = [1.0 if c == row else max(0.0, float(points[c] @ points[row])) for row in batch]
        covered += max([float(shortlist.covered[c]), *near])
    total += wishes.diversity * covered / size
    if shortlist.predicted is not None:
        most = sqrt(len(counts) * (sum(counts) + shortlist.budget))
        for row in batch:
            counts[int(shortlist.predicted[row])] += 1
        total += wishes.balance * sum(map(sqrt, counts)) / most
    return total


def example(seed: int, wishes: Wishes, size: int = SIZE, budget: int = BUDGET) -> Shortlist:
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(size + 4, 3, generator=rng)
    bought = Bought(torch.arange(size, size + 2), torch.randint(3, (2,), generator=rng), 3)
    predicted = torch.randint(3, (size,), generator=rng) if wishes.balance else None
    return Shortlist.of(features, torch.arange(size), bought, predicted, budget, wishes)


WEIGHTS = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 2.0), (20.0, 0.1)]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_greedy_takes_what_adds_most_and_is_near_the_best_batch(weights):
    for seed in range(8):
        shortlist = example(seed, Wishes(*weights))
        greedy = shortlist.greedy()
        for step in range(BUDGET):
            before = tuple(greedy[:step])
            values = {row: value(shortlist, (*before, row)) for row in range(SIZE) if row not in before}
            assert values[greedy[step]] == pytest.approx(max(values.values()), abs=1e-6)
        best = max(value(shortlist, rows) for rows in combinations(range(SIZE), BUDGET))
        empty = value(shortlist, ())
        assert value(shortlist, tuple(greedy)) - empty >= (1 - 1 / e) * (best - empty) - 1e-6


def test_the_objective_is_monotone_and_submodular():
    for seed in range(4):
        shortlist = example(seed, Wishes(0.7, 1.3), size=5)
        for a, b, c in permutations(range(5), 3):
            alone = value(shortlist, (a, c)) - value(shortlist, (a,))
            later = value(shortlist, (a, b, c)) - value(shortlist, (a, b))
            assert alone >= later - 1e-9
            assert later >= -1e-9


def test_a_larger_shortlist_against_a_plain_loop():
    shortlist = example(0, Wishes(1.0, 1.0), size=40, budget=12)
    chosen: list[int] = []
    for _ in range(12):
        values = {row: value(shortlist, (*chosen, row)) for row in range(40) if row not in chosen}
        chosen.append(max(values, key=values.__getitem__))
    assert shortlist.greedy() == chosen


# --- on a selector's picks ---


@pytest.fixture
def pool():
    """Features of 120 images, each of the last 20 a near copy of one before, and 12 labels."""
    rng = np.random.default_rng(1)
    centers = rng.normal(0, 2, (3, 8))
    features = np.concatenate([centers[i % 3] + rng.normal(0, 1, (1, 8)) for i in range(100)])
    features = np.concatenate([features, features[:20] * 1.5 + rng.normal(0, 1e-4, (20, 8))])
    positions = torch.arange(0, 48, 4)
    return torch.from_numpy(features.astype(np.float32)), Bought(positions, positions % 3, 3)


def ask(pool, wishes: Wishes, selector: str = "margin", budget: int = 15):
    features, bought = pool
    way = Way(PluginSpec("selectors", selector), ClassifierConfig(), 0)
    return batch.next_batch(way, features, bought, ("cat", "dog", "owl"), wishes, budget=budget, number=1)


@pytest.mark.parametrize("selector", ["margin", "typiclust", "random"])
def test_without_wishes_the_picks_are_the_selectors_own(pool, selector):
    features, bought = pool
    way = Way(PluginSpec("selectors", selector), ClassifierConfig(), 0)
    own, _ = choice.ask(way, features, bought, budget=15, number=1)
    assert [pick.position for pick in ask(pool, Wishes(), selector)] == own.picks.tolist()


def test_duplicates_are_left_out_and_nothing_else_changes(pool):
    features, bought = pool
    points = normalize(features, dim=1)
    everything = [pick.position for pick in ask(pool, Wishes(), budget=108)]
    expected: list[int] = []
    for position in everything:
        others = points[torch.tensor([*bought.positions.tolist(), *expected])]
        if float((others @ points[position]).max()) < 0.9999:
            expected.append(position)
    assert len(expected) <= 108 - 20
    assert [pick.position for pick in ask(pool, Wishes(duplicates=0.9999))] == expected[:15]
    assert [pick.position for pick in ask(pool, Wishes(duplicates=0.9999), budget=108)] == expected


def test_balance_evens_predicted_classes_and_diversity_spreads(pool):
    features, bought = pool
    way = Way(PluginSpec("selectors", "margin"), ClassifierConfig(), 0)
    _, outputs = choice.ask(way, features, bought, budget=1, number=1)
    predicted = outputs.predict(features).argmax(1)

    def spread(wishes: Wishes) -> tuple[int, float]:
        rows = torch.tensor([pick.position for pick in ask(pool, wishes)])
        points = normalize(features[rows], dim=1)
        nearest = (points @ points.T).fill_diagonal_(-1).amax(1)
        return int(torch.bincount(predicted[rows], minlength=3).min()), float(nearest.mean())

    (least, near), (even, _), (_, apart) = spread(Wishes()), spread(Wishes(balance=20)), spread(Wishes(diversity=20))
    assert even > least
    assert apart < near

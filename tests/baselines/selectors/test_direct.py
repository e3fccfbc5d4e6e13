"""DIRECT against loops over the released code, and its purpose: labels of rare classes."""

import pytest
import torch
from pools import make_pool, rng, valid

from baselines.selectors.direct import DIRECT, best_threshold, likeness_order, open_stretch, outwards, votes
from baselines.selectors.log_odds import gaps, log_odds_against_top
from baselines.selectors.random import Random


def test_order_is_by_the_margin_of_a_class():
    logits = 3 * torch.randn(50, 4, generator=rng())
    p = logits.double().softmax(1)
    doubt = log_odds_against_top(gaps(logits))
    for k in range(4):
        margin = p[:, k] - p.amax(1) + 1e-8 * p.amax(1)  # the released score
        gap = logits.double()[:, k] - logits.double().amax(1)
        assert torch.equal(likeness_order(gap, doubt), margin.argsort(descending=True))


def test_order_of_very_confident_predictions():
    logits = torch.tensor([[0.0, 900.0], [300.0, 0.0], [0.0, 0.0], [900.0, 0.0], [0.0, 300.0]])
    doubt = log_odds_against_top(gaps(logits))
    assert likeness_order(logits[:, 0] - logits.amax(1), doubt).tolist() == [3, 1, 2, 4, 0]


def stretch_by_loops(vote):
    """From the released code: walk in from both ends as long as the labels agree."""
    start = 0
    for place, label in enumerate(vote):
        if label == -1:
            break
        if label == 1:
            start = place
    end = 0
    for place, label in enumerate(reversed(vote)):
        if label == 1:
            break
        if label == -1:
            end = place
    return start, len(vote) - end - 1


def threshold_by_loops(vote):
    right = [sum(v == 1 for v in vote[:s]) + sum(v == -1 for v in vote[s:]) for s in range(len(vote) + 1)]
    return right.index(max(right))


def outwards_by_loops(threshold, size):
    left, right, places = threshold - 1, threshold, []
    while len(places) < size:
        if left >= 0:
            places.append(left)
        if right < size:
            places.append(right)
        left, right = left - 1, right + 1
    return places


def test_stretch_threshold_and_neighbours_are_those_of_loops():
    for seed in range(60):
        g = rng(seed)
        vote = torch.randint(-1, 2, (12,), generator=g) * (torch.rand(12, generator=g) < seed / 60)
        assert open_stretch(vote) == stretch_by_loops(vote.tolist())
        assert best_threshold(vote) == threshold_by_loops(vote.tolist())
        assert outwards(seed % 13, 12).tolist() == outwards_by_loops(seed % 13, 12)


def test_votes():
    assert votes(torch.tensor([2, -1, 0, 1]), 0).tolist() == [-1, 0, 1, -1]


def line(num, rare, seed=0):
    """Images on a line, the first `rare` of class 1, and a classifier that ranks them rightly and calls all class 0."""
    score = torch.linspace(6, -6, num) + 0.01 * torch.randn(num, generator=rng(seed))
    logits = torch.stack([torch.zeros(num), score - 7], dim=1)
    return logits, (torch.arange(num) < rare).long()


def test_picks_lie_where_the_labels_leave_the_threshold_open():
    logits, labels = line(400, 20)
    known = [3, 9, 60, 200, 300]  # the threshold lies between places 9 and 60
    pool = make_pool(logits=logits, labels=labels, labeled=known)
    picks = DIRECT().select(pool, 16, rng=rng())
    assert valid(picks, pool, 16)
    assert set(labels[picks[:8]].tolist()) == {0, 1}  # drawn from the whole stretch
    assert set(picks[:8].tolist()) <= set(range(10, 60))
    # Of each class the labels agree best from its last label on: behind place 9, and from the other side before 60.
    assert sum(4 <= place <= 15 for place in picks[8:].tolist()) == 4
    assert sum(53 <= place <= 65 for place in picks[8:].tolist()) == 4


def test_more_labels_of_a_rare_class_are_bought_than_at_random():
    logits, labels = line(1000, 20)
    bought = dict.fromkeys((DIRECT, Random), 0)
    for seed in range(5):
        pool = make_pool(logits=logits, labels=labels, labeled=[0, 100, 500, 900])
        for selector in bought:
            bought[selector] += int(labels[selector().select(pool, 20, rng=rng(seed))].sum())
    assert bought[DIRECT] > 5 * max(1, bought[Random])


@pytest.mark.parametrize("budget", [1, 5, 56])
def test_classes_without_labels_and_any_budget(budget):
    logits = torch.randn(60, 7, generator=rng())
    pool = make_pool(logits=logits, labels=torch.full((60,), 3), labeled=[1, 5, 8, 9], num_classes=7)
    assert valid(DIRECT().select(pool, budget, rng=rng()), pool, budget)

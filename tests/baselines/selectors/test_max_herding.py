"""Greedy coverage by a kernel, and MaxHerding."""

import numpy as np
import pytest
import torch
from pools import blobs, make_pool, picks_of, rng, valid

from baselines.selectors.coverage import Kernel, greedy_coverage
from baselines.selectors.max_herding import MaxHerding
from baselines.selectors.probcover import ProbCover
from baselines.selectors.uncertainty_herding import UncertaintyHerding
from harness.trial.memory import PeakMemory, can_watch_memory


def unit(n, dim, seed=0):
    return torch.nn.functional.normalize(torch.randn(n, dim, generator=rng(seed), dtype=torch.float64))


def plain_loop(points, weights, labeled, candidates, radius, budget):
    """Every gain anew after every pick, in float64, from differences; the picks and how clear each was."""
    kernel = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1) / radius**2)
    centers, picks, clear = list(labeled), [], []
    for _ in range(budget):
        covered = kernel[centers].max(axis=0) if centers else np.zeros(len(points))
        gain = {c: float((weights * np.maximum(kernel[c] - covered, 0)).sum()) for c in candidates if c not in centers}
        best, second = [*sorted(gain, key=gain.get, reverse=True)[:2], None][:2]
        clear.append(second is None or gain[best] > gain[second] * (1 + 1e-4) + 1e-6)
        picks.append(best)
        centers.append(best)
    return picks, all(clear)


@pytest.mark.parametrize("radius", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("window", [1, 3, 64])
@pytest.mark.parametrize("few", [0, 40])
def test_picks_are_those_of_the_plain_loop(radius, window, few, monkeypatch):
    monkeypatch.setattr("baselines.selectors.coverage.FEW", few)
    monkeypatch.setattr("baselines.selectors.coverage.WINDOW", window)
    monkeypatch.setattr("baselines.selectors.coverage.BLOCK_ELEMENTS", 200)
    compared = 0
    for seed in range(8):
        points, weights = unit(40, 4, seed), torch.rand(40, generator=rng(seed))
        labeled = torch.randperm(40, generator=rng(seed))[: seed % 4]
        candidates = torch.tensor([i for i in range(40) if i not in labeled])[torch.randperm(40 - len(labeled))]
        expected, clear = plain_loop(points.numpy(), weights.numpy(), labeled.tolist(), candidates.tolist(), radius, 12)
        kernel = Kernel(points.float(), torch.arange(40), radius)
        picks = greedy_coverage(kernel, weights, labeled, candidates, 12)
        if clear:
            compared += 1
            assert picks.tolist() == expected
    assert compared >= 4


@pytest.mark.skipif(not can_watch_memory(), reason="Linux tells what a process holds")
def test_memory_does_not_grow_with_the_candidates(monkeypatch):
    """Small results kept between blocks split what these freed: of a million candidates that were 19 GB."""
    block, parts = 1 << 20, 100
    monkeypatch.setattr("baselines.selectors.coverage.FEW", 0)
    monkeypatch.setattr("baselines.selectors.coverage.BLOCK_ELEMENTS", block)
    points = torch.randn(block // 5000 * parts, 4, generator=rng())
    kernel, order = Kernel(points, torch.arange(5000), 1.0), torch.randperm(len(points), generator=rng())
    none, weights, device = order[:0], torch.ones(5000), torch.device("cpu")
    greedy_coverage(kernel, weights, none, order[: len(order) // parts], 1)
    memory = PeakMemory()
    before = memory.peak(device)
    greedy_coverage(kernel, weights, none, order, 1)
    assert memory.peak(device) - before < 10 * 4 * block, "of a hundred blocks"


def test_picks_are_those_of_scikit_activeml():
    pool_of = pytest.importorskip("skactiveml.pool")
    features, labeled = blobs(80, 6)[0], [3, 30, 55]
    y = np.full(80, np.nan)
    y[labeled] = 0
    peer = pool_of.MaxHerding(metric_dict={"gamma": 1.0}, missing_label=np.nan, random_state=0)
    expected = peer.query(features.numpy().astype(np.float64), y, batch_size=15)
    picks = picks_of(MaxHerding(), make_pool(features=features, labeled=labeled), 15)
    assert picks.tolist() == expected.tolist()


def test_it_covers_the_largest_group_first_where_balls_are_empty():
    """The paper's case against ProbCover: within its radius nobody has a neighbour, and all are alike to it."""
    sizes = (30, 20, 10)
    middle = torch.eye(3).repeat_interleave(torch.tensor(sizes), dim=0)
    features = torch.cat([middle + 0.15 * torch.randn(60, 3, generator=rng()), torch.eye(3)])  # the middles are last
    pool = make_pool(features=features, num_classes=3)
    picks = picks_of(MaxHerding(), pool, 3)
    group = torch.cat([torch.arange(3).repeat_interleave(torch.tensor(sizes)), torch.arange(3)])
    assert group[picks].tolist() == [0, 1, 2]
    firsts = {int(group[picks_of(ProbCover(delta=1e-4), pool, 1, seed)]) for seed in range(12)}
    assert len(firsts) > 1


def test_labelled_images_cover_their_surroundings():
    features = torch.eye(4).repeat_interleave(10, dim=0) + 0.05 * torch.randn(40, 4, generator=rng())
    picks = picks_of(MaxHerding(), make_pool(features=features, labeled=[0, 10]), 2)
    assert sorted((picks // 10).tolist()) == [2, 3]


def test_of_a_large_pool_a_sample_is_covered_and_all_are_candidates():
    features = blobs(400, 8, num_clusters=6)[0]
    pool = make_pool(features=features)
    points = torch.nn.functional.normalize(features).double()

    def coverage(picks):
        return float((-(torch.cdist(points, points[picks]) ** 2)).exp().amax(1).mean())

    exact = coverage(picks_of(MaxHerding(num_targets=None), pool, 12))
    sampled = [picks_of(MaxHerding(num_targets=100), pool, 12, seed) for seed in range(4)]
    assert np.mean([coverage(picks) for picks in sampled]) > 0.98 * exact
    assert len(torch.cat(sampled).unique()) > 12


@pytest.mark.parametrize("budget", [25, 40])
@pytest.mark.parametrize("build", [MaxHerding, UncertaintyHerding])
def test_of_many_exact_copies_one_is_picked_of_each_before_a_second(build, budget):
    features = unit(30, 8).float().repeat_interleave(20, dim=0)
    pool = make_pool(features=features)
    picks = picks_of(build(radius=1.0), pool, budget)
    assert valid(picks, pool, budget)
    assert len((picks // 20)[:30].unique()) == min(budget, 30)


@pytest.mark.parametrize("build", [MaxHerding, UncertaintyHerding])
def test_where_the_kernel_underflows_all_are_equals(build):
    """Within such a radius nobody covers anybody else: every gain is 1 until the end, and each pick a random one."""
    pool = make_pool(features=unit(400, 32).float())
    every = [picks_of(build(radius=0.02), pool, 30, seed) for seed in range(4)]
    assert all(valid(picks, pool, 30) for picks in every)
    assert len(torch.cat(every).unique()) > 90


def test_lengths_play_no_part_and_equals_have_no_preferred_position():
    features = blobs(50, 5)[0]
    lengths = 0.1 + 100 * torch.rand(50, 1, generator=rng())
    picks, scaled = (picks_of(MaxHerding(), make_pool(features=f), 10) for f in (features, features * lengths))
    assert torch.equal(picks, scaled)
    firsts = [int(picks_of(MaxHerding(), make_pool(features=torch.ones(30, 3)), 1, s)) for s in range(40)]
    assert len(set(firsts)) > 15


@pytest.mark.parametrize("features", [torch.zeros(12, 3), 1e20 * torch.ones(12, 3), torch.randn(12, 1)])
def test_pools_without_structure(features):
    pool = make_pool(features=features, labeled=[0])
    assert valid(picks_of(MaxHerding(), pool, 11), pool, 11)


def test_bad_settings_are_refused():
    for settings, message in (({"radius": 0.0}, "radius = 0.0 is not > 0"), ({"num_targets": 0}, "num_targets = 0")):
        with pytest.raises(ValueError, match=message):
            MaxHerding(**settings)
    with pytest.raises(ValueError, match="features of 1 of 3 images are not finite"):
        picks_of(MaxHerding(), make_pool(features=torch.tensor([[1.0], [torch.nan], [2.0]])), 1)

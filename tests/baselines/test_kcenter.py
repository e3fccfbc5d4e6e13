"""k-centre greedy against the plain loop, and where distances tie or vanish."""

import pytest
import torch
from pools import blobs, make_pool, rng, valid

from baselines.selectors.coreset import CoreSet
from baselines.selectors.kcenter import SquaredEuclidean, k_center_greedy


def plain_loop(points, centers, candidates, budget):
    """k-centre greedy as in the paper, in float64, one distance to every point per pick."""
    points = points.double()
    nearest = torch.cdist(points[candidates], points[centers], compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    picks = []
    for _ in range(budget):
        best = int(nearest.argmax())
        picks.append(int(candidates[best]))
        nearest = torch.minimum(nearest, (points[candidates] - points[picks[-1]]).norm(dim=1))
        nearest[best] = -1.0
    return torch.tensor(picks)


def split(n, num_labeled, seed=0):
    order = torch.randperm(n, generator=rng(seed))
    return order[:num_labeled].sort().values, order[num_labeled:].sort().values


@pytest.mark.parametrize("window", [1, 7, 64, 5000])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_same_picks_as_the_plain_loop(window, offset):
    points = blobs(1500, 16)[0] + offset
    labeled, unlabeled = split(1500, 40)
    picks = k_center_greedy(SquaredEuclidean(points), labeled, unlabeled, 300, rng=rng(), window=window)
    assert torch.equal(picks, plain_loop(points, labeled, unlabeled, 300))


def test_rounding_of_products_does_not_hide_short_distances():
    # Two clusters 2,000 apart and 0.1 wide: a product in float32 is wrong by more than the distances inside them.
    points = (
        0.1 * torch.rand(300, 8, generator=rng()) + torch.where(torch.arange(300) % 2 == 0, 1000.0, -1000.0)[:, None]
    )
    labeled, unlabeled = torch.tensor([0]), torch.arange(1, 300)
    picks = k_center_greedy(SquaredEuclidean(points), labeled, unlabeled, 200, rng=rng())
    centered = SquaredEuclidean(points).left
    assert torch.equal(picks, plain_loop(centered, labeled, unlabeled, 200))


@pytest.mark.parametrize("window", [1, 5, 16, 1024])
def test_ties_go_to_the_first_candidate(window):
    points = torch.randint(4, (400, 3), generator=rng()).float()  # 64 sites: duplicates and equal distances abound
    labeled, unlabeled = split(400, 5)
    picks = k_center_greedy(SquaredEuclidean(points), labeled, unlabeled, 395, rng=rng(), window=window)
    assert torch.equal(picks, plain_loop(points, labeled, unlabeled, 395))


def test_blocks_of_centers_do_not_change_the_picks(monkeypatch):
    points = blobs(600, 8)[0]
    labeled, unlabeled = split(600, 50)
    whole = k_center_greedy(SquaredEuclidean(points), labeled, unlabeled, 100, rng=rng(), window=32)
    monkeypatch.setattr("baselines.selectors.kcenter.BLOCK_ELEMENTS", 64)
    assert torch.equal(whole, k_center_greedy(SquaredEuclidean(points), labeled, unlabeled, 100, rng=rng(), window=32))


def test_hand_made_line():
    pool = make_pool(features=torch.tensor([[0.0], [1.0], [4.0], [9.0], [10.0]]), labeled=[0])
    # 10 is farthest from 0; then 4 (distance 4); then 1 and 9 tie at distance 1.
    picks = {tuple(CoreSet().select(pool, 4, rng=rng(seed)).tolist()) for seed in range(10)}
    assert picks == {(4, 2, 1, 3), (4, 2, 3, 1)}


def test_cold_start_draws_the_first_center_and_goes_on_from_it():
    features = blobs(200, 4)[0]
    pool = make_pool(features=features)
    firsts = set()
    for seed in range(8):
        picks = CoreSet().select(pool, 20, rng=rng(seed))
        rest = pool.unlabeled[pool.unlabeled != picks[0]]
        assert torch.equal(picks[1:], plain_loop(features, picks[:1], rest, 19))
        firsts.add(int(picks[0]))
    assert len(firsts) > 1


@pytest.mark.parametrize("value", [0.0, 1e4, -3.3e7])
def test_a_collapsed_encoder_still_gives_distinct_picks(value):
    pool = make_pool(features=torch.full((50, 8), value), labeled=range(10, 20))
    for budget in (1, 7, 40):
        assert valid(CoreSet().select(pool, budget, rng=rng()), pool, budget)


def test_a_duplicate_of_a_center_comes_after_everything_else():
    features = 1000 + torch.randn(60, 32, generator=rng())  # far from the origin: where product forms cancel
    features[30:] = features[:30]
    pool = make_pool(features=features, labeled=range(10))
    picks = CoreSet().select(pool, 50, rng=rng())
    assert set(picks[:20].tolist()) <= set(range(10, 30)) | set(range(40, 60))
    assert len({int(p) % 30 for p in picks[:20]}) == 20


def test_no_block_of_distances_is_larger_than_stated(monkeypatch):
    sizes = []
    block = SquaredEuclidean.block
    monkeypatch.setattr("baselines.selectors.kcenter.BLOCK_ELEMENTS", 10_000)
    monkeypatch.setattr(
        SquaredEuclidean, "block", lambda *args: sizes.append((result := block(*args)).numel()) or result
    )
    labeled, unlabeled = split(2000, 300)
    k_center_greedy(SquaredEuclidean(blobs(2000, 8)[0]), labeled, unlabeled, 200, rng=rng(), window=64)
    assert 9_000 < max(sizes) <= 10_000

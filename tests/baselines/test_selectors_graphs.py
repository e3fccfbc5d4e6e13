"""Selectors that see the pool as a graph: coverage by balls, and graph networks on cosine similarities."""

import numpy as np
import pytest
import torch
from pools import blobs, make_pool, picks_of, rng, valid
from torch.nn.functional import normalize

from baselines.selectors.balls import Balls, cells
from baselines.selectors.core_gcn import CoreGCN
from baselines.selectors.gcn import GCN, CosineGraph, train_gcn
from baselines.selectors.lloyd import kmeans
from baselines.selectors.probcover import ProbCover, greedy_cover, pure_radius
from baselines.selectors.uncertain_gcn import UncertainGCN

# --- probcover ---


def plain_cover(near, centers, budget):
    """Greedy coverage as the paper's Algorithm 1 has it: remove covered nodes' incoming edges, take the top degree."""
    near = near.clone()
    for center in centers:
        near[:, near[center].clone()] = False
    picks = []
    while len(picks) < budget and near.any():
        picks.append(int(near.sum(1).argmax()))
        near[:, near[picks[-1]].clone()] = False
    return picks


@pytest.mark.parametrize("rows", [7, 255])
@pytest.mark.parametrize("num_centers", [0, 6])
def test_cover_is_that_of_the_plain_algorithm(rows, num_centers, monkeypatch):
    monkeypatch.setattr("baselines.selectors.balls.BLOCK_ROWS", rows)
    points = normalize(blobs(203, 6, spread=0.4)[0])
    near = torch.cdist(points.double(), points.double()) <= 0.4
    balls = Balls(points, 0.4, rng=rng())
    assert [balls.ball(point).tolist() for point in range(203)] == [row.nonzero().flatten().tolist() for row in near]
    centers = list(range(200, 200 - num_centers, -1))
    picks, num_useful = greedy_cover(balls, centers, 30)
    assert picks == plain_cover(near, centers, 30)
    assert len(picks) > 10
    for center in centers:
        near[:, near[center].clone()] = False
    new = []
    for pick in picks:
        new.append(int(near[pick].sum()))
        near[:, near[pick].clone()] = False
    assert num_useful == sum(count > 1 for count in new)


def test_cells_find_the_balls_of_groups_and_keep_their_counts(monkeypatch):
    for constant, value in (("ALL_PAIRS", 100), ("CELL_SIZE", 20), ("NUM_CELLS", 4), ("BLOCK_ROWS", 7)):
        monkeypatch.setattr(f"baselines.selectors.balls.{constant}", value)
    points = normalize(blobs(600, 8, num_clusters=12, spread=0.8)[0])
    balls = Balls(points, 0.5, rng=rng())
    near = torch.cdist(points.double(), points.double()) <= 0.5
    seen = torch.zeros_like(near)
    for point in range(600):
        seen[point, torch.from_numpy(balls.ball(point))] = True
    assert torch.equal(seen, seen.T)  # what one point covers, the other one loses
    assert not (seen & ~near).any()
    assert 0.97 < float(seen.sum() / near.sum()) < 1  # cells leave little out, and something
    picks, _ = greedy_cover(balls, [0, 1], 20)
    covered = seen[[0, 1, *picks]].any(dim=0)
    assert torch.equal(torch.from_numpy(balls.uncovered), ~covered)
    others = [point for point in range(600) if point not in (0, 1, *picks)]
    assert np.ceil(balls.gain[others]).tolist() == (seen & ~covered).sum(dim=1)[others].tolist()
    exact = near[[0, 1, *plain_cover(near, [0, 1], 20)]].any(dim=0)
    assert float(near[[0, 1, *picks]].any(dim=0).sum()) >= 0.99 * float(exact.sum())


@pytest.mark.parametrize("shape", ["around a middle", "half of them copies"])
def test_cells_look_at_no_more_pairs_than_they_may(monkeypatch, shape):
    """Many cells around one, which is near to all, and copies of one image, which no k-means takes apart."""
    for constant, value in (("ALL_PAIRS", 100), ("CELL_SIZE", 20), ("NUM_CELLS", 4)):
        monkeypatch.setattr(f"baselines.selectors.balls.{constant}", value)
    points = torch.eye(60).repeat(20, 1) + 0.02 * torch.randn(1200, 60, generator=rng())
    points[:: 10 if shape == "around a middle" else 2] = 1 / 60
    cell, members, near = cells(points, 0.5, rng=rng())
    assert torch.equal(torch.from_numpy(np.concatenate(members)).sort().values, torch.arange(1200))
    assert all((cell[own] == number).all() for number, own in enumerate(members))
    assert max(len(own) for own in members) <= 40
    sizes = np.array([len(own) for own in members])
    assert sum(sizes[number] * sizes[others].sum() for number, others in enumerate(near)) <= 1200 * 20 * 4
    assert all(
        number in others and all(number in near[other] for other in others) for number, others in enumerate(near)
    )


def test_probcover_covers_the_largest_uncovered_groups_first():
    sizes = [12, 9, 6, 3]
    middle = normalize(torch.eye(4)).repeat_interleave(torch.tensor(sizes), dim=0)
    features = middle + 0.001 * torch.randn(30, 4, generator=rng())
    group = torch.arange(4).repeat_interleave(torch.tensor(sizes))
    pool = make_pool(features=5 * features, labels=group, labeled=[0])  # the largest group is covered
    picks = picks_of(ProbCover(delta=0.5), pool, 10)
    assert group[picks[:3]].tolist() == [1, 2, 3]
    assert valid(picks, pool, 10)


def test_pure_radius_is_the_gap_between_clusters():
    angle = torch.cat([torch.linspace(0.0, 0.3, 50), torch.linspace(1.3, 1.6, 50)])
    points = torch.stack([angle.cos(), angle.sin()], dim=1)
    # The chord to the other cluster is shortest across the gap of 1.0 and the longest of the shortest spans 1.3.
    assert pure_radius(points, 2, 1.0, rng=rng()) == pytest.approx(2 * np.sin(0.5), abs=1e-5)
    assert pure_radius(points, 2, 1e-9, rng=rng()) == pytest.approx(2 * np.sin(0.65), abs=1e-5)


def test_radius_of_a_sample_is_sought_among_all_points(monkeypatch):
    points = normalize(blobs(1500, 6, num_clusters=4, spread=0.8)[0])
    everything = [pure_radius(points, 4, 0.8, rng=rng(seed)) for seed in range(3)]
    monkeypatch.setattr("baselines.selectors.probcover.SAMPLE", 300)
    sampled = [pure_radius(points, 4, 0.8, rng=rng(seed)) for seed in range(3)]
    assert np.mean(sampled) == pytest.approx(np.mean(everything), rel=0.04)  # within the sample alone, 1.2 times that


def test_radius_is_the_largest_of_pure_balls():
    points = normalize(blobs(300, 6, num_clusters=3, spread=0.8)[0])
    cluster, _ = kmeans(points, 3, rng=rng(), n_init=10)
    distance = torch.cdist(points.double(), points.double())
    radius = pure_radius(points, 3, 0.9, rng=rng())
    pure = [
        sum(bool((cluster[distance[i] < r] == cluster[i]).all()) for i in range(300)) / 300
        for r in (radius - 1e-3, radius + 1e-3)
    ]
    assert pure[1] < 0.9 <= pure[0] + 1 / 300


def test_picks_that_cover_nothing_but_themselves_are_said(caplog):
    features = torch.eye(12).repeat_interleave(torch.tensor([5, 4] + [1] * 10), dim=0)
    pool = make_pool(features=features)
    picks_of(ProbCover(delta=0.5), pool, 2)
    assert not caplog.messages
    picks_of(ProbCover(delta=0.5), pool, 6)
    (message,) = caplog.messages
    assert message.startswith("probcover: 4 of 6 picks cover no image but themselves")


@pytest.mark.parametrize("wrong", [{"delta": 0.0}, {"purity": 0.0}, {"purity": 1.5}])
def test_probcover_refuses_impossible_hyperparameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ProbCover(**wrong)


# --- graph networks ---


def dense_graph(features):
    """The graph as the released code builds it."""
    x = normalize(features.double())
    adjacency = x @ x.T - torch.eye(len(x))
    return adjacency @ torch.diag(1 / adjacency.sum(0)) + torch.eye(len(x))


def test_graph_product_equals_that_of_the_dense_matrix():
    features = torch.rand(50, 8, generator=rng())
    v = torch.randn(50, 3, generator=rng(1))
    np.testing.assert_allclose(CosineGraph(features) @ v, dense_graph(features) @ v.double(), atol=1e-5)


def test_network_equals_two_dense_graph_convolutions():
    features = torch.rand(40, 6, generator=rng())
    dense, graph = dense_graph(features).float(), CosineGraph(features)
    model = GCN(6, 5, 0.3).eval()
    x = normalize(features)
    hidden = torch.relu(dense @ (x @ model.first.weight.T) + model.first.bias)
    logit = dense @ (hidden @ model.second.weight.T) + model.second.bias
    with torch.no_grad():
        np.testing.assert_allclose(model(graph, graph @ graph.x), logit[:, 0].detach(), atol=1e-4)
        np.testing.assert_allclose(model.hidden(graph @ graph.x), hidden.detach(), atol=1e-5)


def test_network_learns_where_the_labelled_images_are():
    features = torch.cat([torch.rand(40, 4, generator=rng()), 0.1 * torch.rand(40, 4, generator=rng(1))])
    features[:40, :2] *= 0.1
    features[40:, :2] += 1
    logit, hidden = train_gcn(features, torch.arange(0, 20), rng=rng(), lr=1e-2)
    score = logit.sigmoid()
    assert score[20:40].mean() > score[40:].mean() + 0.1
    assert hidden.shape == (80, 128)


def test_a_network_of_some_nodes_says_of_all_what_one_of_all_nodes_says(monkeypatch):
    features, cluster = blobs(900, 6, num_clusters=6, spread=0.4)
    features = features.abs()
    labeled = (cluster < 2).nonzero().squeeze(1)[:40]
    of_all, _ = train_gcn(features, labeled, rng=rng(), lr=1e-2)
    monkeypatch.setattr("baselines.selectors.gcn.LARGEST_GRAPH", 300)
    of_some, hidden = train_gcn(features, labeled, rng=rng(), lr=1e-2)
    assert hidden.shape == (900, 128)
    ranks = torch.stack([of_all.argsort().argsort(), of_some.argsort().argsort()]).double()
    assert float(torch.corrcoef(ranks)[0, 1]) > 0.95


def test_uncertain_gcn_takes_scores_near_the_margin():
    features, _ = blobs(80, 6)
    pool = make_pool(features=features.abs(), labeled=range(12))
    score = train_gcn(pool.features, pool.labeled, rng=rng(4))[0].sigmoid()
    away = (score[pool.unlabeled] - 0.3).abs()
    picks = UncertainGCN(margin=0.3).select(pool, 68, rng=rng(4))
    assert torch.equal((score[picks] - 0.3).abs(), away.sort().values)


def test_core_gcn_is_k_center_greedy_on_hidden_features_and_output():
    features, _ = blobs(80, 6)
    pool = make_pool(features=features.abs(), labeled=range(12))
    logit, hidden = train_gcn(pool.features, pool.labeled, rng=rng(4))
    points = np.concatenate([hidden.double(), logit.double()[:, None]], axis=1)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    nearest, expected = distance[:, :12].min(1), []
    for _ in range(20):
        expected.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, distance[:, expected[-1]])
    assert CoreGCN().select(pool, 20, rng=rng(4)).tolist() == expected


def test_the_network_starts_as_released():
    torch.manual_seed(0)
    model = GCN(400, 100, 0.3)
    for layer, bound in ((model.first, 0.1), (model.second, 1.0)):
        for values in layer.parameters():
            assert values.abs().max() <= bound
        assert layer.weight.abs().max() > 0.9 * bound


@pytest.mark.parametrize("selector", [UncertainGCN, CoreGCN])
@pytest.mark.parametrize(
    "wrong", [{"num_steps": 0}, {"hidden_dim": 0}, {"dropout": 1.0}, {"unlabeled_weight": 0.0}], ids=str
)
def test_graph_networks_refuse_impossible_hyperparameters(selector, wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        selector(**wrong)

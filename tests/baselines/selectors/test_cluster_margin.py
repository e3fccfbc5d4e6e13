"""Cluster-Margin against scikit-learn's clusters and a loop over the round-robin of its paper."""

import numpy as np
import pytest
import torch
from pools import blobs, make_pool, rng, valid
from scipy.spatial.distance import pdist
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from baselines.selectors.cluster_margin import ClusterMargin, average_linkage, condensed_distances, round_robin
from baselines.selectors.margin import Margin


def test_distances_are_those_of_scipy(monkeypatch):
    monkeypatch.setattr("baselines.selectors.cluster_margin.BLOCK_ELEMENTS", 100)
    points = torch.randn(30, 5, generator=rng(), dtype=torch.float64) + 1000
    np.testing.assert_allclose(condensed_distances(points), pdist(points.numpy()), atol=1e-9)


@pytest.mark.parametrize("cluster_size", [1.0, 3.5, 10.0, 300.0])
def test_clusters_are_those_of_scikit_learn(cluster_size):
    points = blobs(80, 4)[0]
    count = max(1, int(80 / cluster_size))
    expected = AgglomerativeClustering(count, linkage="average").fit(points.numpy()).labels_
    assert adjusted_rand_score(expected, average_linkage(points, cluster_size, rng=rng())) == 1


def test_of_a_large_pool_a_draw_is_clustered(monkeypatch):
    monkeypatch.setattr("baselines.selectors.cluster_margin.LARGEST_HIERARCHY", 50)
    points, group = blobs(400, 6, num_clusters=5, spread=0.02)
    assert adjusted_rand_score(group, average_linkage(points, 10.0, rng=rng())) == 1
    pool = make_pool(features=points, logits=torch.randn(400, 3, generator=rng()), labeled=[0, 7])
    assert valid(ClusterMargin().select(pool, 390, rng=rng()), pool, 390)


def by_turns(members, cluster):
    """The round-robin of the paper's Algorithm 2, one member at a time."""
    lists = {}
    for member, of in zip(members, cluster, strict=True):
        lists.setdefault(of, []).append(member)
    queues, result = sorted(lists.values(), key=len), []
    while any(queues):
        result += [queue.pop(0) for queue in queues if queue]
    return result


def test_clusters_take_turns_smallest_first():
    for seed in range(20):
        cluster = torch.randint(7, (40,), generator=rng(seed)) ** 2
        members = torch.randperm(100, generator=rng(seed))[:40]
        assert round_robin(members, cluster).tolist() == by_turns(members.tolist(), cluster.tolist())


def test_a_crowd_of_alike_uncertain_images_does_not_fill_the_batch():
    """The paper's figure 1: of 40 uncertain images 31 are alike; margin takes those, Cluster-Margin one per cluster."""
    spots = torch.tensor([[0.0, 0.0]] * 31 + [[5.0, 0]] * 3 + [[0, 5.0]] * 3 + [[5.0, 5]] * 3 + [[99.0, 99]] * 60)
    features = spots + 0.01 * torch.randn(100, 2, generator=rng())
    logits = torch.zeros(100, 2)
    logits[:, 0] = torch.cat([torch.linspace(0.0, 0.1, 31), torch.linspace(0.2, 0.3, 9), torch.full((60,), 9.0)])
    pool = make_pool(features=features, logits=logits, labeled=[99])
    assert set(Margin().select(pool, 4, rng=rng()).tolist()) <= set(range(31))
    picks = ClusterMargin(cluster_size=20.0).select(pool, 4, rng=rng())
    assert len(spots[picks].unique(dim=0)) == 4
    assert int(picks[-1]) < 31  # the largest cluster comes last


def test_as_many_candidates_as_picks_is_margin_sampling():
    pool = make_pool(features=blobs(90, 4)[0], logits=torch.randn(90, 5, generator=rng()), labeled=[1, 2, 3])
    picks, margin = (selector.select(pool, 20, rng=rng()) for selector in (ClusterMargin(candidates=1.0), Margin()))
    assert set(picks.tolist()) == set(margin.tolist())


@pytest.mark.parametrize("setting", ["candidates", "cluster_size"])
@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_impossible_values_are_refused(setting, value):
    with pytest.raises(ValueError, match=f"{setting} = {value} is not >= 1"):
        ClusterMargin(**{setting: value})

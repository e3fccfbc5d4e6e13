"""k-means++ seeding, k-means, and the selectors made of them."""

from itertools import permutations

import numpy as np
import pytest
import torch
from pools import blobs, make_pool, picks_of, rng, valid
from sklearn.cluster import KMeans as PeerKMeans

from baselines.selectors.badge import Badge, GradientDistance
from baselines.selectors.kcenter import SquaredEuclidean
from baselines.selectors.kmeans import KMeans
from baselines.selectors.kmeans_plus_plus import kmeans_plus_plus
from baselines.selectors.lloyd import kmeans, nearest_centroid
from baselines.selectors.typiclust import TypiClust, most_typical, nearest_others, visits


@pytest.mark.parametrize(("batch", "enough"), [(2, 0.0), (16, 1.0)])  # 0: out of date as long as it can be
def test_seeding_follows_the_law_of_kmeans_plus_plus(batch, enough, monkeypatch):
    monkeypatch.setattr("baselines.selectors.kmeans_plus_plus.BATCH", batch)
    monkeypatch.setattr("baselines.selectors.kmeans_plus_plus.ENOUGH", enough)
    points = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    squared = (points - points.T) ** 2

    def probability(a, b, c):
        second = squared[a, b] / squared[a].sum()
        nearest = torch.minimum(squared[a], squared[b])
        return float(second * nearest[c] / nearest.sum() / 4)

    draws, g = 4000, rng()
    count = dict.fromkeys(permutations(range(4), 3), 0)
    for _ in range(draws):
        count[tuple(kmeans_plus_plus(SquaredEuclidean(points), torch.arange(4), 3, rng=g).tolist())] += 1
    expected = np.array([draws * probability(*triple) for triple in count])
    chi_square = ((np.array(list(count.values())) - expected) ** 2 / expected).sum()
    assert chi_square < 49.7  # the 0.999 quantile with 23 degrees of freedom


def test_seeding_goes_on_at_random_when_all_points_are_centers():
    points = blobs(3, 4)[0].repeat(5, 1)
    picks = kmeans_plus_plus(SquaredEuclidean(points), torch.arange(15), 15, rng=rng())
    assert sorted(picks.tolist()) == list(range(15))
    assert sorted((picks[:3] % 3).tolist()) == [0, 1, 2]


def test_seeding_goes_on_at_random_when_all_distinct_points_are_centers_at_once():
    """Of 200 places nearly all are drawn by one batch, so that the bounds are still taken for worth something."""
    points = blobs(200, 4)[0].repeat(2, 1)
    picks = kmeans_plus_plus(SquaredEuclidean(points), torch.arange(400), 400, rng=rng())
    assert sorted(picks.tolist()) == list(range(400))
    assert sorted((picks[:200] % 200).tolist()) == list(range(200))


def test_seeding_looks_at_few_distances():
    """The plain loop looks at 20,000 x 500 of them."""
    points, looked_at = blobs(20_000, 12, num_clusters=40)[0], []

    class Counted(SquaredEuclidean):
        def block(self, rows, others):
            looked_at.append(len(rows) * len(others))
            return super().block(rows, others)

    kmeans_plus_plus(Counted(points), torch.arange(20_000), 500, rng=rng())
    assert sum(looked_at) < 0.6 * 20_000 * 500


def test_kmeans_is_as_good_as_scikit_learn():
    points = blobs(3000, 10, num_clusters=30, spread=0.6)[0]
    ours, theirs = [], []
    for seed in range(5):
        cluster, centroids = kmeans(points, 40, rng=rng(seed), max_iterations=100)
        ours.append(float((points - centroids[cluster]).square().sum()))
        theirs.append(PeerKMeans(40, n_init=1, random_state=seed).fit(points.numpy()).inertia_)
    assert np.mean(ours) < 1.02 * np.mean(theirs)


@pytest.mark.parametrize("num_points", [600, 3000])  # all of them, and a part, are what starts are compared on
def test_the_best_of_ten_starts_is_as_good_as_scikit_learns(num_points):
    points = blobs(num_points, 10, num_clusters=12, spread=0.3)[0]
    inertia = {1: [], 10: []}
    for n_init, values in inertia.items():
        for seed in range(4):
            cluster, centroids = kmeans(points, 12, rng=rng(seed), n_init=n_init)
            values.append(float((points - centroids[cluster]).square().sum()))
    theirs = PeerKMeans(12, n_init=10, random_state=0).fit(points.numpy()).inertia_
    assert max(inertia[10]) < 1.01 * theirs
    assert np.mean(inertia[1]) > 1.05 * theirs


def test_kmeans_on_growing_parts_is_nearly_as_good_as_on_all_points(monkeypatch):
    points = blobs(4000, 10, num_clusters=30, spread=0.6)[0]
    sizes = {"parts": {"SMALLEST_PART": 300, "GROWTH": 4, "TO_THE_END": 0}, "all": {"SMALLEST_PART": 4000}}
    inertia = {}
    for name, constants in sizes.items():
        for constant, value in constants.items():
            monkeypatch.setattr(f"baselines.selectors.lloyd.{constant}", value)
        inertia[name] = []
        for seed in range(5):
            cluster, centroids = kmeans(points, 40, rng=rng(seed))
            assert torch.equal(cluster, nearest_centroid(points, centroids))
            inertia[name].append(float((points - centroids[cluster]).square().sum()))
    assert np.mean(inertia["parts"]) < 1.02 * np.mean(inertia["all"])


def test_nearest_centroid_in_blocks(monkeypatch):
    monkeypatch.setattr("baselines.selectors.lloyd.BLOCK_ELEMENTS", 64)
    points, centroids = torch.randn(100, 4, generator=rng()) + 50, torch.randn(9, 4, generator=rng(1)) + 50
    assert torch.equal(nearest_centroid(points, centroids), torch.cdist(points.double(), centroids.double()).argmin(1))


def test_kmeans_selector_finds_the_middle_of_every_group():
    middle = 10 * torch.randn(6, 3, generator=rng())
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    features = torch.cat([middle, (middle[:, None] + corners).reshape(-1, 3)])
    picks = KMeans().select(make_pool(features=features), 6, rng=rng())
    assert sorted(picks.tolist()) == [0, 1, 2, 3, 4, 5]


# --- badge ---


def gradient_embedding(logits, features):
    p = logits.double().softmax(1)
    error = p - torch.nn.functional.one_hot(p.argmax(1), p.shape[1])
    return (error[:, :, None] * features[:, None, :].double()).flatten(1)


def test_gradient_distances_equal_those_of_the_embedding():
    logits, features = 2 * torch.randn(40, 5, generator=rng()), torch.randn(40, 7, generator=rng(1))
    embedding = gradient_embedding(logits, features)
    everything = torch.arange(40)
    block = GradientDistance(logits, features).block(everything, everything)
    np.testing.assert_allclose(block, torch.cdist(embedding, embedding) ** 2, atol=1e-4)


def test_gradient_is_the_one_that_autograd_finds():
    features = torch.randn(6, 4, generator=rng())
    weight = torch.randn(3, 4, generator=rng(1)).requires_grad_()
    logits = features @ weight.T
    embedding = gradient_embedding(logits.detach(), features)
    for i in range(6):
        loss = torch.nn.functional.cross_entropy(logits[i : i + 1], logits[i].argmax()[None])
        (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
        np.testing.assert_allclose(gradient.flatten(), embedding[i], atol=1e-6)


def test_badge_takes_uncertain_images_from_different_places():
    features = torch.eye(3).repeat_interleave(20, dim=0)
    logits = torch.tensor([30.0, 0.0]).repeat(60, 1)
    unsure = [5, 6, 7, 25, 26, 27, 45, 46, 47]
    logits[unsure] = torch.tensor([0.1, 0.0])
    pool = make_pool(features=features, logits=logits, labeled=[0])
    for seed in range(5):
        picks = Badge().select(pool, 4, rng=rng(seed))
        places = {int(p) // 20 for p in picks if int(p) in unsure}
        assert places == {0, 1, 2}


def test_gradients_of_very_confident_predictions_keep_their_direction():
    logits = torch.tensor([[60.0, 0.0, 1.0], [0.0, 50.0, 0.0], [0.0, 0.0, 300.0]])  # p is 1.0 in float64
    error = GradientDistance(logits, torch.ones(3, 2)).error
    np.testing.assert_allclose((error / error.abs().amax(dim=1, keepdim=True)).sum(dim=1), 0, atol=1e-8)
    np.testing.assert_allclose(error[1] / np.exp(-50), [1, -2, 1], rtol=1e-8)


# --- typiclust ---


def test_nearest_others_by_hand(monkeypatch):
    monkeypatch.setattr("baselines.selectors.typiclust.BLOCK_ELEMENTS", 8)
    points = torch.tensor([[0.0], [1.0], [3.0], [10.0]])
    distance, neighbor = nearest_others(points, 2)
    assert distance.tolist() == [[1, 3], [1, 2], [2, 3], [7, 9]]
    assert neighbor.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]


@pytest.mark.parametrize("size", [1, 2, 7, 30, 90])
def test_the_most_typical_are_those_of_the_plain_loop(size):
    points = torch.randn(size, 3, generator=rng(size)).double()
    count = min(size, 60)
    picks = most_typical(points, count, num_neighbors=5)
    left = list(range(size))
    for pick in picks.tolist():
        among = torch.cdist(points[left], points[left])
        neighbors = min(5, len(left) // 2)
        typical = among.sort(dim=1).values[:, 1 : 1 + neighbors].sum(dim=1)
        assert left[int(typical.argmin())] == pick
        left.remove(pick)


def test_clusters_take_turns_and_drop_out_when_empty():
    assert visits([2, 1, 3], 6) == [0, 1, 2, 0, 2, 2]
    assert visits([0, 2], 1) == [1]


def test_typiclust_takes_the_densest_of_uncovered_clusters_first():
    # Four arcs of the unit circle; in each, points thin out away from the middle (position 0 of each arc).
    offset = torch.tensor([0.0, 0.001, -0.001, 0.003, -0.003, 0.01, -0.01, 0.05, -0.05, 0.1])
    angle = (torch.arange(4) * 1.5)[:, None] + offset
    scale = torch.rand(40, 1, generator=rng()) + 0.5  # lengths mean nothing
    features = scale * torch.stack([angle.cos(), angle.sin()], dim=-1).reshape(40, 2)
    pool = make_pool(features=features, labeled=[8, 35])  # in arcs 0 and 3
    picks = picks_of(TypiClust(max_clusters=4, num_neighbors=4), pool, 4)
    assert {int(p) // 10 for p in picks[:2]} == {1, 2}
    assert sorted(picks.tolist()) == [0, 10, 20, 30]


def test_typiclust_leaves_small_clusters_for_last():
    features = torch.cat([torch.tensor([[-1.0, 0.1]] * 3), torch.tensor([[1.0, 0.0]] * 10)])
    features = features + 0.001 * torch.randn(13, 2, generator=rng())
    pool = make_pool(features=features, labeled=[7])  # the small cluster has fewer labels
    picks = picks_of(TypiClust(max_clusters=2, min_cluster_size=5), pool, 12)
    assert int(picks[0]) >= 3
    picks = picks_of(TypiClust(max_clusters=2, min_cluster_size=3), pool, 12)
    assert int(picks[0]) < 3


@pytest.mark.parametrize("name", ["max_clusters", "num_neighbors", "min_cluster_size"])
def test_typiclust_refuses_impossible_hyperparameters(name):
    with pytest.raises(ValueError, match=f"{name} = 0"):
        TypiClust(**{name: 0})


@pytest.mark.parametrize("selector", [KMeans, Badge, TypiClust])
def test_picks_of_a_large_share_of_the_pool(selector):
    features, cluster = blobs(700, 5)
    pool = make_pool(features=features, labels=cluster, logits=torch.randn(700, 3), labeled=range(0, 700, 7))
    assert valid(picks_of(selector(), pool, 590), pool, 590)

"""DropQuery: candidates by dropout, picks by k-means."""

import pytest
import torch
from pools import blobs, make_pool, rng, valid
from torch.nn.functional import normalize

from baselines.selectors.drop_query import DropQuery


def with_layer(layer, **parts):
    """A pool whose last layer is a function of what it reads."""
    pool = make_pool(**parts)
    pool.model.last_layer = layer
    return pool


def a_pool(n, num_classes=4, seed=0, labeled=(0,)):
    features = blobs(n, 12, num_clusters=num_classes, seed=seed)[0]
    weight = torch.randn(num_classes, 12, generator=rng(seed))
    return with_layer(lambda x: x @ weight.T, features=features, logits=features @ weight.T, labeled=labeled)


class Recording:
    """A linear last layer that keeps what it was asked."""

    def __init__(self, weight):
        self.weight, self.asked = weight, []

    def __call__(self, x):
        self.asked.append(x)
        return x @ self.weight.T


def test_images_pass_through_dropout_part_by_part(monkeypatch):
    monkeypatch.setattr("baselines.selectors.drop_query.IMAGES_AT_ONCE", 50)
    layer, features = Recording(torch.randn(4, 6, generator=rng())), blobs(121, 6, num_clusters=4)[0]
    pool = with_layer(layer, features=features, logits=features @ layer.weight.T, labeled=[0])
    assert valid(DropQuery(num_samples=2).select(pool, 5, rng=rng()), pool, 5)
    assert [len(asked) for asked in layer.asked] == [50, 50, 50, 50, 20, 20]


@pytest.mark.parametrize(("budget", "least"), [(2, 2), (8, 1)])
def test_candidates_are_the_images_whose_class_changed_often_enough(budget, least):
    """With 25 candidates per pick a majority of the passes must agree, with fewer one pass is enough."""
    weight = torch.randn(4, 40, generator=rng())
    layer, features = Recording(weight), blobs(200, 40, num_clusters=4)[0]
    pool = with_layer(layer, features=features, logits=features @ weight.T, labeled=[0])
    picks = DropQuery().select(pool, budget, rng=rng())
    assert len(layer.asked) == 3
    changes = torch.zeros(200)
    for inputs in layer.asked:
        image = torch.stack([((inputs == 4 * features[i]) | (inputs == 0)).all(1) for i in pool.unlabeled]).int()
        assert torch.equal(image.sum(0), torch.ones(199, dtype=torch.int64))  # each row is one image, scaled by 1 / .25
        row = pool.unlabeled[image.argmax(0)]
        assert 0.2 < (inputs != 0).float().mean() < 0.3
        changes[row] += (inputs @ weight.T).argmax(1) != (features @ weight.T).argmax(1)[row]
    assert (changes[picks] >= least).all()
    assert (int((changes >= 2).sum()) >= 25 * budget) == (least == 2)


def test_picks_are_the_nearest_to_the_centroids_of_candidates():
    """The unsure images lie in three directions, whatever their lengths, and all others in a fourth."""
    directions = torch.eye(4).repeat_interleave(40, dim=0)
    lengths = 0.5 + torch.rand(160, 1, generator=rng(1))
    features = (directions + 0.05 * torch.randn(160, 4, generator=rng())) * lengths
    sign = torch.ones(160, 60)
    sign[:120] = -1  # dropout leaves the sign
    pool = with_layer(
        lambda x: torch.where(x.sum(1, keepdim=True) > 0, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])),
        features=features,
        penultimate=sign,
        logits=torch.tensor([1.0, 0.0]).repeat(160, 1),
        labeled=[159],
    )
    unit = normalize(features).reshape(4, 40, 4)[:3]
    nearest = (unit - unit.mean(dim=1, keepdim=True)).norm(dim=2).argmin(dim=1) + torch.tensor([0, 40, 80])
    assert sorted(DropQuery().select(pool, 3, rng=rng()).tolist()) == nearest.tolist()


def test_few_candidates_are_all_picked_and_the_rest_is_drawn():
    features = torch.eye(6).repeat(5, 1)
    logits = torch.tensor([1.0, 0.0]).repeat(30, 1)

    def layer(x):  # only images 2, 8, 14, 20, 26 change
        return torch.where(
            (x[:, 2:3] > 0) | (x.sum(1, keepdim=True) < 0), torch.tensor([0, 1.0]), torch.tensor([1.0, 0])
        )

    pool = with_layer(layer, features=features, logits=logits, labeled=[0])
    chosen = set()
    for seed in range(10):
        picks = DropQuery(num_samples=25).select(pool, 8, rng=rng(seed))
        assert valid(picks, pool, 8)
        assert set(picks[:5].tolist()) == {2, 8, 14, 20, 26}
        chosen |= set(picks[5:].tolist())
    assert len(chosen) > 12


def test_before_the_first_label_it_starts_with_centroids():
    features = torch.eye(5).repeat_interleave(20, dim=0) + 0.05 * torch.randn(100, 5, generator=rng())
    picks = DropQuery().select(make_pool(features=features), 5, rng=rng())  # reading logits would fail
    assert sorted((picks // 20).tolist()) == [0, 1, 2, 3, 4]


def test_dropout_is_on_what_the_last_layer_reads_and_clusters_are_of_features():
    pool, other = a_pool(80), a_pool(80, seed=1)
    hidden = with_layer(
        other.model.last_layer, features=pool.features, penultimate=other.features, logits=other.logits, labeled=[0]
    )
    assert valid(DropQuery().select(hidden, 5, rng=rng()), hidden, 5)
    swapped = with_layer(other.model.last_layer, features=other.features, logits=other.logits, labeled=[0])
    differs = [
        not torch.equal(DropQuery().select(hidden, 5, rng=rng(s)), DropQuery().select(swapped, 5, rng=rng(s)))
        for s in range(5)
    ]
    assert any(differs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples = 0 is not >= 1"),
        ({"dropout": 1.0}, r"dropout = 1.0 is not in \(0, 1\)"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DropQuery(**settings)

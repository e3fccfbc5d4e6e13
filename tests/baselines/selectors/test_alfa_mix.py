"""ALFA-Mix: its closed form against elementwise mixing with autograd's gradients."""

import numpy as np
import pytest
import torch
from pools import blobs, make_pool, rng, valid
from torch.nn.functional import cross_entropy

from baselines.selectors.alfa_mix import AlfaMix, class_changes, class_means, last_layer_weight


def a_pool(n=60, num_classes=4, labeled=tuple(range(8)), seed=0, scale=1.0):
    features, cluster = blobs(n, 6, num_clusters=num_classes, spread=0.8, seed=seed)
    layer = torch.nn.Linear(6, num_classes)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.randn(num_classes, 6, generator=rng(seed + 9)))
        layer.bias.copy_(torch.randn(num_classes, generator=rng(seed + 10)))
        logits = layer(features)
    pool = make_pool(features=features, logits=logits, labels=cluster, labeled=labeled)
    pool.model.last_layer = lambda x: layer(x).detach()
    return pool, layer


def mixed_changes(layer, features, means, size):
    """As in the paper, one image and one class after the other: alpha for every element, then the mixture's class."""
    changed = []
    for z in features.double():
        z = z.clone().requires_grad_()
        logits = layer.double()(z)
        (g,) = torch.autograd.grad(cross_entropy(logits[None], logits.argmax()[None]), z)
        hit = False
        for mean in means.double():
            alpha = size / len(z) ** 0.5 * (mean - z).norm() / g.norm() * g / (mean - z)
            mixture = alpha * mean + (1 - alpha) * z
            hit |= bool(layer(mixture).argmax() != logits.argmax())
        changed.append(hit)
    return torch.tensor(changed)


@pytest.mark.parametrize("size", [0.2, 0.5, 1.0])
def test_candidates_are_those_of_elementwise_mixing(size):
    some = 0
    for seed in range(3):
        pool, layer = a_pool(seed=seed)
        means = class_means(pool.features[:8], pool.labels, 4)
        expected = mixed_changes(layer, pool.features[8:], means, size)
        layer.float()
        steps = size / 6**0.5 * torch.cdist(pool.features[8:], means)
        assert torch.equal(class_changes(pool.logits[8:], layer.weight.detach(), steps), expected)
        some += int(expected.sum())
    assert 0 < some < 3 * 52


def test_class_means_and_that_of_all_where_a_class_has_no_label():
    features, labels = torch.tensor([[1.0, 0], [3, 0], [0, 8]]), torch.tensor([2, 2, 0])
    means = class_means(features, labels, 4)
    assert means.tolist() == [
        [0, 8],
        [pytest.approx(4 / 3), pytest.approx(8 / 3)],
        [2, 0],
        [pytest.approx(4 / 3), pytest.approx(8 / 3)],
    ]


def test_weight_is_that_of_the_layer():
    pool, layer = a_pool()
    weight = last_layer_weight(pool, pool.features, pool.logits)
    np.testing.assert_allclose(weight, layer.weight.detach(), atol=1e-5)


def test_logits_that_are_not_linear_take_no_part_or_are_refused():
    pool, layer = a_pool(num_classes=3)

    def with_unseen(x):  # a fourth class, of which the head says what is left
        logits = layer(x).detach()
        return torch.cat([logits, logits.logsumexp(1, keepdim=True) - 3], dim=1)

    whole = make_pool(
        features=pool.features, logits=with_unseen(pool.features), labels=torch.arange(60) % 3, labeled=range(8)
    )
    whole.model.last_layer = with_unseen
    weight = last_layer_weight(whole, whole.features, whole.logits)
    np.testing.assert_allclose(weight[:3], layer.weight.detach(), atol=1e-5)
    assert weight[3].isnan().all()
    assert valid(AlfaMix().select(whole, 10, rng=rng()), whole, 10)

    def neighbours(x):  # as of k-NN
        return (-torch.cdist(x, pool.features[:3]).square()).exp()

    other = make_pool(features=pool.features, logits=neighbours(pool.features), labeled=range(8))
    other.model.last_layer = neighbours
    with pytest.raises(
        ValueError, match="alfa_mix needs a linear last layer: logistic, ridge, linear, mlp or finetune"
    ):
        AlfaMix().select(other, 5, rng=rng())


def test_candidates_grow_until_there_are_more_than_picks():
    pool, layer = a_pool(n=200, labeled=range(20))
    unlabeled, means = pool.unlabeled, class_means(pool.features[:20], pool.labels, 4)
    seen = set()
    for budget in (1, 20, 60):
        picks = AlfaMix().select(pool, budget, rng=rng())
        for multiple in range(1, 6):
            changed = mixed_changes(layer, pool.features[unlabeled], means, multiple / 5)
            layer.float()
            if int(changed.sum()) > budget:
                break
        seen.add(multiple)
        candidates = unlabeled[changed]
        assert torch.isin(picks, candidates).all() if len(candidates) > budget else torch.isin(candidates, picks).all()
    assert len(seen) > 1


def test_images_near_the_boundary_are_taken_from_different_places():
    """The paper's figure 1: what changes with a little of another class in it is close to the boundary."""
    x = torch.linspace(-3, 3, 61)
    features = torch.cat([torch.stack([x, torch.full_like(x, y)], dim=1) for y in (4.0, -4.0)])
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    pool = make_pool(features=features, logits=features @ weight.T, labels=(features[:, 0] < 0).long(), labeled=[0, 60])
    pool.model.last_layer = lambda z: z @ weight.T
    picks = AlfaMix(epsilon=0.05).select(pool, 2, rng=rng())
    assert (features[picks, 0].abs() < 0.5).all()
    assert sorted(features[picks, 1].tolist()) == [-4, 4]


def test_confident_predictions_keep_their_gradient():
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    z = torch.tensor([[2000.0, 1999.0], [2000.0, -2000.0]])
    changed = class_changes(z @ weight.T, weight, torch.tensor([[1.0], [1.0]]))
    assert changed.tolist() == [True, False]


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e4])
def test_pools_without_structure(scale):
    for labeled in ([3], range(30)):
        pool, _ = a_pool(labeled=labeled, scale=scale)
        size = len(pool.unlabeled)
        for budget in (1, size // 2, size):
            assert valid(AlfaMix().select(pool, budget, rng=rng()), pool, budget)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"epsilon = 0.0 is not in \(0, 1\]"):
        AlfaMix(epsilon=0.0)

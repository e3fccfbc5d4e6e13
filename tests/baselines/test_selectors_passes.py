"""Selectors that compare several passes over the same image: dropout and augmentation."""

from itertools import product

import numpy as np
import pytest
import torch
from pools import make_pool, rng

from baselines.augmentations.weak import Weak
from baselines.selectors.bald import BALD, mutual_information
from baselines.selectors.batch_bald import BatchBALD
from baselines.selectors.csal import CSAL
from baselines.selectors.mc_dropout import MCDropout
from harness.plugins.registry import as_spec, build


def entropy(p):
    return -(p * np.log(p)).sum(-1)


def passes(n=8, images=30, classes=4, scale=2.0):
    return scale * torch.randn(n, images, classes, generator=rng())


def test_mutual_information_is_the_difference_of_entropies():
    logits = passes()
    p = logits.double().softmax(-1).numpy()
    np.testing.assert_allclose(mutual_information(logits), entropy(p.mean(0)) - entropy(p).mean(0), atol=1e-12)


def test_mutual_information_of_huge_logits():
    agree = torch.tensor([1e4, 0.0]).repeat(2, 1, 1)
    disagree = torch.tensor([[[1e4, 0.0]], [[0.0, 1e4]]])
    values = mutual_information(torch.cat([agree, disagree], dim=1))
    np.testing.assert_allclose(values, [0.0, np.log(2)], atol=1e-12)


def test_mc_dropout_ranks_by_the_entropy_of_the_mean():
    logits = passes()
    pool = make_pool(stochastic=logits, labeled=[2, 3])
    expected = entropy(logits.double().softmax(-1).mean(0).numpy())[pool.unlabeled]
    order = pool.unlabeled[torch.from_numpy(expected).argsort(descending=True)]
    assert torch.equal(MCDropout(num_samples=8).select(pool, 28, rng=rng()), order)


def test_mc_dropout_is_not_fooled_by_passes_and_bald_is_not_by_noise():
    always_unsure = torch.zeros(2, 1, 2)
    contradicting = torch.tensor([[[9.0, 0.0]], [[0.0, 9.0]]])
    sure = torch.tensor([[[9.0, 0.0]], [[9.0, 0.0]]])
    pool = make_pool(stochastic=torch.cat([sure, always_unsure, contradicting], dim=1))
    assert set(MCDropout(num_samples=2).select(pool, 2, rng=rng()).tolist()) == {1, 2}
    assert BALD(num_samples=2).select(pool, 1, rng=rng()).tolist() == [2]


def test_bald_draws_between_images_without_disagreement():
    pool = make_pool(stochastic=torch.randn(1, 50, 3, generator=rng()).repeat(5, 1, 1))
    picks = {int(BALD(num_samples=5).select(pool, 1, rng=rng(seed))) for seed in range(12)}
    assert len(picks) > 6


def test_csal_ranks_by_the_variance_over_augmentations():
    logits = passes()
    clean, copies = logits[0], logits[1:]
    pool = make_pool(logits=clean, augmented=copies, labeled=[0])
    asked, answer = [], pool.model.augmented_logits
    pool.model.augmented_logits = lambda number, views: asked.append((number, views)) or answer(number)
    p = logits.double().softmax(-1).numpy()  # the image itself counts as one of them
    inconsistency = torch.from_numpy(p.var(0, ddof=1).sum(-1))[1:]
    views = Weak(padding=2)
    picks = CSAL(num_samples=len(copies), augmentation=views).select(pool, 29, rng=rng())
    assert torch.equal(picks, 1 + inconsistency.argsort(descending=True))
    assert asked == [(len(copies), views)]


def test_csal_has_views_of_its_own():
    csal = build(as_spec("selectors", "csal"))
    assert isinstance(csal.augmentation, Weak)
    named = build(as_spec("selectors", {"name": "csal", "augmentation": {"name": "weak", "padding": 1}}))
    assert named.augmentation.padding == 1
    with pytest.raises(ValueError, match="num_samples = 0 is not >= 1"):
        build(as_spec("selectors", {"name": "csal", "num_samples": 0}))
    with pytest.raises(ValueError, match="augmentation = 'weak' must be an Augmentation"):
        CSAL()


@pytest.mark.parametrize("selector", [MCDropout, BALD, BatchBALD])
def test_one_pass_is_refused(selector):
    with pytest.raises(ValueError, match="num_samples = 1"):
        selector(num_samples=1)


# --- batch_bald ---


def joint_information(p, batch):
    """Mutual information of weights and the labels of a batch, by enumerating all labels; p is [n, images, classes]."""
    joint = [p[:, batch, list(labels)].prod(1).mean() for labels in product(range(p.shape[2]), repeat=len(batch))]
    return entropy(np.array(joint)) - entropy(p[:, batch]).sum(1).mean()


def test_batch_bald_is_greedy_on_the_joint_information():
    logits = passes(n=5, images=9, classes=3)
    p = logits.double().softmax(-1).numpy()
    picks = BatchBALD(num_samples=5, num_configurations=3**4).select(make_pool(stochastic=logits), 4, rng=rng())
    chosen = []
    for pick in picks.tolist():
        best = max(joint_information(p, [*chosen, i]) for i in range(9) if i not in chosen)
        chosen.append(pick)
        assert joint_information(p, chosen) == pytest.approx(best, abs=1e-8)


def test_batch_bald_draws_labels_from_their_joint_distribution():
    p = passes(n=4, images=1, classes=3)[:, 0].double().softmax(-1).T  # [classes, passes]
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    drawn, weight = BatchBALD(num_configurations=5000)._observe(
        p, prior.repeat(5000, 1), torch.ones(5000) / 5000, rng()
    )
    possible = prior * p / (p @ prior)[:, None]
    label = torch.cdist(drawn, possible).argmin(1)
    torch.testing.assert_close(drawn, possible[label])
    torch.testing.assert_close(torch.bincount(label) / 5000, (p @ prior).float(), atol=0.03, rtol=0)
    assert weight.sum() == pytest.approx(1)


def test_batch_bald_with_drawn_labels_stays_near_the_greedy_optimum():
    logits = passes(n=6, images=12, classes=3)
    p = logits.double().softmax(-1).numpy()
    pool = make_pool(stochastic=logits)
    exact = BatchBALD(num_samples=6, num_configurations=3**5).select(pool, 5, rng=rng())
    drawn = BatchBALD(num_samples=6, num_configurations=60).select(pool, 5, rng=rng())
    others = [torch.randperm(12, generator=rng(s))[:5].tolist() for s in range(20)]
    chance = np.mean([joint_information(p, batch) for batch in others])
    optimum = joint_information(p, exact.tolist())
    assert joint_information(p, drawn.tolist()) > optimum - 0.2 * (optimum - chance)


def test_batch_bald_does_not_take_duplicates_that_bald_takes():
    logits = torch.zeros(4, 6, 2)
    logits[:, :3, 0] = torch.tensor([5.0, 5.0, -5.0, -5.0])[:, None]  # three copies of the best image
    logits[:, 3, 0] = torch.tensor([3.0, -3.0, 3.0, -3.0])
    pool = make_pool(stochastic=logits)
    assert set(BALD(num_samples=4).select(pool, 2, rng=rng()).tolist()) < {0, 1, 2}
    picks = BatchBALD(num_samples=4).select(pool, 2, rng=rng()).tolist()
    assert picks[0] in {0, 1, 2}
    assert picks[1] == 3

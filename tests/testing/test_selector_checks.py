"""Every check of a selector is tried on selectors that break one promise, and the pools are what they say."""

import itertools
import random

import numpy as np
import pytest
import torch
from good_plugins import GoodAccompanied, GoodCompanion, GoodSelector, assert_found, broken, checks_of

from harness.api import Pool, Reason, Selector
from harness.testing.pools import degenerate_pools, make_pool
from harness.testing.selectors import check_selector


@pytest.mark.parametrize("plugin", [GoodSelector, GoodAccompanied])
def test_a_plugin_that_keeps_every_promise_passes(plugin):
    check_selector(plugin)


def _global_torch(self, pool, budget, *, rng):
    return pool.unlabeled[torch.randperm(len(pool.unlabeled))[:budget]]


def _global_numpy(self, pool, budget, *, rng):
    return torch.from_numpy(np.random.permutation(pool.unlabeled.numpy())[:budget])  # noqa: NPY002


def _global_random(self, pool, budget, *, rng):
    return torch.tensor(random.sample(pool.unlabeled.tolist(), budget))


def _global_state_in_secret(self, pool, budget, *, rng):
    with torch.random.fork_rng():
        return _global_torch(self, pool, budget, rng=rng)


def _modify(part):
    def select(self, pool, budget, *, rng):
        tensor = getattr(pool, part)
        tensor[:] = tensor.flip(0)
        return GoodSelector.select(self, pool, budget, rng=rng)

    return broken(GoodSelector, select=select)


def _counting(self, pool, budget, *, rng):
    self.calls = getattr(self, "calls", 0) + 1
    return pool.unlabeled.roll(self.calls)[:budget]


_instances = itertools.count()


def _instance_number(self, pool, budget, *, rng):
    return pool.unlabeled.roll(self.number)[:budget]


def _scores_by(score):
    """A selector that takes the highest scores, without thought of ties or of overflow."""

    def select(self, pool, budget, *, rng):
        scores = score(pool)[pool.unlabeled]
        assert scores.isfinite().all(), "infinite scores"
        return pool.unlabeled[scores.argsort(descending=True)[:budget]]

    return select


def _needs_spread(pool):
    features = pool.features - pool.features.mean(0)
    if features.abs().max() < 1e-5:
        raise ZeroDivisionError("all features are equal")
    return features.norm(dim=1) / features.norm()


def _needs_two_labels(pool):
    return pool.features[:, 0] / pool.labels.float().std()


def _companion(**members):
    """A selector whose companion has some members replaced."""
    return broken(GoodAccompanied, companion_class=type("BrokenCompanion", (GoodCompanion,), members))


def _reads_pixels(self, pool, budget, *, rng):
    pool.images[pool.unlabeled]
    return GoodSelector().select(pool, budget, rng=rng)


def _reads_pixels_of_a_part(self, pool, budget, *, rng):
    pool.images.subset(pool.unlabeled)[torch.tensor([0])]
    return GoodSelector().select(pool, budget, rng=rng)


def _reads_ssl_loss_at_first(self, pool, budget, *, rng):
    if not len(pool.labeled):
        pool.ssl_loss().sum()
    return GoodSelector.select(self, pool, budget, rng=rng)


def _reads_ssl_loss_for(applies):
    def select(self, pool, budget, *, rng):
        if applies(pool, budget):
            pool.ssl_loss()
        return GoodSelector.select(self, pool, budget, rng=rng)

    return broken(GoodSelector, select=select)


def _follows_the_last_layer(self, pool, budget, *, rng):
    """The largest gradients of the logits by what the last layer reads."""
    penultimate = pool.penultimate.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(pool.last_layer(penultimate).logsumexp(1).sum(), penultimate)
    sizes = gradient.norm(dim=1) + torch.rand(len(gradient), generator=rng)
    return pool.unlabeled[sizes[pool.unlabeled].argsort(descending=True)[:budget]]


def _sorts_in_place(self, pool, picks):
    picks.copy_(picks.sort().values)
    return []


def _explains_in_place(self, pool, picks):
    pool.features.zero_()
    return []


def _scale_in_place(self, stages, task_losses, progress):
    return GoodCompanion.loss(self, stages, task_losses.mul_(2), progress)


def _evenly_spaced(self, pool, budget, *, rng):
    """A systematic sample: were the pool sorted, of each class alike."""
    return pool.unlabeled[torch.arange(budget) * len(pool.unlabeled) // budget]


def _first_of_equals(self, pool, budget, *, rng):
    return pool.unlabeled[pool.features[pool.unlabeled, 0].argsort(stable=True)[:budget]]


def _farthest_and_of_equals_the_first(self, pool, budget, *, rng):
    """k-centre greedy by a plain argmax, after a first pick by chance."""
    left = pool.unlabeled
    picks = [left[torch.randint(len(left), (1,), generator=rng)]]
    while len(picks) < budget:
        left = left[~torch.isin(left, torch.cat(picks))]
        picks.append(left[torch.cdist(pool.features[left], pool.features[torch.cat(picks)]).amin(1).argmax()][None])
    return torch.cat(picks)


def _in_order_once_the_clusters_are_empty(self, pool, budget, *, rng):
    """One image of each distinct kind by chance, then what is left as it stands there."""
    shuffled = pool.unlabeled[torch.randperm(len(pool.unlabeled), generator=rng)]
    _, kinds = pool.features[shuffled].unique(dim=0, return_inverse=True)
    firsts = torch.tensor([int((kinds == kind).nonzero()[0]) for kind in range(int(kinds.max()) + 1)])
    chosen = shuffled[firsts][torch.randperm(len(firsts), generator=rng)]
    rest = pool.unlabeled[~torch.isin(pool.unlabeled, chosen)]
    return torch.cat([chosen, rest])[:budget]


def _surest_and_of_equals_the_first(self, pool, budget, *, rng):
    sure = pool.logits[pool.unlabeled].double().softmax(1).amax(1)
    return pool.unlabeled[sure.argsort(descending=True, stable=True)[:budget]]


def _of_the_whole(self, pool, budget, *, rng):
    """Takes the pool that it is shown for the whole one."""
    is_unlabeled = torch.ones(len(make_pool().images), dtype=torch.bool)
    is_unlabeled[pool.labeled] = False
    return is_unlabeled.nonzero().flatten()[-budget:]


BROKEN = [
    ("picks_are_valid", broken(GoodSelector, select=lambda self, pool, budget, *, rng: [3] * budget), "returned list"),
    (
        "picks_are_valid",
        broken(GoodSelector, select=lambda self, pool, budget, *, rng: pool.unlabeled[:budget].int()),
        "torch.int32",
    ),
    (
        "picks_are_valid",
        broken(GoodSelector, select=lambda self, pool, budget, *, rng: pool.unlabeled[: budget + 1]),
        "budget 1 of 52: picks have shape (2,)",
    ),
    (
        "picks_are_valid",
        broken(GoodSelector, select=lambda self, pool, budget, *, rng: pool.unlabeled[:1].expand(budget)),
        "picked twice",
    ),
    (
        "picks_are_valid",
        broken(GoodSelector, select=lambda self, pool, budget, *, rng: torch.arange(budget)),
        "not in pool.unlabeled",
    ),
    ("same_seed_same_picks", broken(GoodSelector, select=_counting), "asked again"),
    (
        "same_seed_same_picks",
        broken(
            GoodSelector,
            __init__=lambda self: setattr(self, "number", next(_instances)),
            select=_instance_number,
        ),
        "for the same pool and seed the picks differ",
    ),
    ("picks_need_no_global_generator", broken(GoodSelector, select=_global_torch), "global generator of torch"),
    ("picks_need_no_global_generator", broken(GoodSelector, select=_global_numpy), "global generator of numpy"),
    ("picks_need_no_global_generator", broken(GoodSelector, select=_global_random), "global generator of random"),
    ("picks_need_no_global_generator", broken(GoodSelector, select=_global_state_in_secret), "depends on a generator"),
    *(
        ("pool_is_not_modified", _modify(part), f"modified pool.{part}")
        for part in ("labeled", "unlabeled", "labels", "features", "penultimate", "logits", "companion_outputs")
    ),
    ("pool_is_not_modified", broken(GoodSelector, explain=_explains_in_place), "modified pool.features"),
    (
        "picks_are_valid",
        broken(
            GoodSelector,
            select=_follows_the_last_layer,
            supports_cold_start=False,
            needs=frozenset({"probabilities", "linear_layer"}),
        ),
        "does not require grad",
    ),
    (
        "degenerate_pools_work",
        broken(GoodSelector, select=_scores_by(_needs_spread)),
        "all images equal, budget 16 of 32: raised ZeroDivisionError",
    ),
    (
        "degenerate_pools_work",
        broken(GoodSelector, select=_scores_by(lambda pool: pool.logits.exp().sum(1).log())),
        "logits of 1e4, budget 26 of 52: infinite scores",
    ),
    ("degenerate_pools_work", broken(GoodSelector, select=_scores_by(_needs_two_labels)), "one class"),
    (
        "degenerate_pools_work",
        broken(GoodSelector, select=lambda self, pool, budget, *, rng: pool.unlabeled.unique()[: min(budget, 10)]),
        "picks have shape",
    ),
    (
        "cold_start_is_as_declared",
        broken(GoodSelector, select=_scores_by(lambda pool: pool.logits[:, 0])),
        "no labels, budget 1: raised ValueError: no classifier has been trained",
    ),
    ("cold_start_is_as_declared", broken(GoodSelector, supports_cold_start="yes"), "not a bool"),
    (
        "pool_subset_is_taken",
        broken(GoodSelector, pool_subset=property(lambda _: 9, lambda _, value: None)),
        "pool_subset is 9",
    ),
    (
        "pool_subset_is_taken",
        broken(GoodSelector, select=_of_the_whole),
        "a subset of 26 unlabelled images, budget 1: a pick is not in pool.unlabeled",
    ),
    ("features_come_in_any_form", broken(GoodSelector, normalize="L2"), "normalize is 'L2'; did you mean 'l2'?"),
    (
        "features_come_in_any_form",
        broken(GoodSelector, normalize=property(lambda _: "none", lambda _, value: None)),
        "set to 'l2', the attribute normalize is 'none'",
    ),
    (
        "features_come_in_any_form",
        broken(GoodSelector, normalize="none", select=_scores_by(lambda pool: pool.last_layer(pool.penultimate)[:, 0])),
        "normalize l2: raised ValueError: the last layer reads `penultimate` as it is",
    ),
    (
        "features_come_in_any_form",
        broken(GoodSelector, normalize="l2"),
        "it reads no features: set it to None",
    ),
    (
        "positions_mean_nothing",
        broken(GoodSelector, select=lambda self, pool, budget, *, rng: pool.unlabeled[:budget]),
        "an ordinary pool, budget 5: which images it picks depends on their positions (p = 0.00016)",
    ),
    (
        "positions_mean_nothing",
        broken(GoodSelector, select=_evenly_spaced),
        "an ordinary pool, budget 5: which images it picks depends on their positions",
    ),
    (
        "positions_mean_nothing",
        broken(GoodSelector, select=_first_of_equals),
        "all images equal, budget 16: which images it picks depends on their positions",
    ),
    (
        "positions_mean_nothing",
        broken(GoodSelector, select=_farthest_and_of_equals_the_first),
        "all images equal, budget 16: which images it picks depends on their positions",
    ),
    (
        "positions_mean_nothing",
        broken(GoodSelector, select=_in_order_once_the_clusters_are_empty),
        "all images equal, budget 16: which images it picks depends on their positions",
    ),
    (
        "positions_mean_nothing",
        broken(GoodSelector, select=_surest_and_of_equals_the_first),
        "logits of 1e4, budget 5: which images it picks depends on their positions",
    ),
    ("reads_are_as_declared", broken(GoodSelector, reads={"ssl_loss"}), "not a frozenset"),
    ("reads_are_as_declared", broken(GoodSelector, select=_reads_pixels), "it reads pool.images, but reads does not"),
    ("reads_are_as_declared", broken(GoodSelector, select=_reads_pixels_of_a_part), "it reads pool.images, but reads"),
    ("reads_are_as_declared", broken(GoodSelector, reads=frozenset({"ssl_los"})), "did you mean 'ssl_loss'?"),
    ("reads_are_as_declared", broken(GoodSelector, reads=frozenset({"ssl_loss"})), "refused in vain"),
    (
        "reads_are_as_declared",
        broken(GoodSelector, select=_scores_by(lambda pool: pool.ssl_loss())),
        "it reads pool.ssl_loss, but reads does not say so",
    ),
    *(
        ("reads_are_as_declared", _reads_ssl_loss_for(applies), "it reads pool.ssl_loss, but reads does not say so")
        for applies in (
            lambda pool, budget: budget > 1,
            lambda pool, budget: budget == len(pool.unlabeled),
            lambda pool, budget: len(pool.labeled) > len(pool.unlabeled),
        )
    ),
    ("reads_are_as_declared", broken(GoodSelector, select=_reads_ssl_loss_at_first), "it reads pool.ssl_loss"),
    (
        "reads_are_as_declared",
        broken(
            GoodSelector, select=_scores_by(lambda pool: pool.stochastic_logits(2)[0, :, 0]), supports_cold_start=False
        ),
        "it reads pool.stochastic_logits",
    ),
    ("needs_are_as_declared", broken(GoodSelector, needs={"probabilities"}), "not a frozenset"),
    ("needs_are_as_declared", broken(GoodSelector, needs=frozenset({"probability"})), "did you mean 'probabilities'?"),
    (
        "needs_are_as_declared",
        broken(GoodSelector, select=_scores_by(lambda pool: pool.logits.amax(1)), supports_cold_start=False),
        "picks change where logits are votes",
    ),
    (
        "needs_are_as_declared",
        broken(GoodSelector, select=_scores_by(lambda pool: pool.augmented_logits(3).var(0).sum(1))),
        "picks change where logits are votes",
    ),
    ("reasons_fit_the_picks", broken(GoodSelector, explain=_sorts_in_place), "explain modified the picks"),
    (
        "reasons_fit_the_picks",
        broken(GoodSelector, explain=lambda self, pool, picks: [Reason("one")]),
        "explain gave 1 reasons for 20 picks",
    ),
    (
        "reasons_fit_the_picks",
        broken(GoodSelector, explain=lambda self, pool, picks: ["a"] * len(picks)),
        "not a Reason",
    ),
    (
        "reasons_fit_the_picks",
        broken(GoodSelector, explain=lambda self, pool, picks: [Reason("{}", classes=(4,))] * len(picks)),
        "names classes of no label",
    ),
    (
        "reasons_fit_the_picks",
        broken(GoodSelector, explain=lambda self, pool, picks: [Reason("{} or {}", classes=(0,))] * len(picks)),
        "one class for each {}",
    ),
    (
        "companion_is_as_declared",
        broken(GoodSelector, companion=lambda self, stage_shapes: GoodCompanion(len(stage_shapes))),
        "it is never trained",
    ),
    ("companion_is_as_declared", broken(GoodAccompanied, companion=Selector.companion), "is NoneType, not a Companion"),
    (
        "companion_is_as_declared",
        _companion(loss=lambda self, stages, task_losses, progress: (self(stages) - task_losses).square()),
        "not one finite number",
    ),
    (
        "companion_is_as_declared",
        _companion(loss=lambda self, stages, task_losses, progress: self(stages).sum() / (len(task_losses) - 1)),
        "batch of 1, progress 0.99: the loss is",
    ),
    (
        "companion_is_as_declared",
        _companion(loss=lambda self, stages, task_losses, progress: (self.score.bias - task_losses).square().mean()),
        "no finite gradient reaches score.weight",
    ),
    ("companion_is_as_declared", _companion(loss=_scale_in_place), "modified the stages or the losses"),
    (
        "companion_trains_in_half_precision",
        _companion(loss=lambda self, stages, task_losses, progress: torch.pdist(self(stages)[:, None]).sum()),
        "not implemented for 'BFloat16'",
    ),
    (
        "companion_is_as_declared",
        _companion(forward=lambda self, stages: GoodCompanion.forward(self, stages).double()),
        "outputs are torch.float64 [4]",
    ),
    (
        "companion_is_as_declared",
        _companion(forward=lambda self, stages: (y := GoodCompanion.forward(self, stages)) - y.mean()),
        "outputs depend on the batch",
    ),
]


@pytest.mark.parametrize(("name", "plugin", "words"), BROKEN)
def test_a_broken_promise_is_found(name, plugin, words):
    assert_found("selectors", name, plugin, words)


def test_every_check_is_tried_on_a_broken_plugin():
    assert {name for name, *_ in BROKEN} >= set(checks_of("selectors"))


# --- make_pool ---


def test_pool_is_consistent():
    pool = make_pool(num_labeled=5)
    assert isinstance(pool, Pool)
    assert sorted([*pool.labeled.tolist(), *pool.unlabeled.tolist()]) == list(range(60))
    assert pool.labeled.tolist() == sorted(pool.labeled.tolist()) != list(range(5))
    assert pool.labels.shape == (5,)
    assert pool.features.shape == (60, 16)
    assert pool.logits.shape == (60, 4)
    assert (pool.ssl_loss() > 0).all()
    # Inverted dropout and pixel noise have mean 0: on average, the samples are the logits.
    for sampled in (pool.stochastic_logits(4000), pool.augmented_logits(4000)):
        assert sampled.shape == (4000, 60, 4)
        assert sampled.std(0).min() > 0
        standard_error = sampled.std(0) / 4000**0.5
        assert ((sampled.mean(0) - pool.logits).abs() < 6 * standard_error).all()


def test_pool_without_labels_has_no_logits():
    pool = make_pool(num_labeled=0)
    assert pool.features.shape == (60, 16)
    with pytest.raises(ValueError, match="no classifier has been trained"):
        _ = pool.logits


def test_degenerate_pools_are_what_they_say():
    pools = degenerate_pools()
    assert not pools["all images equal"].logits.std(0).any()
    assert len(pools["few distinct images, many duplicates"].features.unique(dim=0)) == 4
    assert pools["logits of 1e4"].logits.abs().max() > 1e3
    assert set(pools["all labels of one class"].labels.tolist()) == {0}
    assert len(pools["one labelled image"].labeled) == 1
    assert len(pools["three images, one labelled"].images) == 3
    assert len(pools["one unlabelled image"].unlabeled) == 1
    assert pools["one channel, 9 x 11 pixels"].images.shape == (40, 1, 9, 11)

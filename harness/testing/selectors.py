"""The checks of a selector."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, get_args

import torch
from torch import Tensor

from harness import messages
from harness.api import (
    CONDITIONAL_PARTS,
    Companion,
    FeatureForm,
    Pool,
    Reason,
)
from harness.plugins.shared import check_declared, prepare_selector
from harness.seeding import generator, seeded
from harness.testing.common import (
    Check,
    Factory,
    draws_only_from_its_generator,
    half_precision,
    run_checks,
    when,
)
from harness.testing.pools import degenerate_pools, make_pool, recording, rows_of, voting


def check_selector(plugin: Factory, *, exempt: Mapping[str, str] | None = None) -> None:
    """Checks a selector: valid picks from ordinary and degenerate pools, always the same for a seed.

    Args:
        plugin: the class, or a function of no arguments.
        exempt: see `check_dataset`.

    Raises:
        AssertionError: a promise is broken; names the plugin and the check.
    """
    run_checks("selectors", plugin, SELECTOR_CHECKS, exempt)


def _select(selector: Any, pool: Pool, budget: int, seed: int = 0) -> Tensor:
    """The picks, after checking that they are what `Selector.select` promises."""
    picks = selector.select(selector.as_shown(pool), budget, rng=generator(seed, "select"))
    assert isinstance(picks, Tensor), f"select returned {type(picks).__name__}, not a tensor"
    assert picks.dtype == torch.int64, f"picks are {picks.dtype}, not torch.int64"
    assert picks.device.type == "cpu", f"picks are on {picks.device}, not on the CPU"
    assert picks.shape == (budget,), f"picks have shape {tuple(picks.shape)} for a budget of {budget}"
    assert len(picks.unique()) == budget, "an image was picked twice"
    assert torch.isin(picks, pool.unlabeled).all(), (
        "a pick is not in pool.unlabeled (picks are positions in the pool, not in pool.unlabeled)"
    )
    return picks


def _budgets(pool: Pool) -> tuple[int, ...]:
    """One image, some and all of them."""
    return 1, 20, len(pool.unlabeled)


def picks_are_valid(plugin: Factory) -> None:
    """Exactly `budget` distinct unlabelled positions, for one image, some and all of them."""
    pool = make_pool()
    for budget in _budgets(pool):
        with when(f"budget {budget} of {len(pool.unlabeled)}"):
            _select(plugin(), pool, budget)


def same_seed_same_picks(plugin: Factory) -> None:
    """Equal pools and seeds give equal picks, and a selector keeps nothing from one call to the next."""
    selector = plugin()
    first, again = _select(selector, make_pool(), 10), _select(selector, make_pool(), 10)
    assert torch.equal(first, again), "the same selector, asked again with the same pool and seed, picks differently"
    assert torch.equal(first, _select(plugin(), make_pool(), 10)), "for the same pool and seed the picks differ"


def picks_need_no_global_generator(plugin: Factory) -> None:
    """Randomness comes from `rng` alone."""
    draws_only_from_its_generator(lambda: _select(plugin(), make_pool(), 10))


def pool_is_not_modified(plugin: Factory) -> None:
    """Selecting and explaining leave every tensor of the pool as it was."""
    selector = plugin()
    pool, pristine = (selector.as_shown(make_pool()) for _ in range(2))
    picks = selector.select(pool, 10, rng=generator(0, "select"))
    selector.explain(pool, picks)
    for name, given in vars(pool).items():  # what is lazy is in there once it was read
        if isinstance(given, Tensor):
            assert torch.equal(given, getattr(pristine, name)), f"it modified pool.{name}"


def degenerate_pools_work(plugin: Factory) -> None:
    """A pool without information still gets valid picks, for half and for all of it."""
    for peculiarity, pool in degenerate_pools().items():
        size = len(pool.unlabeled)
        for budget in sorted({(size + 1) // 2, size}):
            with when(f"{peculiarity}, budget {budget} of {size}"):
                _select(plugin(), pool, budget)


def cold_start_is_as_declared(plugin: Factory) -> None:
    """A selector that declares `supports_cold_start` selects without any label and without `pool.logits`."""
    selector = plugin()
    assert isinstance(selector.supports_cold_start, bool), "supports_cold_start is not a bool"
    if selector.supports_cold_start:
        pool = make_pool(num_labeled=0)
        for budget in _budgets(pool):
            with when(f"no labels, budget {budget}"):
                _select(plugin(), pool, budget)


def pool_subset_is_taken(plugin: Factory) -> None:
    """`pool_subset` can be set, and the smaller pool that the harness then shows is selected from."""
    selector = plugin()
    prepare_selector(selector, pool_subset=30)
    assert selector.pool_subset == 30, f"set to 30, the attribute pool_subset is {selector.pool_subset!r}"
    whole = make_pool()
    pool = rows_of(whole, torch.cat([whole.labeled, whole.unlabeled[::2]]).sort().values)
    for budget in (1, len(pool.unlabeled)):
        with when(f"a subset of {len(pool.unlabeled)} unlabelled images, budget {budget}"):
            _select(selector, pool, budget)


FORMS: tuple[FeatureForm, ...] = get_args(FeatureForm)


def features_come_in_any_form(plugin: Factory) -> None:
    """A selector that takes `normalize` reads features, can be shown them in every form, and `last_layer` in none."""
    declared = plugin().normalize
    assert declared is None or declared in FORMS, f"normalize is {declared!r}; {messages.closest(declared, FORMS)}"
    if declared is None:
        return
    asked: set[str] = set()
    for form in FORMS:
        selector, (pool, read) = plugin(), recording(make_pool())
        prepare_selector(selector, normalize=form)
        assert selector.normalize == form, f"set to {form!r}, the attribute normalize is {selector.normalize!r}"
        with when(f"normalize {form}"):
            _select(selector, pool, 10)
        asked |= read
    assert asked & {"features", "penultimate"}, f"normalize is {declared!r}, but it reads no features: set it to None"


PERMUTED = {
    "an ordinary pool": 0.0,
    "logits of 1e4": 0.0,
    "all images equal": 0.5,
    "few distinct images, many duplicates": 0.5,
}
"""Degenerate pools, with ties of features, of what follows from them, and of saturated scores alone -> the share of
them that is picked, five images at least: ties come early in one selector, and late in another."""

NUM_SEEDS = 8
"""Of each of the two orders of a pool; the 2 * NUM_SEEDS choose NUM_SEEDS divisions of all are gone through."""


def positions_mean_nothing(plugin: Factory) -> None:
    """In pools in another order the same images are picked, as often as under other seeds: also among equal images.

    A permutation test: were the law of the picks the same in both orders, then how often each image is picked would
    differ between them as it does between any two halves of all seeds.
    """
    pools = {"an ordinary pool": make_pool(), **degenerate_pools()}
    for name, share_of_pool in PERMUTED.items():
        pool = pools[name]
        budget = max(5, round(share_of_pool * len(pool.unlabeled)))
        with when(f"{name}, budget {budget}"):
            everything, counts = torch.arange(len(pool.images)), []
            for seed in range(2 * NUM_SEEDS):
                order = (
                    everything if seed < NUM_SEEDS else torch.randperm(len(everything), generator=generator(seed, ""))
                )
                picks = _select(plugin(), rows_of(pool, order), budget, seed)
                counts.append(torch.bincount(order[picks], minlength=len(everything)).double())
            share = _share_of_divisions(torch.stack(counts))
            assert share > 0.001, (
                f"which images it picks depends on their positions (p = {share:.2g}): does it take the first of equals?"
            )


def _share_of_divisions(counts: Tensor) -> float:
    """The share of all divisions of f64 [2 S, N] rows into halves whose means are as far apart as these' or farther."""
    size = len(counts)
    halves = torch.tensor(list(combinations(range(size), size // 2)))
    signs = torch.full((len(halves), size), -1.0, dtype=torch.float64).scatter_(1, halves, 1.0)
    gaps = (signs @ counts).square().sum(1)
    return float((gaps >= gaps[0] * (1 - 1e-9)).double().mean())  # the first half of the rows is the first division


def reads_are_as_declared(plugin: Factory) -> None:
    """`reads` names the conditional parts of the pool that selecting asks for, no fewer and no more."""
    check_declared(plugin())
    declared = plugin().reads
    asked: set[str] = set()
    for num_labeled in (8, 38, *[0] * plugin().supports_cold_start):
        pool, read = recording(make_pool(num_labeled=num_labeled))
        for budget in _budgets(pool):
            _select(plugin(), pool, budget)
        asked |= read
    for name in sorted(CONDITIONAL_PARTS & asked - declared):
        raise AssertionError(f"it reads pool.{name}, but reads does not say so: a trial without would fail late")
    for name in sorted(declared - asked):
        raise AssertionError(f"reads has {name!r}, which selecting never asks for: trials without are refused in vain")


def needs_are_as_declared(plugin: Factory) -> None:
    """`needs` names what it relies on: without `probabilities`, picks follow from the order of an image's classes."""
    check_declared(plugin())
    if plugin().needs:
        return
    pool = make_pool()
    picks, voted = (_select(plugin(), shown, 20) for shown in (pool, voting(pool)))
    assert torch.equal(picks, voted), (
        "picks change where logits are votes, but needs lacks 'probabilities': under an svm they would mean nothing"
    )


_STAGE_SHAPES: list[tuple[int, ...]] = [(4, 8, 8), (6, 12), (16,)]
"""Of a convolutional stage, of one of a transformer, and of features."""


def reasons_fit_the_picks(plugin: Factory) -> None:
    """`explain` says something of every pick or of none, changes no pick, and its words name classes that there are."""
    for budget in (1, 20):
        selector, pool = plugin(), make_pool()
        picks = _select(selector, pool, budget)
        given = picks.clone()
        reasons = selector.explain(selector.as_shown(pool), given)
        assert torch.equal(given, picks), "explain modified the picks"
        assert len(reasons) in (0, budget), f"explain gave {len(reasons)} reasons for {budget} picks"
        for reason in reasons:
            assert isinstance(reason, Reason), f"explain gave {type(reason).__name__}, not a Reason"
            assert all(0 <= label < pool.num_classes for label in reason.classes), f"{reason} names classes of no label"
            reason.naming([str(label) for label in range(pool.num_classes)])


def companion_is_as_declared(plugin: Factory) -> None:
    """A selector that reads the outputs of a companion offers one that can be trained; any other offers none."""
    selector = plugin()
    if "companion_outputs" not in selector.reads:
        offered = selector.companion(list(_STAGE_SHAPES))
        assert offered is None, "companion() offers a module, but reads lacks 'companion_outputs': it is never trained"
        return
    with seeded(0, "weights"):
        companion = selector.companion(list(_STAGE_SHAPES))
    assert isinstance(companion, Companion), f"companion() is {type(companion).__name__}, not a Companion"
    for size, progress in ((8, 0.0), (5, 0.5), (1, 0.99)):
        with when(f"batch of {size}, progress {progress}"):
            rng = generator(size, "stages")
            stages = [torch.randn(size, *shape, generator=rng).requires_grad_() for shape in _STAGE_SHAPES]
            task_losses = torch.rand(size, generator=rng)
            before = [tensor.detach().clone() for tensor in (*stages, task_losses)]
            loss = companion.loss(stages, task_losses, progress)
            assert loss.shape == () and loss.isfinite(), f"the loss is {loss}, not one finite number"
            if size == 8:
                loss.backward()
                gradients = {name: p.grad for name, p in companion.named_parameters() if p.requires_grad}
                for name, gradient in gradients.items():
                    assert gradient is not None and gradient.isfinite().all(), f"no finite gradient reaches {name}"
                assert any(g is not None and g.any() for g in gradients.values()), "the loss has no gradient"
            after = (*stages, task_losses)
            assert all(map(torch.equal, before, after)), "loss() modified the stages or the losses"
    companion.eval()
    stages = [torch.randn(4, *shape, generator=generator(0, "stages")) for shape in _STAGE_SHAPES]
    with torch.no_grad():
        outputs = companion(stages)
        alone = torch.cat([companion([stage[i : i + 1] for stage in stages]) for i in range(4)])
    assert outputs.dtype == torch.float32 and len(outputs) == 4, f"outputs are {outputs.dtype} {list(outputs.shape)}"
    assert torch.allclose(outputs, alone, atol=1e-5), "in evaluation mode outputs depend on the batch"


def companion_trains_in_half_precision(plugin: Factory) -> None:
    """Under bfloat16 autocast, in which trials fine-tune where it is fast, a companion's loss is finite."""
    selector = plugin()
    if "companion_outputs" not in selector.reads:
        return
    with seeded(0, "weights"):
        companion = selector.companion(list(_STAGE_SHAPES))
    rng = generator(0, "stages")
    stages = [torch.randn(8, *shape, generator=rng).bfloat16().requires_grad_() for shape in _STAGE_SHAPES]
    with half_precision():
        loss = companion.loss(stages, torch.rand(8, generator=rng), 0.0)
    assert loss.isfinite(), f"the loss is {loss.item()}"
    loss.backward()
    for name, parameter in companion.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"


SELECTOR_CHECKS: tuple[Check, ...] = (
    picks_are_valid,
    same_seed_same_picks,
    picks_need_no_global_generator,
    pool_is_not_modified,
    degenerate_pools_work,
    cold_start_is_as_declared,
    pool_subset_is_taken,
    features_come_in_any_form,
    positions_mean_nothing,
    reads_are_as_declared,
    needs_are_as_declared,
    reasons_fit_the_picks,
    companion_is_as_declared,
    companion_trains_in_half_precision,
)

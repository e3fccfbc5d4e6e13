"""One selection: what a selector is shown, and its answer, checked; alike in a trial and for a person's images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.api import Images, Pool, PoolModel, Reason, Selector
from harness.plugins import registry
from harness.plugins.registry import PluginSpec
from harness.seeding import derive, generator

Outputs = Callable[[int, Tensor | None], PoolModel]
"""(seed of the round, i64 [n] rows of the pool that are shown or None for all) -> the lazy parts of these rows."""


@dataclass(frozen=True, eq=False)
class Bought:
    """The labels that are known when a selection is made.

    Attributes:
        positions: i64 [L], sorted positions in the pool.
        labels: i64 [L], of these, in 0 .. K-1.
        num_classes: K.
    """

    positions: Tensor
    labels: Tensor
    num_classes: int


@dataclass(frozen=True, eq=False)
class Selection:
    """What a selector answered.

    Attributes:
        picks: i64 [budget], distinct positions in order of preference.
        selector: that was asked.
        pool: that it was shown.
        shown: i64 [budget], the picks as positions in that pool.
    """

    picks: Tensor
    selector: Selector
    pool: Pool
    shown: Tensor

    def reasons(self) -> Sequence[Reason]:
        """Why each was picked; empty where the selector does not say."""
        return self.selector.explain(self.pool, self.shown)


def choose(
    spec: PluginSpec, images: Images, bought: Bought, outputs: Outputs, *, budget: int, seed: int, number: int
) -> Selection:
    """Asks a selector for the picks of one round.

    Args:
        spec: of the selector.
        images: N, the pool.
        bought: the labels that may be known.
        outputs: makes what is computed for the pool on request.
        budget: 1 .. N - L.
        seed: of the trial.
        number: of the round, from 1; with the seed it names every draw.

    Raises:
        ValueError: the selector's answer is no selection.
    """
    is_unlabeled = torch.ones(len(images), dtype=torch.bool).index_fill(0, bought.positions, False)
    seed = derive(seed, f"select/{number}")
    selector: Selector = registry.build(spec)
    rows = shown_rows(is_unlabeled, selector.pool_subset, generator(seed, "pool_subset"))
    shown = is_unlabeled if rows is None else is_unlabeled[rows]
    pool = Pool(
        images=images if rows is None else images.subset(rows),
        labeled=(~shown).nonzero().flatten(),
        unlabeled=shown.nonzero().flatten(),
        labels=bought.labels,
        num_classes=bought.num_classes,
        model=outputs(seed, rows),
    )
    pool = selector.as_shown(pool)
    picks = selector.select(pool, budget, rng=generator(seed, "selector"))
    picks = _checked_picks(picks, shown, budget, spec.name)
    return Selection(picks if rows is None else rows[picks], selector, pool, picks)


def shown_rows(is_unlabeled: Tensor, size: int | None, rng: torch.Generator) -> Tensor | None:
    """i64 [n], sorted: the labelled rows of the pool and a uniform draw of `size` others.

    Args:
        is_unlabeled: bool [N].
        size: None for all.
        rng: draws.

    Returns:
        None where every row is shown.
    """
    unlabeled = is_unlabeled.nonzero().flatten()
    if size is None or size >= len(unlabeled):
        return None
    drawn = unlabeled[torch.randperm(len(unlabeled), generator=rng)[:size]]
    return torch.cat([(~is_unlabeled).nonzero().flatten(), drawn]).sort().values


def _checked_picks(picks: Any, unlabeled: Tensor, budget: int, name: str) -> Tensor:
    """A selector's answer, on the CPU; it is checked like any input."""
    if not isinstance(picks, Tensor):
        raise ValueError(f"selector {name!r} returned {type(picks).__name__}, not a tensor int64 [{budget}]")
    if picks.dtype != torch.int64 or picks.shape != (budget,):
        raise ValueError(f"selector {name!r} returned {picks.dtype} {list(picks.shape)}, not int64 [{budget}]")
    picks = picks.cpu()
    if not bool(((picks >= 0) & (picks < len(unlabeled))).all()):
        raise ValueError(f"selector {name!r} returned positions outside 0 .. {len(unlabeled) - 1}")
    if len(picks.unique()) != budget or not bool(unlabeled[picks].all()):
        raise ValueError(f"selector {name!r} returned positions that repeat or are not unlabelled")
    return picks

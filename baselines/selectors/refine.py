"""Selection in turn: several selectors thin out the pool, and one picks from what they leave."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.api import Augmentation, FeatureForm, Pool, Selector

STRATEGIES = (
    *("random", "margin", "badge", "bait", "typiclust", "alfa_mix", "drop_query"),
    *("max_herding", "uncertainty_herding"),
)

_log = logging.getLogger(__name__)


class Refine(Selector):
    """Refine (Cleaning the Pool), Huseljic et al. 2026, https://arxiv.org/abs/2511.22344.

    Progressive filtering, `depth` times: each strategy chooses as many images as will be picked from each of several
    random parts of what is left, and only what any of them chose is left; then `final` picks from it. The first parts
    hold `part_size` images, later ones the share `alpha` of what is left, and never fewer than will be picked. Follows
    the authors' code (dhuseljic/dal-toolbox, publications/cleaning_the_pool; of the paper only the beginning was at
    hand) and its defaults. Deviates: the strategies are ours, in their own default settings, each with its deviations
    and its own form of the features (`normalize`, over the whole pool), which is set in them.
    Costs depth x num_parts selections from up to `part_size` images, minutes for the defaults. A part of no more images
    than are picked leaves nothing to ask for; where no strategy is asked, what `final` picks from was drawn at random.
    Where as many images are picked as may be left, `max_left`, they are drawn at random from what the strategies chose,
    and `final` only puts them in order. A line says so in both cases.

    Args:
        strategies: selectors, each by its name or with its settings.
        final: the selector that picks from what is left.
        depth: R in the paper, how often the pool is filtered, >= 0.
        num_parts: random parts in each filtering, shared evenly by the strategies, at least one each.
        alpha: in (0, 1].
        part_size: >= 1.
        max_left: how many images are left at most, a random choice of those chosen, >= 1.
    """

    def __init__(
        self,
        *,
        strategies: tuple[Selector | str, ...] = STRATEGIES,
        final: Selector | str = "uncertainty_herding",
        depth: int = 5,
        num_parts: int = 100,
        alpha: float = 0.4,
        part_size: int = 5000,
        max_left: int = 10_000,
    ):
        if depth < 0:
            raise ValueError(f"depth = {depth} is not >= 0")
        for name, value in (("num_parts", num_parts), ("part_size", part_size), ("max_left", max_left)):
            if value < 1:
                raise ValueError(f"{name} = {value} is not >= 1")
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha = {alpha} is not in (0, 1]")
        if not strategies:
            raise ValueError("strategies is empty; name at least one selector")
        self.strategies = [_checked(strategy) for strategy in strategies]
        self.final = _checked(final)
        self.depth = depth
        self.num_parts = num_parts
        self.alpha = alpha
        self.part_size = part_size
        self.max_left = max_left
        every = (*self.strategies, self.final)
        self.reads = frozenset().union(*(selector.reads for selector in every))
        self.needs = frozenset().union(*(selector.needs for selector in every))

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        answers = _Answers(pool)
        left, part_size = pool.unlabeled, self.part_size
        parts_each = max(1, self.num_parts // len(self.strategies))
        asked = cut = False
        for _ in range(self.depth):
            chosen: list[Tensor] = []
            for strategy in self.strategies * parts_each:
                part = drawn(left, max(budget, part_size), rng=rng)
                # Of no more images than are picked, all are chosen, whoever is asked.
                chosen.append(answers.choose(strategy, part, budget, rng) if len(part) > budget else part)
                asked |= len(part) > budget
            every = torch.cat(chosen).unique()
            left = drawn(every, max(budget, self.max_left), rng=rng)
            cut |= len(left) == budget < len(every)
            part_size = int(self.alpha * len(left))
        if self.depth and len(pool.unlabeled) > budget:
            self._say_what_is_random(budget, len(left), asked=asked, cut=cut)
        return answers.choose(self.final, left, budget, rng)

    def _say_what_is_random(self, budget: int, num_left: int, *, asked: bool, cut: bool) -> None:
        """Warns where less was chosen than the settings promise; `cut`: only as many are left as are picked."""
        if not asked:
            _log.warning(
                "refine: no strategy was asked, as parts of at most part_size = %d, then alpha x max_left = %d images "
                "leave nothing to choose of %d picks; the %d images that are left were drawn at random",
                self.part_size,
                int(self.alpha * self.max_left),
                budget,
                num_left,
            )
        elif cut:
            _log.warning(
                "refine: %d picks of at most max_left = %d images are drawn at random from what the strategies chose; "
                "a max_left of several times the picks would let the last selector choose",
                budget,
                self.max_left,
            )


def _checked(selector: Selector | str) -> Selector:
    """The selector itself, if it can choose from parts of a pool."""
    if not isinstance(selector, Selector):
        raise ValueError(f"{selector!r} is not a selector; in a configuration, give its name or {{name: ..., ...}}")
    name = type(selector).__name__
    if selector.pool_subset is not None:
        raise ValueError(f"pool_subset of {name} has no effect within refine; set it of refine, or part_size")
    if "companion_outputs" in selector.reads:
        raise ValueError(f"{name} needs a module of its own to be trained, which refine does not offer")
    return selector


def drawn(positions: Tensor, count: int, *, rng: torch.Generator) -> Tensor:
    """i64 [min(n, count)]: a random choice of i64 [n] positions, in ascending order."""
    return positions[torch.randperm(len(positions), generator=rng)[:count]].sort().values


class _Answers:
    """What a pool says of its images, asked once, however often parts of it are shown."""

    def __init__(self, pool: Pool):
        self.pool = pool
        self._shown: dict[FeatureForm | None, Pool] = {}
        self._kept: dict[tuple[Any, ...], Tensor] = {}

    def choose(self, selector: Selector, unlabeled: Tensor, budget: int, rng: torch.Generator) -> Tensor:
        """i64 [budget]: what the selector picks where only these i64 [n], ascending, are unlabelled."""
        rows = torch.cat([self.pool.labeled, unlabeled]).sort().values
        is_labeled = torch.isin(rows, self.pool.labeled)
        part = replace(
            self.pool,
            images=self.pool.images.subset(rows),
            labeled=is_labeled.nonzero().squeeze(1),
            unlabeled=(~is_labeled).nonzero().squeeze(1),
            model=_Rows(self, self._in_form_of(selector), rows),
        )
        return rows[selector.select(part, budget, rng=rng)]

    def _in_form_of(self, selector: Selector) -> Pool:
        """The whole pool as the selector is shown it, the same for all of this form."""
        if selector.normalize not in self._shown:
            self._shown[selector.normalize] = selector.as_shown(self.pool)
        return self._shown[selector.normalize]

    def repeated(self, ask: Callable[..., Tensor], *about: Any) -> Tensor:
        """The answer to a question with a number, such as `stochastic_logits(20)`."""
        question = ask.__name__, *about
        if question not in self._kept:
            self._kept[question] = ask(*about)
        return self._kept[question]


class _Rows:
    """A `PoolModel`: some rows i64 [n] of a pool's answers, features in the form in which it is shown."""

    def __init__(self, answers: _Answers, shown: Pool, rows: Tensor):
        self._answers = answers
        self._pool = answers.pool
        self._shown = shown
        self._rows = rows

    def features(self) -> Tensor:
        return self._shown.features[self._rows]

    def penultimate(self) -> Tensor:
        return self._shown.penultimate[self._rows]

    def last_layer(self, penultimate: Tensor) -> Tensor:
        return self._shown.last_layer(penultimate)

    def logits(self) -> Tensor:
        return self._pool.logits[self._rows]

    def stochastic_logits(self, num_samples: int) -> Tensor:
        return self._answers.repeated(self._pool.stochastic_logits, num_samples)[:, self._rows]

    def augmented_logits(self, num_samples: int, views: Augmentation | None = None) -> Tensor:
        return self._answers.repeated(self._pool.augmented_logits, num_samples, views)[:, self._rows]

    def ssl_loss(self, num_draws: int) -> Tensor:
        return self._answers.repeated(self._pool.ssl_loss, num_draws)[self._rows]

    def companion_outputs(self) -> Tensor:
        return self._pool.companion_outputs[self._rows]

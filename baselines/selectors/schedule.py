"""Two selectors, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.api import Companion, Pool, Reason, Selector


class Schedule(Selector):
    """TCM, Doucet, Estermann, Aczel & Wattenhofer 2024, https://arxiv.org/abs/2403.03728, and any two other selectors.

    The first chooses while there are fewer than `until` labels, the other one from then on; TCM is TypiClust, which
    covers the pool, and then margin sampling, which knows a classifier that is worth asking. A round that begins below
    `until` is the first one's as a whole. Rounds are counted in labels: after a start of S and R rounds of B there are
    S + R B. The moment of the change, 20 labels for each class, is a quotation at second hand: of the paper the summary
    alone could be read, which has a transition point and no number, and no code of the authors was found; so give
    `until` where it decides. TCM's own TypiClust and margin are `typiclust` and `margin`, with their deviations.
    In a configuration the two are given by name, or by name and hyper-parameters; `pool_subset` is set beside them, not
    in them, `normalize` in them, not beside them.

    Args:
        first: chooses while labels are few.
        then: chooses after that.
        until: labels with which the other one takes over, >= 1; None is 20 for each class.
    """

    def __init__(
        self, *, first: Selector | str = "typiclust", then: Selector | str = "margin", until: int | None = None
    ):
        if until is not None and until < 1:
            raise ValueError(f"until = {until} is not >= 1")
        self.first = self._checked("first", first)
        self.then = self._checked("then", then)
        self.until = until
        self.supports_cold_start = self.first.supports_cold_start
        self.reads = self.first.reads | self.then.reads
        self.needs = self.first.needs | self.then.needs
        if "companion_outputs" in self.first.reads & self.then.reads:
            raise ValueError("first and then both train a module beside the classifier; only one of them can")

    @staticmethod
    def _checked(name: str, value: Selector | str) -> Selector:
        if not isinstance(value, Selector):
            raise ValueError(f"{name} = {value!r} must be a Selector; the builder in harness.plugins resolves names")
        if value.pool_subset is not None:
            raise ValueError(f"{name}.pool_subset = {value.pool_subset} is never looked at; set it beside {name}")
        return value

    def _in_turn(self, pool: Pool) -> Selector:
        until = 20 * pool.num_classes if self.until is None else self.until
        return self.first if len(pool.labeled) < until else self.then

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        selector = self._in_turn(pool)
        return selector.select(selector.as_shown(pool), budget, rng=rng)

    def explain(self, pool: Pool, picks: Tensor) -> Sequence[Reason]:
        """See `Selector.explain`."""
        selector = self._in_turn(pool)
        return selector.explain(selector.as_shown(pool), picks)

    def companion(self, stage_shapes: list[tuple[int, ...]]) -> Companion | None:
        """See `Selector.companion`."""
        return self.first.companion(stage_shapes) or self.then.companion(stage_shapes)

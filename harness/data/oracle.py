"""Holds the labels of the pool; reveals them on request and counts each one once.

Nothing else in a trial holds the pool's labels: a selector can know a label only if it was paid for here. An upper
bound, which is no selector, looks at them without paying.
"""

from __future__ import annotations

from typing import NoReturn, Self

import torch
from torch import Tensor


class BudgetExceeded(ValueError):  # noqa: N818 - says what happened, as a user reads it
    """More labels were asked for than the budget allows; none was revealed.

    Attributes:
        asked: how many labels the request would have revealed for the first time.
        used: how many had been revealed before.
        budget: how many may be revealed in all.
    """

    def __init__(self, asked: int, used: int, budget: int):
        super().__init__(
            f"{asked} new labels asked for with {used} of a budget of {budget} used; {budget - used} are left"
        )
        self.asked = asked
        self.used = used
        self.budget = budget


class Oracle:
    """The only holder of the pool's labels.

    Args:
        labels: [N], integers in 0 .. K-1.
        num_classes: K.
        budget: how many labels may be revealed, 0 .. N; None for no limit, until `with_budget` sets one.
    """

    def __init__(self, labels: Tensor, num_classes: int, budget: int | None = None):
        self._labels = labels.to("cpu", torch.int64, copy=True)
        assert self._labels.ndim == 1, "labels are a vector"
        assert bool(((self._labels >= 0) & (self._labels < num_classes)).all()), "labels lie in 0 .. K-1"
        self._revealed = torch.zeros(len(self._labels), dtype=torch.bool)
        self._budget: int | None = None
        self.num_classes = num_classes
        if budget is not None:
            self.with_budget(budget)

    def __len__(self) -> int:
        return len(self._labels)

    def __repr__(self) -> str:
        return f"Oracle(num_images={len(self)}, num_classes={self.num_classes}, used={self.used}, budget={self.budget})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an Oracle is neither copied nor pickled: the labels stay where they are counted")

    @property
    def budget(self) -> int | None:
        """How many labels may be revealed in all; None for no limit."""
        return self._budget

    @property
    def used(self) -> int:
        """How many labels have been revealed, each counted once."""
        return int(self._revealed.sum())

    @property
    def class_counts(self) -> Tensor:
        """i64 [K]: how many images of each class the pool holds, for reports; never for a selector."""
        return torch.bincount(self._labels, minlength=self.num_classes)

    def with_budget(self, budget: int) -> Self:
        """Sets the budget, once, and returns this oracle.

        Raises:
            ValueError: the oracle has a budget already, or `budget` is not in 0 .. N.
        """
        if self._budget is not None:
            raise ValueError(f"the oracle's budget is {self._budget} and cannot be changed to {budget}")
        if not 0 <= budget <= len(self):
            raise ValueError(f"a budget of {budget} labels is not in 0 .. {len(self)}, the size of the pool")
        self._budget = budget
        return self

    def reveal(self, indices: Tensor) -> Tensor:
        """Reveals labels; those revealed before, and repetitions, cost nothing.

        Args:
            indices: i64 [n], positions in 0 .. N-1.

        Returns:
            i64 [n], the labels in the order of `indices`.

        Raises:
            BudgetExceeded: the new labels exceed the budget; nothing is revealed and nothing counted.
            ValueError: `indices` is not a vector of positions in the pool.
        """
        indices = indices.cpu()
        if indices.ndim != 1 or indices.dtype != torch.int64:
            raise ValueError(f"positions are a vector of int64, not {indices.dtype} {list(indices.shape)}")
        outside = indices[(indices < 0) | (indices >= len(self))]
        if len(outside):
            raise ValueError(f"position {int(outside[0])} is not in 0 .. {len(self) - 1}")
        new = indices[~self._revealed[indices]].unique()
        if self._budget is not None and self.used + len(new) > self._budget:
            raise BudgetExceeded(len(new), self.used, self._budget)
        self._revealed[new] = True
        return self._labels[indices]

    def look_at(self, indices: Tensor) -> Tensor:
        """Labels for an upper bound, which is no method: not bought, and counted by whoever looks.

        Args:
            indices: i64 [n], positions in 0 .. N-1.

        Returns:
            i64 [n].
        """
        return self._labels[indices]

    def draw_start(self, size: int, *, stratified: bool, rng: torch.Generator) -> Tensor:
        """Draws a start pool, the same one for every selector. Reveals nothing.

        Args:
            size: how many images, 1 .. N; at least one of each class if stratified.
            stratified: in proportion to the class sizes instead of uniformly.
            rng: the only source of randomness, on the CPU.

        Returns:
            i64 [size], sorted distinct positions.

        Raises:
            ValueError: the size is impossible; names the nearest that is not.
        """
        if stratified:
            return stratified_draw(self._labels, size, rng=rng)
        if not 1 <= size <= len(self):
            raise ValueError(f"{size} start images is not in 1 .. {len(self)}, the size of the pool")
        return torch.randperm(len(self), generator=rng)[:size].sort().values


def stratified_draw(labels: Tensor, size: int, *, rng: torch.Generator, leave: int = 0) -> Tensor:
    """Draws positions in proportion to the class sizes, each class that occurs at least once.

    Quotas are the exact proportions rounded by largest remainder (ties between classes at random), then kept
    between 1 and what the class can give. With equal generators a larger draw contains what a smaller one
    takes of each class.

    Args:
        labels: i64 [N].
        size: how many positions.
        rng: the only source of randomness, on the CPU.
        leave: how many images of each class must stay undrawn.

    Returns:
        i64 [size], sorted distinct positions in 0 .. N-1.

    Raises:
        ValueError: no such draw exists; names the nearest size that does.
    """
    classes, counts = labels.unique(return_counts=True)
    if int(counts.min()) <= leave:
        scarce = int(counts.argmin())
        raise ValueError(
            f"class {int(classes[scarce])} has {int(counts[scarce])} images and at least {leave + 1} are needed"
        )
    if not len(classes) <= size <= int((counts - leave).sum()):
        nearest = len(classes) if size < len(classes) else int((counts - leave).sum())
        raise ValueError(
            f"{size} images cannot be drawn from {len(classes)} classes with {len(labels)} images; nearest: {nearest}"
        )
    order = torch.randperm(len(classes), generator=rng)
    quotas = torch.empty_like(counts)
    quotas[order] = _quotas(counts[order], size, leave)
    drawn = []
    for label, quota in zip(classes.tolist(), quotas.tolist(), strict=True):
        members = (labels == label).nonzero().flatten()
        drawn.append(members[torch.randperm(len(members), generator=rng)[:quota]])
    return torch.cat(drawn).sort().values


def _quotas(counts: Tensor, size: int, leave: int) -> Tensor:
    """i64 [K]: how many to draw of each class; sums to `size`, each in 1 .. counts - leave."""
    exact = size * counts.double() / counts.sum()
    most = counts - leave
    quotas = exact.floor().long().clamp(min=1).minimum(most)
    while (missing := size - int(quotas.sum())) != 0:
        step = 1 if missing > 0 else -1
        movable = quotas < most if missing > 0 else quotas > 1
        gain = (step * (exact - quotas)).masked_fill(~movable, -torch.inf)
        quotas[gain.argmax()] += step
    return quotas

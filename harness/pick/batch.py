"""From wishes and a selector to a batch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from harness.pick import choice
from harness.pick.choice import Pick, Way
from harness.pick.wishes import SHORTLIST, Shortlist, Wishes
from harness.trial.selection import Bought


def next_batch(
    way: Way, features: Tensor, bought: Bought, classes: Sequence[str], wishes: Wishes, *, budget: int, number: int
) -> list[Pick]:
    """The images to label next, the most wanted first.

    Without wishes these are the picks of the selector, as in a trial. With weights it is asked for a shortlist that is
    `SHORTLIST` times as long; where duplicates leave too few of what it gives, for twice as many, and so on.

    Args:
        way: selector, head and seed.
        features: f32 [N, D], the pool.
        bought: the labels so far.
        classes: the names of K classes.
        wishes: beside the selector's.
        budget: images wanted, 1 .. N - L.
        number: of the round, from 1.

    Returns:
        As many as the budget; fewer where all others are duplicates.

    Raises:
        ValueError: balance is wished and there are no labels to predict classes by.
    """
    if wishes.balance and not len(bought.positions):
        raise ValueError("--balance needs labels: without any no class is predicted; leave it out of the first batch")
    unlabeled = len(features) - len(bought.positions)
    size = min(budget * (SHORTLIST if wishes.reorder else 1), unlabeled)
    while True:
        selection, outputs = choice.ask(way, features, bought, budget=size, number=number)
        if not wishes.reorder and wishes.duplicates is None:
            return choice.picks_in_words(selection, way.selector.name, classes)
        rows = selection.picks
        predicted = outputs.predict(features[rows]).argmax(1) if wishes.balance else None
        chosen = Shortlist.of(features, rows, bought, predicted, budget, wishes).greedy()
        if len(chosen) == budget or size == unlabeled:
            break
        size = min(2 * size, unlabeled)
    picks = choice.picks_in_words(selection, way.selector.name, classes)
    return [
        _wished(picks[row], row, None if predicted is None else classes[int(predicted[row])], wishes) for row in chosen
    ]


def _wished(pick: Pick, row: int, predicted: str | None, wishes: Wishes) -> Pick:
    """A pick from a shortlist, with its place there and the class for which it counted."""
    if not wishes.reorder:
        return pick
    counted = f", predicted {predicted}" if predicted else ""
    return Pick(pick.position, pick.score, f"{pick.why}; number {row + 1} in the selector's order{counted}")

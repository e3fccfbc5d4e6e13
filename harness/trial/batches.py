"""How the images of an epoch are divided into steps, wherever something is trained."""

from __future__ import annotations

import torch
from torch import Tensor


def even_batches(count: int, batch_size: int, rng: torch.Generator) -> tuple[Tensor, ...]:
    """The positions 0 .. count-1 in a random order, in as few batches as `batch_size` allows, all about as large.

    Every step of an optimizer weighs the same however many images it saw: a short last batch would give its images
    many times the weight of others, and end each epoch on their noise; one that is left out would make what is learnt
    depend on the remainder of a division. So sizes differ by at most one.

    Args:
        count: images, >= 0.
        batch_size: none is larger, but one of 3 where it is 2 and `count` is odd: batch normalisation cannot train on a
            single image.
        rng: on the CPU.

    Returns:
        ceil(count / batch_size) tensors i64 [B], the larger first; each position is in one of them.
        Of no image, one that is empty.

    Example:
        >>> [len(batch) for batch in even_batches(1800, 256, torch.Generator())]
        [225, 225, 225, 225, 225, 225, 225, 225]
    """
    return torch.randperm(count, generator=rng).tensor_split(num_batches(count, batch_size))


def num_batches(count: int, batch_size: int) -> int:
    """The steps of an epoch, >= 1, as `even_batches` makes them."""
    steps = -(-count // batch_size)
    if batch_size > 1:
        steps = min(steps, count // 2)
    return max(1, steps)


def apart_batches(groups: Tensor, batch_size: int, rng: torch.Generator) -> list[Tensor]:
    """Batches as of `even_batches` over which the images of each group are spread as evenly as they can be.

    No batch holds two images of a group that has no more of them than there are batches. The images are dealt like
    cards, group by group, so that sizes differ by at most one, too.

    Args:
        groups: i64 [N], the group of each image.
        batch_size: as of `even_batches`.
        rng: on the CPU; it draws the order of the groups, of the images in each, and of the batches.
    """
    steps = num_batches(len(groups), batch_size)
    shuffled = torch.randperm(len(groups), generator=rng)
    order = torch.randperm(int(groups.max()) + 1, generator=rng)[groups[shuffled]]
    cards = shuffled[order.argsort(stable=True)]
    return [cards[int(step) :: steps] for step in torch.randperm(steps, generator=rng)]

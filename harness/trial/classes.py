"""The classes among the labelled images: how much each counts, which images are held out, and classes without any."""

from __future__ import annotations

import math

import torch
from torch import Tensor

DRAWN_OF_EACH = 5
"""Images of a class that a draw holds at least, so that each can be held out while others of its class are not."""


def image_weights(labels: Tensor, class_weight: str) -> Tensor:
    """f32 [L], mean 1: what each labelled image's loss counts for.

    Args:
        labels: i64 [L].
        class_weight: `none`: all count alike; `balanced`: every class that occurs counts alike in all, as in
            scikit-learn, L / (number of classes that occur x images of the class).
    """
    if class_weight == "none":
        return torch.ones(len(labels))
    _, places, counts = labels.unique(return_inverse=True, return_counts=True)
    return (len(labels) / (len(counts) * counts.float()))[places]


def folds_of(labels: Tensor, num_folds: int, rng: torch.Generator) -> Tensor:
    """i64 [L] in 0 .. num_folds - 1: stratified folds, none of which holds all images of a class; -1: in no fold.

    The only image of its class is in no fold, because no model could be asked about it that had not seen it.
    """
    _, places, counts = labels.unique(return_inverse=True, return_counts=True)
    order = torch.randperm(len(labels), generator=rng)
    order = order[places[order].argsort(stable=True)]
    folds = torch.empty_like(labels)
    folds[order] = torch.arange(len(labels)) % num_folds
    return torch.where(counts[places] > 1, folds, -1)


def draw_of(labels: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """i64 [min(L, size)]: positions of images drawn at random, with `DRAWN_OF_EACH` of every class that has so many.

    A class that has fewer is drawn whole. Where a uniform draw is such, it is the one.

    Args:
        labels: i64 [L].
        size: at least the number of classes.
        rng: draws one order of the images, of which the first are taken.
    """
    order = torch.randperm(len(labels), generator=rng)
    _, places, counts = labels[order].unique(return_inverse=True, return_counts=True)
    ranks = torch.empty_like(order)
    ranks[places.argsort(stable=True)] = torch.cat([torch.arange(count) for count in counts.tolist()])
    first = ranks.clamp(max=DRAWN_OF_EACH).argsort(stable=True)[:size]  # the first of every class, the second, ...
    return order[first.sort().values]


def with_unseen(scores: Tensor, seen: Tensor, num_labels: int, num_classes: int) -> Tensor:
    """Scores of the classes that occur among L labels become those of all K.

    Each class without a label gets 1 / (L + K) of what the others have together, as the rule of succession gives to
    what was never seen: it is never predicted, and its images cost a finite loss.

    Args:
        scores: f32 [n, S].
        seen: i64 [S], the classes that occur.
        num_labels: L.
        num_classes: K.

    Returns:
        f32 [n, K].
    """
    total = scores.logsumexp(1, keepdim=True)
    whole = (total - math.log(num_labels + num_classes)).repeat(1, num_classes)
    whole[:, seen] = scores
    return whole

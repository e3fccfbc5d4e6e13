"""Validation and test images: the data set's own, or carved from its training images; and classes too rare for that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from harness.data.decode import Prepared
from harness.data.oracle import stratified_draw
from harness.seeding import generator

Aside = Literal["test", "val"]
CARVED: Mapping[Aside, float] = {"test": 0.2, "val": 0.1}
"""The share of the training images that becomes a part where the data set has none and nobody says how many."""

RARE_NAMED = 5
"""So many rare classes are named."""


def without_rare(prepared: Prepared, min_images: int) -> tuple[Prepared, list[str]]:
    """The data set without the classes that have fewer than `min_images` training images, and a line, or none, of them.

    Rows stay where they are; the label of one whose class is gone is -1.

    Raises:
        ValueError: fewer than two classes would be left.
    """
    names = prepared.class_names
    if min_images <= 1 or not names:
        return prepared, []
    counts = torch.bincount(prepared.labels["train"], minlength=len(names))
    kept = counts >= min_images
    if bool(kept.all()):
        return prepared, []
    if int(kept.sum()) < 2:
        most = int(counts.sort(descending=True).values[1])
        raise ValueError(f"data.min_images: {min_images} leaves {int(kept.sum())} of the classes; at most {most}")
    relabel = torch.where(kept, kept.cumsum(0) - 1, -1)
    left = {split: relabel[labels] for split, labels in prepared.labels.items()}
    few = _shown((~kept).nonzero().flatten().tolist(), counts, names)
    return (
        replace(
            prepared,
            class_names=tuple(name for name, keep in zip(names, kept.tolist(), strict=True) if keep),
            labels=MappingProxyType(left),
        ),
        [f"data.min_images: {min_images} leaves out {few}"],
    )


def _shown(labels: Sequence[int], counts: Tensor, names: Sequence[str]) -> str:
    """`2 classes: 'a' (1 image), 'b' (3 images)`, some of many."""
    some = [f"{names[k]!r} ({int(counts[k])} image{'s' * (int(counts[k]) != 1)})" for k in labels[:RARE_NAMED]]
    more = ["..."] if len(labels) > RARE_NAMED else []
    return f"{len(labels)} class{'es' * (len(labels) != 1)}: {', '.join(some + more)}"


def set_aside(
    prepared: Prepared, sizes: Mapping[Aside, int | float | None], min_images: int, split_seed: int
) -> tuple[dict[Aside, Tensor], Tensor]:
    """The rows of the parts, and of the training images that are left, i64 each.

    Args:
        prepared: the data set.
        sizes: of each part, in the order in which they are taken: a share or a number of training images; None: the
            data set's own, or else a share of `CARVED`; 0: none.
        min_images: classes with fewer training images are not carved.
        split_seed: of the draws, which are stratified.

    Raises:
        ValueError: a size is impossible, or a class has too few images; names it and the remedy.
    """
    labels, names = prepared.labels["train"], prepared.class_names
    rest = (labels >= 0).nonzero().flatten()
    carved = [part for part, size in sizes.items() if part not in prepared.images and size != 0]
    counts = torch.bincount(labels[rest], minlength=len(names))
    common = counts >= min_images
    _refuse_rare(counts, common, carved, names)
    rows = {}
    for part, size in sizes.items():
        if size == 0:
            rows[part] = rest[:0]
        elif part in carved:
            carving = _Carving(part, CARVED[part] if size is None else size, names, split_seed)
            rows[part], rest = carving.of(labels, rest, common)
        elif size is None:
            rows[part] = (prepared.labels[part] >= 0).nonzero().flatten()
        else:
            own = f"the data set has {len(prepared.labels[part])} {part} images"
            raise ValueError(f"data.{part}: {size} would be carved, and {own}; leave it out")
    return rows, rest


def _refuse_rare(counts: Tensor, common: Tensor, carved: Sequence[Aside], names: Sequence[str]) -> None:
    needed = 1 + len(carved)
    rare = (common & (counts < needed)).nonzero().flatten().tolist()
    if rare:
        parts = " and ".join(f"one to set aside for {part} (data.{part})" for part in carved)
        raise ValueError(
            f"data: too few training images in {_shown(rare, counts, names)}; a class needs {needed}, one to learn "
            f"from and {parts}: add images, or set data.min_images: {needed}, which leaves such classes out (beside "
            "data.rare: train, it only trains on them)"
        )


@dataclass(frozen=True)
class _Carving:
    """A part that is carved from the training images, as a share or a number of them."""

    part: Aside
    size: float | int
    names: Sequence[str]
    split_seed: int

    def of(self, labels: Tensor, rows: Tensor, common: Tensor) -> tuple[Tensor, Tensor]:
        """A stratified part of `rows`, of classes that are `common` (bool [K]), and the rest."""
        open_to_draw = common[labels[rows]].nonzero().flatten()
        theirs = labels[rows][open_to_draw]
        size = self._number(theirs, len(rows))
        drawn = open_to_draw[
            stratified_draw(theirs, size, rng=generator(self.split_seed, f"split/{self.part}"), leave=1)
        ]
        left = torch.ones(len(rows), dtype=torch.bool)
        left[drawn] = False
        return rows[drawn], rows[left]

    def _number(self, labels: Tensor, total: int) -> int:
        classes, counts = labels.unique(return_counts=True)
        if not len(classes):
            raise ValueError(f"data.{self.part}: every class is rare, so none can be set aside; lower data.min_images")
        if int(counts.min()) < 2:
            name = self.names[int(classes[counts.argmin()])]
            raise ValueError(
                f"data.{self.part}: class {name!r} has 1 image left that is not set aside for other parts, and 2 are "
                "needed; set less aside, or leave the class out by data.min_images"
            )
        least, most = len(classes), int((counts - 1).sum())
        if isinstance(self.size, float) and not 0 < self.size < 1:
            raise ValueError(
                f"data.{self.part}: {self.size} is not a share in (0, 1); as a number of images, {least} .. {most}"
            )
        number = self.size if isinstance(self.size, int) else round(self.size * total)
        if not least <= number <= most:
            bound = f"at least {self._said(least, total)}" if number < least else f"at most {self._said(most, total)}"
            why = "one image of each class" if number < least else "all but one image of each class"
            raise ValueError(
                f"data.{self.part}: {self.size} sets aside {number} of {total} training images; {bound}, {why}"
            )
        return number

    def _said(self, number: int, total: int) -> str:
        """A number of images, as a share where the size is one."""
        if isinstance(self.size, int):
            return str(number)
        rounded = math.ceil if self.size * total < number else math.floor
        return f"{rounded(number / total * 1e4) / 1e4} ({number} images)"

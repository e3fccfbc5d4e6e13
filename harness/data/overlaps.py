"""Images that are, pixel for pixel, in two parts of a trial's data, such as test images that are trained on, or in one
under two labels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.data.decode import Prepared
from harness.messages import count

EXAMPLES = 3
"""So many pairs are named."""

TRAINING = "training"
PARTS = {"test": "test", "val": "validation", TRAINING: "training", "pool": "pool", "unlabeled": "unlabelled"}
"""What parts of the data are called; an image that is in two of them belongs to the one that stands first here. The
training images are the pool and the validation images, where these were carved from it."""


@dataclass(frozen=True)
class Overlap:
    """Images of one part that are also in another.

    Attributes:
        part: the one, as `PARTS` has it.
        other: the other, as `PARTS` has it.
        count: images of the one, of which each is in the other too.
        total: images of the one.
        relabeled: those of them that have no equal with the same label in the other part.
        examples: names of equal images, of the one and of the other.
    """

    part: str
    other: str
    count: int
    total: int
    relabeled: int
    examples: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        label = f", {self.relabeled} of them under another label" if self.relabeled else ""
        pairs = ", ".join(f"{one} = {other}" for one, other in self.examples)
        one, other = PARTS[self.part], PARTS[self.other]
        return f"{self.count:,} of {self.total:,} {one} images are {other} images too{label}: such as {pairs}"


def home_of(prepared: Prepared, part: str) -> Literal["train", "val", "test", "unlabeled"]:
    """The split of the data set in which the images of a part lie."""
    return part if part in prepared.images else "train"  # type: ignore[return-value]


def _has_twins(prepared: Prepared) -> bool:
    return any(len(twins) for twins in prepared.twins.values())


def find_overlaps(prepared: Prepared, rows: Mapping[str, Tensor]) -> list[Overlap]:
    """What parts of a trial's data have in common.

    Args:
        prepared: the data set.
        rows: part -> i64 [n], its images, as rows of `home_of` this part.
    """
    if not _has_twins(prepared):
        return []
    pairs = list(itertools.combinations([part for part in PARTS if part in rows and part != TRAINING], 2))
    if _is_carved(prepared, rows):
        rows = {**rows, TRAINING: torch.cat([rows["pool"], rows["val"]])}
        pairs = [("test", TRAINING), *(pair for pair in pairs if pair not in (("test", "val"), ("test", "pool")))]
    overlaps = [_overlap(prepared, one, rows[one], other, rows[other]) for one, other in pairs]
    return [overlap for overlap in overlaps if overlap.count]


def _is_carved(prepared: Prepared, rows: Mapping[str, Tensor]) -> bool:
    """Whether validation images were taken from the training images: of both people know that they are these."""
    return len(rows["val"]) > 0 and home_of(prepared, "val") == "train"


def say_disputed(prepared: Prepared, rows: Mapping[str, Tensor]) -> list[str]:
    """A line on each part that has an image more than once and under different labels; `rows` as above."""
    if not _has_twins(prepared):
        return []
    parts = {part: theirs for part, theirs in rows.items() if home_of(prepared, part) in prepared.labels}
    if _is_carved(prepared, rows):
        parts = {TRAINING: torch.cat([parts.pop("pool"), parts.pop("val")]), **parts}
    said = []
    for part, theirs in parts.items():
        home = home_of(prepared, part)
        if not len(theirs) or not len(prepared.labels[home]):
            continue
        groups, labels = _groups(prepared, part, theirs), prepared.labels[home][theirs]
        kinds, numbers = torch.stack([groups, labels], 1)[groups >= 0].unique(dim=0)[:, 0].unique(return_counts=True)
        disputed = kinds[numbers > 1]
        if not len(disputed):
            continue
        examples = []
        for group in disputed[:EXAMPLES]:
            places = (groups == group).nonzero().flatten()
            other = places[labels[places] != labels[places[0]]][0]
            pair = [prepared.image_name(home, int(theirs[place])) for place in (places[0], other)]
            examples.append(" = ".join(pair))
        number = int(torch.isin(groups, disputed).sum())
        what = f"{number:,} of {len(theirs):,} {PARTS[part]} images are equal to others under another label"
        said.append(f"{what}: such as {', '.join(examples)}")
    return said


def number_doubled(prepared: Prepared, rows: Mapping[str, Tensor]) -> int:
    """How many images of all parts are in a part too that stands behind theirs in `PARTS`; `rows` as above."""
    if not _has_twins(prepared):
        return 0
    behind = {part: rows[part] for part in PARTS if part in rows}
    number = 0
    while len(behind) > 1:
        part = next(iter(behind))
        own = behind.pop(part)
        number += len(own) - len(_outside(prepared, part, own, behind))
    return number


@dataclass(frozen=True, eq=False)
class Apart:
    """Rows of images that may be learnt from or validated with; and what was taken out of them.

    Attributes:
        val: i64, of validation images.
        rest: i64, of training images.
        unlabeled: i64, of unlabelled ones; None: all.
        notes: what was taken out, a line each.
        dropped: how many images that were.
    """

    val: Tensor
    rest: Tensor
    unlabeled: Tensor | None = None
    notes: tuple[str, ...] = ()
    dropped: int = 0


def without_twins(prepared: Prepared, test: Tensor, val: Tensor, rest: Tensor) -> Apart:
    """Takes out of the validation images what is tested with, and out of the training images both."""
    kept_val = _outside(prepared, "val", val, {"test": test})
    if len(val) and not len(kept_val):
        raise ValueError("duplicates: drop leaves no validation image; use report or error")
    aside = {"test": test, "val": kept_val}
    kept_rest = _outside(prepared, "pool", rest, aside)
    notes = {"validation": len(val) - len(kept_val), "training": len(rest) - len(kept_rest)}
    unlabeled = None
    if "unlabeled" in prepared.images:
        every = torch.arange(len(prepared.images["unlabeled"]))
        unlabeled = _outside(prepared, "unlabeled", every, aside)
        notes["unlabelled"] = len(every) - len(unlabeled)
        if not notes["unlabelled"]:
            unlabeled = None
    left = torch.bincount(prepared.labels["train"][kept_rest], minlength=len(prepared.class_names))
    if int(left.min()) == 0:
        name = prepared.class_names[int(left.argmin())]
        raise ValueError(f"duplicates: drop leaves no training image of class {name!r}; use report or error")
    said = [f"{count(number, f'{part} image')} dropped, which are tested or validated with too" for part, number in
            notes.items() if number]  # fmt: skip
    return Apart(kept_val, kept_rest, unlabeled, tuple(said), sum(notes.values()))


def _outside(prepared: Prepared, part: str, rows: Tensor, others: Mapping[str, Tensor]) -> Tensor:
    """Those of i64 [n] rows of a part that are not in other parts too, part -> their rows."""
    seen = torch.cat([_groups(prepared, other, theirs) for other, theirs in others.items()])
    return rows[~torch.isin(_groups(prepared, part, rows), seen[seen >= 0])]


def _groups(prepared: Prepared, part: str, rows: Tensor) -> Tensor:
    return prepared.groups(home_of(prepared, part))[rows]


def _overlap(prepared: Prepared, one: str, rows: Tensor, other: str, their_rows: Tensor) -> Overlap:
    ours, theirs = home_of(prepared, one), home_of(prepared, other)
    groups, their_groups = prepared.groups(ours)[rows], prepared.groups(theirs)[their_rows]
    shared = torch.isin(groups, their_groups[their_groups >= 0])
    theirs_too = torch.isin(their_groups, groups[shared])
    twins: dict[int, list[int]] = {}
    for row, group in zip(their_rows[theirs_too].tolist(), their_groups[theirs_too].tolist(), strict=True):
        twins.setdefault(group, []).append(row)
    common = {row: twins[group] for row, group in zip(rows[shared].tolist(), groups[shared].tolist(), strict=True)}
    relabeled = 0
    if ours in prepared.labels and theirs in prepared.labels:
        labels = prepared.labels[ours][rows[shared]].tolist()
        their_labels = prepared.labels[theirs][their_rows[theirs_too]].tolist()
        agreed = set(zip(their_groups[theirs_too].tolist(), their_labels, strict=True))
        relabeled = sum(pair not in agreed for pair in zip(groups[shared].tolist(), labels, strict=True))
    shown = sorted(common)[:EXAMPLES]
    pairs = [(prepared.image_name(ours, row), prepared.image_name(theirs, common[row][0])) for row in shown]
    return Overlap(one, other, len(common), len(rows), relabeled, tuple(pairs))

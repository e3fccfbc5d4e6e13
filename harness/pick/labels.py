"""The labels so far: tables as people write them, and exports of Label Studio."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import torch

from harness.config.schema import ConfigError
from harness.messages import closest
from harness.tables import Columns, class_names, list_images, loose_names, plain_path, read_table, said_of_columns
from harness.trial.selection import Bought

OF_A_BATCH = ("rank", "score", "why")
"""Columns that `pick` itself writes, and does not read."""

SERVED = "?d="
"""What stands before the path in the URL of an image that Label Studio serves, also in its tables."""

PROBLEMS_SHOWN = 10
"""Problems of one kind that are told one by one."""


@dataclass(frozen=True)
class Line:
    """One image of a file of labels.

    Attributes:
        place: of it in the file, for messages.
        path: of the image, as written.
        label: as written; empty where it has none yet.
    """

    place: str
    path: str
    label: str


class Known:
    """The images of a pool by the ways in which people write their paths.

    These are relative or absolute, URLs of Label Studio, and, as in a data set's table, with or without the ending and
    in any case of their letters.

    Args:
        names: of the pool's images, distinct.
        folder: that the names are below.
    """

    def __init__(self, names: Sequence[str], folder: Path):
        self._positions = {plain_path(name): position for position, name in enumerate(names)}
        self._names = names
        self._folder = plain_path(str(folder.absolute()))
        self._roots = [f"{plain_path(str(root))}/" for root in (folder, folder.absolute(), folder.resolve())]

    @cached_property
    def _loosely(self) -> Mapping[str, list[int]]:
        """Name in small letters, with and without its ending -> positions."""
        loosely: dict[str, list[int]] = {}
        for name, position in self._positions.items():
            for one in loose_names(name):
                loosely.setdefault(one, []).append(position)
        return loosely

    def position(self, path: str) -> int | None:
        """Of the image; None where no image is called so, or several are."""
        for written in self._written(path):
            if (place := self._positions.get(written)) is not None:
                return place
        alike = self._alike(path)
        return alike[0] if len(alike) == 1 else None

    def advice(self, path: str) -> str:
        """What was meant, if several images are called so, or one in another folder is."""
        if len(alike := self._alike(path)) > 1:
            return f" alone: it may be {self._names[alike[0]]!r} or {self._names[alike[1]]!r}; write more of its path"
        base = PurePosixPath(plain_path(path)).name
        same = [name for name in self._names if PurePosixPath(name).name == base]
        return f"; did you mean {same[0]!r}?" if same else ""

    def _written(self, path: str) -> list[str]:
        """The names, from the pool's folder, that may be meant."""
        written = plain_path(unquote(path.rpartition(SERVED)[2]) if SERVED in path else path)
        whole = os.path.normpath(os.path.join(self._folder, written))
        ways = (written, whole)
        return [way.removeprefix(root) for way in ways for root in ("", *self._roots) if way.startswith(root)]

    def _alike(self, path: str) -> list[int]:
        for written in self._written(path):
            if alike := self._loosely.get(written.casefold()):
                return alike
        return []


def read_labels(files: Iterable[Path], known: Known, column: str | None = None) -> tuple[dict[int, str], list[str]]:
    """Position in the pool -> class name, of all files together; and what is to be said of these.

    What stands for none, and what a number is called, is decided by the labels of all files.

    Raises:
        ConfigError: every path that is unknown, stands twice in one file, or has two labels.
    """
    labels: dict[int, str] = {}
    places: dict[int, str] = {}
    unknown, doubled, contradicting = [], [], []
    read = [lines_of(file, column) for file in files]
    called, decided = class_names([line.label for lines, _ in read for line in lines])
    for lines, _ in read:
        seen: dict[int, str] = {}
        for line in lines:
            label = called.get(line.label, line.label)
            position = known.position(line.path)
            if position is None:
                unknown.append(f"{line.place}: no image {line.path!r}{known.advice(line.path)}")
                continue
            if label and labels.get(position, label) != label:
                before = f"{labels[position]!r} in {places[position]}"
                contradicting.append(f"{line.place}: {line.path!r} is {label!r} here and {before}")
            elif position in seen:
                doubled.append(f"{line.place}: {line.path!r} stands twice, before in {seen[position]}")
            seen[position] = line.place
            if label:
                labels.setdefault(position, label)
                places.setdefault(position, line.place)
    if problems := [text for kind in (unknown, doubled, contradicting) for text in _first(kind)]:
        raise ConfigError(problems)
    return labels, [*(note for _, said in read for note in said), *(f"--labels: {note}" for note in decided)]


def _first(problems: Sequence[str]) -> list[str]:
    rest = len(problems) - PROBLEMS_SHOWN
    return [*problems[:PROBLEMS_SHOWN], *([f"... and {rest} more of this kind"] if rest > 0 else [])]


def lines_of(file: Path, column: str | None = None) -> tuple[list[Line], list[str]]:
    """The images of a file of labels, and what is to be said of it.

    Args:
        file: any table that `harness.tables` reads, such as a batch of `pick`; or an export of Label Studio, as JSON.
        column: of the labels; None finds it.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it cannot be read.
    """
    table = read_table(file)
    listing = list_images(
        table, Columns(label=column), ("path", "label"), as_written=True, settings={"label": "--label-column"}
    )
    lines = [Line(f"{file}: {table.unit} {row.number}", row.path, row.label) for row in listing.rows]
    return lines, [*listing.notes, *said_of_columns(file, listing, but=OF_A_BATCH)]


def bought(labels: Mapping[int, str], classes: Sequence[str]) -> Bought:
    """The labels as a selector gets them.

    Raises:
        ConfigError: a label is none of the classes.
    """
    if unknown := sorted(set(labels.values()) - set(classes)):
        raise ConfigError(_first([f"no class {label!r}; {closest(label, classes)}" for label in unknown]))
    positions = sorted(labels)
    numbers = {name: number for number, name in enumerate(classes)}
    return Bought(
        torch.tensor(positions, dtype=torch.int64),
        torch.tensor([numbers[labels[position]] for position in positions], dtype=torch.int64),
        len(classes),
    )

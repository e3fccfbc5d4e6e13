"""The rows of a table of images, with the files that they name."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from baselines.datasets.folders import ImageFile
from baselines.datasets.table import LABEL_NAMES, PATH_NAMES, SPLIT_NAMES, Table, is_image_name
from harness.image_file import EXTENSIONS

ROWS_SHOWN = 3
"""Of many missing files so many are named."""


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns; None finds each by its name.

    Attributes:
        path: of the files.
        label: of the classes.
        split: of the parts.
    """

    path: str | None = None
    label: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Listed:
    """An image as a table has it.

    Attributes:
        row: its number in the table.
        image: its file.
        label: the name of its class; empty where it has none.
        split: as it stands there; empty without such a column.
    """

    row: int
    image: ImageFile
    label: str
    split: str


@dataclass(frozen=True)
class Listing:
    """What a table lists.

    Attributes:
        images: in its order.
        notes: what was decided by content, a line each.
    """

    images: Sequence[Listed]
    notes: tuple[str, ...]


def listed_images(table: Table, roots: Sequence[Path], columns: Columns, *, with_labels: bool = True) -> Listing:
    """The images of a table.

    Args:
        table: as it was read.
        roots: the folder to which paths refer; if there are more, those in which a file is looked for next.
        columns: where paths, labels and splits stand.
        with_labels: whether labels are looked for.

    Raises:
        ValueError: a column is not found, or a file is missing, ambiguous or named twice; names rows.
    """
    path = _path_column(table, columns.path)
    split = table.column("split", columns.split, SPLIT_NAMES)
    label = _label_column(table, columns.label, (path, split)) if with_labels else None
    folders = [_Files(root) for root in roots]
    listed: list[Listed] = []
    missing: list[tuple[int, str]] = []
    rows: dict[str, int] = {}
    for row, cells in table.rows:
        if not cells[path]:
            raise ValueError(f"{table.file}: row {row} names no file: {table.columns[path]} is empty")
        paths = folders[0].called(cells[path]) or [one for more in folders[1:] for one in more.called(cells[path])]
        if len(paths) > 1:
            names = " or ".join(os.path.relpath(one, roots[0]) for one in paths)
            raise ValueError(f"{table.file}: row {row}: {cells[path]!r} may be {names}; write more of its path")
        if not paths:
            missing.append((row, cells[path]))
            continue
        first = rows.setdefault(paths[0], row)
        if first != row:
            raise ValueError(f"{table.file}: row {row} names the file of row {first} again: {cells[path]}")
        image = ImageFile(paths[0], _status(paths[0]))
        values = ("" if place is None else unicodedata.normalize("NFC", cells[place]) for place in (label, split))
        listed.append(Listed(row, image, *values))
    if missing:
        raise ValueError(f"{table.file}: {_missing(missing, len(table.rows), roots[0])}")
    return Listing(listed, (*table.notes, *_unread(table, path, label, split)))


def _unread(table: Table, path: int, label: int | None, split: int | None) -> list[str]:
    """What is to be said of columns that were not read, a line or none."""
    read = {"files": path, "labels": label, "splits": split}
    unread = [name for place, name in enumerate(table.columns) if place not in read.values()]
    if not unread:
        return []
    said = ", ".join(
        f"{what} are those of {table.columns[place]!r}" for what, place in read.items() if place is not None
    )
    return [f"{table.file}: {said}; not read: {', '.join(map(repr, unread))}"]


def _path_column(table: Table, chosen: str | None) -> int:
    place = table.column("path", chosen, PATH_NAMES)
    if place is not None:
        return place
    (_, cells), *_ = table.rows
    like_files = [place for place, cell in enumerate(cells) if is_image_name(cell)]
    if len(like_files) == 1:
        return like_files[0]
    raise ValueError(
        f"{table.file}: which column names the files? Set path_column to one of {', '.join(table.columns)}"
    )


def _label_column(table: Table, chosen: str | None, others: Sequence[int | None]) -> int:
    place = table.column("label", chosen, LABEL_NAMES)
    if place is not None:
        return place
    left = [place for place in range(len(table.columns)) if place not in others]
    if len(left) == 1:
        return left[0]
    if not left:
        raise ValueError(f"{table.file}: there is no column of labels; `labels: none` takes images without any")
    names = ", ".join(table.columns[place] for place in left)
    raise ValueError(
        f"{table.file}: which column holds the labels? Set label_column to one of {names}, or `labels: none` for none"
    )


def _missing(missing: Sequence[tuple[int, str]], total: int, root: Path) -> str:
    some = ", ".join(f"row {row} {name!r}" for row, name in missing[:ROWS_SHOWN])
    more = f" and {len(missing) - ROWS_SHOWN} more" if len(missing) > ROWS_SHOWN else ""
    hint = "; is that the folder? Set root" if len(missing) == total else ""
    return f"{len(missing)} of {total} files are not in {root.absolute()}: {some}{more}{hint}"


class _Files:
    """Files below a folder as tables name them: with or without their ending, and in any case of its letters."""

    def __init__(self, root: Path):
        self._root = root
        self._folders: dict[str, Mapping[str, list[str]]] = {}

    def called(self, name: str) -> list[str]:
        """The paths of the files that are meant; none, or several where the name is not enough."""
        path = os.path.join(self._root, name)
        if os.path.isfile(path):
            return [os.path.normpath(path)]
        if "\\" in name:  # of Windows
            path = os.path.join(self._root, name.replace("\\", "/"))
        folder, base = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = _by_name(folder)
        return self._folders[folder].get(_key(base), [])


def _by_name(folder: str) -> dict[str, list[str]]:
    """Name, with and without its ending -> paths of the images in a folder."""
    names: dict[str, list[str]] = {}
    for file in sorted(_names(folder)):
        path = os.path.normpath(os.path.join(folder, file))
        if file.lower().endswith(EXTENSIONS) and os.path.isfile(path):
            for name in {_key(file), _key(os.path.splitext(file)[0])}:
                names.setdefault(name, []).append(path)
    return names


def _names(folder: str) -> Iterable[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _status(path: str) -> os.stat_result:
    try:
        status = os.stat(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is not a file")
    return status


def names_of(labels: Iterable[str]) -> tuple[str, ...]:
    """The classes, sorted: as numbers where all are whole numbers, else as text."""
    names = set(labels)
    try:
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    except ValueError:
        return tuple(sorted(names))

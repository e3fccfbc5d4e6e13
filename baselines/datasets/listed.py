"""The rows of a table of images, with the files that they name."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.image_file import EXTENSIONS, ImageFile, file_status, is_clutter, leads_nowhere
from harness.tables import Columns, list_images, loose_names, read_table, said_of_columns

ROWS_SHOWN = 3
"""Of many missing files so many are named."""

FOLDERS_SEARCHED = 1000
"""Where no file of a table is in its folder, about so many others are looked into."""


@dataclass(frozen=True)
class Listed:
    """An image as a table has it.

    Attributes:
        place: where it stands in the table, such as `row 3`.
        image: its file.
        label: the name of its class; empty where it has none.
        split: as it stands there; empty without such a column.
    """

    place: str
    image: ImageFile
    label: str
    split: str


def listed_images(
    file: Path, roots: Sequence[Path], columns: Columns, *, with_labels: bool = True
) -> tuple[list[Listed], list[str]]:
    """The images of a table, in its order; and what was decided by content, a line each.

    Args:
        file: the table.
        roots: the folder to which paths refer; if there are more, those in which a file is looked for next.
        columns: where paths, labels and splits stand.
        with_labels: whether labels are looked for.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: a column is not to be had, or a file is missing, ambiguous or named twice; names rows.
    """
    table = read_table(file)
    needs, hint = ("path", "label") if with_labels else ("path",), "; `labels: none` takes images without any"
    listing = list_images(table, columns, needs, with_labels=with_labels, hint=hint)
    folders = [_Files(root) for root in roots]
    listed: list[Listed] = []
    missing: list[tuple[str, str]] = []
    places: dict[str, str] = {}
    for row in listing.rows:
        place = f"{table.unit} {row.number}"
        if not row.path:
            raise ValueError(f"{file}: {place} names no file: {listing.columns['path']} is empty")
        paths = folders[0].called(row.path) or [one for more in folders[1:] for one in more.called(row.path)]
        if len(paths) > 1:
            names = " or ".join(os.path.relpath(one, roots[0]) for one in paths)
            raise ValueError(f"{file}: {place}: {row.path!r} may be {names}; write more of its path")
        if not paths:
            missing.append((place, row.path))
            continue
        first = places.setdefault(paths[0], place)
        if first != place:
            raise ValueError(f"{file}: {place} names the file of {first} again: {row.path}")
        listed.append(Listed(place, ImageFile(paths[0], file_status(paths[0])), row.label, row.split))
    if missing:
        raise ValueError(f"{file}: {_missing(missing, len(table.rows), roots[0], file.parent)}")
    return listed, [*listing.notes, *said_of_columns(file, listing)]


def unnamed(listed: Sequence[Listed]) -> int:
    """How many images lie beside those of a table, in the same folders, without a row in it."""
    named = {one.image.path for one in listed}
    folders = {os.path.dirname(path) for path in named}
    there = {path for folder in folders for paths in _by_name(folder).values() for path in paths}
    there = {path for path in there if not is_clutter(os.path.basename(path))}
    return len(there - named)


def _missing(missing: Sequence[tuple[str, str]], total: int, root: Path, beside: Path) -> str:
    some = ", ".join(f"{place} {name!r}" for place, name in missing[:ROWS_SHOWN])
    more = f" and {len(missing) - ROWS_SHOWN} more" if len(missing) > ROWS_SHOWN else ""
    hint = ""
    if len(missing) == total:
        inner = _folder_with(missing[0][1], (root, beside))
        hint = f"; they are in {inner}: set root to that" if inner else "; is that the folder? Set root"
    return f"{len(missing)} of {total} files are not in {root.absolute()}: {some}{more}{hint}"


def _folder_with(name: str, places: Iterable[Path]) -> str | None:
    """The first folder at or below these, near ones first, in which a table's file lies."""
    folders = [str(place) for place in places if place.is_dir()]
    for folder in folders:  # which grows
        if _Files(Path(folder)).called(name):
            return folder
        if len(folders) < FOLDERS_SEARCHED:
            inner = (os.path.join(folder, one) for one in sorted(_names(folder)) if not is_clutter(one))
            folders += [one for one in inner if os.path.isdir(one) and not os.path.islink(one)]
    return None


class _Files:
    """Files below a folder as tables name them: with or without their ending, and in any case of its letters."""

    def __init__(self, root: Path):
        self._root = root
        self._folders: dict[str, Mapping[str, list[str]]] = {}

    def called(self, name: str) -> list[str]:
        """The paths of the files that are meant; none, or several where the name is not enough."""
        path = os.path.join(self._root, name)
        if os.path.isfile(path) or leads_nowhere(path):
            return [os.path.normpath(path)]
        folder, base = os.path.split(os.path.join(self._root, name.replace("\\", "/")))  # of Windows
        if folder not in self._folders:
            self._folders[folder] = _by_name(_as_on_disk(folder))
        return self._folders[folder].get(_key(base), [])


def _as_on_disk(folder: str) -> str:
    """A folder whose parts are spelt as on disk, whatever the case and the form of their letters."""
    if os.path.isdir(folder) or folder == os.path.dirname(folder):
        return folder
    above, name = os.path.split(folder)
    above = _as_on_disk(above)
    alike = [one for one in _names(above) if _key(one) == _key(name)]
    return os.path.join(above, alike[0] if len(alike) == 1 else name)


def _by_name(folder: str) -> dict[str, list[str]]:
    """Name, with and without its ending -> paths of the images in a folder."""
    names: dict[str, list[str]] = {}
    for file in sorted(_names(folder)):
        path = os.path.normpath(os.path.join(folder, file))
        if file.lower().endswith(EXTENSIONS) and (os.path.isfile(path) or leads_nowhere(path)):
            for name in loose_names(unicodedata.normalize("NFC", file)):
                names.setdefault(name, []).append(path)
    return names


def _names(folder: str) -> Iterable[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()

"""A data set of Hugging Face `datasets` on disk: a folder of `save_to_disk`, or Parquet files."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.datasets.array_labels import labeled_rows, labels_of
from baselines.datasets.image_files import common_size, sizes_of_images, split_of_images
from harness.api import Dataset, Source, Split
from harness.tables import SPLIT_WORDS, split_called, splits_named, text_of

IMAGES, LABELS = ("image", "img", "images", "picture"), ("label", "labels", "fine_label", "target", "class", "category")
"""Columns that hold images and labels, where no other is named and the files do not say what they hold."""

NUMBERED = re.compile(r"(?P<stem>.*)-(?P<number>\d+)-of-(?P<total>\d+)(-[0-9a-f]+)?\.parquet", re.DOTALL)
"""How the hub calls one of several files; in older data sets a hash stands behind the number."""

NAMES_SHOWN = 3
"""So many kinds of files that make one split are named."""


class HuggingFace(Dataset):
    """A data set of Hugging Face `datasets` on disk: a folder of `save_to_disk`, or Parquet files with image bytes.

    A folder of one split or of several (train, validation, test, unsupervised), or Parquet files whose names or folders
    are called like the splits, as on the hub: `data/train-00000-of-00002.parquet`, `default/train/0000.parquet`. Read
    by pyarrow, so that the package `datasets` is not needed; files are mapped, and Parquet files are read by row
    groups. Of files so numbered all must be there, and of several configurations `path` names the folder of one. Images
    are bytes that Pillow reads, or paths of files. Classes have the names that the files hold (ClassLabel), or the
    labels are read as by `npz`. A split without the column of labels, or whose labels are all -1, as in published test
    sets without answers, is left out, which is said.

    Args:
        path: the folder, or a Parquet file.
        image: the column of images; None finds it.
        label: the column of labels; None finds it where there is one.
        size: H and W of the images, see `image_folder`.
        channels: 3 for RGB, 1 for grey.
        upright: whether photographs are turned as their EXIF orientation says.
    """

    def __init__(
        self,
        *,
        path: str = "data/dataset",
        image: str | None = None,
        label: str | None = None,
        size: int | None = None,
        channels: int = 3,
        upright: bool = True,
    ):
        if size is not None and size < 1:
            raise ValueError(f"size: {size} is not at least 1 (or null, for that of the images)")
        if channels not in (1, 3):
            raise ValueError(f"channels: {channels} is not 1 or 3")
        self.path = path
        self.image = image
        self.label = label
        self.size = size
        self.channels = channels
        self.upright = upright

    def identity(self) -> str:
        """The path, size and times of each file and image file, the columns, and the form images are brought into."""
        files = self._files()
        tables = {part: _open(listed) for part, listed in files.items()}
        image = self._image_column(tables["train"])
        named = dict.fromkeys(Path(name) for table in tables.values() for name in table.named_files(image))
        stated = [_stated(file) for file in (*itertools.chain(*files.values()), *named)]
        return "\n".join([*stated, f"{self.image} {self.label} {self.size} {self.channels} {self.upright}"])

    def open(self) -> Source:
        """Opens the files; images are read when they are decoded.

        Raises:
            FileNotFoundError: there is nothing of that kind.
            ValueError: a column is missing or not what it should be, or a file is damaged; names it.
        """
        files = self._files()
        tables = {part: _open(listed) for part, listed in files.items()}
        features = self._features(tables["train"])
        image = self._image_column(tables["train"])
        label = self._column("label", self.label, LABELS, tuple(tables["train"].anywhere), features, "ClassLabel")
        notes = [f"{self.path}: images are column {image!r}, labels {label!r}", *self._said_of_files(files)]
        names = features.get(label, {}).get("names")
        try:
            labels, left_out, without = _labels_by_split(tables, label)
            for part in tables:
                _check_images(tables[part], part, image)
            read = labels_of(labels, None if names is None else np.array(names))
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        notes += [f"{self.path}: {one}" for one in without]
        shape, said = self._image_shape(tables, image)
        parts = labeled_rows(read, tables)
        splits = {
            split: self._split(tables[part], part, image, shape, known, rows)
            for split, (part, rows, known) in parts.rows.items()
        }
        notes += [f"{self.path}: {note}" for note in (*read.notes, *parts.notes, said) if note]
        left_out += parts.left_out
        tally = {"left_out": left_out} if left_out else {}
        return Source(shape, read.class_names, splits, notes=tuple(notes), tally=tally)

    @property
    def _root(self) -> Path:
        return Path(os.path.expanduser(self.path))

    def _files(self) -> dict[str, list[Path]]:
        """Split -> its files, in their order."""
        root = self._root
        if not root.exists():
            raise FileNotFoundError(f"no folder {root.absolute()}; save a data set there with save_to_disk")
        if root.is_file():
            return {"train": [root]}
        if (root / "state.json").exists():
            return {"train": _saved(root)}
        folders = [folder.parent for folder in sorted(root.glob("*/state.json"))]
        files = [(folder.name, _saved(folder)) for folder in folders]
        if not folders:
            names = [file.relative_to(root).as_posix() for file in sorted(root.rglob("*.parquet"))]
            files = [(name, [root / name]) for name in names]
        called = {name: split_called(name) if folders else _split_of(name) for name, _ in files}
        if not folders:
            _check_numbers(root, list(called))
            _check_configurations(root, called)
            if not any(called.values()):  # files that nobody named for a split
                called = dict.fromkeys(called, "train")
        parts: dict[str, list[Path]] = {}
        for name, listed in files:
            part = called[name]
            if part is None:
                words = f"no split, or several; they are {', '.join(SPLIT_WORDS)}, as in {_known(called)}"
                raise ValueError(f"{root}: {name} names {words}")
            parts.setdefault(part, []).extend(listed)
        if "train" not in parts:
            there = f"only {', '.join(parts)}" if parts else "neither state.json nor a .parquet file"
            raise FileNotFoundError(f"{root.absolute()} holds no split train: {there}")
        return parts

    def _said_of_files(self, files: Mapping[str, Sequence[Path]]) -> list[str]:
        """A line on each split that is made of files of several names, but for their numbers."""
        notes = []
        for part, listed in files.items():
            stems = list(dict.fromkeys(_stem(file.relative_to(self._root).as_posix()) for file in listed))
            some = [f"{stem}*" for stem in stems[:NAMES_SHOWN]]
            some += [f"{len(stems) - NAMES_SHOWN} more"] * (len(stems) > NAMES_SHOWN)
            if len(stems) > 1:
                notes.append(f"{self.path}: split {part} is made of {', '.join(some[:-1])} and {some[-1]}")
        return notes

    def _features(self, table: _Table) -> Mapping[str, Mapping[str, Any]]:
        """What the files say of their columns, as `datasets` writes it into each; nothing where it did not."""
        about = json.loads(table.metadata.get(b"huggingface", b"{}"))
        features = about.get("info", {}).get("features", {})
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}

    def _image_column(self, table: _Table) -> str:
        return self._column("image", self.image, IMAGES, tuple(table.anywhere), self._features(table), "Image")

    def _column(
        self,
        key: str,
        chosen: str | None,
        words: Sequence[str],
        columns: Sequence[str],
        features: Mapping[str, Mapping[str, Any]],
        kind: str,
    ) -> str:
        """The column that was named, the only one of a kind, or the only one with a known name."""
        if chosen is not None:
            if chosen not in columns:
                raise ValueError(f"{self.path}: {key}: no column {chosen!r}; there are {', '.join(columns)}")
            return chosen
        of_kind = [name for name in columns if features.get(name, {}).get("_type") == kind]
        candidates = of_kind or [name for name in columns if name.lower() in words]
        if len(candidates) != 1:
            which = f"{' and '.join(candidates)} may be it" if candidates else f"there are {', '.join(columns)}"
            raise ValueError(f"{self.path}: set `{key}`, the column of {key}s: {which}")
        return candidates[0]

    def _image_shape(self, tables: Mapping[str, _Table], column: str) -> tuple[tuple[int, int, int], str]:
        if self.size is not None:
            return (self.channels, self.size, self.size), ""
        train = tables["train"]
        names = [f"train {row}" for row in range(len(train))]
        if not names:
            raise ValueError(f"{self.path}: no image")
        sizes = sizes_of_images(names, lambda row: _stream(train.cell(column, row)), upright=self.upright)
        height, width, said = common_size(sizes)
        return (self.channels, height, width), said

    def _split(
        self,
        table: _Table,
        part: str,
        column: str,
        shape: tuple[int, int, int],
        labels: np.ndarray | None,
        rows: np.ndarray | None,
    ) -> Split:
        """The images of a table, or those of some rows."""
        wanted = np.arange(len(table)) if rows is None else rows
        names = [f"{part} {row}" for row in wanted]
        known = None if labels is None else torch.from_numpy(labels)

        def opened(place: int) -> io.BytesIO | Path:
            return _stream(table.cell(column, int(wanted[place])))

        return split_of_images(names, opened, known, shape, upright=self.upright)


def _stated(file: Path) -> str:
    """A file, its size and times; its name alone where it cannot be had, as of an image that is broken."""
    try:
        about = file.stat()
    except (OSError, ValueError):
        return str(file.absolute())
    return f"{file.absolute()} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}"


def _split_of(name: str) -> str | None:
    """The split of a file by the pieces of its path below the root; None where they name none, or two.

    A piece says it whole (`train`, `PublicTest`), or one of its words does (`cifar10-train-00000-of-00002`).
    """
    pieces = name.removesuffix(".parquet").split("/")
    told = {split for piece in pieces for split in splits_named(piece)}
    return told.pop() if len(told) == 1 else None


def _stem(name: str) -> str:
    """The name of a file without its number and ending."""
    return re.sub(r"(?<![^-_./])\d+(-of-\d+(-[0-9a-f]+)?)?$", "", name.rpartition(".")[0])


def _check_numbers(root: Path, names: Sequence[str]) -> None:
    """Refuses files that are some of several, as after a download that was broken off, and those of two versions."""
    groups: dict[str, list[tuple[int, int, str]]] = {}
    for name in names:
        if numbered := NUMBERED.fullmatch(name):
            one = int(numbered["total"]), int(numbered["number"]), name
            groups.setdefault(numbered["stem"], []).append(one)
    for group in groups.values():
        for one, next_one in itertools.pairwise(sorted(group)):
            if one[0] != next_one[0] or one[1] == next_one[1]:
                raise ValueError(f"{root}: {one[2]} and {next_one[2]} are of two versions; remove one of these")
        total, _, first = min(group)
        numbers = {number for _, number, _ in group}
        start = int(total in numbers)  # some count from 1
        missing = sorted(set(range(start, start + total)) - numbers)
        if missing:
            have = f"{len(group)} of {total} files are there"
            raise ValueError(f"{root}: {first}: {have}; number {missing[0]} is missing")


def _check_configurations(root: Path, called: Mapping[str, str | None]) -> None:
    """Refuses a split of which several folders have files, as the configurations of one data set do."""
    folders: dict[str, dict[str, None]] = {}
    for name, part in called.items():
        if part is not None:
            pieces = name.removesuffix(".parquet").split("/")
            place = next(place for place, piece in enumerate(pieces) if splits_named(piece))
            folders.setdefault(part, {})["/".join(pieces[:place]) or "."] = None
    for part, several in folders.items():
        if len(several) > 1:
            inner = next(folder for folder in several if folder != ".")
            which = f"{' and '.join(several)}, which are read one at a time"
            raise ValueError(f"{root}: split {part} is in {which}: path: {root / inner}")


def _known(called: Mapping[str, str | None]) -> str:
    """A file that names a split, or how the hub calls one."""
    return next((name for name, split in called.items() if split), "train-00000-of-00001.parquet")


def _labels_by_split(
    tables: dict[str, _Table], column: str
) -> tuple[dict[str, tuple[str, np.ndarray]], int, list[str]]:
    """The labels of every split that should have some, with what they are called; those without are taken out.

    Returns:
        split -> the name of its labels, and these; how many images were taken out; what is to be said, a line each.

    Raises:
        ValueError: some files of a split lack the column, or it holds no labels.
    """
    labels, left_out, notes = {}, 0, []
    for part in [part for part in tables if part != "unlabeled"]:
        table, why = tables[part], ""
        if part != "train" and column not in table.anywhere:
            why = f"there is no column {column!r}, but {', '.join(table.columns)}"
        else:
            table.require(column, part)
            values = _labels(table.column(column), f"{column} of {part}")
            labels[part] = f"{column} of {part}", values
            if part != "train" and len(values) and values.dtype.kind in "if" and (values == -1).all():
                why = "all are -1 or empty"
        if why:
            labels.pop(part, None)
            notes.append(f"split {part} is left out, for it has no labels ({why})")
            left_out += len(table)
            del tables[part]
    return labels, left_out, notes


def _labels(column: list[Any], place: str) -> np.ndarray:
    """Labels as an array; a missing one is an empty text among texts, else -1."""
    if any(isinstance(value, str | bytes) for value in column):
        column = ["" if value is None else text_of(value) for value in column]
    elif any(value is not None for value in column):
        column = [-1 if value is None else value for value in column]
    else:
        column = [-1] * len(column)
    try:
        return np.asarray(column)
    except ValueError as error:  # of lists of several lengths
        raise ValueError(f"{place} are lists of several lengths; one label an image is needed") from error


def _check_images(table: _Table, part: str, column: str) -> None:
    """Refuses a column of something that is no image before any is decoded."""
    from pyarrow import types

    table.require(column, part)
    kind = table.kinds[column]
    if types.is_primitive(kind) or (types.is_nested(kind) and not types.is_struct(kind)):
        raise ValueError(f"{column} of {part} are {kind}; images are the bytes of a file, or its path")


def _saved(folder: Path) -> list[Path]:
    """The Arrow files of a split that was saved."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        files = [folder / one["filename"] for one in state["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'state.json'} is not of a data set that was saved: {error}") from error
    if state.get("_indices_data_files"):
        raise ValueError(f"{folder} holds a selection of rows; save it anew with datasets 2.0 or later")
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise ValueError(f"{folder} is not whole: no {missing[0]}")
    return files


def _stream(cell: Any) -> io.BytesIO | Path:
    """What Pillow opens of a cell: bytes, or a mapping of bytes or a path, or a path."""
    if isinstance(cell, Mapping):
        cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    if not isinstance(cell, bytes | str):
        raise ValueError("no image" if cell is None else f"no image, but a value of type {type(cell).__name__}")
    return io.BytesIO(cell) if isinstance(cell, bytes) else Path(cell)


@dataclass(frozen=True)
class _Table:
    """Rows of a split.

    Attributes:
        columns: names of those that each of its files has.
        anywhere: name of each column that a file has -> the first file that lacks it, or None.
        kinds: names -> the Arrow type.
        metadata: of the schema.
        ends: i64, of each piece of the table the number of rows up to its end.
        pieces: number of a piece, name of a column -> that part of it, as Arrow has it.
        filled: of each piece the columns whose images are all in the file, as far as it says so.
    """

    columns: tuple[str, ...]
    anywhere: Mapping[str, Path | None]
    kinds: Mapping[str, Any]
    metadata: Mapping[bytes, bytes]
    ends: np.ndarray
    pieces: Callable[[int, str], Any]
    filled: Sequence[frozenset[str]]

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def require(self, name: str, part: str) -> None:
        """ValueError where not every file has a column."""
        if name not in self.columns:
            where = f"file {self.anywhere[name]}" if name in self.anywhere else f"split {part}"
            raise ValueError(
                f"{where} has no column {name!r}, as other files have; there are {', '.join(self.columns)}"
            )

    def column(self, name: str) -> list[Any]:
        """All of a column."""
        return [value for piece in range(len(self.ends)) for value in self.pieces(piece, name).to_pylist()]

    def named_files(self, name: str) -> Iterator[str]:
        """The files that the cells of a column name, but for those that hold an image's bytes; maybe one twice."""
        from pyarrow import compute, types

        kind = self.kinds.get(name)
        if kind is None or not (types.is_struct(kind) or _is_text(kind)):
            return
        for piece in range(len(self.ends)):
            if name not in self.filled[piece]:
                cells = self.pieces(piece, name)
                if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                    cells = cells.filter(compute.is_null(compute.struct_field(cells, "bytes")))
                paths = (one.get("path") if isinstance(one, Mapping) else one for one in cells.to_pylist())
                yield from (path for path in paths if isinstance(path, str))

    def cell(self, name: str, row: int) -> Any:
        """One value."""
        piece = int(np.searchsorted(self.ends, row, side="right"))
        first = int(self.ends[piece - 1]) if piece else 0
        return self.pieces(piece, name)[row - first].as_py()


def _is_text(kind: Any) -> bool:
    """Whether values of an Arrow type are texts, however it keeps them."""
    from pyarrow import types

    held = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(held) or types.is_large_string(held) or types.is_string_view(held)


def _open(files: Sequence[Path]) -> _Table:
    """The rows of Arrow stream or Parquet files, one after the other.

    Raises:
        ValueError: pyarrow is missing, or a file is damaged.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError("the data set huggingface needs pyarrow: pip install pyarrow") from error
    pieces: list[Callable[[str], Any]] = []
    sizes: list[int] = []
    filled: list[frozenset[str]] = []
    schemas = {}
    for file in files:
        try:
            if file.suffix == ".parquet":
                opened = parquet.ParquetFile(file, memory_map=True)
                schemas[file] = opened.schema_arrow
                for group in range(opened.num_row_groups):
                    pieces.append(_row_group(file, group))
                    sizes.append(opened.metadata.row_group(group).num_rows)
                    filled.append(_filled(opened.metadata.row_group(group)))
            else:
                table = pa.ipc.open_stream(pa.memory_map(str(file))).read_all()
                schemas[file] = table.schema
                pieces.append(table.column)
                sizes.append(table.num_rows)
                filled.append(frozenset())  # which its bits tell without a look at the images
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"cannot read {file}: {str(error).splitlines()[0]}") from error
    schema = next(iter(schemas.values()))  # a split has a file
    every = dict.fromkeys(name for one in schemas.values() for name in one.names)
    anywhere = {name: next((file for file, one in schemas.items() if name not in one.names), None) for name in every}
    columns = tuple(name for name, lacking in anywhere.items() if lacking is None)
    lock = threading.Lock()
    kept = lru_cache(maxsize=4)(lambda piece, name: pieces[piece](name))  # threads read neighbours at once

    def read(piece: int, name: str) -> Any:
        with lock:
            return kept(piece, name)

    kinds = {name: schema.field(name).type for name in columns}
    return _Table(columns, anywhere, kinds, schema.metadata or {}, np.cumsum(sizes), read, filled)


def _filled(group: Any) -> frozenset[str]:
    """The columns of a row group that have `bytes` in each record, by the statistics of the file."""
    about = [group.column(place) for place in range(group.num_columns)]
    known = [one for one in about if one.statistics is not None and one.statistics.has_null_count]
    full = [one.path_in_schema for one in known if one.statistics.null_count == 0]
    return frozenset(name.removesuffix(".bytes") for name in full if name.endswith(".bytes"))


def _row_group(file: Path, group: int) -> Callable[[str], Any]:
    def read(name: str) -> Any:
        from pyarrow import parquet

        with parquet.ParquetFile(file, memory_map=True) as opened:
            return opened.read_row_group(group, columns=[name]).column(name)

    return read

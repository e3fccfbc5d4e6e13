"""Files of embeddings: feature vectors with the labels and paths of their images, read without filling memory.

What is read, by the file's ending:

    .npz      one set: `embeddings` [N, D], and where they are known `labels` [N], `paths` [N] and `splits` [N];
              or a set for each split: `x_train`, `y_train`, `paths_train`, and so for val, test and unlabeled.
              `class_names` names the classes 0 .. K-1.
    a folder  of .npy files, called as the arrays of an .npz
    .npy      the vectors alone
    .parquet  a row per image: a column of lists of floats, or columns of floats with one name and a number each (`e0`,
              `e1`, ...); `label`, `path`, `split`. Other columns of floats, such as a confidence, are no vectors

Endings may be in capitals, and .pq is .parquet.

Beside a file may lie a table of its images, with columns of paths, labels and splits (`harness.tables`). Vectors are
mapped into memory: of the file, or of a temporary one where they have to be unpacked (a compressed .npz, a .parquet).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.api import BrokenImagesError
from harness.tables import (
    SPLIT_WORDS,
    Columns,
    list_images,
    loose_names,
    plain_path,
    read_table,
    said_of_columns,
    said_of_no_split,
    split_called,
    text_of,
)  # fmt: skip

FEATURES, LABELS, PATHS, SPLIT = "embeddings", "labels", "paths", "splits"

NAMES = {
    FEATURES: ("embeddings", "features", "x", "X"),
    LABELS: ("labels", "label", "y", "class"),
    PATHS: ("paths", "path", "files", "file"),
    SPLIT: ("splits", "split"),
}
"""What an array or a column may be called."""

BATCH_ROWS = 4096
"""Rows that are unpacked at a time."""

Load = Callable[[], np.ndarray]
"""Reads an array or a column, of which those that nobody needs stay on the disk."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The vectors of some images and what is known of these.

    Attributes:
        place: of the file, and which part of it, for messages.
        features: float16, float32 or float64 [M, D], mapped.
        rows: i64 [N], which of them these are; None for all.
        labels: [N, ...] of numbers or texts, as they are written; None where there are none.
        paths: [N] texts, the images' files, absolute; None where there are none.
    """

    place: str
    features: np.ndarray
    rows: np.ndarray | None = None
    labels: np.ndarray | None = None
    paths: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.features if self.rows is None else self.rows)

    @property
    def dtype(self) -> np.dtype:
        """Of what is read: float16 stays, all others become float32."""
        return np.dtype(np.float16 if self.features.dtype == np.float16 else np.float32)

    def subset(self, rows: np.ndarray) -> Embeddings:
        """Those of i64 [n] rows, none of which is read."""
        labels, paths = (None if values is None else values[rows] for values in (self.labels, self.paths))
        return replace(self, rows=rows if self.rows is None else self.rows[rows], labels=labels, paths=paths)

    def read(self, start: int, stop: int) -> np.ndarray:
        """The vectors start .. stop - 1, `dtype` [n, D], a copy in memory.

        Raises:
            BrokenImagesError: some hold NaN, infinity, or a number that `dtype` cannot hold; names them all.
        """
        piece = self.features[start:stop] if self.rows is None else self.features[self.rows[start:stop]]
        with np.errstate(over="ignore"):
            vectors = np.array(piece, dtype=self.dtype, order="C")
        broken = {}
        for place in np.flatnonzero(~np.isfinite(vectors).all(1)).tolist():
            whose = f" ({self.paths[start + place]})" if self.paths is not None else ""
            what = f"a number too large for {self.dtype}" if np.isfinite(piece[place]).all() else "NaN or infinity"
            broken[start + place] = f"{self.place}: vector {start + place}{whose} holds {what}"
        if broken:
            raise BrokenImagesError(broken)
        return vectors


@dataclass(frozen=True, eq=False)
class EmbeddingsFile:
    """What a file of embeddings holds.

    Attributes:
        parts: split -> its embeddings; the one part `all` where the file knows no splits.
        class_names: K names, in the order of the labels 0 .. K-1; None where the file has none.
        notes: what a user should know of what was read, a sentence each.
    """

    parts: Mapping[str, Embeddings]
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]


def read_embeddings(path: Path, table: Path | None = None, *, label: str | None = None) -> EmbeddingsFile:
    """Opens a file of embeddings; see this module for the forms.

    Args:
        path: an .npz, .npy or .parquet file, or a folder of .npy files.
        table: labels, paths and splits of its images, see `harness.tables`; or an .npy of labels. They belong to the
            images by their paths where both know these, else row by row, and win over those in the file.
        label: the column of labels, of the table if there is one, where it has another name.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: it does not hold what it should; names the file, and the array or column.
    """
    arrays = _arrays(path, None if table else label)
    names = arrays.pop("class_names", None)
    class_names = None if names is None else tuple(text_of(name) for name in names().ravel().tolist())
    parts, used = _by_split(path, arrays)
    if parts and table:
        raise ValueError(f"{path} has labels by split; those of {table} would be others: leave one of them out")
    notes: list[str] = []
    if not parts:
        used = _columns(arrays, None if table else label)
        if FEATURES not in used:
            has = ", ".join(sorted(arrays)) or "nothing"
            raise ValueError(f"{path} holds {has}; vectors are called {FEATURES}, or x_train by split")
        whole = _embeddings(path, str(path), {key: arrays[name] for key, name in used.items()})
        split = _texts(arrays[used[SPLIT]]()) if SPLIT in used else None
        if table:
            whole, tabled, notes = _joined(whole, table, label)
            split = split if tabled is None else tabled
        parts = {"all": whole}
        if split is not None:
            parts, said = _divided(whole, split)
            notes += said
    if len({part.features.shape[1] for part in parts.values()}) > 1:
        sizes = ", ".join(f"{split}: {part.features.shape[1]}" for split, part in parts.items())
        raise ValueError(f"{path}: vectors of different lengths ({sizes})")
    unread = sorted(set(arrays) - set(used.values()))
    if unread:
        notes.append(f"{path}: {', '.join(unread)} {'is' if len(unread) == 1 else 'are'} not read")
    return EmbeddingsFile(parts, class_names, tuple(notes))


def _table(file: Path, label: str | None) -> tuple[dict[str, np.ndarray], list[str]]:
    """`labels`, `paths` (absolute) and `splits` of a table, those that it has, as texts; and what is to be said of it.

    Args:
        file: any that `harness.tables` reads, or an .npy of labels.
        label: the column of labels, where it has another name.
    """
    if file.suffix.lower() == ".npy":
        return {LABELS: _texts(_loaded(file))}, []
    listing = list_images(read_table(file), Columns(label=label), (), settings={"label": "label"})
    if not listing.columns:
        raise ValueError(f"{file} has the columns {', '.join(listing.unread)}; name that of the labels, label: COLUMN")
    texts = {
        PATHS: [row.path for row in listing.rows],
        LABELS: [row.label for row in listing.rows],
        SPLIT: [row.split for row in listing.rows],
    }
    kinds = {PATHS: "path", LABELS: "label", SPLIT: "split"}
    columns = {key: np.array(values, np.str_) for key, values in texts.items() if kinds[key] in listing.columns}
    if PATHS in columns:
        columns[PATHS] = _absolute(file.parent, columns[PATHS])
    return columns, [*listing.notes, *said_of_columns(file, listing)]


# ------------------------------------------------------------ what arrays mean


def _columns(arrays: Mapping[str, Any], label: str | None) -> dict[str, str]:
    """What is meant -> the name of the array or column that holds it."""
    names = {key: [name for name in known if name in arrays] for key, known in NAMES.items()}
    if label is not None:
        if label not in arrays:
            raise ValueError(f"label: no column {label!r} among {', '.join(arrays)}")
        names[LABELS] = [label]
    for key, several in names.items():
        if len(several) > 1:
            raise ValueError(f"{' and '.join(several)} could both be the {key}; leave one out, or rename it")
    return {key: one[0] for key, one in names.items() if one}


def _by_split(path: Path, arrays: Mapping[str, Load]) -> tuple[dict[str, Embeddings], dict[str, str]]:
    """Parts from `x_train`, `y_train`, `paths_train` and so on, and the names of the arrays that they are made of."""
    parts: dict[str, Embeddings] = {}
    used: dict[str, str] = {}
    for split in SPLIT_WORDS:
        names = {FEATURES: f"x_{split}", LABELS: f"y_{split}", PATHS: f"paths_{split}"}
        there = {key: name for key, name in names.items() if name in arrays}
        if FEATURES in there:
            parts[split] = _embeddings(path, f"{path}, {split}", {key: arrays[name] for key, name in there.items()})
            used |= {name: name for name in there.values()}
    return parts, used


def _embeddings(path: Path, place: str, loads: Mapping[str, Load]) -> Embeddings:
    """The vectors of one part, once it is sure that they are vectors and that there is a label and a path for each."""
    arrays = {key: load() for key, load in loads.items() if key != SPLIT}
    features = arrays[FEATURES]
    said = f"{place}: the vectors are {features.dtype} {list(features.shape)}"
    if features.ndim == 4 or features.dtype == np.uint8:
        raise ValueError(f"{said}, as images are; the data set npz reads those")
    if features.ndim != 2 or features.dtype.kind != "f":
        raise ValueError(f"{said}; floats [N, D] are needed")
    if not features.size:
        raise ValueError(f"{said}: there are none")
    for key in (LABELS, PATHS):
        if key in arrays and arrays[key].shape[:1] != features.shape[:1]:
            raise ValueError(f"{place}: {len(features)} vectors, but {key} {list(arrays[key].shape)}")
    labels = _texts(arrays[LABELS]) if LABELS in arrays else None
    folder = path.parent if path.is_file() else path
    return Embeddings(place, features, None, labels, _absolute(folder, arrays[PATHS]) if PATHS in arrays else None)


def _absolute(folder: Path, paths: np.ndarray) -> np.ndarray:
    above = str(folder.resolve())  # with texts: an object for each of a million paths takes half a minute
    given = ["" if path is None else path for path in paths.tolist()]
    texts = [os.fsdecode(path) if isinstance(path, bytes) else str(path) for path in given]
    return np.array([os.path.normpath(os.path.join(above, text)) for text in texts], dtype=np.str_)


def _texts(values: np.ndarray) -> np.ndarray:
    """Bytes and Python's objects as texts, an empty one for each null; others as they are."""
    if values.dtype.kind not in "SO":
        return values
    texts = ["" if value is None else text_of(value) for value in values.ravel().tolist()]
    return np.array(texts, dtype=np.str_).reshape(values.shape)


def _joined(whole: Embeddings, table: Path, label: str | None) -> tuple[Embeddings, np.ndarray | None, list[str]]:
    """The embeddings with the labels of a table, its splits, and what is to be said of both."""
    about, notes = _table(table, label)
    sizes = {key: len(values) for key, values in about.items()}
    size = next(iter(sizes.values()))
    if whole.paths is None or PATHS not in about:
        if size != len(whole):
            raise ValueError(f"{table} has {size} rows, and {whole.place} {len(whole)} vectors")
        rows = np.arange(size)
        whole = whole if PATHS not in about else replace(whole, paths=about[PATHS])
    else:
        rows = _rows_of(whole.paths.tolist(), about[PATHS].tolist(), table)
        if (rows < 0).all():
            raise ValueError(f"{table} knows none of the images of {whole.place}: {about[PATHS][0]}, {whole.paths[0]}")
        if (rows < 0).any():
            notes.append(f"{table}: no row for {(rows < 0).sum()} of {len(rows)} images; these have no label")
        if (rows >= 0).sum() < size:
            notes.append(f"{table}: {size - (rows >= 0).sum()} of {size} rows have no vector in {whole.place}")
    labels, split = (_taken(about[key], rows) if key in about else None for key in (LABELS, SPLIT))
    if split is not None:
        split = np.where(rows < 0, "unlabeled", split)
    return (whole if labels is None else replace(whole, labels=labels)), split, notes


def _rows_of(images: Sequence[str], listed: Sequence[str], table: Path) -> np.ndarray:
    """i64 [N], for each image the row of a table that is of it, or -1.

    Paths are alike as they are, or else in another case, or without the ending that the other has, as for `manifest`.
    """
    row_of = {plain_path(path): row for row, path in enumerate(listed)}
    if len(row_of) < len(listed):
        raise ValueError(f"{table}: {len(listed) - len(row_of)} paths stand there twice")
    plain = [plain_path(path) for path in images]
    rows = np.array([row_of.get(path, -1) for path in plain], dtype=np.int64)
    exact = set(rows.tolist())
    left = {path: row for path, row in row_of.items() if row not in exact}
    if not left:
        return rows
    alike: dict[str, list[int]] = {}
    for image, path in enumerate(plain):
        for name in loose_names(path):
            alike.setdefault(name, []).append(image)
    whole = {path.casefold() for path in plain}
    for path, row in left.items():
        # a name without its ending is no other file's with one
        names = [path.casefold(), *((loose_names(path) - {path.casefold()}) & whole)]
        several = next((alike[name] for name in names if name in alike), [])
        if len(several) > 1:
            raise ValueError(f"{table}: {path} may be {' or '.join(images[image] for image in several[:2])}")
        if several and rows[several[0]] >= 0:
            raise ValueError(f"{table}: {path} and {listed[rows[several[0]]]} are one image; leave one out")
        rows[several] = row
    return rows


def _taken(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The values of rows; of row -1 an empty text, or NaN."""
    taken = values[rows]
    if (rows < 0).any():
        taken = taken.astype(np.float64) if taken.dtype.kind in "iuf" else taken.astype(np.str_)
        taken[rows < 0] = np.nan if taken.dtype.kind == "f" else ""
    return taken


def _divided(whole: Embeddings, splits: np.ndarray) -> tuple[dict[str, Embeddings], list[str]]:
    """Its parts, by the name of the split of each image, where an empty one is `train`; and what is to be said."""
    written, places = np.unique(np.char.strip(splits.astype(np.str_)), return_inverse=True)
    called = [split_called(name) if name else "train" for name in written.tolist()]
    unknown = [name for name, split in zip(written.tolist(), called, strict=True) if split is None]
    if unknown:
        raise ValueError(f"{whole.place}: no split {unknown[0]!r}; splits are {', '.join(SPLIT_WORDS)}")
    of_row = np.array(called, dtype=np.str_)[places.ravel()]
    parts = {}
    for split in sorted(set(of_row.tolist()), key=list(SPLIT_WORDS).index):
        parts[split] = replace(whole.subset(np.flatnonzero(of_row == split)), place=f"{whole.place}, {split}")
    empty = int((written[places.ravel()] == "").sum())
    return parts, [f"{whole.place}: {said_of_no_split(empty)}"] if empty else []


# ------------------------------------------------------------ how arrays are read


def _arrays(path: Path, label: str | None) -> dict[str, Load]:
    """Every array of a file or folder by its name, those of two dimensions and more mapped; `label` is no vector."""
    if path.is_dir():
        arrays: dict[str, Load] = {file.stem: partial(_loaded, file) for file in sorted(path.glob("*.npy"))}
        if not arrays:
            raise ValueError(f"{path} holds no .npy file")
        return arrays
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.absolute()}; embeddings lie in an .npz, .npy or .parquet file")
    ending = path.suffix.lower()
    if ending == ".npy":
        return {FEATURES: partial(_loaded, path)}
    if ending in (".parquet", ".pq"):
        return _of_parquet(path, label)
    if ending == ".npz":
        return _of_npz(path)
    raise ValueError(f"{path} is no file of embeddings that is read: .npz, .npy, .parquet, or a folder of .npy")


def _loaded(file: Path) -> np.ndarray:
    """An .npy file, mapped copy-on-write."""
    with _reading(file, "an .npy file of a plain array"):
        return np.load(file, mmap_mode="c", allow_pickle=False)


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Errors say which file is not there, or is not what it should be; pyarrow's own derive from those named here."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no file {path.absolute()}") from error
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(f"{path} is not {what}: {error}") from error


def _of_npz(path: Path) -> dict[str, Load]:
    with _reading(path, "an .npz file of plain arrays"), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    return {info.filename.removesuffix(".npy"): partial(_of_member, path, info) for info in members}


def _of_member(path: Path, info: zipfile.ZipInfo) -> np.ndarray:
    with _reading(path, "an .npz file of plain arrays"), zipfile.ZipFile(path) as archive, path.open("rb") as file:
        if info.compress_type == zipfile.ZIP_STORED:
            file.seek(_start_of(info, file))
            return _mapped(file, info.filename)
        with archive.open(info) as member:
            return _unpacked(member, info.filename)


def _start_of(info: zipfile.ZipInfo, file: IO[bytes]) -> int:
    """Where the content of a member begins: behind its local header, whose name and extra field have their lengths."""
    file.seek(info.header_offset + 26)
    lengths = np.frombuffer(file.read(4), "<u2")
    return info.header_offset + 30 + int(lengths.sum())


def _unpacked(member: IO[bytes], name: str) -> np.ndarray:
    """An array of a compressed .npz, by way of a temporary file, which is gone when nobody reads it any more."""
    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(member, file, 1 << 20)
        file.seek(0)
        return _mapped(file, name)


def _mapped(file: IO[bytes], name: str) -> np.ndarray:
    """The array whose .npy content begins where the file stands, mapped copy-on-write."""
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in read_header:
        raise ValueError(f"version {version} of .npy is not read")
    shape, in_fortran_order, dtype = read_header[version](file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects; save it as a plain array, strings with dtype=str")
    if not all(shape):
        return np.empty(shape, dtype)  # nothing cannot be mapped
    return np.memmap(file, dtype, "c", file.tell(), shape, "F" if in_fortran_order else "C")


def _of_parquet(path: Path, label: str | None) -> dict[str, Load]:
    """Columns by their names; those of vectors, or the columns of floats together, as `embeddings`."""
    try:
        import pyarrow.parquet as pq
        from pyarrow import types
    except ImportError as error:
        raise ValueError(f"{path}: Parquet needs pyarrow (pip install pyarrow)") from error
    with _reading(path, "a whole Parquet file"):
        file = pq.ParquetFile(path)
    schema = file.schema_arrow
    is_list = (types.is_list, types.is_fixed_size_list, types.is_large_list)
    lists = [field.name for field in schema if field.name != label and any(one(field.type) for one in is_list)]
    known = {label, *(name for names in NAMES.values() for name in names)}
    floats = [field.name for field in schema if types.is_floating(field.type) and field.name not in known]
    if len(lists) > 1:
        raise ValueError(f"{path}: {' and '.join(lists)} could all be the vectors; leave all but one out")
    vectors = lists or _numbered(path, floats)
    loads: dict[str, Load] = {name: partial(_column, path, file, name) for name in schema.names if name not in vectors}
    return loads | ({FEATURES: partial(_vectors, path, file, vectors)} if vectors else {})


def _column(path: Path, file: Any, name: str) -> np.ndarray:
    with _reading(path, "a whole Parquet file"):
        return file.read(columns=[name]).column(name).to_numpy()


def _numbered(path: Path, floats: Sequence[str]) -> list[str]:
    """Those columns of floats that make a vector: with one name and a number each, as `e0`, `e1`, ...

    Raises:
        ValueError: none is called so, or those of several names may be it.
    """
    groups: dict[str, list[str]] = {}
    for name in floats:
        if numbered := re.fullmatch(r"(.*?)(\d+)", name, re.DOTALL):
            groups.setdefault(numbered[1], []).append(name)
    groups = {stem: names for stem, names in groups.items() if len(names) > 1} or groups
    if len(groups) > 1:
        shown = " or ".join(f"{names[0]} .. {names[-1]}" for names in list(groups.values())[:3])
        raise ValueError(f"{path}: the columns {shown} could be the vectors; leave all but one of them out")
    if floats and not groups:
        shown = ", ".join(floats[:3]) + ", ..." * (len(floats) > 3)
        raise ValueError(
            f"{path}: columns of floats are {shown}; those of a vector have one name and a number, as e0, e1"
        )
    return [name for names in groups.values() for name in names]


def _vectors(path: Path, file: Any, columns: list[str]) -> np.ndarray:
    """[N, D] of a column of lists, or of D columns, by way of a temporary file."""
    with tempfile.TemporaryFile() as temporary:
        shape, dtype = (0, 0), np.dtype(np.float32)
        for rows in _batches(path, file, columns):
            if shape[0] and shape[1] != rows.shape[1]:
                raise ValueError(f"{path}: vectors of {shape[1]} and of {rows.shape[1]} numbers")
            shape, dtype = (shape[0] + len(rows), rows.shape[1]), rows.dtype
            temporary.write(np.ascontiguousarray(rows).data)
        temporary.flush()
        return np.memmap(temporary, dtype, "c", 0, shape) if all(shape) else np.empty(shape, dtype)


def _batches(path: Path, file: Any, columns: list[str]) -> Iterator[np.ndarray]:
    """The vectors [n, D], some rows at a time."""
    from pyarrow import compute, types

    for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
        if any(column.null_count for column in batch.columns):
            raise ValueError(f"{path}: a row has no vector")
        first = batch.columns[0]
        if types.is_floating(first.type):
            yield np.stack([column.to_numpy() for column in batch.columns], axis=1)
            continue
        sizes = np.unique(compute.list_value_length(first).to_numpy())
        if len(sizes) > 1:
            raise ValueError(f"{path}: vectors of {sizes[0]} and of {sizes[-1]} numbers")
        yield first.flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)

"""Feature vectors of an encoder, in a file, instead of images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.api import Dataset, Source, Split
from harness.embeddings_file import Embeddings, read_embeddings

_log = logging.getLogger(__name__)


class EmbeddingsDataset(Dataset):
    """Embeddings from a file (.npz, .npy, .parquet) of floats [N, D] with labels, as any encoder gives them.

    In an .npz `embeddings`, `labels` and optionally `paths` and `splits`, or by split `x_train`, `y_train`, `x_test`,
    `y_test`, `x_val`, `x_unlabeled`; a folder of .npy files so called; in a .parquet a column of lists, or columns of
    floats, beside `label`, `path` and `split`; an .npy of vectors alone, with its labels in a table beside it. Labels
    are numbers or texts; an image with an empty one, NaN or -1 counts as unlabelled. Vectors are copied into the cache
    as they are (float16 as float16, others as float32), a few at a time: they may be far larger than memory. Paths,
    relative to the file's folder, are for the pictures of a report alone.

    Args:
        path: the file, or a folder of .npy files.
        labels: a table with the labels: .csv, .tsv or .parquet with a column `label`, and where there are any `path`
            (by which rows find their vectors) and `split`; or an .npy; None: they are in the file.
        label: the column of the labels, where it has another name; None: `label`.
    """

    gives_features = True

    def __init__(self, *, path: str = "data/embeddings.npz", labels: str | None = None, label: str | None = None):
        self.path = path
        self.labels = labels
        self.label = label

    def identity(self) -> str:
        """The paths, sizes and times of the files, and the column."""
        parts = [self._stated(Path(self.path).expanduser())]
        if self.labels is not None:
            parts.append(self._stated(Path(self.labels).expanduser(), "the labels, as .csv, .tsv, .parquet or .npy"))
        return f"{' '.join(parts)} {self.label}"

    def open(self) -> Source:
        """Maps the vectors and reads labels and paths.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it does not hold what it should; names it.
        """
        table = None if self.labels is None else Path(self.labels).expanduser()
        content = read_embeddings(Path(self.path).expanduser(), table, label=self.label)
        for note in content.notes:
            _log.warning("data set embeddings: %s", note)
        parts = dict(content.parts)
        if "all" in parts:
            parts["train"] = parts.pop("all")
        written = {}
        for split, part in parts.items():
            if split == "unlabeled":
                continue
            if part.labels is None:
                raise ValueError(f"{part.place}: no labels; give a table with a column label, labels: FILE.csv")
            written[split] = part.labels
        names, labels = classes_of(self.path, written, content.class_names)
        dtype = torch.float16 if all(part.dtype == np.float16 for part in parts.values()) else torch.float32
        (size,) = {part.features.shape[1] for part in parts.values()}
        return Source((size,), names, _splits(parts, labels, dtype), dtype)

    def _stated(self, path: Path, what: str = "embeddings, as .npz, .npy or .parquet") -> str:
        """A file, or those of a folder, by name, size and times."""
        if not path.exists():
            raise FileNotFoundError(f"no file {path.absolute()}; put {what} there")
        files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
        stats = [(file, file.stat()) for file in files]
        return " ".join(f"{file.absolute()} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns}" for file, s in stats)


def _splits(parts: dict[str, Embeddings], labels: Mapping[str, np.ndarray], dtype: torch.dtype) -> dict[str, Split]:
    """The splits of a source; training images without a label become unlabelled ones."""
    unknown = {split: np.flatnonzero(values < 0) for split, values in labels.items()}
    for split, rows in unknown.items():
        if len(rows) and (split != "train" or "unlabeled" in parts):
            raise ValueError(f"{parts[split].place}: {len(rows)} images have no label; leave them out")
    splits = {split: _split(part, None, labels.get(split), dtype) for split, part in parts.items()}
    rows = unknown["train"]
    if len(rows):
        _log.warning("data set embeddings: %d training images have no label; they are in no pool", len(rows))
        known = np.flatnonzero(labels["train"] >= 0)
        splits["train"] = _split(parts["train"], known, labels["train"], dtype)
        splits["unlabeled"] = _split(parts["train"], rows, None, dtype)
    return splits


def _split(part: Embeddings, rows: np.ndarray | None, labels: np.ndarray | None, dtype: torch.dtype) -> Split:
    """Some rows of a part, all of them if None."""
    if rows is not None:
        part, labels = part.subset(rows), None if labels is None else labels[rows]

    def read(start: int, stop: int) -> Tensor:
        return torch.from_numpy(part.read(start, stop)).to(dtype)

    files = None if part.paths is None else part.paths.tolist()
    return Split(len(part), read, None if labels is None else torch.from_numpy(labels), files)


def classes_of(
    place: str, written: Mapping[str, np.ndarray], class_names: tuple[str, ...] | None
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Labels as they are written become classes 0 .. K-1.

    Args:
        place: of the labels, for messages.
        written: split -> [N], [N, 1] or, one column a class, [N, K].
        class_names: K names, of which numbers are the positions and texts are one; None: the classes are the distinct
            labels, numbers in their order, texts in theirs.

    Returns:
        K names, and by split i64 [N] in 0 .. K-1, or -1 where there is no label.

    Raises:
        ValueError: a label is none of the classes.
    """
    flat = {split: _flat(f"{place}, labels of {split}", values) for split, values in written.items()}
    every = np.concatenate(list(flat.values()))
    values = np.unique(every[~_missing(every)])
    if class_names is None:
        names = tuple(str(value) for value in values.tolist())
    elif every.dtype.kind in "US":
        names, values = class_names, np.array(class_names)
    else:
        names, first = class_names, int(len(values) == len(class_names) and values[0] == 1)
        if first:
            _log.warning("data set embeddings: %s: labels 1 .. %d are taken for classes 0 .. K-1", place, len(values))
        values = np.arange(first, first + len(names))
    order = np.argsort(values)
    indices = {}
    for split, labels in flat.items():
        missing = _missing(labels)
        places = np.searchsorted(values, labels, sorter=order).clip(max=len(values) - 1)
        index = order[places]
        wrong = np.flatnonzero(~missing & (values[index] != labels))
        if len(wrong):
            raise ValueError(
                f"{place}: {split} has a label {labels[wrong[0]].item()!r}, which is none of {len(names)} classes"
            )
        indices[split] = np.where(missing, -1, index).astype(np.int64)
    return names, indices


def _flat(place: str, labels: np.ndarray) -> np.ndarray:
    """[N] texts or whole numbers (i64, -1 for none)."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if (
        labels.ndim == 2
        and labels.dtype.kind in "biuf"
        and np.isin(labels, (0, 1)).all()
        and (labels.sum(1) == 1).all()
    ):
        return labels.argmax(1)  # one-hot
    if labels.ndim != 1 or labels.dtype.kind not in "biufUS":
        raise ValueError(f"{place} are {labels.dtype} {list(labels.shape)}; numbers or texts [N] are needed")
    if labels.dtype.kind == "S":
        return np.char.decode(labels, "utf-8")
    if labels.dtype.kind == "U":
        return _as_numbers(np.char.strip(labels))
    numbers = np.where(np.isnan(labels), -1, labels) if labels.dtype.kind == "f" else labels
    whole = numbers.astype(np.int64)
    if (whole != numbers).any() or (whole < -1).any():
        wrong = numbers[(whole != numbers) | (whole < -1)][0]
        raise ValueError(f"{place}: {wrong.item()!r} is no class; whole numbers from 0 are, or texts; -1 is no label")
    return whole


def _as_numbers(texts: np.ndarray) -> np.ndarray:
    """i64 where every text that is not empty is a whole number as it is usually written; else the texts."""
    given = texts[texts != ""].tolist()
    if not given or not all(text.isascii() and text.isdecimal() and str(int(text)) == text for text in given):
        return texts
    return np.where(texts == "", "-1", texts).astype(np.int64)


def _missing(labels: np.ndarray) -> np.ndarray:
    return labels == "" if labels.dtype.kind == "U" else labels < 0

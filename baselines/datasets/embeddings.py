"""Feature vectors of an encoder, in a file, instead of images."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from baselines.datasets.array_labels import labels_of
from harness.api import Dataset, Source, Split
from harness.embeddings_file import Embeddings, read_embeddings

POSITION = re.compile("0|[1-9][0-9]*", re.ASCII)


class EmbeddingsDataset(Dataset):
    """Embeddings from a file (.npz, .npy, .parquet) of floats [N, D] with labels, as any encoder gives them.

    In an .npz `embeddings`, `labels` and optionally `paths` and `splits`, or by split `x_train`, `y_train`, `x_test`,
    `y_test`, `x_val`, `x_unlabeled`; a folder of .npy files so called; in a .parquet a column of lists, or columns of
    floats `e0`, `e1`, ..., beside `label`, `path` and `split`; an .npy of vectors alone, with its labels in a table
    beside it. Labels are numbers or texts; an image with an empty one, NaN or -1 counts as unlabelled. Vectors are
    copied into the cache as they are (float16 as float16, others as float32), a few at a time: they may be far larger
    than memory. Paths, relative to the file's folder, are for the pictures of a report alone.

    Args:
        path: the file, or a folder of .npy files.
        labels: a table with the labels, in any form that `manifest` reads, and where there are any with paths (by which
            rows find their vectors) and splits; or an .npy; None: they are in the file.
        label: the column of the labels; None finds it.
    """

    gives_features = True

    def __init__(self, *, path: str = "data/embeddings.npz", labels: str | None = None, label: str | None = None):
        self.path = path
        self.labels = labels
        self.label = label

    def identity(self) -> str:
        """The paths, sizes and times of the files, and the column."""
        parts = [self._stated(Path(os.path.expanduser(self.path)))]
        if self.labels is not None:
            parts.append(
                self._stated(Path(os.path.expanduser(self.labels)), "the labels, as .csv, .tsv, .parquet or .npy")
            )
        return f"{' '.join(parts)} {self.label}"

    def open(self) -> Source:
        """Maps the vectors and reads labels and paths.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it does not hold what it should; names it.
        """
        table = None if self.labels is None else Path(os.path.expanduser(self.labels))
        content = read_embeddings(Path(os.path.expanduser(self.path)), table, label=self.label)
        parts = dict(content.parts)
        if "all" in parts:
            parts["train"] = parts.pop("all")
        written = {}
        for split, part in parts.items():
            if split == "unlabeled":
                continue
            if part.labels is None:
                raise ValueError(
                    f"{part.place}: no labels; give a table with a column label, labels: FILE.csv, or name their "
                    "column in the file, label: COLUMN"
                )
            written[split] = part.labels
        names, labels, counted = classes_of(self.path, written, content.class_names)
        dtype = torch.float16 if all(part.dtype == np.float16 for part in parts.values()) else torch.float32
        splits, said = _splits(parts, labels, dtype)
        (size,) = {part.features.shape[1] for part in parts.values()}
        return Source((size,), names, splits, dtype, (*content.notes, *counted, *said))

    def _stated(self, path: Path, what: str = "embeddings, as .npz, .npy or .parquet") -> str:
        """A file, or those of a folder, by name, size and times."""
        if not path.exists():
            raise FileNotFoundError(f"no file {path.absolute()}; put {what} there")
        files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
        stats = [(file, file.stat()) for file in files]
        return " ".join(f"{file.absolute()} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns}" for file, s in stats)


def _splits(
    parts: dict[str, Embeddings], labels: Mapping[str, np.ndarray], dtype: torch.dtype
) -> tuple[dict[str, Split], list[str]]:
    """The splits of a source, where training images without a label become unlabelled ones; and a note of these."""
    unknown = {split: np.flatnonzero(values < 0) for split, values in labels.items()}
    for split, rows in unknown.items():
        if len(rows) and (split != "train" or "unlabeled" in parts):
            raise ValueError(f"{parts[split].place}: {len(rows)} images have no label; leave them out")
    splits = {split: _split(part, None, labels.get(split), dtype) for split, part in parts.items()}
    rows = unknown["train"]
    if len(rows):
        known = np.flatnonzero(labels["train"] >= 0)
        splits["train"] = _split(parts["train"], known, labels["train"], dtype)
        splits["unlabeled"] = _split(parts["train"], rows, None, dtype)
        return splits, [f"{parts['train'].place}: {len(rows)} training images have no label; they are in no pool"]
    return splits, []


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
) -> tuple[tuple[str, ...], dict[str, np.ndarray], list[str]]:
    """Labels as they are written become classes 0 .. K-1, by the rules of `labels_of`.

    Args:
        place: of the labels, for messages.
        written: split -> labels in any of its forms, where an empty text, NaN or -1 is none; texts that are all whole
            numbers, as in a .csv, and no class names, are positions of these.
        class_names: K names; None: the labels are their own.

    Returns:
        K names; by split i64 [N] in 0 .. K-1, or -1 where there is no label; what was decided, a line each.

    Raises:
        ValueError: a label is none of the classes.
    """
    given = {split: (f"{place}, labels of {split}", _plain(values, class_names)) for split, values in written.items()}
    labels = labels_of(given, None if class_names is None else np.array(class_names))
    return labels.class_names, dict(labels.of), [f"{place}: {note}" for note in labels.notes]


def _plain(labels: np.ndarray, class_names: tuple[str, ...] | None) -> np.ndarray:
    """Texts without blanks around them, or i64 where they are positions of class names; others as they are."""
    if labels.dtype.kind != "U":
        return labels
    texts = np.char.strip(labels)
    given = set(texts[texts != ""].tolist())
    if class_names is None or given <= set(class_names) or not all(map(POSITION.fullmatch, given)):
        return texts
    return np.where(texts == "", "-1", texts).astype(np.int64)

"""A table of images and their labels beside any folder."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from baselines.datasets.image_files import common_size, sizes_of, split_of_files
from baselines.datasets.listed import Listed, listed_images, unnamed
from harness.api import Dataset, Source, Split
from harness.tables import SPLIT_WORDS, Columns, closest, names_of, said_of_no_split, split_called

ORACLE = "`image_folder` with `labels: none` and this table as its `oracle` pre-trains on such, too"


class Manifest(Dataset):
    """A table of image files, with a label and perhaps a split for each: what competitions and labelling tools give.

    The table is CSV or any other text (.csv, .tsv, .txt; comma, semicolon, tab, bar or, for a path and a label, a
    blank), Parquet, JSON lines, or JSON: a list of records, `images` and `annotations` as COCO and iNaturalist have
    them, or tasks as Label Studio exports them. Columns are found by names in use (`path`, `file_name`, `image`,
    `id`, ...; `label`, `class`, `species`, ...; `split`, `set`, ...), and where there are no titles by the ending of an
    image's name. Paths may lack that ending.

    Classes are called as the table calls them, numbers too; numbers are sorted as such. Where all are whole numbers,
    `3.0` is called 3, and -1 beside others stands for none. An image whose label is empty is pre-trained on and nothing
    else: the pool is what has a label that can be bought. Images beside these without a row are not used, which is
    said. Splits have the names that `image_folder` knows, an empty one beside others is training; what a table does not
    set aside, the harness takes from the training images.

    Args:
        path: the table.
        root: the folder to which its paths refer; None for the one that the table lies in.
        path_column: of the files; None finds it. Without titles columns are 1, 2, ...
        label_column: of the classes; None finds it, if it is the only one that may be.
        split_column: None finds it.
        labels: `column`, or `none` to read none: every image is pre-trained on.
        size: H and W of the images, after a centre crop to a square and resizing; None as in `image_folder`.
        channels: 3 for RGB, 1 for grey.
        upright: whether photographs are turned as their EXIF orientation says.
    """

    def __init__(
        self,
        *,
        path: str = "data/labels.csv",
        root: str | None = None,
        path_column: str | int | None = None,
        label_column: str | int | None = None,
        split_column: str | int | None = None,
        labels: Literal["column", "none"] = "column",
        size: int | None = None,
        channels: int = 3,
        upright: bool = True,
    ):
        if labels not in ("column", "none"):
            raise ValueError(f"labels: {labels!r} is neither column nor none")
        if labels == "none" and label_column is not None:
            raise ValueError(f"label_column: {label_column!r} is not read with `labels: none`; leave one of them out")
        if size is not None and size < 1:
            raise ValueError(f"size: {size} is not at least 1 (or null, for that of the images)")
        if channels not in (1, 3):
            raise ValueError(f"channels: {channels} is not 1 or 3")
        self.path = path
        self.root = root
        self.path_column = path_column
        self.label_column = label_column
        self.split_column = split_column
        self.labels = labels
        self.size = size
        self.channels = channels
        self.upright = upright
        self.has_labels = labels != "none"

    def identity(self) -> str:
        """The table's content, every file's path, size and times, and the form the images are brought into."""
        digest = hashlib.blake2b(self._file.read_bytes() if self._file.is_file() else b"", digest_size=16)
        for one in self._listing()[0]:
            status = one.image.status
            times = f"{status.st_mtime_ns}\0{status.st_ctime_ns}"
            digest.update(os.fsencode(one.image.path) + f"\0{status.st_size}\0{times}\0".encode())
        form = f"{self._columns} {self.labels} {self.size} {self.channels} {self.upright}"
        return f"{self._file.absolute()} {form} {digest.hexdigest()}"

    def open(self) -> Source:
        """Reads the table; images are decoded when they are read.

        Raises:
            FileNotFoundError: there is no such table.
            ValueError: a row cannot be understood, or a file is missing; names them.
        """
        images, notes = self._listing()
        if beside := unnamed(images):
            notes.append(f"{self.path}: {beside} images beside these have no row and are not used; {ORACLE}")
        if not self.has_labels:
            shape = self._image_shape(images, notes)
            return Source(shape, (), {"train": self._split_of(images, None, shape)}, notes=tuple(notes))
        parts = self._parts(images, notes)
        left_out = len(images) - sum(map(len, parts.values()))
        names = names_of(one.label for one in parts["train"])
        if len(names) < 2:
            why = f" ({'; '.join(note.removeprefix(f'{self.path}: ') for note in notes)})" if notes else ""
            raise ValueError(f"{self.path}: 1 class among the training images; at least 2 are needed{why}")
        shape = self._image_shape(images, notes)
        positions = {name: label for label, name in enumerate(names)}
        splits = {}
        for split, listed in parts.items():
            labels = None if split == "unlabeled" else [self._label(one, positions) for one in listed]
            splits[split] = self._split_of(listed, labels, shape)
        tally = {"left_out": left_out} if left_out else {}
        return Source(shape, names, splits, notes=tuple(notes), tally=tally)

    @property
    def _file(self) -> Path:
        return Path(os.path.expanduser(self.path))

    @property
    def _columns(self) -> Columns:
        names = (self.path_column, self.label_column, self.split_column)
        return Columns(*(None if name is None else str(name) for name in names))

    def _listing(self) -> tuple[list[Listed], list[str]]:
        root = Path(os.path.expanduser(self.root)) if self.root is not None else self._file.parent
        return listed_images(self._file, [root], self._columns, with_labels=self.has_labels)

    def _parts(self, images: Sequence[Listed], notes: list[str]) -> dict[str, list[Listed]]:
        """Split -> its images; what is left out is noted, a line each."""
        parts: dict[str, list[Listed]] = defaultdict(list)
        left_out: Counter[str] = Counter()
        for one in images:
            split = self._split(one)
            if split == "train" and not one.label:
                split = "unlabeled"
            elif split == "unlabeled" and one.label:
                left_out["labels of the split unlabeled are not read"] += 1
            elif not one.label and split != "unlabeled":
                left_out[f"images of the split {split} are left out, which have no label"] += 1
                continue
            parts[split].append(one)
        without = sum(not one.split for one in images)
        if 0 < without < len(images):
            notes.append(f"{self.path}: {said_of_no_split(without)}")
        for what, count in left_out.items():
            notes.append(f"{self.path}: {count} {what}")
        if not parts["train"]:
            raise ValueError(f"{self.path}: no training image has a label; `labels: none` takes images without any")
        if parts["unlabeled"]:
            notes.append(f"{self.path}: {len(parts['unlabeled'])} images have no label and are for pre-training only")
        return {split: parts[split] for split in ("train", "val", "test", "unlabeled") if parts[split]}

    def _split(self, one: Listed) -> str:
        if not one.split:
            return "train"
        split = split_called(one.split)
        if split is None:
            raise ValueError(f"{self.path}: {one.place}: no split {one.split!r}; {closest(one.split, SPLIT_WORDS)}")
        return split

    def _label(self, one: Listed, positions: Mapping[str, int]) -> int:
        if one.label not in positions:
            near = closest(one.label, positions)
            raise ValueError(f"{self.path}: {one.place}: no class {one.label!r} among the training images; {near}")
        return positions[one.label]

    def _split_of(self, images: Sequence[Listed], labels: list[int] | None, shape: tuple[int, int, int]) -> Split:
        return split_of_files([one.image.path for one in images], labels, shape, upright=self.upright)

    def _image_shape(self, images: Sequence[Listed], notes: list[str]) -> tuple[int, int, int]:
        if self.size is not None:
            return self.channels, self.size, self.size
        height, width, said = common_size(sizes_of([one.image.path for one in images], upright=self.upright))
        notes += [f"{self.path}: {said}"] if said else []
        return self.channels, height, width

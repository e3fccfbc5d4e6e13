"""Arrays in one .npz file or a folder of .npy files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from baselines.datasets.array_files import StoredArray, files_of, stored_arrays
from baselines.datasets.array_labels import Labels, labeled_rows, labels_of
from harness.api import Dataset, Source, Split

LAYOUTS = ("NHWC", "NCHW")

PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
    "unlabeled": ("unlabeled", "unlabelled"),
}
"""Split -> the words for it in the name of an array; without one, it is `train`."""

IMAGES, LABELS, NAMES = ("x", "images", "data"), ("y", "labels", "targets"), ("class_names", "label_names")
"""The words for images and labels, before or behind that of the split, and the names of the classes' array."""

UNCLEAR = 2.0
"""Floats whose largest value is above 1 and at most this are neither in [0, 1] nor a picture in 0 .. 255."""

Scale = Callable[[np.ndarray], np.ndarray]


class Npz(Dataset):
    """Arrays in one .npz file or a folder of .npy files, named as by keras.datasets, MedMNIST or in their way.

    x_train and y_train (or train_images and train_labels, X and y, ...), and optionally the same for val and test, and
    x_unlabeled: images for pre-training only. A val split is used for validation. Names of arrays may be in any case;
    arrays that are not understood are named and left out.

    Images are [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3: uint8, or other numbers within 0 .. 255, or
    floats in [0, 1], which are scaled, as are booleans and integers of which each is 0 or 1, or uint16, whose range is
    scaled to 8 bits. Labels are [N] or [N, 1]: integers or whole floats 0 .. K-1 or 1 .. K, others, whose classes are
    called by them, booleans, or strings, which are the classes' names, sorted; or [N, K], one-hot. An empty string, -1
    and NaN are no label: such training images are pre-trained on and nothing else. class_names (or label_names) are K
    strings. What is scaled, counted from 1 or has gaps is said.

    .npy files and arrays of an .npz that is not compressed are mapped into memory and may be larger than it; of a
    compressed .npz one array at a time is read.

    Args:
        path: the file; or a folder of .npy files, or one of them.
        layout: NHWC or NCHW, for shapes that could be either; None finds out.
    """

    def __init__(self, *, path: str = "data/images.npz", layout: str | None = None):
        if layout is not None and layout not in LAYOUTS:
            raise ValueError(f"layout: {layout!r} is not NHWC or NCHW (or null, to find out)")
        self.path = path
        self.layout = layout

    def identity(self) -> str:
        """The path, size and times of each file, and the layout."""
        stated = [(file.absolute(), file.stat()) for file in files_of(self._place())]
        files = [f"{file} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}" for file, about in stated]
        return "\n".join([*files, str(self.layout)])

    def open(self) -> Source:
        """Looks at the arrays; images are read when they are decoded.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: an array is missing or has another form; names it.
        """
        arrays = stored_arrays(self._place())
        roles = self._roles(arrays)
        images = {part: roles[part, "images"] for part in PARTS if (part, "images") in roles}
        orders = {part: self._order(array) for part, array in images.items()}
        shapes = {part: tuple(array.shape[axis] for axis in orders[part][1:]) for part, array in images.items()}
        (channels, height, width), *others = dict.fromkeys(
            shape if len(shape) == 3 else (1, *shape) for shape in shapes.values()
        )
        if others:
            raise ValueError(f"{self.path}: images differ in shape: {shapes}")
        labels = self._labels(roles, images)
        scale, said = self._scale(list(images.values()))
        parts = labeled_rows(labels, images)
        splits = {
            split: _split(images[part], orders[part], scale, known, rows)
            for split, (part, rows, known) in parts.rows.items()
        }
        used = {array.name for array in roles.values()}
        unused = [str(array) for name, array in arrays.items() if name not in used]
        if unused:
            said = [*said, f"not used: {', '.join(unused)}"]
        notes = tuple(f"{self.path}: {note}" for note in [*said, *labels.notes, *parts.notes])
        number = sum(split.num_images for split in splits.values())
        tally = {"scaled": number} if scale not in (_as_they_are, _rounded) else {}
        tally |= {"left_out": parts.left_out} if parts.left_out else {}
        return Source((channels, height, width), labels.class_names, splits, notes=notes, tally=tally)

    def _place(self) -> Path:
        """The .npz file or the folder of .npy files."""
        path = Path(os.path.expanduser(self.path))
        if path.suffix.lower() == ".npy" and path.is_file():
            return path.parent
        if path.is_file() or (path.is_dir() and any(path.glob("*.npy"))):
            return path
        where = f"no .npy file in {path.absolute()}" if path.is_dir() else f"no file {path.absolute()}"
        raise FileNotFoundError(f"{where}; put an .npz with x_train and y_train there")

    def _roles(self, arrays: Mapping[str, StoredArray]) -> dict[tuple[str, str], StoredArray]:
        """(split, "images" or "labels") -> the array; the classes' names are ("train", "names")."""
        roles: dict[tuple[str, str], StoredArray] = {}
        for name, array in arrays.items():
            role = _role(name)
            if role is None or role == ("unlabeled", "labels"):
                continue
            if role in roles:
                both = f"{roles[role].name} and {name}"
                raise ValueError(f"{self.path}: {both} are both {role[1]} of {role[0]}; keep one")
            roles[role] = array
        needed = {("train", "images"), ("train", "labels")}
        needed |= {(part, kind) for part, _ in roles if part in ("val", "test") for kind in ("images", "labels")}
        missing = [f"{'x' if kind == 'images' else 'y'}_{part}" for part, kind in sorted(needed - roles.keys())]
        if missing:
            hint = "; images for pre-training only are called x_unlabeled" if missing == ["y_test"] else ""
            there = ", ".join(map(str, arrays.values())) or "nothing"
            raise ValueError(f"{self.path} holds no {' and no '.join(missing)}{hint}; it holds {there}")
        return roles

    def _order(self, array: StoredArray) -> tuple[int, ...]:
        """Which axes of the array are N, C, H, W; N, H, W where it has no channels."""
        place = f"{self.path}: {array.name} is {array.dtype} {array.shape}"
        if array.dtype.kind not in "buif" or len(array.shape) not in (3, 4):
            raise ValueError(f"{place}; numbers [N, H, W], [N, H, W, C] or [N, C, H, W] are needed")
        if 0 in array.shape:
            raise ValueError(f"{place}, which is empty")
        if len(array.shape) == 3:
            return 0, 1, 2
        layouts = [layout for layout, axis in (("NHWC", 3), ("NCHW", 1)) if array.shape[axis] in (1, 3)]
        if self.layout is None and len(layouts) == 2:
            raise ValueError(f"{place}, which may be NHWC or NCHW; set layout")
        if not layouts or (self.layout or layouts[0]) not in layouts:
            raise ValueError(f"{place}; 1 or 3 channels are needed")
        return (0, 3, 1, 2) if (self.layout or layouts[0]) == "NHWC" else (0, 1, 2, 3)

    def _scale(self, images: Sequence[StoredArray]) -> tuple[Scale, list[str]]:
        """How values become 0 .. 255, the same way in each split, and what is to be said of it."""
        first, *others = images
        dtype = first.dtype.newbyteorder("=")
        for other in others:
            if other.dtype.newbyteorder("=") != dtype:
                raise ValueError(f"{self.path}: {first} and {other} differ in type")
        kind = dtype.kind
        if kind == "b" or (kind in "ui" and all(array.is_binary() for array in images)):
            numbers = "" if kind == "b" else ", 0 or 1"
            return lambda values: values * np.uint8(255), [f"images are {dtype}{numbers}, scaled to 0 and 255"]
        if dtype == np.uint8:
            return _as_they_are, []
        # of a resized or normalised image, in float32 before it was saved as anything finer
        slack = 4 * max(np.finfo(dtype).eps, np.finfo(np.float32).eps) if kind == "f" else 0
        for array in images:
            low, high = array.range()
            most = 65535 if dtype == np.uint16 else 255
            if not (low >= -slack and high <= most):
                raise ValueError(
                    f"{self.path}: {array.name} is {array.dtype} from {low:g} to {high:g}; "
                    "uint8, or numbers within 0 .. 255 or [0, 1], are needed"
                )
        high = max(array.range()[1] for array in images)
        if kind == "f" and high <= 1 + slack:
            said = f"images are {dtype} in [0, 1], scaled to 0 .. 255"
            return lambda values: np.rint(np.clip(values, 0, 1) * 255), [said]
        if kind == "f" and high <= UNCLEAR:
            raise ValueError(
                f"{self.path}: images are {dtype} up to {high:g}: above [0, 1], and almost black as 0 .. 255; "
                "bring them into [0, 1] (numpy.clip(images, 0, 1)), or save them as uint8"
            )
        if high > 255:
            return lambda values: np.rint(values / 257), [f"images are {dtype} up to {high:g}, 0 .. 65535 scaled"]
        return _rounded, [f"images are {dtype} up to {high:g}, taken as 0 .. 255"]

    def _labels(self, roles: Mapping[tuple[str, str], StoredArray], images: Mapping[str, StoredArray]) -> Labels:
        given = {part: array for (part, kind), array in roles.items() if kind == "labels"}
        for part, array in given.items():
            if array.shape[:1] != images[part].shape[:1]:
                raise ValueError(f"{self.path}: {array} for {images[part].shape[0]} images")
        names = roles.get(("train", "names"))
        loaded = {part: (array.name, array.load()) for part, array in given.items()}
        class_names = None if names is None else names.load()
        try:
            return labels_of(loaded, class_names)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error


def _role(name: str) -> tuple[str, str] | None:
    """What an array of this name holds: its split and kind; None where that is not understood."""
    if name.lower() in NAMES:
        return "train", "names"
    for kind, words in (("images", IMAGES), ("labels", LABELS)):
        for part, marks in PARTS.items():
            known = {f"{word}_{mark}" for word in words for mark in marks}
            known |= {f"{mark}_{word}" for word in words for mark in marks}
            if name.lower() in (known | set(words) if part == "train" else known):
                return part, kind
    return None


def _as_they_are(values: np.ndarray) -> np.ndarray:
    return values


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(np.maximum(values, 0))


def _split(
    array: StoredArray, order: tuple[int, ...], scale: Scale, labels: np.ndarray | None, rows: np.ndarray | None
) -> Split:
    """The images of an array, or those of some rows, whose pieces are copied as they are read."""

    def read(start: int, stop: int) -> Tensor:
        wanted = slice(start, stop) if rows is None else rows[start:stop]
        piece = scale(array.load()[wanted]).transpose(order).astype(np.uint8, copy=True)
        return torch.from_numpy(piece if piece.ndim == 4 else piece[:, None])

    number = array.shape[0] if rows is None else len(rows)
    return Split(number, read, None if labels is None else torch.from_numpy(labels))

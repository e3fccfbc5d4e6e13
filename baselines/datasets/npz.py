"""Arrays in one .npz file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from baselines.datasets.arrays import split_of
from harness.api import Dataset, Source

LAYOUTS = ("NHWC", "NCHW")


class Npz(Dataset):
    """Arrays in one .npz file, in the layout of keras.datasets: x_train, y_train and optionally x_test, y_test.

    Images are u8 [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3; labels are integers 0 .. K-1, [N] or
    [N, 1]. Optional too: x_unlabeled, images for pre-training only, and class_names, K strings. The arrays are read
    into memory while they are decoded; take `image_folder` for what does not fit.

    Args:
        path: the file.
        layout: NHWC or NCHW, for shapes that could be either; None finds out.
    """

    def __init__(self, *, path: str = "data/images.npz", layout: str | None = None):
        if layout is not None and layout not in LAYOUTS:
            raise ValueError(f"layout: {layout!r} is not NHWC or NCHW (or null, to find out)")
        self.path = path
        self.layout = layout

    def identity(self) -> str:
        """The file's path, size and times, and the layout."""
        path = self._file()
        status = path.stat()
        return f"{path.absolute()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {self.layout}"

    def open(self) -> Source:
        """Reads the arrays.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: an array is missing or has another form; names it.
        """
        arrays = self._read()
        parts = [split for split in ("train", "test", "unlabeled") if f"x_{split}" in arrays]
        images = {split: self._images(arrays, f"x_{split}") for split in parts}
        labels = {split: self._labels(arrays, f"y_{split}") for split in parts if split != "unlabeled"}
        shapes = {split: tuple(array.shape[1:]) for split, array in images.items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"{self.path}: images differ in shape: {shapes}")
        names = arrays.get("class_names", np.arange(int(labels["train"].max(initial=-1)) + 1))
        channels, height, width = shapes["train"]
        splits = {split: split_of(array, labels.get(split)) for split, array in images.items()}
        return Source((channels, height, width), tuple(str(name) for name in names), splits)

    def _file(self) -> Path:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"no file {path.absolute()}; put an .npz with x_train and y_train there")
        return path

    def _read(self) -> dict[str, np.ndarray]:
        """Every array of the file, once the necessary ones are there."""
        try:
            with np.load(self._file(), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.path} is not an .npz file of plain arrays: {error}") from error
        needed = {"x_train", "y_train"} | ({"x_test", "y_test"} if {"x_test", "y_test"} & arrays.keys() else set())
        missing = sorted(needed - arrays.keys())
        if missing:
            hint = "; images for pre-training only are called x_unlabeled" if missing == ["y_test"] else ""
            raise ValueError(f"{self.path} holds no {' and no '.join(missing)}{hint}")
        return arrays

    def _images(self, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
        """u8 [N, C, H, W], a view of what was read."""
        array = arrays[name]
        place = f"{self.path}: {name} is {array.dtype} {array.shape}"
        if array.dtype != np.uint8 or array.ndim not in (3, 4):
            raise ValueError(f"{place}; uint8 [N, H, W], [N, H, W, C] or [N, C, H, W] is needed")
        if array.ndim == 3:
            return array[:, None]
        layouts = [layout for layout, axis in (("NHWC", 3), ("NCHW", 1)) if array.shape[axis] in (1, 3)]
        if self.layout is None and len(layouts) == 2:
            raise ValueError(f"{place}, which may be NHWC or NCHW; set layout")
        if not layouts or (self.layout or layouts[0]) not in layouts:
            raise ValueError(f"{place}; 1 or 3 channels are needed")
        return array.transpose(0, 3, 1, 2) if (self.layout or layouts[0]) == "NHWC" else array

    def _labels(self, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
        """i64 [N]."""
        array = arrays[name]
        images = arrays[name.replace("y_", "x_")]
        if array.dtype.kind not in "iu" or array.shape not in ((len(images),), (len(images), 1)):
            raise ValueError(f"{self.path}: {name} is {array.dtype} {array.shape}; {len(images)} integers are needed")
        return array.reshape(-1).astype(np.int64)

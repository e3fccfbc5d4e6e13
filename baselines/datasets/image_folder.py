"""A folder of images, one sub-folder per class."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from PIL import Image

from baselines.datasets.image_files import split_of
from harness.api import Dataset, Source, Split
from harness.image_file import EXTENSIONS


class ImageFolder(Dataset):
    """A folder of images, one sub-folder per class, as torchvision's ImageFolder reads them.

    Either `path/train/<class>/...` with an optional `path/test/<class>/...`, or `path/<class>/...`, from which the
    harness takes test images. Classes are sorted by name; hidden files and other extensions are left out.

    Args:
        path: the folder.
        size: H and W of the images, after a centre crop to a square and resizing; None takes the size of the
            first image for all.
        channels: 3 for RGB, 1 for grey.
    """

    def __init__(self, *, path: str = "data/images", size: int | None = None, channels: int = 3):
        if size is not None and size < 1:
            raise ValueError(f"size: {size} is not at least 1 (or null, for the size of the first image)")
        if channels not in (1, 3):
            raise ValueError(f"channels: {channels} is not 1 or 3")
        self.path = path
        self.size = size
        self.channels = channels

    def identity(self) -> str:
        """Every file's name, size and time, and the form the images are brought into."""
        digest = hashlib.blake2b(digest_size=16)
        for folder in self._splits().values():
            for file, status in _files(folder):
                digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return f"{Path(self.path).expanduser().absolute()} {self.size} {self.channels} {digest.hexdigest()}"

    def open(self) -> Source:
        """Lists the files; they are decoded when they are read.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: fewer than 2 classes, a class without images, or a class that only `test` has.
        """
        splits = self._splits()
        names = _classes(splits["train"])
        if len(names) < 2:
            raise ValueError(f"{splits['train']} holds {len(names)} class folders; at least 2 are needed")
        files = {split: _labeled(folder, names) for split, folder in splits.items()}
        shape = self._image_shape(files["train"][0][0])

        def split(paths: list[Path], labels: list[int]) -> Split:
            return split_of(paths, labels, shape)

        return Source(shape, names, {name: split(*listed) for name, listed in files.items()})

    def _splits(self) -> dict[str, Path]:
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root.absolute()}; put one folder of images per class there")
        if not (root / "train").is_dir():
            return {"train": root}
        return {name: root / name for name in ("train", "test") if (root / name).is_dir()}

    def _image_shape(self, first: Path) -> tuple[int, int, int]:
        if self.size is not None:
            return self.channels, self.size, self.size
        try:
            with Image.open(first) as image:
                return self.channels, image.height, image.width
        except OSError as error:
            raise ValueError(f"cannot decode {first}: {error}") from error


def _files(folder: Path) -> list[tuple[str, os.stat_result]]:
    """The images below `folder`, sorted by path, with their status."""
    found = []
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found += _files(Path(entry.path))
        elif entry.name.lower().endswith(EXTENSIONS):
            found.append((entry.path, entry.stat()))
    return sorted(found, key=lambda item: item[0])


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(item.name for item in folder.iterdir() if item.is_dir() and not item.name.startswith(".")))


def _labeled(folder: Path, names: tuple[str, ...]) -> tuple[list[Path], list[int]]:
    """Every image of the classes in `folder`, with its label in `names`."""
    paths: list[Path] = []
    labels: list[int] = []
    for name in _classes(folder):
        if name not in names:
            raise ValueError(f"{folder / name}: no class {name!r} among the training images")
        files = [Path(file) for file, _ in _files(folder / name)]
        if not files:
            raise ValueError(f"{folder / name} holds no image ({' '.join(EXTENSIONS)})")
        paths += files
        labels += [names.index(name)] * len(files)
    return paths, labels

"""A folder of images, one sub-folder per class."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from pathlib import Path

from PIL import Image

from baselines.datasets.image_files import split_of_files
from harness.api import Dataset, Source, Split
from harness.image_file import EXTENSIONS, undecodable

log = logging.getLogger(__name__)


class ImageFolder(Dataset):
    """A folder of images, one sub-folder per class, as torchvision's ImageFolder reads them.

    Either `path/train/<class>/...` with an optional `path/test/<class>/...`, or `path/<class>/...`, from which the
    harness takes test images. Classes are sorted by name. Hidden files are left out; so are files of other extensions
    and those beside the class folders, which are counted on stderr. A file that is no image in spite of its extension,
    or of more than 179 million pixels, is an error that names it.

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
        """Every file's name, size and times, and the form the images are brought into.

        The time of the last change, which nobody can set, tells of another content under the same size and date.
        """
        digest = hashlib.blake2b(digest_size=16)
        for folder in self._splits().values():
            for file, status in _files(folder):
                times = f"{status.st_mtime_ns}\0{status.st_ctime_ns}"
                digest.update(os.fsencode(file) + f"\0{status.st_size}\0{times}\0".encode())
        return f"{Path(self.path).expanduser().absolute()} {self.size} {self.channels} {digest.hexdigest()}"

    def open(self) -> Source:
        """Lists the files; they are decoded when they are read.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: fewer than 2 classes, a class without images, a class that only `test` has, or something
                that cannot be read.
        """
        splits = self._splits()
        names = _classes(splits["train"])
        if len(names) < 2:
            raise ValueError(f"{splits['train']} holds {len(names)} class folders; at least 2 are needed")
        files = {split: _labeled(folder, names) for split, folder in splits.items()}
        for folder in splits.values():
            left_out = _left_out(folder)
            if left_out:
                log.warning(
                    "%s: %d files are left out, such as %s: not %s in a class folder",
                    folder, len(left_out), left_out[0], " ".join(EXTENSIONS),
                )  # fmt: skip
        shape = self._image_shape(files["train"][0][0])

        def split(paths: list[Path], labels: list[int]) -> Split:
            return split_of_files(paths, labels, shape)

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
        except Exception as error:
            raise undecodable(first, error) from error


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What lies in `folder`, sorted by name, without hidden files."""
    try:
        return sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"cannot read {folder}: {error.strerror}") from error


def _files(folder: Path | str, above: tuple[str, ...] = ()) -> list[tuple[str, os.stat_result]]:
    """The images below `folder`, sorted by path, with their status.

    Raises:
        ValueError: a folder or file cannot be read, is no file, or is a link to a folder that it lies in.
    """
    images = []
    here = os.path.realpath(folder)
    if here in above:
        raise ValueError(f"{folder} is a link to a folder that it lies in; remove it")
    for entry in _entries(folder):
        if entry.is_dir():
            images += _files(entry.path, (*above, here))
        elif entry.name.lower().endswith(EXTENSIONS):
            try:
                status = entry.stat()
            except OSError as error:
                raise ValueError(f"cannot read {entry.path}: {error.strerror}") from error
            if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
                raise ValueError(f"{entry.path} is not a file; remove it")
            images.append((entry.path, status))
    return sorted(images, key=lambda item: item[0])


def _left_out(folder: Path) -> list[str]:
    """The files in `folder` and its classes that are no images by their name, and images beside the classes."""
    beside = [entry.path for entry in _entries(folder) if entry.is_file()]
    return beside + [path for entry in _entries(folder) if entry.is_dir() for path in _others(entry.path)]


def _others(folder: str) -> list[str]:
    entries = _entries(folder)
    others = [e.path for e in entries if e.is_file() and not e.name.lower().endswith(EXTENSIONS)]
    return others + [path for entry in entries if entry.is_dir() for path in _others(entry.path)]


def _classes(folder: Path) -> tuple[str, ...]:
    names = tuple(entry.name for entry in _entries(folder) if entry.is_dir())
    for name in names:
        if not name.isprintable():
            raise ValueError(f"{folder}: the class folder {name!r} has a name that cannot be shown; rename it")
    return names


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

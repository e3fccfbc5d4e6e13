"""A tree of folders with images in it, as it lies on disk: looked at once, and nothing is decoded."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from harness.image_file import EXTENSIONS, is_clutter


@dataclass(frozen=True)
class ImageFile:
    """An image by its name.

    Attributes:
        path: of the file.
        status: its size and times.
    """

    path: str
    status: os.stat_result


@dataclass(frozen=True)
class Folder:
    """A folder with all below it; links are followed.

    Attributes:
        path: of the folder.
        name: the last part of it, in Unicode's composed form (NFC), which is one for what looks the same.
        images: that lie in it directly.
        folders: that lie in it directly.
        others: paths of files in it that are no images by their name.
        clutter: paths of images in it that are hidden, or in folders that nobody made for their data.
    """

    path: str
    name: str
    images: tuple[ImageFile, ...]
    folders: tuple[Folder, ...]
    others: tuple[str, ...]
    clutter: tuple[str, ...]

    @cached_property
    def num_images(self) -> int:
        """In it and below."""
        return len(self.images) + sum(folder.num_images for folder in self.folders)

    @cached_property
    def filled(self) -> tuple[Folder, ...]:
        """The folders in it that hold images, themselves or below."""
        return tuple(folder for folder in self.folders if folder.num_images)

    def walk(self) -> Iterator[Folder]:
        """It and all folders below."""
        yield self
        for folder in self.folders:
            yield from folder.walk()


def scan(path: str, above: tuple[str, ...] = ()) -> Folder:
    """Looks at a folder and all below it, sorted by name.

    Raises:
        ValueError: something cannot be read, an image by its name is no file, or a link leads to a folder that it
            lies in. (One that leads nowhere is an image that cannot be decoded.)
    """
    here = os.path.realpath(path)
    if here in above:
        raise ValueError(f"{path} is a link to a folder that it lies in; remove it")
    images, folders, others, clutter = [], [], [], []
    for entry in _entries(path):
        is_image = entry.name.lower().endswith(EXTENSIONS)
        if is_clutter(entry.name):
            clutter += list(_images_below(entry.path)) if entry.is_dir() else [entry.path] if is_image else []
        elif entry.is_dir():
            folders.append(scan(entry.path, (*above, here)))
        elif is_image:
            images.append(ImageFile(entry.path, status_of(entry.path)))
        else:
            others.append(entry.path)
    name = unicodedata.normalize("NFC", os.path.basename(os.path.abspath(path)))
    return Folder(path, name, tuple(images), tuple(folders), tuple(others), tuple(clutter))


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


def status_of(path: str) -> os.stat_result:
    """The status of an image's file; of a link that leads nowhere its own, for then the image is broken like others.

    Raises:
        ValueError: it cannot be had, or it is no file.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return os.lstat(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
        raise ValueError(f"{path} is not a file; remove it")
    return status


def leads_nowhere(path: str) -> bool:
    """Whether it is a link to what is not there, as where a file was not fetched (DVC, git-annex)."""
    return os.path.islink(path) and not os.path.exists(path)


def _images_below(path: str) -> Iterator[str]:
    """The images, by their names, of a folder that nobody asks for, as far as it can be read."""
    for folder, _, files in os.walk(path):
        yield from (os.path.join(folder, file) for file in files if file.lower().endswith(EXTENSIONS))

"""A folder of images, one sub-folder per class."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from baselines.datasets.folder_layout import Layout, read_layout
from baselines.datasets.folders import ImageFile
from baselines.datasets.image_files import split_of_files
from harness.api import Dataset, Source, Split
from harness.image_file import size_of

log = logging.getLogger(__name__)


class ImageFolder(Dataset):
    """A folder of images, one sub-folder per class, as torchvision's ImageFolder reads them and as others lay them out.

    Either `path/<class>/...`, from which the harness takes validation and test images, or folders of classes for the
    training images and, if there are any, the validation and the test images. These are known by their names, in any
    case: train, training or trainset; val, valid, validation, valset or dev; test, testing or testset; also beside
    seg, set, data, split or images and digits, as in seg_train, Test Set, val2017. Folders that hold nothing but the
    next one (`pets/pets/...`, `seg_train/seg_train/...`) are passed through. What is decided by content is said: a
    folder with one of these names that holds images and no folders is a class, or, where all are so, an error; where
    all classes hold the same folders, either could be the classes, and it is asked which.

    A class is called by its folder, in Unicode's composed form; folders of one name are one class, and classes are
    sorted by name. Files of other extensions, files beside the class folders, hidden ones and those that storage
    devices and archives put there (`@eaDir`, `__MACOSX` and the like) are left out and counted on stderr. A file that
    is no image in spite of its extension, or of more than 179 million pixels, is an error that names it. Images of 16
    bits are scaled to 8, and counted.

    Args:
        path: the folder.
        size: H and W of the images, after a centre crop to a square and resizing; None takes the size of the
            first image for all.
        channels: 3 for RGB, 1 for grey.
        depth: how many folders below its split a class is: of `Fruit/Apple/1.png` it is Fruit by 1 and Apple by 2;
            `leaf` makes every folder in which images lie a class; None is 1, where that is beyond doubt.
        train: the folder of the training images, below `path`; `.` is `path` itself. None finds it by its name.
        val: the folder of the validation images, likewise.
        test: the folder of the test images, likewise; `val` makes ImageNet's validation images the test images.
        upright: whether photographs are turned as their EXIF orientation says.
    """

    def __init__(
        self,
        *,
        path: str = "data/images",
        size: int | None = None,
        channels: int = 3,
        depth: int | Literal["leaf"] | None = None,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        upright: bool = True,
    ):
        if size is not None and size < 1:
            raise ValueError(f"size: {size} is not at least 1 (or null, for the size of the first image)")
        if channels not in (1, 3):
            raise ValueError(f"channels: {channels} is not 1 or 3")
        if depth not in (None, "leaf") and (not isinstance(depth, int) or depth < 1):
            raise ValueError(f"depth: {depth!r} is not at least 1 (or `leaf`, or null)")
        self.path = path
        self.size = size
        self.channels = channels
        self.depth = depth
        self.train = train
        self.val = val
        self.test = test
        self.upright = upright

    def identity(self) -> str:
        """Every file's split, name, size and times, and the form the images are brought into.

        The time of the last change, which nobody can set, tells of another content under the same size and date.
        """
        digest = hashlib.blake2b(digest_size=16)
        for split, classes in self._layout().splits.items():
            for name, images in classes.items():
                digest.update(f"{split}\0{name}\0".encode())
                for image in images:
                    times = f"{image.status.st_mtime_ns}\0{image.status.st_ctime_ns}"
                    digest.update(os.fsencode(image.path) + f"\0{image.status.st_size}\0{times}\0".encode())
        form = f"{self.size} {self.channels} {self.upright}"
        return f"{Path(self.path).expanduser().absolute()} {form} {digest.hexdigest()}"

    def open(self) -> Source:
        """Lists the files; they are decoded when they are read.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: fewer than 2 classes, a class without images, a class that only `val` or `test` has, a layout
                that can be understood in two ways, or something that cannot be read.
        """
        layout = self._layout()
        for note in layout.notes:
            log.warning(note)
        names = tuple(layout.splits["train"])
        shape = self._image_shape(Path(layout.splits["train"][names[0]][0].path))

        def split(classes: Mapping[str, Sequence[ImageFile]]) -> Split:
            paths = [Path(image.path) for images in classes.values() for image in images]
            labels = [names.index(name) for name, images in classes.items() for _ in images]
            return split_of_files(paths, labels, shape, upright=self.upright)

        return Source(shape, names, {name: split(classes) for name, classes in layout.splits.items()})

    def _layout(self) -> Layout:
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root.absolute()}; put one folder of images per class there")
        named = {"train": self.train, "val": self.val, "test": self.test}
        return read_layout(str(root), {split: path for split, path in named.items() if path is not None}, self.depth)

    def _image_shape(self, first: Path) -> tuple[int, int, int]:
        if self.size is not None:
            return self.channels, self.size, self.size
        return self.channels, *size_of(first, upright=self.upright)

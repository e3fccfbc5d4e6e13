"""A folder of images, one sub-folder per class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from baselines.datasets.folder_layout import Layout, read_layout
from baselines.datasets.image_files import common_size, sizes_of, split_of_files
from baselines.datasets.unlabeled import with_oracle, without_classes
from harness.api import Dataset, Source, Split
from harness.image_file import ImageFile


class ImageFolder(Dataset):
    """A folder of images, one sub-folder per class, as torchvision's ImageFolder reads them and as others lay them out.

    Either `path/<class>/...`, from which the harness takes validation and test images, or folders of classes for the
    training images and, if there are any, the validation and the test images. These are known by their names, in any
    case: train, training or trn; val, valid, validate, validation, dev, eval or evaluation; test, testing or tst; also
    beside or in one with seg, set, data, split, images or x, and digits, as in seg_train, TestSet, traindata, val2017;
    PublicTest is FER2013's val, PrivateTest its test. Folders that hold nothing but the next one (`pets/pets/...`,
    `seg_train/seg_train/...`) are passed through. What is decided by content is said: a folder with one of these names
    that holds images and no folders is a class, or, where all are so, an error; where most classes hold the same
    folders, either could be the classes, and it is asked which.

    A class is called by its folder, in Unicode's composed form; folders of one name are one class, and classes are
    sorted by name. Files of other extensions, files beside the class folders, hidden ones and those that storage
    devices and archives put there (`@eaDir`, `#snapshot`, `__MACOSX` and the like) are left out and counted. A file is
    an image by its extension: all that torchvision reads, and Pillow's other pictures (not .eps, .wmf, .pfm, .fits).
    One that is no image in spite of it, or of more than 179 million pixels, is an error that names it. Images of 16
    bits are scaled to 8, and counted.

    Args:
        path: the folder.
        size: H and W of the images, after a centre crop to a square and resizing. None: that of the images, where all
            have the same and at most 256 x 256 pixels; else 128, or the median of their shorter sides if it is less.
        channels: 3 for RGB, 1 for grey.
        depth: how many folders below its split a class is: of `Fruit/Apple/1.png` it is Fruit by 1 and Apple by 2;
            `leaf` makes every folder in which images lie a class; None is 1, where that is beyond doubt.
        train: the folder of the training images, below `path`; `.` is `path` itself. None finds it by its name.
        val: the folder of the validation images, likewise.
        test: the folder of the test images, likewise; `val` makes ImageNet's validation images the test images.
        upright: whether photographs are turned as their EXIF orientation says.
        unlabeled: the folder of images without labels, likewise, which are pre-trained on and nothing else; found by
            unlabeled, unlabelled, unsup or unsupervised, also among the training images.
        labels: `folders`, or `none` for a folder without classes: every image below `path` is pre-trained on.
        oracle: a table of paths and labels, as `manifest` reads them, of images without labels: those join the pool,
            and a label counts when it is bought.
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
        unlabeled: str | None = None,
        labels: Literal["folders", "none"] = "folders",
        oracle: str | None = None,
    ):
        if size is not None and size < 1:
            raise ValueError(f"size: {size} is not at least 1 (or null, for that of the images)")
        if channels not in (1, 3):
            raise ValueError(f"channels: {channels} is not 1 or 3")
        if depth not in (None, "leaf") and (not isinstance(depth, int) or depth < 1):
            raise ValueError(f"depth: {depth!r} is not at least 1 (or `leaf`, or null)")
        named = {"train": train, "val": val, "test": test, "unlabeled": unlabeled}
        self._named = {split: folder for split, folder in named.items() if folder is not None}
        if labels not in ("folders", "none"):
            raise ValueError(f"labels: {labels!r} is neither folders nor none")
        if labels == "none" and (self._named or depth is not None):
            given = ", ".join([*self._named, *(["depth"] if depth is not None else [])])
            raise ValueError(f"labels: none takes every image below `path`; leave {given} out")
        self.path = path
        self.size = size
        self.channels = channels
        self.depth = depth
        self.train = train
        self.val = val
        self.test = test
        self.upright = upright
        self.unlabeled = unlabeled
        self.labels = labels
        self.oracle = oracle
        self.has_labels = labels != "none" or oracle is not None

    def identity(self) -> str:
        """Every file's split, name, size and times, and the form the images are brought into.

        The time of the last change, which nobody can set, tells of another content under the same size and date.
        """
        digest = hashlib.blake2b(digest_size=16)
        layout = self._layout()
        lists = [(split, name, images) for split, of in layout.splits.items() for name, images in of.items()]
        for split, name, images in (*lists, ("unlabeled", "", layout.unlabeled)):
            digest.update(f"{split}\0{name}\0".encode())
            for image in images:
                times = f"{image.status.st_mtime_ns}\0{image.status.st_ctime_ns}"
                digest.update(os.fsencode(image.path) + f"\0{image.status.st_size}\0{times}\0".encode())
        form = f"{self.size} {self.channels} {self.upright}"
        return f"{Path(os.path.expanduser(self.path)).absolute()} {form} {digest.hexdigest()}"

    def open(self) -> Source:
        """Lists the files; they are decoded when they are read.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: fewer than 2 classes, a class without images, a class that only `val` or `test` has, a layout
                that can be understood in two ways, or something that cannot be read.
        """
        layout = self._layout()
        names = tuple(layout.splits.get("train", ()))
        labeled = [image for classes in layout.splits.values() for images in classes.values() for image in images]
        shape, said = self._image_shape([image.path for image in (*labeled, *layout.unlabeled)])
        notes = (*layout.notes, *said)
        tally = {"left_out": layout.left_out} if layout.left_out else {}
        without = [image.path for image in layout.unlabeled]
        if not self.has_labels:
            train = split_of_files(without, None, shape, upright=self.upright)
            return Source(shape, (), {"train": train}, notes=notes, tally=tally)

        def split(classes: Mapping[str, Sequence[ImageFile]]) -> Split:
            paths = [image.path for images in classes.values() for image in images]
            labels = [label for name, images in classes.items() for label in [names.index(name)] * len(images)]
            return split_of_files(paths, labels, shape, upright=self.upright)

        splits = {name: split(classes) for name, classes in layout.splits.items()}
        if without:
            splits["unlabeled"] = split_of_files(without, None, shape, upright=self.upright)
        return Source(shape, names, splits, notes=notes, tally=tally)

    def _layout(self) -> Layout:
        root = Path(os.path.expanduser(self.path))
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root.absolute()}; put one folder of images per class there")
        layout = (
            read_layout(str(root), self._named, self.depth) if self.labels != "none" else without_classes(str(root))
        )
        return with_oracle(layout, Path(os.path.expanduser(self.oracle)), root) if self.oracle is not None else layout

    def _image_shape(self, paths: list[str]) -> tuple[tuple[int, int, int], tuple[str, ...]]:
        """(C, H, W), and what is to be said of it."""
        if self.size is not None:
            return (self.channels, self.size, self.size), ()
        height, width, said = common_size(sizes_of(paths, upright=self.upright))
        return (self.channels, height, width), (f"{self.path}: {said}",) if said else ()

"""What a data set gives: images, labels and their splits.

A data set of features is one whose images are known by what an encoder made of them: wherever an image is u8 [C, H, W]
elsewhere, it is there a vector of floats [D], and so the shape of an image is (D,).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor


class Images:
    """Rows of a uint8 image store [*, C, H, W], or of floats [*, D] in a data set of features, gathered on demand.

    The store may be memory-mapped and far larger than memory, so only the rows asked for are read. It may hold further
    images, which are not for those who are handed these: no attribute leads to it, and what is gathered is a copy.

    Args:
        store: u8 [M, C, H, W] or floats [M, D], in memory, memory-mapped or on an accelerator.
        rows: i64 [N], which rows of the store these images are; all of them if None.
        device: where gathered batches are put; the store's own device if None.
    """

    def __init__(self, store: Tensor, rows: Tensor | None = None, device: torch.device | None = None):
        _stored[self] = store, torch.arange(len(store)) if rows is None else rows
        self.device = device or store.device

    def __len__(self) -> int:
        return len(_stored[self][1])

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W), or (N, D) in a data set of features."""
        return len(self), *_stored[self][0].shape[1:]

    def __getitem__(self, index: Tensor) -> Tensor:
        """Gathers u8 [B, C, H, W], or floats [B, D], for i64 [B] positions in 0 .. N-1."""
        store, rows = _stored[self]
        return store[rows[index.to(rows.device)].to(store.device)].to(self.device, non_blocking=True)

    def subset(self, index: Tensor) -> Images:
        """The images at i64 [n] positions, without reading any of them."""
        store, rows = _stored[self]
        return Images(store, rows[index.to(rows.device)], self.device)


_stored: WeakKeyDictionary[Images, tuple[Tensor, Tensor]] = WeakKeyDictionary()


SOURCE_SPLITS = ("train", "val", "test", "unlabeled")
"""The parts that a data source may have; all but `unlabeled` have labels."""

TALLIED = {
    "scaled": "images whose values were scaled to 0 .. 255, such as those of 16 bits",
    "frames": "images of several frames or pages, of which the first is read",
    "transparent": "images with transparent pixels, whose colours are read as they are",
    "left_out": "files that are no image by their name, or lie where none is looked for, and rows that are not used",
    "skipped": "images that cannot be decoded, with `data.on_broken: skip`",
    "rare": "images of classes that `data.min_images` leaves out",
    "dropped": "images that another part has too, with `data.duplicates: drop`",
    "doubled": "images of one part that are in another too, and stay there",
}
"""What may become of images before a trial sees them: its name in records, and what is counted."""


@dataclass(frozen=True)
class Split:
    """One part of a data source, readable in pieces.

    Attributes:
        num_images: how many images it has.
        read: `read(start, stop)` decodes u8 [stop - start, C, H, W], or floats [stop - start, D] of the source's dtype;
            called from several threads at once.
        labels: i64 [num_images] in 0 .. K-1, or None where there are none.
        files: num_images paths of image files, for those who show images of a data set of features; None: not known.
        names: what each image is called, such as its file, for messages; None: its position.
        converted: of the images that were read so far, what `read` did to some: `TALLIED` -> their names.
    """

    num_images: int
    read: Callable[[int, int], Tensor]
    labels: Tensor | None = None
    files: Sequence[str] | None = None
    names: Sequence[str] | None = None
    converted: Mapping[str, Sequence[str]] = field(default_factory=dict)


class BrokenImagesError(ValueError):
    """Raised by `Split.read` for images that cannot be decoded, once it has tried all that were asked for.

    Args:
        reasons: position in the split -> what is wrong, in one line that names the image.
    """

    def __init__(self, reasons: Mapping[int, str]):
        super().__init__("; ".join(reasons.values()))
        self.reasons = dict(reasons)


@dataclass(frozen=True)
class Source:
    """An opened data set: what the harness decodes once into its cache.

    Attributes:
        image_shape: (C, H, W) of every image, after any resizing the data set does; (D,) in a data set of features.
        class_names: K names, in label order; none where no image has a label.
        splits: of `SOURCE_SPLITS`: `train` (required), and where the source has them `val`, `test` and `unlabeled`.
            Without `val` or `test` the harness carves one from `train`. Where no image has a label, `train` alone.
        dtype: of what the splits read: uint8 for images, float16 or float32 for features.
        notes: what was decided by content, converted or left out, a line each that names the place: people read them.
        tally: how many images or files that were, for records: `TALLIED` -> number.
    """

    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    splits: Mapping[str, Split]
    dtype: torch.dtype = torch.uint8
    notes: tuple[str, ...] = ()
    tally: Mapping[str, int] = field(default_factory=dict)


class Dataset(ABC):
    """Where images come from. Downloads, if any, happen in `open`, never in the constructor.

    Attributes:
        has_labels: whether there are labels at all, which the settings alone decide: false for images that can only
            be pre-trained on, so that what needs labels is refused before anything is read.
        gives_features: whether it is a data set of features, floats [D] in place of pixels, which the class decides. A
            trial then trains no encoder, and what needs pixels is refused before it starts.
        downloads: whether `open` may fetch files from elsewhere, which a dry run then leaves.
    """

    has_labels: bool = True
    gives_features: bool = False
    downloads: bool = False

    @abstractmethod
    def identity(self) -> str:
        """What determines the images, found without decoding them: names, sizes and times of files.

        Two equal identities share one decoded cache. Called before `open`, on every run.
        """

    @abstractmethod
    def open(self) -> Source:
        """Opens the source for decoding. Called only when the cache does not hold this identity.

        Raises:
            FileNotFoundError: in one line, what is missing and where to put it.
        """

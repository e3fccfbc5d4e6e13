"""From a decoded data set to a trial's images: `open_data` splits it into the pool, the validation and the test images
and hands the pool's labels to the oracle.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from harness.api import Dataset, Images
from harness.data.carving import CARVED, Part, set_aside, without_rare
from harness.data.decode import Prepared, prepare
from harness.data.imbalance import Exponential, Step, thinned
from harness.data.oracle import Oracle, stratified_draw
from harness.seeding import generator

log = logging.getLogger(__name__)

DEVICE_SHARE = 0.5
"""The share of an accelerator's free memory up to which an image store is copied onto it."""


@dataclass(frozen=True)
class Splitting:
    """Which images of a data set are used, and for what. The fields tell `harness.config` their meaning and range."""

    fraction: float = field(
        default=1.0,
        metadata={"help": "share of the training data, stratified; the test set is never cut", "above": 0, "high": 1},
    )
    val: int | float | None = field(
        default=None,
        metadata={
            "help": "validation images carved from the training set: a share or a count; 0: none; null: those that the "
            f"data set has of its own, and where it has none, a share of {CARVED['val']}",
            "low": 0,
        },
    )
    test: int | float | None = field(
        default=None,
        metadata={
            "help": "test images carved from the training set: a share or a count; null: those that the data set has "
            f"of its own, and where it has none, a share of {CARVED['test']}",
            "above": 0,
        },
    )
    min_images: int = field(
        default=1, metadata={"help": "training images that a class needs in the data set, else it is rare", "low": 1}
    )
    rare: Literal["drop", "train"] = field(
        default="drop",
        metadata={"help": "rare classes are left out, or trained on and carved neither for validation nor for test"},
    )
    imbalance: Step | Exponential | None = field(default=None, metadata={"help": "unbalance the pool"})
    split_seed: int = field(
        default=0,
        metadata={
            "help": "draws the splits and their order; the same for every trial seed, unless `seeds.split` is fresh",
            "low": 0,
        },
    )


@dataclass(frozen=True, eq=False)
class Data:
    """The images of one trial. The labels of the pool are not in here: the oracle alone holds them.

    Attributes:
        pool: N training images, to pre-train on and to select from.
        val: validation images.
        val_labels: i64, of `val`, on the CPU.
        test: test images; None in the search phase, which must not read them.
        test_labels: i64, of `test`, on the CPU; None with it.
        carved: whether the test images were taken from the training images.
        unlabeled_extra: images without labels, for pre-training only; None where the data set has none.
        class_names: K names, in label order; none where no image has a label.
        image_shape: (C, H, W), or (D,) in a data set of features.
        mean: C means of the pool's images, in [0, 1]; none of features.
        std: C standard deviations of the pool's images, in [1/255, 1]; none of features.
        fingerprint: a hash of all images and labels, of which of them are in which part, and of their order there.
        places: part -> a name of the images among which its are, by all their content, how many these are, and i64 rows
            among them. In a folder that is sorted by class a row tells the label.
        counts: part -> number of images, for reports; `test` is counted even where it is None.
        val_files: paths of the image files of `val`, where a data set of features knows them.
    """

    pool: Images
    val: Images
    val_labels: Tensor
    test: Images | None
    test_labels: Tensor | None
    carved: bool
    unlabeled_extra: Images | None
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    places: Mapping[str, tuple[str, int, Tensor]]
    counts: Mapping[str, int]
    val_files: Sequence[bytes] | None = None

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def gives_features(self) -> bool:
        """Whether its images are feature vectors [D]."""
        return len(self.image_shape) == 1


def open_data(
    dataset: Dataset,
    name: str,
    splitting: Splitting,
    *,
    cache: Path,
    with_test: bool,
    device: torch.device | str,
    settings: Mapping[str, Any] | None = None,
    verify: bool = False,
) -> tuple[Data, Oracle]:
    """Opens a data set, decoding it if nobody has yet, and splits it. All draws are stratified.

    The validation images are the same at every fraction, imbalance and trial seed; `split_seed` draws every order.

    Args:
        dataset: where the images come from.
        name: of the data set, for messages and the cache folder.
        splitting: what becomes of its images. `test` is taken first, then `val`, where it has no such images of its
            own, which are used whole; then `fraction` of the rest, which `imbalance` thins.
        cache, settings, verify: see `prepare`.
        with_test: whether `Data.test` may be read.
        device: where batches are wanted; where the images are, `store_of` says.

    Returns:
        The images, and the oracle of the pool's labels, without a budget; of no label where the data set has none.

    Raises:
        ValueError: a setting is impossible; names it and the nearest valid value.
        FileNotFoundError: the data set is not there.
    """
    device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0"
    prepared = prepare(dataset, name, cache, settings=settings, verify=verify)
    prepared, left_out = without_rare(prepared, splitting.min_images if splitting.rare == "drop" else 1)
    if left_out and verify:
        log.warning("%s: %s", name, left_out)
    rows = _split(prepared, splitting)
    images = partial(_images, prepared, device)
    test_split, val_split = (part if part in prepared.images else "train" for part in ("test", "val"))
    mean, std = prepared.moments(rows.pool)
    data = Data(
        pool=images("train", rows.pool),
        val=images(val_split, rows.val),
        val_labels=prepared.labels[val_split][rows.val],
        test=images(test_split, rows.test) if with_test else None,
        test_labels=prepared.labels[test_split][rows.test] if with_test else None,
        carved=test_split == "train" and len(rows.test) > 0,
        unlabeled_extra=images("unlabeled", None) if "unlabeled" in prepared.images else None,
        class_names=prepared.class_names,
        image_shape=prepared.image_shape,
        mean=mean,
        std=std,
        fingerprint=rows.fingerprint(prepared.fingerprint),
        places=_places(prepared, rows),
        counts=_counts(prepared, rows),
        val_files=prepared.files[val_split][rows.val.numpy()].tolist() if val_split in prepared.files else None,
    )
    return data, Oracle(prepared.labels["train"][rows.labeled], len(prepared.class_names))


def _images(prepared: Prepared, device: torch.device, split: str, rows: Tensor | None) -> Images:
    store = store_of(prepared, split, device)
    return Images(store, None if rows is None else rows.to(store.device), device)


def _counts(prepared: Prepared, rows: _Rows) -> Mapping[str, int]:
    counts = {"pool": len(rows.pool), "val": len(rows.val), "test": len(rows.test)}
    if "unlabeled" in prepared.images:
        counts["unlabeled_extra"] = len(prepared.images["unlabeled"])
    return MappingProxyType(counts)


def _places(prepared: Prepared, rows: _Rows) -> Mapping[str, tuple[str, int, Tensor]]:
    """See `Data.places`."""
    places = {}
    for part, where in (("pool", rows.pool), ("val", rows.val), ("test", rows.test)):
        split = part if part in prepared.images else "train"
        places[part] = f"{prepared.fingerprint}-{split}", len(prepared.images[split]), where
    return MappingProxyType(places)


class _JoinedImages(Images):
    """Rows of two sets of images, the second's positions after the first's."""

    def __init__(self, first: Images, second: Images, rows: Tensor):
        assert first.shape[1:] == second.shape[1:], "joined images have one shape"
        self.device = first.device
        self._first, self._second, self._rows = first, second, rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self._first.shape[1:])

    def __getitem__(self, index: Tensor) -> Tensor:
        rows = self._rows[index.cpu()]
        in_second = rows >= len(self._first)
        first = self._first[rows[~in_second]]
        out = torch.empty(len(rows), *self.shape[1:], dtype=first.dtype, device=self.device)
        out[~in_second] = first
        out[in_second] = self._second[rows[in_second] - len(self._first)]
        return out

    def subset(self, index: Tensor) -> Images:
        return _JoinedImages(self._first, self._second, self._rows[index.cpu()])


def joined(first: Images, second: Images) -> Images:
    """Both sets of images, `first`'s positions first; of the same shape, and possibly of different files."""
    return _JoinedImages(first, second, torch.arange(len(first) + len(second)))


@dataclass(frozen=True, eq=False)
class _Rows:
    """Which images are in which part, i64, in a random order; of the split of that name where the data set has one."""

    pool: Tensor
    val: Tensor
    test: Tensor
    has_labels: bool = True

    @property
    def labeled(self) -> Tensor:
        """Those of the pool whose labels can be bought."""
        return self.pool if self.has_labels else self.pool[:0]

    def fingerprint(self, content: str) -> str:
        """A hash of the content and of the rows themselves: settings that lead to equal splits share it."""
        digest = hashlib.blake2b(content.encode(), digest_size=16)
        for part in (self.pool, self.val, self.test):
            digest.update(len(part).to_bytes(8, "little") + part.numpy().tobytes())
        return digest.hexdigest()


def _split(prepared: Prepared, splitting: Splitting) -> _Rows:
    fraction, imbalance, split_seed = splitting.fraction, splitting.imbalance, splitting.split_seed
    if not prepared.class_names:
        return _unlabeled_rows(len(prepared.images["train"]), splitting)
    labels = prepared.labels["train"]
    wanted: dict[Part, int | float | None] = {"test": splitting.test, "val": splitting.val}
    rows, rest = set_aside(prepared, wanted, splitting.min_images, split_seed)
    if not 0 < fraction <= 1:
        raise ValueError(f"data.fraction: {fraction} is not in (0, 1]")
    size, num_classes = round(fraction * len(rest)), len(prepared.class_names)
    if size < num_classes:
        nearest = math.ceil(num_classes / len(rest) * 1e4) / 1e4
        raise ValueError(
            f"data.fraction: {fraction} leaves {size} images for {num_classes} classes; at least {nearest}"
        )
    if size < len(rest):
        rest = rest[stratified_draw(labels[rest], size, rng=generator(split_seed, "split/fraction"))]
    if imbalance is not None:
        sizes = imbalance.sizes(torch.bincount(labels[rest], minlength=num_classes), prepared.class_names)
        rest = rest[thinned(labels[rest], sizes, generator(split_seed, "split/imbalance"))]
    pool, val, test = (
        in_random_order(rows, split_seed, part)
        for part, rows in (("pool", rest), ("val", rows["val"]), ("test", rows["test"]))
    )
    return _Rows(pool, val, test)


def _unlabeled_rows(count: int, splitting: Splitting) -> _Rows:
    """Of images without a single label: all are in the pool, for there is nothing to validate or to test with."""
    if splitting.imbalance is not None:
        raise ValueError("data.imbalance: it thins classes, and no image has a label")
    fraction, split_seed = splitting.fraction, splitting.split_seed
    size = round(fraction * count)
    if size < 2:
        raise ValueError(f"data.fraction: {fraction} leaves {size} of {count} images; at least 2 are needed")
    drawn = torch.randperm(count, generator=generator(split_seed, "split/fraction"))[:size]
    none = drawn[:0]
    return _Rows(in_random_order(drawn.sort().values, split_seed, "pool"), none, none, has_labels=False)


def in_random_order(rows: Tensor, split_seed: int, part: str) -> Tensor:
    """i64 [n], permuted: a position says nothing of a label, as it does in a folder that is sorted by class."""
    return rows[torch.randperm(len(rows), generator=generator(split_seed, f"split/order/{part}"))]


resident: dict[tuple[str, str, torch.device], Tensor] = {}
"""(fingerprint, split, device) -> the images there, of the data set last loaded. Holds no labels."""


def store_of(prepared: Prepared, split: str, device: torch.device) -> Tensor:
    """All images of a split, u8 [M, C, H, W], mapped from their file or on the device.

    On an accelerator they are copied, once per process, while they fit in `DEVICE_SHARE` of its free memory. Features
    stay in their file: heads and selectors, who read them, do so on the CPU.
    """
    mapped = prepared.images[split]
    if device.type == "cpu" or mapped.is_floating_point():
        return mapped
    for key in [key for key in resident if key[0] != prepared.fingerprint]:
        del resident[key]  # a worker that goes on to another data set gives its memory back
    key = (prepared.fingerprint, split, device)
    if key not in resident:
        if mapped.nbytes > DEVICE_SHARE * free_memory(device):
            return mapped
        resident[key] = mapped.to(device)
    return resident[key]


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on an accelerator; 0 where nobody can tell."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return 0

"""From a decoded data set to a trial's images: `open_data` splits it into the pool, the validation and the test images
and hands the pool's labels to the oracle.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness.api import Dataset, Images
from harness.data.carving import CARVED, Aside, set_aside, without_rare
from harness.data.decode import Prepared, prepare
from harness.data.imbalance import Exponential, Step, thinned
from harness.data.oracle import Oracle, stratified_draw
from harness.data.overlaps import Apart, find_overlaps, home_of, number_doubled, say_disputed, without_twins
from harness.seeding import generator

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
    on_broken: Literal["error", "skip"] = field(
        default="error",
        metadata={"help": "images that cannot be decoded: named, all at once, or left out, which the records say"},
    )
    duplicates: Literal["report", "error", "drop"] = field(
        default="report",
        metadata={
            "help": "images that are, pixel for pixel, in two parts: said, refused, or taken out of the training "
            "images (and, where they are test images, of the validation images; never of the test images)"
        },
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
        homes: part -> the split of the data set in which its images lie; `train` where they were carved from it.
        unlabeled_extra: images without labels, for pre-training only; None where the data set has none.
        class_names: K names, in label order; none where no image has a label.
        image_shape: (C, H, W), or (D,) in a data set of features.
        mean: C means of the pool's images, in [0, 1]; none of features.
        std: C standard deviations of the pool's images, in [1/255, 1]; none of features.
        fingerprint: a hash of all images and labels, of which of them are in which part, and of their order there.
        places: part -> a name of the images among which its are, by all their content, how many these are, and i64 rows
            among them. In a folder that is sorted by class a row tells the label.
        counts: part -> number of images, for reports; `test` is counted even where it is None.
        num_bytes: of all images of the data set, decoded.
        files: split of the data set -> paths of its image files, where a data set of features knows them.
        names: split of the data set -> names of its images for people, such as their files, where they have any.
        notes: what was decided, converted, skipped, left out or is there twice, a line each.
        tally: how many images or files that were, see `harness.api.TALLIED`.
    """

    pool: Images
    val: Images
    val_labels: Tensor
    test: Images | None
    test_labels: Tensor | None
    homes: Mapping[str, str]
    unlabeled_extra: Images | None
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    places: Mapping[str, tuple[str, int, Tensor]]
    counts: Mapping[str, int]
    num_bytes: int
    files: Mapping[str, np.ndarray] = field(default_factory=dict)
    names: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tally: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def gives_features(self) -> bool:
        """Whether its images are feature vectors [D]."""
        return len(self.image_shape) == 1

    def files_of(self, part: str, positions: Tensor) -> list[str] | None:
        """The image files behind these features, by i64 positions in a part; None where they are not known."""
        return self._listed(self.files, part, positions)

    def named(self, part: str, positions: Tensor) -> list[str] | None:
        """What images are called, by i64 positions in a part; None where they have no names."""
        return self._listed(self.names, part, positions)

    def _listed(self, lists: Mapping[str, np.ndarray], part: str, positions: Tensor) -> list[str] | None:
        split = self.homes.get(part, "train")
        if split not in lists:
            return None
        rows = self.places[part][2][positions.cpu()].numpy()
        return [os.fsdecode(name) for name in lists[split][rows].tolist()]

    def is_carved(self, part: str) -> bool:
        """Whether the images of a part, if there are any, were taken from the training images."""
        return self.homes.get(part) == "train" and self.counts[part] > 0


def open_data(
    dataset: Dataset,
    name: str,
    splitting: Splitting,
    *,
    cache: Path,
    with_test: bool,
    device: torch.device | str,
) -> tuple[Data, Oracle]:
    """Opens a data set, decoding it if nobody has yet, and divides it; see `prepare` and `divide`."""
    prepared = prepare(dataset, name, cache, skip_broken=splitting.on_broken == "skip")
    return divide(prepared, name, splitting, with_test=with_test, device=device)


def divide(
    prepared: Prepared, name: str, splitting: Splitting, *, with_test: bool, device: torch.device | str
) -> tuple[Data, Oracle]:
    """Divides a data set into the parts of a trial. All draws are stratified.

    The validation images are the same at every fraction, imbalance and trial seed; `split_seed` draws every order.

    Args:
        prepared: the data set.
        name: of it, for messages.
        splitting: what becomes of its images. `test` is taken first, then `val`, where it has no such images of its
            own, which are used whole; then `fraction` of the rest, which `imbalance` thins.
        with_test: whether `Data.test` may be read.
        device: where batches are wanted; where the images are, `store_of` says.

    Returns:
        The images, and the oracle of the pool's labels, without a budget; of no label where the data set has none.

    Raises:
        ValueError: a setting is impossible; names it and the nearest valid value.
    """
    device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0"
    divided = _divided(prepared, name, splitting, device)
    data, kept, rows = divided.data, divided.kept, divided.rows
    if with_test:
        labels = kept.labels[data.homes["test"]][rows.test]
        data = replace(data, test=_images(kept, data.homes["test"], rows.test, device), test_labels=labels)
    return data, Oracle(kept.labels["train"][rows.labeled], data.num_classes)


@dataclass(frozen=True, eq=False)
class _Divided:
    """A data set that was divided, which the next trial of this process mostly asks for again.

    Attributes:
        asked: what was asked for, beside the data set.
        prepared: the data set.
        kept: the same without what is left out.
        rows: of the parts.
        data: without test images.
    """

    asked: tuple[str, str, torch.device]
    prepared: Prepared
    kept: Prepared
    rows: _Rows
    data: Data


_last: list[_Divided] = []
"""What was divided last, if anything was."""


def _divided(prepared: Prepared, name: str, splitting: Splitting, device: torch.device) -> _Divided:
    asked = name, repr(splitting), device  # the text tells 1 from 1.0, a count from a share
    if _last and _last[0].prepared is prepared and _last[0].asked == asked:
        return _last[0]
    _last.clear()  # what it held of an accelerator is free before more is asked for: nothing else here holds it
    kept, left_out = without_rare(prepared, splitting.min_images if splitting.rare == "drop" else 1)
    rows = _split(kept, splitting)
    parts = rows.parts(kept)
    overlaps = find_overlaps(kept, parts)
    if overlaps and splitting.duplicates == "error":
        raise ValueError(f"data set {name}: {'; '.join(map(str, overlaps))}; data.duplicates: drop takes them away")
    twice = [f"{overlap} (see data.duplicates)" for overlap in overlaps]
    twice += say_disputed(kept, parts)
    notes = *kept.notes, *(f"{name}: {note}" for note in (*left_out, *rows.notes, *twice))
    divided = _Divided(asked, prepared, kept, rows, _data_of(kept, rows, notes, device))
    _last.append(divided)
    return divided


def _data_of(prepared: Prepared, rows: _Rows, notes: tuple[str, ...], device: torch.device) -> Data:
    """The parts of a data set, without test images."""
    homes = {part: home_of(prepared, part) for part in ("test", "val")}
    mean, std = prepared.moments(rows.pool)
    return Data(
        pool=_images(prepared, "train", rows.pool, device),
        val=_images(prepared, homes["val"], rows.val, device),
        val_labels=prepared.labels[homes["val"]][rows.val],
        test=None,
        test_labels=None,
        homes=MappingProxyType(homes),
        unlabeled_extra=(
            _images(prepared, "unlabeled", rows.unlabeled, device) if "unlabeled" in prepared.images else None
        ),
        class_names=prepared.class_names,
        image_shape=prepared.image_shape,
        mean=mean,
        std=std,
        fingerprint=rows.fingerprint(prepared.fingerprint),
        places=_places(prepared, rows),
        counts=_counts(prepared, rows),
        num_bytes=prepared.num_bytes,
        files=prepared.files,
        names=prepared.names,
        notes=notes,
        tally=_tally(prepared, rows),
    )


def _images(prepared: Prepared, split: str, rows: Tensor | None, device: torch.device) -> Images:
    """Some images of a split; all of them if None."""
    store = store_of(prepared, split, device)
    return Images(store, None if rows is None else rows.to(store.device), device)


def _tally(prepared: Prepared, rows: _Rows) -> Mapping[str, int]:
    """See `Data.tally`."""
    rare = sum(int((labels < 0).sum()) for labels in prepared.labels.values())
    ours = {"rare": rare, "dropped": rows.dropped, "doubled": number_doubled(prepared, rows.parts(prepared))}
    return MappingProxyType({**prepared.tally, **{name: number for name, number in ours.items() if number}})


def _counts(prepared: Prepared, rows: _Rows) -> Mapping[str, int]:
    counts = {part: len(of_part) for part, of_part in rows.parts(prepared).items()}
    if "unlabeled" in counts:
        counts["unlabeled_extra"] = counts.pop("unlabeled")
    return MappingProxyType(counts)


def _places(prepared: Prepared, rows: _Rows) -> Mapping[str, tuple[str, int, Tensor]]:
    """See `Data.places`."""
    places = {}
    for part, where in (("pool", rows.pool), ("val", rows.val), ("test", rows.test)):
        split = home_of(prepared, part)
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
    """Which images are in which part, i64, in a random order; of the split of that name where the data set has one.

    Of the unlabelled images those that are left, in their own order; None: all of them. The notes say what is not, and
    `dropped` how many images of all parts.
    """

    pool: Tensor
    val: Tensor
    test: Tensor
    unlabeled: Tensor | None = None
    notes: tuple[str, ...] = ()
    dropped: int = 0
    has_labels: bool = True

    @property
    def labeled(self) -> Tensor:
        """Those of the pool whose labels can be bought."""
        return self.pool if self.has_labels else self.pool[:0]

    def parts(self, prepared: Prepared) -> dict[str, Tensor]:
        """Part -> all its rows."""
        parts = {"pool": self.pool, "val": self.val, "test": self.test}
        if "unlabeled" not in prepared.images:
            return parts
        every = torch.arange(len(prepared.images["unlabeled"]))
        return parts | {"unlabeled": every if self.unlabeled is None else self.unlabeled}

    def fingerprint(self, content: str) -> str:
        """A hash of the content and of the rows themselves: settings that lead to equal splits share it."""
        digest = hashlib.blake2b(content.encode(), digest_size=16)
        for part in (self.pool, self.val, self.test, *([] if self.unlabeled is None else [self.unlabeled])):
            digest.update(len(part).to_bytes(8, "little") + part.numpy().tobytes())
        return digest.hexdigest()


def _split(prepared: Prepared, splitting: Splitting) -> _Rows:
    fraction, imbalance, split_seed = splitting.fraction, splitting.imbalance, splitting.split_seed
    if not prepared.class_names:
        return _unlabeled_rows(len(prepared.images["train"]), splitting)
    labels = prepared.labels["train"]
    wanted: dict[Aside, int | float | None] = {"test": splitting.test, "val": splitting.val}
    aside, rest = set_aside(prepared, wanted, splitting.min_images, split_seed)
    apart = Apart(aside["val"], rest)
    if splitting.duplicates == "drop":
        apart = without_twins(prepared, aside["test"], aside["val"], rest)
    rest = apart.rest
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
        for part, rows in (("pool", rest), ("val", apart.val), ("test", aside["test"]))
    )
    return _Rows(pool, val, test, apart.unlabeled, apart.notes, apart.dropped)


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

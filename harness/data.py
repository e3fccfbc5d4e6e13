"""From a data set to a trial's images: decoded once into memory-mapped arrays, then split.

`prepare` decodes every image of a data set once, on any machine and for every trial; `load` splits the result
into the pool, the validation and the test images of one trial and hands the pool's labels to the oracle.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from harness.api import Dataset, Images, Source, Split
from harness.oracle import Oracle, stratified_draw
from harness.plugins import closest
from harness.progress import track
from harness.seeding import generator

log = logging.getLogger(__name__)

FORMAT = 1
"""Of the decoded cache; a new number makes every data set be decoded again."""

CHUNK_BYTES = 1 << 20
"""How much is decoded at a time by one thread. Part of the fingerprint: it is a hash of the chunks' hashes."""

MAX_THREADS = 16
"""That decode at once: each holds some 10 MB, and Python's lock leaves more of them nothing to do."""

DEVICE_SHARE = 0.5
"""The share of an accelerator's free memory up to which an image store is copied onto it."""


# --- decoding -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Prepared:
    """A decoded data set, its files mapped into memory and not read.

    Attributes:
        image_shape: (C, H, W).
        class_names: K names, in label order.
        mean: C means of the training images, in [0, 1].
        std: C standard deviations of the training images, in [1/255, 1].
        fingerprint: a hash of all images and labels.
        images: split -> u8 [M, C, H, W], mapped copy-on-write.
        labels: split -> i64 [M], for the splits that have labels.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    images: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]


def prepare(dataset: Dataset, name: str, cache: Path) -> Prepared:
    """Decodes a data set, or opens what an earlier call decoded.

    The arrays lie in `<cache>/<name>-<hash of class and identity>/`. They are written in a sibling folder that is
    renamed when it is complete, by one process while others wait, so a writer that dies leaves nothing that is
    believed. A folder whose files do not have the sizes they should have is decoded again.

    Raises:
        ValueError: the data set breaks the contract of `harness.api.Source`.
        FileNotFoundError: the data set is not there.
    """
    plugin = type(dataset)
    key = f"{FORMAT}\n{plugin.__module__}.{plugin.__qualname__}\n{dataset.identity()}"
    digest = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    folder = cache / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        log.warning("data set %s: waiting for another process that decodes it", name)
        lock.acquire()
    try:
        found = _open(folder)
        if found is None:
            _write(dataset.open(), name, folder)
            found = _open(folder)
            assert found is not None, "what was just written can be opened"
        return found
    finally:
        lock.release()


def _open(folder: Path) -> Prepared | None:
    """The decoded data set in `folder`; None if there is none or it is damaged."""
    if not folder.exists():
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text())
        shape = tuple(meta["image_shape"])
        images, labels = {}, {}
        for split, part in meta["splits"].items():
            images[split] = _map(folder / f"{split}_images.npy", (part["num_images"], *shape), np.dtype(np.uint8))
            if part["labeled"]:
                labels[split] = _map(folder / f"{split}_labels.npy", (part["num_images"],), np.dtype(np.int64))
        return Prepared(
            image_shape=shape,
            class_names=tuple(meta["class_names"]),
            mean=tuple(meta["mean"]),
            std=tuple(meta["std"]),
            fingerprint=meta["fingerprint"],
            images=MappingProxyType(images),
            labels=MappingProxyType(labels),
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is damaged (%s); decoding again", folder, error)
        return None


def _map(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    """Maps an array file without reading it; ValueError if it is not exactly what the meta data says."""
    # Copy-on-write rather than read-only: torch warns about memory that it may not write, and nobody does.
    array = np.load(path, mmap_mode="c")
    size = path.stat().st_size
    if array.shape != shape or array.dtype != dtype or size != array.offset + array.nbytes:
        raise ValueError(f"{path.name} holds {array.dtype} {array.shape} in {size} bytes, not {dtype} {shape}")
    return torch.from_numpy(array)


def _write(source: Source, name: str, folder: Path) -> None:
    """Decodes all splits into `folder`, which appears complete or not at all."""
    _check(source, name)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a writer that was killed: the lock is ours
    partial.mkdir()
    try:
        meta = _decode(source, name, partial)
        (partial / "meta.json").write_text(json.dumps(meta, indent=1))
        if folder.exists():
            shutil.rmtree(folder)  # damaged
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(source: Source, name: str) -> None:
    """Refuses a source that breaks its contract, before the work of decoding it."""
    num_classes = len(source.class_names)
    unknown = set(source.splits) - {"train", "test", "unlabeled"}
    if unknown or "train" not in source.splits:
        raise ValueError(f"data set {name}: splits are train, test and unlabeled, not {sorted(source.splits)}")
    for split, part in source.splits.items():
        place = f"data set {name}, split {split}"
        if part.num_images < 1:
            raise ValueError(f"{place}: no images")
        if split == "unlabeled":
            continue
        labels = part.labels
        if labels is None or labels.shape != (part.num_images,) or labels.is_floating_point():
            raise ValueError(f"{place}: needs {part.num_images} integer labels")
        if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
            raise ValueError(
                f"{place}: labels {int(labels.min())} .. {int(labels.max())} outside 0 .. {num_classes - 1}"
            )
    train = source.splits["train"].labels
    assert train is not None
    missing = (torch.bincount(train.long(), minlength=num_classes) == 0).nonzero().flatten().tolist()
    if num_classes < 2 or missing:
        where = f"class {source.class_names[missing[0]]!r} has no training image" if missing else f"{num_classes} class"
        raise ValueError(f"data set {name}: {where}; at least 2 classes with images are needed")


def _decode(source: Source, name: str, folder: Path) -> dict[str, Any]:
    """Writes the arrays of every split into `folder` and returns the meta data that describes them."""
    fingerprint = hashlib.blake2b(repr((source.image_shape, source.class_names)).encode(), digest_size=16)
    levels = np.zeros((source.image_shape[0], 256), dtype=np.int64)
    splits = {}
    with track(sum(part.num_images for part in source.splits.values()), f"Decoding {name}") as advance:
        for split, part in sorted(source.splits.items()):
            histogram = levels if split == "train" else None
            digests = _decode_split(source, part, folder / f"{split}_images.npy", histogram, advance)
            labels = None if part.labels is None or split == "unlabeled" else part.labels.cpu().long().numpy()
            if labels is not None:
                np.save(folder / f"{split}_labels.npy", labels)
            fingerprint.update(f"{split} {part.num_images}".encode() + b"".join(digests))
            fingerprint.update(b"" if labels is None else labels.tobytes())
            splits[split] = {"num_images": part.num_images, "labeled": labels is not None}
    mean, std = _moments(levels)
    return {
        "image_shape": source.image_shape,
        "class_names": source.class_names,
        "splits": splits,
        "mean": mean,
        "std": std,
        "fingerprint": fingerprint.hexdigest(),
    }


def _decode_split(
    source: Source, part: Split, path: Path, levels: np.ndarray | None, advance: Callable[[int], None]
) -> list[bytes]:
    """Writes u8 [M, C, H, W] to `path` chunk by chunk, from several threads.

    Args:
        source: whose split it is.
        part: the split.
        path: of the array file.
        levels: i64 [C, 256], counts of pixel values to be added to; None to count none.
        advance: told how many images were written.

    Returns:
        The hash of every chunk, in order.
    """
    step = max(1, CHUNK_BYTES // math.prod(source.image_shape))
    lock = threading.Lock()
    # Written and not mapped: dirty mapped pages count as this process's memory, and a full disk kills
    # a process that writes through a map where write() raises.
    with path.open("wb") as file:
        shape = (part.num_images, *source.image_shape)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        first = file.tell()

        def chunk(start: int) -> bytes:
            stop = min(start + step, part.num_images)
            images = part.read(start, stop)
            expected = (stop - start, *source.image_shape)
            if images.dtype != torch.uint8 or images.shape != expected:
                raise ValueError(
                    f"{path.stem}: images {start} .. {stop - 1} came as {images.dtype} {tuple(images.shape)}, "
                    f"not torch.uint8 {expected}"
                )
            pixels = np.ascontiguousarray(images.cpu().numpy())
            counts = None if levels is None else _count_levels(pixels)
            with lock:
                file.seek(first + start * math.prod(source.image_shape))
                file.write(pixels.data)
                if levels is not None:
                    levels[:] += counts
            advance(stop - start)
            return hashlib.blake2b(pixels.data, digest_size=16).digest()

        with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as threads:
            return list(threads.map(chunk, range(0, part.num_images, step)))


def _count_levels(images: np.ndarray) -> np.ndarray:
    """i64 [C, 256]: how often each value occurs in each channel of u8 [B, C, H, W]."""
    return np.stack([np.bincount(images[:, channel].ravel(), minlength=256) for channel in range(images.shape[1])])


def _moments(levels: np.ndarray) -> tuple[list[float], list[float]]:
    """Means and standard deviations per channel in [0, 1], exact, from counts i64 [C, 256]."""
    values = np.arange(256) / 255
    weights = levels / levels.sum(axis=1, keepdims=True)
    mean = weights @ values
    std = np.sqrt((weights * (values - mean[:, None]) ** 2).sum(axis=1))
    return mean.tolist(), std.clip(1 / 255).tolist()  # a constant channel must not divide by 0


# --- splitting ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Imbalance by steps: the named classes keep few images, the others all of theirs.

    Attributes:
        classes: names, or labels as integers.
        keep: how many images each of them keeps, at least 1.
    """

    classes: tuple[int | str, ...]
    keep: int

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("imbalance.classes: name at least one class")
        if self.keep < 1:
            raise ValueError(f"imbalance.keep: {self.keep} is not at least 1")

    def sizes(self, counts: Tensor, class_names: tuple[str, ...]) -> Tensor:
        """i64 [K]: how many images each class keeps of i64 [K] `counts`.

        Raises:
            ValueError: a class does not exist or has fewer than `keep` images.
        """
        sizes = counts.clone()
        for label in self._labels(class_names):
            if self.keep > counts[label]:
                raise ValueError(
                    f"imbalance.keep: {self.keep} images of class {class_names[label]!r} cannot be kept; "
                    f"at most {int(counts[label])}"
                )
            sizes[label] = self.keep
        return sizes

    def _labels(self, class_names: tuple[str, ...]) -> set[int]:
        labels = set()
        for item in self.classes:
            if isinstance(item, str) and item in class_names:
                labels.add(class_names.index(item))
            elif isinstance(item, int) and 0 <= item < len(class_names):
                labels.add(item)
            elif isinstance(item, int):
                raise ValueError(f"imbalance.classes: no class {item}; labels are 0 .. {len(class_names) - 1}")
            else:
                raise ValueError(f"imbalance.classes: no class {item!r}; {closest(item, class_names)}")
        return labels


@dataclass(frozen=True)
class Exponential:
    """Imbalance by an exponential long tail (Cui et al. 2019, https://arxiv.org/abs/1901.05555).

    Class k keeps n_k = n_0 * ratio ** (-k / (K - 1)) images, rounded down. n_0 is the largest number for which
    every class has enough: the size of a class where all are equally large.

    Attributes:
        ratio: n_0 / n_(K-1), at least 1.
    """

    ratio: float

    def __post_init__(self) -> None:
        if not (1 <= self.ratio < math.inf):
            raise ValueError(f"imbalance.ratio: {self.ratio} is not at least 1")

    def sizes(self, counts: Tensor, class_names: tuple[str, ...]) -> Tensor:
        """i64 [K]: how many images each class keeps of i64 [K] `counts`.

        Raises:
            ValueError: the last class would keep none.
        """
        exponents = torch.arange(len(counts), dtype=torch.float64) / (len(counts) - 1)
        decay = self.ratio**-exponents
        sizes = ((counts / decay).min() * decay + 1e-9).floor().long()  # 1e-9: 50.0 may come as 49.999...
        if sizes[-1] < 1:
            most = math.floor((counts[:-1] ** (1 / (1 - exponents[:-1]))).min())
            raise ValueError(f"imbalance.ratio: {self.ratio} leaves no image of {class_names[-1]!r}; at most {most}")
        return sizes


Imbalance = Step | Exponential


@dataclass(frozen=True, eq=False)
class Data:
    """The images of one trial. The labels of the pool are not in here: the oracle alone holds them.

    Attributes:
        pool: N training images, to pre-train on and to select from.
        val: validation images.
        val_labels: i64, of `val`, on the CPU.
        test: test images; None in the search phase, which must not read them.
        test_labels: i64, of `test`, on the CPU; None with it.
        unlabeled_extra: images without labels, for pre-training only; None where the data set has none.
        num_classes: K.
        class_names: K names, in label order.
        image_shape: (C, H, W).
        mean: C means of the data set's training images, in [0, 1].
        std: C standard deviations of the data set's training images, in [1/255, 1].
        fingerprint: a hash of all images and labels and of which of them are in which part.
        counts: part -> number of images, for reports; `test` is counted even where it is None.
    """

    pool: Images
    val: Images
    val_labels: Tensor
    test: Images | None
    test_labels: Tensor | None
    unlabeled_extra: Images | None
    num_classes: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    counts: Mapping[str, int]


def load(
    dataset: Dataset,
    name: str,
    *,
    cache: Path,
    fraction: float = 1.0,
    imbalance: Imbalance | None = None,
    val: float | int = 0.1,
    test: float | int = 0.2,
    split_seed: int = 0,
    with_test: bool,
    device: torch.device | str,
) -> tuple[Data, Oracle]:
    """Opens a data set, decoding it if nobody has yet, and splits it. All draws are stratified.

    The validation images depend on `split_seed` (and `val`, `test`) alone: they are the same at every fraction,
    imbalance and trial seed.

    Args:
        dataset: where the images come from.
        name: of the data set, for messages and the cache folder.
        cache: where decoded data sets are kept.
        fraction: the share of the training images, after `val` is set aside, that make the pool, in (0, 1].
        imbalance: thins out the classes of the pool, after `fraction`; None leaves them as they are.
        val: a share in (0, 1) or a number of training images, for validation.
        test: likewise for testing, taken first, where the data set has no test images of its own; those of its own
            are always used whole.
        split_seed: of all draws; not the trial's seed.
        with_test: whether `Data.test` may be read.
        device: where batches are wanted. On an accelerator the images are copied there, once per process, while
            they fit in `DEVICE_SHARE` of its free memory; else batches are gathered from the mapped files.

    Returns:
        The images, and the oracle that holds the pool's labels, without a budget.

    Raises:
        ValueError: a setting is impossible; names it and the nearest valid value.
        FileNotFoundError: the data set is not there.
    """
    device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0"
    prepared = prepare(dataset, name, cache)
    rows = _split(prepared, fraction=fraction, imbalance=imbalance, val=val, test=test, split_seed=split_seed)
    train_labels = prepared.labels["train"]

    def images(split: str, part: Tensor | None) -> Images:
        store = _store(prepared, split, device)
        return Images(store, None if part is None else part.to(store.device), device)

    test_split = "test" if rows.test is None else "train"
    test_labels = prepared.labels[test_split][slice(None) if rows.test is None else rows.test]
    extra = prepared.images.get("unlabeled")
    counts = {"pool": len(rows.pool), "val": len(rows.val), "test": len(test_labels)}
    data = Data(
        pool=images("train", rows.pool),
        val=images("train", rows.val),
        val_labels=train_labels[rows.val],
        test=images(test_split, rows.test) if with_test else None,
        test_labels=test_labels.clone() if with_test else None,
        unlabeled_extra=None if extra is None else images("unlabeled", None),
        num_classes=len(prepared.class_names),
        class_names=prepared.class_names,
        image_shape=prepared.image_shape,
        mean=prepared.mean,
        std=prepared.std,
        fingerprint=rows.fingerprint(prepared.fingerprint),
        counts=MappingProxyType(counts | ({} if extra is None else {"unlabeled_extra": len(extra)})),
    )
    return data, Oracle(train_labels[rows.pool], len(prepared.class_names))


class _JoinedImages(Images):
    """Rows of two sets of images, the second's positions after the first's."""

    def __init__(self, first: Images, second: Images, rows: Tensor | None = None):
        assert first.shape[1:] == second.shape[1:], "joined images have one shape"
        every = torch.arange(len(first) + len(second))
        super().__init__(first._store, every if rows is None else rows, first.device)
        self._first, self._second = first, second

    def __getitem__(self, index: Tensor) -> Tensor:
        rows = self._positions(index)
        in_second = rows >= len(self._first)
        out = torch.empty(len(rows), *self.shape[1:], dtype=torch.uint8, device=self.device)
        out[~in_second] = self._first[rows[~in_second]]
        out[in_second] = self._second[rows[in_second] - len(self._first)]
        return out

    def subset(self, index: Tensor) -> Images:
        return _JoinedImages(self._first, self._second, self._positions(index))

    def _positions(self, index: Tensor) -> Tensor:
        assert self._rows is not None
        return self._rows[index.cpu()]


def joined(first: Images, second: Images) -> Images:
    """Both sets of images, `first`'s positions first; of the same shape, and possibly of different files."""
    return _JoinedImages(first, second)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Which training images are in which part: i64, sorted. `test` is None where the data set has its own."""

    pool: Tensor
    val: Tensor
    test: Tensor | None

    def fingerprint(self, content: str) -> str:
        """A hash of the content and of the rows themselves: settings that lead to equal splits share it."""
        digest = hashlib.blake2b(content.encode(), digest_size=16)
        for part in (self.pool, self.val, self.test):
            digest.update(b"own" if part is None else len(part).to_bytes(8, "little") + part.numpy().tobytes())
        return digest.hexdigest()


def _split(
    prepared: Prepared, *, fraction: float, imbalance: Imbalance | None, val: float, test: float, split_seed: int
) -> _Rows:
    labels = prepared.labels["train"]
    rest = torch.arange(len(labels))
    test_rows = None
    if "test" not in prepared.images:
        test_rows, rest = _carve(labels, rest, "test", test, split_seed)
    val_rows, rest = _carve(labels, rest, "val", val, split_seed)
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction: {fraction} is not in (0, 1]")
    size, num_classes = round(fraction * len(rest)), len(prepared.class_names)
    if size < num_classes:
        nearest = math.ceil(num_classes / len(rest) * 1e4) / 1e4
        raise ValueError(f"fraction: {fraction} leaves {size} images for {num_classes} classes; at least {nearest}")
    if size < len(rest):
        rest = rest[stratified_draw(labels[rest], size, rng=generator(split_seed, "split/fraction"))]
    if imbalance is not None:
        sizes = imbalance.sizes(torch.bincount(labels[rest], minlength=num_classes), prepared.class_names)
        rest = rest[_thin(labels[rest], sizes, generator(split_seed, "split/imbalance"))]
    return _Rows(rest, val_rows, test_rows)


def _carve(labels: Tensor, rows: Tensor, part: str, share: float | int, split_seed: int) -> tuple[Tensor, Tensor]:
    """Divides `rows` into a stratified part, given as a share or a number of images, and the rest."""
    counts = labels[rows].unique(return_counts=True)[1]
    least, most = len(counts), int((counts - 1).sum())
    if int(counts.min()) < 2:
        raise ValueError(f"{part}: cannot be taken from training images of which a class has only {int(counts.min())}")
    if isinstance(share, float) and not 0 < share < 1:
        raise ValueError(f"{part}: {share} is not a share in (0, 1); as a number of images, {least} .. {most}")
    size = share if isinstance(share, int) else round(share * len(rows))
    if not least <= size <= most:
        bound = f"at least {least}" if size < least else f"at most {most}"
        raise ValueError(f"{part}: {share} sets aside {size} of {len(rows)} training images; {bound} are possible")
    drawn = stratified_draw(labels[rows], size, rng=generator(split_seed, f"split/{part}"), leave=1)
    left = torch.ones(len(rows), dtype=torch.bool)
    left[drawn] = False
    return rows[drawn], rows[left]


def _thin(labels: Tensor, sizes: Tensor, rng: torch.Generator) -> Tensor:
    """i64, sorted positions in `labels`: `sizes[k]` of class k, at random."""
    kept = []
    for label, size in enumerate(sizes.tolist()):
        members = (labels == label).nonzero().flatten()
        kept.append(members[torch.randperm(len(members), generator=rng)[:size]])
    return torch.cat(kept).sort().values


# --- image stores on the device -------------------------------------------------------------------------

_resident: dict[tuple[str, str, torch.device], Tensor] = {}
"""(fingerprint, split, device) -> the images there, of the data set last loaded. Holds no labels."""


def _store(prepared: Prepared, split: str, device: torch.device) -> Tensor:
    """The images of a split, u8 [M, C, H, W]: on the device if that is worth it and possible, else mapped."""
    mapped = prepared.images[split]
    if device.type == "cpu":
        return mapped
    for key in [key for key in _resident if key[0] != prepared.fingerprint]:
        del _resident[key]  # a worker that goes on to another data set gives its memory back
    key = (prepared.fingerprint, split, device)
    if key not in _resident:
        if mapped.nbytes > DEVICE_SHARE * _free_memory(device):
            return mapped
        _resident[key] = mapped.to(device)
    return _resident[key]


def _free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on an accelerator; 0 where nobody can tell."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return 0

"""A data set's images, or its features, decoded once into memory-mapped arrays that every trial on the machine reads.

The arrays of a data set lie in one folder of the cache, named by what determines them; a folder is either complete
or not believed.
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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from harness.api import SOURCE_SPLITS, Dataset, Source, Split
from harness.code import code_of
from harness.files import digest_of
from harness.progress import track

log = logging.getLogger(__name__)
CHUNK_BYTES = 1 << 20
"""How much is decoded at a time by one thread. Part of the fingerprint: it is a hash of the chunks' hashes."""

MAX_THREADS = 16
"""That decode at once: each holds some 10 MB, and Python's lock leaves more of them nothing to do."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A decoded data set, its files mapped into memory and not read.

    Attributes:
        image_shape: (C, H, W), or (D,) in a data set of features.
        class_names: K names, in label order.
        fingerprint: a hash of all images and labels.
        images: split -> u8 [M, C, H, W], or float16 or float32 [M, D], mapped copy-on-write.
        labels: split -> i64 [M], for the splits that have labels; of `train` i64 [0] where no image has one.
        sums: i64 [M, C, 2], of each training image the sum of its channels' values and that of their squares; None of
            features.
        files: split -> M paths of image files, where a data set of features knows them.
    """

    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    fingerprint: str
    images: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    sums: Tensor | None
    files: Mapping[str, np.ndarray]

    def moments(self, rows: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Means in [0, 1] and standard deviations in [1/255, 1] of each channel of some training images, exact.

        Features have no channels: there are no means and no deviations of them.

        Args:
            rows: i64 [n], n >= 1.
        """
        if self.sums is None:
            return (), ()
        count = len(rows) * math.prod(self.image_shape[1:])
        totals = self.sums[rows].sum(0).tolist()
        mean = tuple(total / count / 255 for total, _ in totals)
        deviations = (math.sqrt(squares * count - total**2) / count / 255 for total, squares in totals)
        return mean, tuple(max(one, 1 / 255) for one in deviations)  # a constant channel must not divide by 0


def prepare(
    dataset: Dataset, name: str, cache: Path, *, settings: Mapping[str, Any] | None = None, verify: bool = False
) -> Prepared:
    """Decodes a data set, or opens what an earlier call decoded.

    The arrays lie in `<cache>/<name>-<hash of class, settings, identity and code>/`. They are written in a sibling
    folder that is renamed when it is complete, by one process while others wait, so a writer that dies leaves nothing
    that is believed. A folder whose files do not have the sizes they should have is decoded again. Where the files of
    the data set's class have changed since they were loaded, it is decoded each time, for this process alone.

    Args:
        dataset: where the images come from.
        name: of the data set, for messages and the folder's name.
        cache: where decoded data sets are kept.
        settings: the data set's hyper-parameters, for its identity may forget one.
        verify: whether all that an earlier call decoded is read and compared with its fingerprint; what differs is
            decoded again.

    Raises:
        ValueError: the data set breaks the contract of `harness.api.Source`.
        FileNotFoundError: the data set is not there.
    """
    plugin = type(dataset)
    code = code_of(prepare, plugin)
    made_of = digest_of({"code": code.key, "settings": dict(settings or {})})
    key = f"{plugin.__module__}.{plugin.__qualname__}\n{made_of}\n{dataset.identity()}"
    digest = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8).hexdigest()
    folder = cache / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        log.warning("data set %s: waiting for another process that decodes it", name)
        lock.acquire()
    try:
        prepared = _open(folder)
        if prepared is not None and verify and _fingerprint(prepared) != prepared.fingerprint:
            log.warning("%s is damaged (its fingerprint differs); decoding again", folder)
            prepared = None
        if prepared is None:
            source = dataset.open()
            _check(source, name, dataset.has_labels)
            _write(source, name, folder)
            prepared = _open(folder)
            assert prepared is not None, "what was just written can be opened"
            if not code.is_current():
                shutil.rmtree(folder)  # it stays mapped here, and nobody else takes it for what other code decoded
        return prepared
    finally:
        lock.release()


def _open(folder: Path) -> Prepared | None:
    """The decoded data set in `folder`; None if there is none or it is damaged."""
    if not folder.exists():
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if meta.pop("checksum") != _digest(meta):
            raise ValueError("the checksum of meta.json differs")
        shape = tuple(meta["image_shape"])
        images, labels, files = {}, {}, {}
        dtype = np.dtype(meta["dtype"])
        for split, part in meta["splits"].items():
            images[split] = _map(folder / f"{split}_images.npy", (part["num_images"], *shape), dtype)
            if part["files"]:
                files[split] = np.load(folder / f"{split}_files.npy", mmap_mode="r")
            if part["labeled"]:
                labels[split] = _map(folder / f"{split}_labels.npy", (part["num_images"],), np.dtype(np.int64))
            elif split == "train":
                labels[split] = torch.empty(0, dtype=torch.int64)
        sums_shape = (meta["splits"]["train"]["num_images"], shape[0], 2)
        sums = None if _holds_features(shape) else _map(folder / "train_sums.npy", sums_shape, np.dtype(np.int64))
        return Prepared(
            image_shape=shape,
            class_names=tuple(meta["class_names"]),
            fingerprint=meta["fingerprint"],
            images=MappingProxyType(images),
            labels=MappingProxyType(labels),
            sums=sums,
            files=MappingProxyType(files),
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is damaged (%s); decoding again", folder, error)
        return None


def _digest(meta: Mapping[str, Any]) -> str:
    """Of the meta data, without their own checksum."""
    return hashlib.blake2b(json.dumps(meta, sort_keys=True).encode(), digest_size=8).hexdigest()


def _fingerprint(prepared: Prepared) -> str:
    """The fingerprint that the content of the files has, as `_decode` computes it."""
    fingerprint = hashlib.blake2b(repr((prepared.image_shape, prepared.class_names)).encode(), digest_size=16)
    step = _chunk(prepared.image_shape, prepared.images["train"].dtype)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as threads:
        for split, images in sorted(prepared.images.items()):
            pixels = images.numpy()
            starts = range(0, len(pixels), step)
            digests = threads.map(lambda start: _chunk_digest(pixels[start : start + step]), starts)  # noqa: B023
            fingerprint.update(f"{split} {len(pixels)}".encode() + b"".join(digests))
            labels = prepared.labels.get(split)
            fingerprint.update(b"" if labels is None else labels.numpy().tobytes())
    return fingerprint.hexdigest()


def _holds_features(image_shape: Sequence[int]) -> bool:
    return len(image_shape) == 1


def _chunk(image_shape: Sequence[int], dtype: torch.dtype) -> int:
    """Images that are decoded at a time."""
    return max(1, CHUNK_BYTES // (math.prod(image_shape) * dtype.itemsize))


def _chunk_digest(pixels: np.ndarray) -> bytes:
    return hashlib.blake2b(pixels.data, digest_size=16).digest()


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
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a writer that was killed: the lock is ours
    partial.mkdir()
    try:
        meta = _decode(source, name, partial)
        meta["checksum"] = _digest(json.loads(json.dumps(meta)))
        (partial / "meta.json").write_text(json.dumps(meta, indent=1))
        if folder.exists():
            shutil.rmtree(folder)  # damaged
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(source: Source, name: str, has_labels: bool) -> None:
    """Refuses a source that breaks its contract, before the work of decoding it."""
    if _holds_features(source.image_shape) != source.dtype.is_floating_point:
        raise ValueError(f"data set {name}: {source.dtype} is no type of images of shape {source.image_shape}")
    if not {"train"} <= set(source.splits) <= set(SOURCE_SPLITS):
        raise ValueError(f"data set {name}: splits are {', '.join(SOURCE_SPLITS)}, not {sorted(source.splits)}")
    for split, part in source.splits.items():
        if part.num_images < 1:
            raise ValueError(f"data set {name}, split {split}: no images")
    if has_labels:
        _check_labels(source, name)
    elif source.class_names or set(source.splits) != {"train"} or source.splits["train"].labels is not None:
        raise ValueError(f"data set {name}: says that it has no labels; then unlabelled `train` is all there may be")


def _check_labels(source: Source, name: str) -> None:
    num_classes = len(source.class_names)
    for split, part in source.splits.items():
        place = f"data set {name}, split {split}"
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
    sums = None
    if not _holds_features(source.image_shape):
        sums = np.zeros((source.splits["train"].num_images, source.image_shape[0], 2), dtype=np.int64)
    splits = {}
    with track(sum(part.num_images for part in source.splits.values()), f"Decoding {name}") as advance:
        for split, part in sorted(source.splits.items()):
            counted = sums if split == "train" else None
            digests = _decode_split(source, part, folder / f"{split}_images.npy", counted, advance)
            labels = None if part.labels is None or split == "unlabeled" else part.labels.cpu().long().numpy()
            if labels is not None:
                np.save(folder / f"{split}_labels.npy", labels)
            fingerprint.update(f"{split} {part.num_images}".encode() + b"".join(digests))
            fingerprint.update(b"" if labels is None else labels.tobytes())
            if part.files is not None:
                np.save(folder / f"{split}_files.npy", [file.encode(errors="surrogateescape") for file in part.files])
            of_split = {"num_images": part.num_images, "labeled": labels is not None, "files": part.files is not None}
            splits[split] = of_split
    if sums is not None:
        np.save(folder / "train_sums.npy", sums)
    return {
        "image_shape": source.image_shape,
        "dtype": _array_type(source.dtype).str,
        "class_names": source.class_names,
        "splits": splits,
        "fingerprint": fingerprint.hexdigest(),
    }


def _decode_split(
    source: Source, part: Split, path: Path, sums: np.ndarray | None, advance: Callable[[int], None]
) -> list[bytes]:
    """Writes u8 [M, C, H, W], or features [M, D], to `path` chunk by chunk, from several threads.

    Args:
        source: whose split it is.
        part: the split.
        path: of the array file.
        sums: i64 [M, C, 2], to be filled, see `Prepared.sums`; None to sum nothing.
        advance: told how many images were written.

    Returns:
        The hash of every chunk, in order.
    """
    step, dtype = _chunk(source.image_shape, source.dtype), _array_type(source.dtype)
    lock = threading.Lock()
    # Written and not mapped: dirty mapped pages count as this process's memory, and a full disk kills
    # a process that writes through a map where write() raises.
    with path.open("wb") as file:
        shape = (part.num_images, *source.image_shape)
        np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
        first = file.tell()

        def chunk(start: int) -> bytes:
            stop = min(start + step, part.num_images)
            images = part.read(start, stop)
            expected = (stop - start, *source.image_shape)
            if images.dtype != source.dtype or images.shape != expected:
                raise ValueError(
                    f"{path.stem}: images {start} .. {stop - 1} came as {images.dtype} {tuple(images.shape)}, "
                    f"not {source.dtype} {expected}"
                )
            pixels = np.ascontiguousarray(images.cpu().numpy())
            if sums is not None:
                sums[start:stop] = _sums(pixels)
            with lock:
                file.seek(first + start * math.prod(source.image_shape) * dtype.itemsize)
                file.write(pixels.data)
            advance(stop - start)
            return _chunk_digest(pixels)

        with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as threads:
            return list(threads.map(chunk, range(0, part.num_images, step)))


def _array_type(dtype: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype


def _sums(images: np.ndarray) -> np.ndarray:
    """i64 [B, C, 2]: the sum of the values of each channel of u8 [B, C, H, W], and that of their squares."""
    values = images.reshape(*images.shape[:2], -1)
    squares = np.square(values, dtype=np.uint16)  # 255^2 fits
    return np.stack([part.sum(2, dtype=np.int64) for part in (values, squares)], axis=2)

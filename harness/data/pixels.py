"""The images of a split, or their features, in one array file: written in chunks from several threads, and hashed."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.api import BrokenImagesError, Split
from harness.cores import usable_cores
from harness.data.duplicates import hashes_of

CHUNK_BYTES = 1 << 20
"""How much is decoded at a time by one thread. Part of the fingerprint: it is a hash of the chunks' hashes."""

MAX_THREADS = 16
"""That decode at once: each holds some 10 MB, and Python's lock leaves more of them nothing to do."""


@dataclass(frozen=True, eq=False)
class Written:
    """What became of a split.

    Attributes:
        part: the images that were written, in their order: all but the broken ones.
        digests: the hash of every chunk, in order.
        hashes: i64 [M], of every image.
        sums: i64 [M, C, 2], of each image the sum of its channels' values and that of their squares; None of features.
        broken: row in the split that was given -> why it cannot be decoded.
    """

    part: Split
    digests: list[bytes]
    hashes: np.ndarray
    sums: np.ndarray | None
    broken: Mapping[int, str]


@dataclass(frozen=True)
class Form:
    """What every image is: (C, H, W) of bytes, or (D,) of floats in a data set of features."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def array_type(self) -> np.dtype:
        """The same for numpy."""
        return torch.empty(0, dtype=self.dtype).numpy().dtype

    @property
    def has_pixels(self) -> bool:
        """Whether it is an image."""
        return len(self.shape) > 1

    @property
    def num_bytes(self) -> int:
        """Of one."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_images(part: Split, form: Form, path: Path, *, skip_broken: bool, advance: Callable[[int], None]) -> Written:
    """Writes u8 [M, C, H, W], or features [M, D], to `path`.

    Args:
        part: the images.
        form: of each.
        path: of the array file. It is not whole where there are broken images that are not to be skipped.
        skip_broken: whether images that cannot be decoded are left out.
        advance: told how many images were tried.
    """
    written = _write(part, form, path, skip_broken, advance)
    if not (written.broken and skip_broken):
        return written
    with_holes = path.with_suffix(".holes")
    path.rename(with_holes)
    kept = _without(part, written.broken, np.load(with_holes, mmap_mode="r"))
    closed = _write(kept, form, path, skip_broken, lambda number: None)
    with_holes.unlink()
    return replace(closed, broken=written.broken)


def digests_of(images: np.ndarray) -> list[bytes]:
    """The hash of every chunk of u8 [M, C, H, W] or floats [M, D], as `write_images` finds them."""
    step = _step(images[:1].nbytes)
    with ThreadPoolExecutor(min(usable_cores(), MAX_THREADS)) as threads:
        return list(threads.map(lambda start: _digest(images[start : start + step]), range(0, len(images), step)))


def _step(num_bytes: int) -> int:
    return max(1, CHUNK_BYTES // num_bytes)


def _digest(images: np.ndarray) -> bytes:
    return hashlib.blake2b(images.data, digest_size=16).digest()


def _without(part: Split, broken: Mapping[int, str], stored: np.ndarray) -> Split:
    """The images of a split that are not broken, read from where they were stored."""
    rows = np.setdiff1d(np.arange(part.num_images), list(broken))
    labels = None if part.labels is None else part.labels[torch.from_numpy(rows)]
    names, files = (None if listed is None else [listed[row] for row in rows] for listed in (part.names, part.files))
    return Split(len(rows), lambda start, stop: torch.from_numpy(stored[rows[start:stop]]), labels, files, names)


def _write(part: Split, form: Form, path: Path, fill: bool, advance: Callable[[int], None]) -> Written:
    """Writes the images; those that are broken stay black if `fill`, else their whole chunk is left out."""
    step, size, lock = _step(form.num_bytes), form.num_bytes, threading.Lock()
    hashes = np.zeros(part.num_images, dtype=np.int64)
    sums = np.zeros((part.num_images, form.shape[0], 2), dtype=np.int64) if form.has_pixels else None
    broken: dict[int, str] = {}
    # Written and not mapped: dirty mapped pages count as this process's memory, and a full disk kills
    # a process that writes through a map where write() raises.
    with path.open("wb") as file:
        about = {"descr": form.array_type.str, "fortran_order": False, "shape": (part.num_images, *form.shape)}
        np.lib.format.write_array_header_1_0(file, about)
        first = file.tell()

        def chunk(start: int) -> bytes:
            stop = min(start + step, part.num_images)
            advance(stop - start)
            try:
                images = part.read(start, stop)
            except BrokenImagesError as error:
                broken.update(error.reasons)
                if not fill:
                    return b""
                images = _one_by_one(part, start, stop, error.reasons, form)
            pixels = _checked(images, form, path.stem, start, stop)
            hashes[start:stop] = hashes_of(pixels)
            if sums is not None:
                sums[start:stop] = _sums(pixels)
            with lock:
                file.seek(first + start * size)
                file.write(pixels.data)
            return _digest(pixels)

        with ThreadPoolExecutor(min(usable_cores(), MAX_THREADS)) as threads:
            digests = list(threads.map(chunk, range(0, part.num_images, step)))
    return Written(part, digests, hashes, sums, dict(sorted(broken.items())))


def _one_by_one(part: Split, start: int, stop: int, broken: Mapping[int, str], form: Form) -> Tensor:
    images = torch.zeros(stop - start, *form.shape, dtype=form.dtype)
    for row in range(start, stop):
        if row not in broken:
            images[row - start] = part.read(row, row + 1)[0]
    return images


def _checked(images: Tensor, form: Form, name: str, start: int, stop: int) -> np.ndarray:
    """The pixels; ValueError where they break the contract of `Split.read`."""
    expected = (stop - start, *form.shape)
    if images.dtype != form.dtype or images.shape != expected:
        raise ValueError(
            f"{name}: images {start} .. {stop - 1} came as {images.dtype} {tuple(images.shape)}, "
            f"not {form.dtype} {expected}"
        )
    return np.ascontiguousarray(images.cpu().numpy())


def _sums(images: np.ndarray) -> np.ndarray:
    """i64 [B, C, 2]: the sum of the values of each channel of u8 [B, C, H, W], and that of their squares."""
    values = images.reshape(*images.shape[:2], -1)
    squares = np.square(values, dtype=np.uint16)  # 255^2 fits
    return np.stack([part.sum(2, dtype=np.int64) for part in (values, squares)], axis=2)

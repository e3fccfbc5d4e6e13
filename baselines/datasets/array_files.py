"""Arrays in an .npz file or in a folder of .npy files, of which no more is read than is asked for."""

from __future__ import annotations

import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

RANGE_BYTES = 1 << 20
"""How much of an array is looked at a time, where all of it must be."""


@dataclass(frozen=True)
class StoredArray:
    """An array in a file.

    Attributes:
        name: of the array.
        shape: of it.
        dtype: of its values.
        load: gives it: mapped, where the file allows it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]

    def __str__(self) -> str:
        return f"{self.name} ({self.dtype} {list(self.shape)})"

    def range(self) -> tuple[float, float]:
        """The smallest and the largest value, NaN where there is one; only a part of the array is read at a time."""
        ends = [(part.min(), part.max()) for part in self._parts()]
        return float(min(low for low, _ in ends)), float(max(high for _, high in ends))

    def is_binary(self) -> bool:
        """Whether all values are 0 or 1; no more of the array is read than it takes to know."""
        return all(((part == 0) | (part == 1)).all() for part in self._parts())

    def _parts(self) -> Iterator[np.ndarray]:
        array = self.load()
        step = max(1, RANGE_BYTES // max(1, array[:1].nbytes))
        yield from (array[start : start + step] for start in range(0, len(array), step))


def stored_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays in an .npz file, or in the .npy files of a folder, by name.

    Those of an .npz that is not compressed (`numpy.savez`) and of .npy files are mapped; of a compressed one
    (`numpy.savez_compressed`) one array at a time is held in memory.

    Raises:
        ValueError: something is damaged or no such file; names it.
    """
    if path.is_dir():
        return {file.stem: _of_npy(file) for file in files_of(path)}
    with _reading(path), zipfile.ZipFile(path) as archive:
        held = _Held(path)
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        return {array.name: array for array in (_of_member(path, archive, member, held) for member in members)}


def files_of(path: Path) -> list[Path]:
    """The files that hold the arrays, sorted."""
    return sorted(path.glob("*.npy")) if path.is_dir() else [path]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, EOFError, TypeError, SyntaxError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(f"{path} is not a whole file of plain arrays: {error}") from error


def _of_npy(path: Path) -> StoredArray:
    with _reading(path), path.open("rb") as stream:
        shape, fortran, dtype = _header(stream)
        if dtype.hasobject:
            return StoredArray(path.stem, shape, dtype, lambda: _refuse(path, path.stem))
        mapped = _map(path, stream.tell(), shape, fortran, dtype)
    return StoredArray(path.stem, shape, dtype, lambda: mapped)


def _of_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, held: _Held) -> StoredArray:
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as stream:
        shape, fortran, dtype = _header(stream)
        header = stream.tell()

    def mapped() -> np.ndarray:
        with _reading(path), zipfile.ZipFile(path) as again:
            with again.open(member) as stream:  # to its end, where its checksum is compared
                while stream.read(RANGE_BYTES):
                    pass
            return _map(path, _start_of(path, member) + header, shape, fortran, dtype)

    if dtype.hasobject:
        return StoredArray(name, shape, dtype, lambda: _refuse(path, name))
    if member.compress_type == zipfile.ZIP_STORED:
        return StoredArray(name, shape, dtype, _once(mapped))
    return StoredArray(name, shape, dtype, lambda: held.get(name))


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the first axis is the fastest, and type; leaves the stream where the values begin."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def _start_of(path: Path, member: zipfile.ZipInfo) -> int:
    """Where the content of a stored member begins: behind a header whose length only it says itself."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        name, extra = struct.unpack("<HH", file.read(30)[26:])
    return member.header_offset + 30 + name + extra


def _map(path: Path, offset: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype) -> np.ndarray:
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def _refuse(path: Path, name: str) -> np.ndarray:
    raise ValueError(f"{path}: {name} holds Python objects; save it as a plain array, strings with dtype=str")


def _once(load: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    """The same array at each call, also of several threads."""
    lock = threading.Lock()
    loaded: list[np.ndarray] = []

    def get() -> np.ndarray:
        with lock:
            if not loaded:
                loaded.append(load())
            return loaded[0]

    return get


class _Held:
    """The array of a compressed file that was last asked for: splits are decoded one after the other."""

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        self._name, self._array = "", np.empty(0)

    def get(self, name: str) -> np.ndarray:
        with self._lock:
            if self._name != name:
                self._name, self._array = "", np.empty(0)  # free, before the next is there
                with _reading(self._path), np.load(self._path, allow_pickle=False) as file:
                    self._array = file[name]
                self._name = name
            return self._array

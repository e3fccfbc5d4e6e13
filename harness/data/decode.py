"""A data set's images, or its features, decoded once into memory-mapped arrays that every trial on the machine reads.

The arrays of a data set lie in one folder of the cache, named by what determines them; a folder is either complete
or not believed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from harness.api import SOURCE_SPLITS, Dataset, Source, Split
from harness.code import code_of
from harness.data.duplicates import twins_of
from harness.data.pixels import Form, digests_of, write_images
from harness.data.source import opened
from harness.files import digest_of, which_file
from harness.image_file import CONVERSIONS, broken_in_words
from harness.messages import has_commands, in_bytes
from harness.progress import say, track

log = logging.getLogger(__name__)
DELETED = 10
"""So often a folder may be deleted while it is decoded, until that is an error."""

NAMES_FILE = "twin_names.json"
"""Split -> the names of the images that have twins, where they have names."""


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
        names: split -> M names of the images for people, such as their files, where they have any.
        twins: split -> i64 [T, 2], the rows of images that are there more than once, see `twins_of`.
        notes: what was decided, converted, skipped or left out, a line each.
        tally: how many images or files that were, see `harness.api.TALLIED`.
        folder: where the arrays lie.
    """

    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    fingerprint: str
    images: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    sums: Tensor | None
    files: Mapping[str, np.ndarray]
    names: Mapping[str, np.ndarray]
    twins: Mapping[str, Tensor]
    notes: tuple[str, ...]
    tally: Mapping[str, int]
    folder: Path

    @property
    def num_bytes(self) -> int:
        """Of the images, on disk."""
        return sum(images.nbytes for images in self.images.values())

    def groups(self, split: str) -> Tensor:
        """i64 [M]: for each image of a split a number that equal images share; -1 for those that have no equal."""
        groups = torch.full((len(self.images[split]),), -1)
        rows, numbers = self.twins[split].unbind(1)
        groups[rows] = numbers
        return groups

    def image_name(self, split: str, row: int) -> str:
        """What an image that has a twin is called: its file, or its position in the data set's split."""
        file = self.folder / NAMES_FILE
        names = json.loads(file.read_text(encoding="utf-8")).get(split) if file.exists() else None
        place = int(torch.searchsorted(self.twins[split][:, 0].contiguous(), row))
        return names[place] if names else f"{split} {row}"

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
    dataset: Dataset,
    name: str,
    cache: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    verify: bool = False,
    skip_broken: bool = False,
) -> Prepared:
    """Decodes a data set, or opens what an earlier call decoded.

    The arrays lie in `<cache>/<name>-<hash of class, settings, identity and code>/`. They are written in a sibling
    folder that is renamed when it is complete, by one process while others wait, so a writer that dies leaves nothing
    that is believed. A folder whose files do not have the sizes they should have is decoded again, as is one that is
    deleted meanwhile. Where the files of the data set's class have changed since they were loaded, it is decoded each
    time, for this process alone.

    Args:
        dataset: where the images come from.
        name: of the data set, for messages and the folder's name.
        cache: where decoded data sets are kept.
        settings: the data set's hyper-parameters, for its identity may forget one.
        verify: whether all that an earlier call decoded is read and compared with its fingerprint; what differs is
            decoded again.
        skip_broken: whether images that cannot be decoded are left out, which the notes then say; else they are an
            error that names them.

    Raises:
        ValueError: the data set breaks the contract of `harness.api.Source`, or images cannot be decoded.
        FileNotFoundError: the data set is not there.
        OSError: the disk has not room for it.
    """
    code = code_of(prepare, type(dataset))
    folder = _folder(dataset, name, cache, {"code": code.key, "settings": dict(settings or {}), "skip": skip_broken})
    deleted = 0
    while True:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(folder, name) as is_there:
            try:
                prepared = _open(folder)
                if prepared is not None and verify and _fingerprint(prepared) != prepared.fingerprint:
                    log.warning("%s is damaged (its fingerprint differs); decoding again", folder)
                    prepared = None
                if prepared is None:
                    source = opened(dataset, name)
                    _check(source, name, dataset.has_labels)
                    prepared = _write(source, name, folder, skip_broken)
                    if not code.is_current():
                        shutil.rmtree(folder)  # it stays mapped here, and nobody else takes it for that of other code
                return prepared
            except OSError:
                deleted += 1
                if is_there() or deleted == DELETED:
                    raise
        log.warning("%s was deleted while it was decoded; decoding again", folder)


@contextmanager
def _locked(folder: Path, name: str) -> Iterator[Callable[[], bool]]:
    """Inside the block no other process decodes into that folder, for as long as the lock is there, which the yielded
    function tells.
    """
    file = Path(f"{folder}.lock")
    lock = FileLock(file)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        log.warning("data set %s: waiting for another process that decodes it", name)
        lock.acquire()
    taken = which_file(file)
    try:
        yield lambda: taken is not None and which_file(file) == taken
    finally:
        lock.release()


def peek(
    dataset: Dataset, name: str, cache: Path, *, settings: Mapping[str, Any] | None = None, skip_broken: bool = False
) -> Prepared | None:
    """What an earlier call of `prepare` decoded; None where it is not there."""
    code = code_of(prepare, type(dataset))
    return _open(
        _folder(dataset, name, cache, {"code": code.key, "settings": dict(settings or {}), "skip": skip_broken})
    )


def _folder(dataset: Dataset, name: str, cache: Path, made_of: Mapping[str, Any]) -> Path:
    """Where a data set is kept, by all that determines it."""
    plugin = type(dataset)
    key = f"{plugin.__module__}.{plugin.__qualname__}\n{digest_of(made_of)}\n{dataset.identity()}"
    digest = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8).hexdigest()
    return cache / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{digest}"


def _open(folder: Path) -> Prepared | None:
    """The decoded data set in `folder`; None if there is none or it is damaged."""
    try:
        stamps = _stamps(folder)
    except OSError:
        _last.clear()  # which may be what was deleted there, and keeps its room on the disk as long as it is mapped
        return None
    if folder in _last and _last[folder][0] == stamps:
        return _last[folder][1]
    _last.clear()
    prepared = _mapped(folder)
    if prepared is not None:
        _last[folder] = stamps, prepared
    return prepared


_last: dict[Path, tuple[frozenset[tuple[str, int, int, int]], Prepared]] = {}
"""The data set that was opened last, which the next trial mostly opens again, and the files that it was then."""


def _stamps(folder: Path) -> frozenset[tuple[str, int, int, int]]:
    """The files of a folder: by name, time of their last change, size, and number on the disk."""
    with os.scandir(folder) as files:
        stats = [(file.name, file.stat()) for file in files]
    return frozenset((name, stat.st_ctime_ns, stat.st_size, stat.st_ino) for name, stat in stats)


def _mapped(folder: Path) -> Prepared | None:
    """The decoded data set in `folder`; None if it is damaged."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta.pop("checksum") != _digest(meta):
            raise ValueError("the checksum of meta.json differs")
        shape = tuple(meta["image_shape"])
        images, labels, twins, files, names = {}, {}, {}, {}, {}
        dtype = np.dtype(meta["dtype"])
        for split, part in meta["splits"].items():
            images[split] = _map(folder / f"{split}_images.npy", (part["num_images"], *shape), dtype)
            if part["files"]:
                files[split] = np.load(folder / f"{split}_files.npy", mmap_mode="r")
            if part["names"]:
                names[split] = np.load(folder / f"{split}_names.npy", mmap_mode="r")
            if part["labeled"]:
                labels[split] = _map(folder / f"{split}_labels.npy", (part["num_images"],), np.dtype(np.int64))
            elif split == "train":
                labels[split] = torch.empty(0, dtype=torch.int64)
            twins[split] = _map(folder / f"{split}_twins.npy", (part["twins"], 2), np.dtype(np.int64))
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
            names=MappingProxyType(files | names),
            twins=MappingProxyType(twins),
            notes=tuple(meta["notes"]),
            tally=MappingProxyType(meta["tally"]),
            folder=folder,
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
    for split, images in sorted(prepared.images.items()):
        fingerprint.update(f"{split} {len(images)}".encode() + b"".join(digests_of(images.numpy())))
        labels = prepared.labels.get(split)
        fingerprint.update(b"" if labels is None else labels.numpy().tobytes())
    return fingerprint.hexdigest()


def _holds_features(image_shape: Sequence[int]) -> bool:
    return len(image_shape) == 1


def _map(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    """Maps an array file without reading it; ValueError if it is not exactly what the meta data says."""
    # Copy-on-write rather than read-only: torch warns about memory that it may not write, and nobody does.
    array = np.load(path, mmap_mode="c")
    size = path.stat().st_size
    if array.shape != shape or array.dtype != dtype or size != array.offset + array.nbytes:
        raise ValueError(f"{path.name} holds {array.dtype} {array.shape} in {size} bytes, not {dtype} {shape}")
    return torch.from_numpy(array)


def _write(source: Source, name: str, folder: Path, skip_broken: bool) -> Prepared:
    """Decodes all splits into `folder`, which appears complete or not at all, and opens it."""
    _check_room(source, name, folder.parent)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a writer that was killed: the lock is ours
    partial.mkdir()
    try:
        meta = _decode(source, name, partial, skip_broken)
        meta["checksum"] = _digest(json.loads(json.dumps(meta)))
        (partial / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)  # damaged
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    prepared = _open(folder)
    if prepared is None:
        raise FileNotFoundError(errno.ENOENT, "what was just decoded is not there", str(folder))
    return prepared


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
    doubled = next((one for one, number in Counter(source.class_names).items() if number > 1), None)
    if doubled is not None:
        raise ValueError(f"data set {name}: two classes are called {doubled!r}; class names must differ")
    if unshown := next(filter(has_commands, source.class_names), None):
        raise ValueError(f"data set {name}: the class {unshown!r} has a name that cannot be shown; rename it")
    train = source.splits["train"].labels
    assert train is not None
    missing = (torch.bincount(train.long(), minlength=num_classes) == 0).nonzero().flatten().tolist()
    if missing:
        without = f"class {source.class_names[missing[0]]!r} has no training image"
        raise ValueError(f"data set {name}: {without}; every class needs one, or is left out with all its images")
    if num_classes < 2:
        raise ValueError(f"data set {name}: {num_classes} class; at least 2 are needed")


def _check_room(source: Source, name: str, cache: Path) -> None:
    """Says what decoding will write; OSError where the disk has not so much room."""
    number = sum(part.num_images for part in source.splits.values())
    needed, free = number * Form(source.image_shape, source.dtype).num_bytes, shutil.disk_usage(cache).free
    shape = "x".join(map(str, source.image_shape))
    says = f"{name}: {number:,} images of {shape} take {in_bytes(needed)}"
    if needed > free:
        raise OSError(errno.ENOSPC, f"{says}, and {in_bytes(free)} are free", str(cache))
    say(f"{says}, decoded once into {cache}")


def _decode(source: Source, name: str, folder: Path, skip_broken: bool) -> dict[str, Any]:
    """Writes the arrays of every split into `folder` and returns the meta data that describes them."""
    splits: dict[str, dict[str, Any]] = {}
    parts: dict[str, Split] = {}
    hashes: dict[str, np.ndarray] = {}
    broken, skipped = list[str](), list[str]()
    notes, tally = list(source.notes), Counter(source.tally)
    form = Form(source.image_shape, source.dtype)
    digest = hashlib.blake2b(repr((source.image_shape, source.class_names)).encode(), digest_size=16)
    if alike := _alike(source.class_names):
        notes.append(f"{name}: the classes {alike} differ in case or blanks alone, and count as several")
    with track(sum(part.num_images for part in source.splits.values()), f"Decoding {name}") as advance:
        for split, part in sorted(source.splits.items()):
            file = folder / f"{split}_images.npy"
            written = write_images(part, form, file, skip_broken=skip_broken, advance=advance)
            if written.broken and not skip_broken:
                broken += written.broken.values()
                continue
            if written.broken:
                skipped.append(_said_of_skipped(written.broken, name, split, folder))
                notes.append(skipped[-1])
                tally["skipped"] += len(written.broken)
            for what, names in part.converted.items():
                few = f"{len(set(names)):,} of {part.num_images:,} images"  # one may have been read twice
                notes.append(f"{name}, {split}: {few} {CONVERSIONS[what]}, such as {min(names)}")
                tally[what] += len(set(names))
            if split == "train" and written.sums is not None:
                np.save(folder / "train_sums.npy", written.sums)
            kept = parts[split] = written.part
            labels = None if kept.labels is None or split == "unlabeled" else kept.labels.cpu().long().numpy()
            if labels is not None:
                np.save(folder / f"{split}_labels.npy", labels)
            digest.update(f"{split} {kept.num_images}".encode() + b"".join(written.digests))
            digest.update(b"" if labels is None else labels.tobytes())
            hashes[split] = written.hashes
            about = {"num_images": kept.num_images, "labeled": labels is not None}
            splits[split] = about | _save_names(kept, folder, split)
    if broken:
        raise ValueError(
            f"data set {name}: {broken_in_words(broken, folder.parent / f'{folder.stem}-broken.txt')}; "
            "mend or remove what is broken, or set data.on_broken: skip"
        )
    if skipped:
        _check_left(replace(source, splits=parts), name, skipped)
    twin_names = {}
    for split, twins in twins_of(hashes).items():
        np.save(folder / f"{split}_twins.npy", twins)
        splits[split]["twins"] = len(twins)
        known = parts[split].names or parts[split].files
        twin_names[split] = known and [known[row] for row in twins[:, 0].tolist()]
    (folder / NAMES_FILE).write_text(json.dumps(twin_names), encoding="utf-8")
    return {
        "image_shape": source.image_shape,
        "dtype": form.array_type.str,
        "class_names": source.class_names,
        "splits": splits,
        "fingerprint": digest.hexdigest(),
        "notes": notes,
        "tally": tally,
    }


def _said_of_skipped(broken: Mapping[int, str], name: str, split: str, folder: Path) -> str:
    listing = folder.parent / f"{folder.stem}-{split}-broken.txt"
    return f"{name}, {split}: skipped {broken_in_words(list(broken.values()), listing)}"


def _check_left(source: Source, name: str, skipped: Sequence[str]) -> None:
    """Refuses what is left where too much was skipped, and says what that was."""
    try:
        _check(source, name, bool(source.class_names))
    except ValueError as error:
        raise ValueError(f"{error} ({'; '.join(skipped)})") from error


def _save_names(part: Split, folder: Path, split: str) -> dict[str, bool]:
    """Writes what a split's images are called, and says what there is of it."""
    there = {"files": part.files, "names": part.names}
    for what, listed in there.items():
        if listed is not None:
            np.save(folder / f"{split}_{what}.npy", [one.encode(errors="surrogateescape") for one in listed])
    return {what: listed is not None for what, listed in there.items()}


def _alike(names: Sequence[str]) -> str:
    """Classes whose names people may have meant to be one."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(unicodedata.normalize("NFC", "".join(name.split()).casefold()), []).append(name)
    return ", ".join(" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1)

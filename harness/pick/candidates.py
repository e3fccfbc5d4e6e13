"""The images to choose from: a folder, embedded once and remembered, or a file of embeddings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness import embed, files
from harness.code import code_of
from harness.data.splits import in_random_order
from harness.embeddings_file import BATCH_ROWS, Embeddings, read_embeddings
from harness.encoders.saved import SavedEncoder
from harness.plugins import registry

ORDER_SEED = 0
"""Of the order of the pool, as `data.split_seed` of a trial by default: a position says nothing of an image's name."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The pool.

    Attributes:
        names: of N images, distinct, in the pool's order.
        folder: that the names are below, but for those that are whole paths.
        load: gives f32 [N, D] of them, which may take a while.
    """

    names: list[str]
    folder: Path
    load: Callable[[], Tensor]

    @cached_property
    def features(self) -> Tensor:
        """f32 [N, D].

        Raises:
            ValueError: an image cannot be decoded, or a feature is not finite.
        """
        return self.load()

    def file(self, position: int) -> Path:
        """Where the image would be; there need not be one."""
        return self.folder / self.names[position]


def of_folder(folder: Path, encoder: SavedEncoder, cache: Path, on_broken: str = "error") -> Candidates:
    """Every image below a folder, named by its path there.

    Args:
        folder: of the images.
        encoder: that embeds them.
        cache: where embeddings are remembered: only files that are new or have changed are embedded again.
        on_broken: `skip` leaves images out that cannot be decoded, for which all are embedded at once; `error` names
            them when they are.

    Raises:
        ValueError: there is no image.
    """
    paths = embed.image_files([folder])
    key = {
        "encoder": dict(encoder.about),
        "device": encoder.runtime.device.type,
        "code": code_of(embed.embedded, *registry.sources(_backbone(encoder))).key,
        "folder": str(folder.resolve()),
    }
    remembered = cache / f"pick-{files.digest_of(key)}.npz"
    if on_broken == "skip":  # as a trial that skips them puts those that are left in order
        broken = _embedded(encoder, paths, remembered)[1]
        embed.say_broken(broken, on_broken, _listing(remembered))
        paths = [path for path in paths if path not in broken]
        if not paths:
            raise ValueError(f"{folder} holds no image that can be decoded")
    order = in_random_order(torch.arange(len(paths)), ORDER_SEED, "pool").tolist()
    paths = [paths[row] for row in order]

    def load() -> Tensor:
        features, broken = _embedded(encoder, paths, remembered)
        embed.say_broken(broken, "error", _listing(remembered))
        return features

    names = [path.relative_to(folder).as_posix() for path in paths]
    return Candidates(names, folder, load)


def _listing(remembered: Path) -> Path:
    return remembered.with_suffix(".broken.txt")


def _backbone(encoder: SavedEncoder) -> registry.PluginSpec:
    return registry.as_spec("backbones", encoder.about["backbone"])


def _embedded(encoder: SavedEncoder, paths: Sequence[Path], remembered: Path) -> tuple[Tensor, dict[Path, str]]:
    """f32 [n, D] of what can be decoded, in order, and what cannot; what is remembered afterwards are these."""
    states = [_state(path) for path in paths]
    known, before = _remembered(remembered)
    new = {path: number for number, path in enumerate(paths) if states[number] not in known}
    if before is not None and not new:
        return torch.from_numpy(before[[known[state] for state in states]]), {}
    features = np.empty((len(paths), encoder.backbone.feature_dim), dtype=np.float32)
    broken: dict[Path, str] = {}
    for files_of_piece, vectors in embed.embedded(encoder, list(new), broken):
        features[[new[path] for path in files_of_piece]] = vectors
    old = [number for number, state in enumerate(states) if state in known]
    if before is not None and old:
        features[old] = before[[known[states[number]] for number in old]]
    kept = [number for number, path in enumerate(paths) if path not in broken]
    features, states = features[kept], [states[number] for number in kept]
    remembered.parent.mkdir(parents=True, exist_ok=True)
    temporary = files.temporary_name(remembered)
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, states=np.array(states, dtype=np.str_), features=features)
        temporary.replace(remembered)
    finally:
        temporary.unlink(missing_ok=True)
    return torch.from_numpy(features), broken


def _state(path: Path) -> str:
    """What changes with a file's content, as for the data sets; of a link to nothing that of the link."""
    status = path.stat() if path.exists() else path.lstat()
    return json.dumps([str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns])


def _remembered(file: Path) -> tuple[dict[str, int], np.ndarray | None]:
    try:
        with np.load(file, allow_pickle=False) as content:
            return {str(state): row for row, state in enumerate(content["states"])}, content["features"]
    except Exception:  # readers raise many types for a file that is not there or damaged; all is embedded anew
        return {}, None


def of_embeddings(path: Path, table: Path | None) -> tuple[Candidates, tuple[str, ...]]:
    """The images of a file of embeddings, and what is to be said of it; labels that it has are not read.

    Args:
        path: as `harness.embed` writes it, or any that the data set `embeddings` reads. Of one that knows splits the
            images for training and those without labels are the pool.
        table: with the paths of the images, where the file has none; None: they are called by their numbers from 0.

    Raises:
        ValueError: it is none, or names stand there twice or are no text.
    """
    content = read_embeddings(path, table)
    parts = {split: part for split, part in content.parts.items() if split not in ("val", "test")}
    if not parts:
        raise ValueError(f"{path} has images for {' and '.join(content.parts)} alone: there is nothing to choose from")
    count = sum(map(len, parts.values()))
    named = all(part.paths is not None for part in parts.values())
    folder = path.parent if path.is_file() else path
    root = f"{folder.resolve()}/"
    if named:
        names = [name.removeprefix(root) for part in parts.values() for name in part.paths.tolist()]  # type: ignore[union-attr]
    else:
        names = [str(number) for number in range(count)]
    embed.check_names(names)
    if len(set(names)) < len(names):
        ((doubled, times),) = Counter(names).most_common(1)
        raise ValueError(f"{table or path}: {doubled!r} stands there {times} times")
    order = in_random_order(torch.arange(count), ORDER_SEED, "pool").numpy()
    pool = Candidates([names[row] for row in order], folder.absolute(), lambda: _read(list(parts.values()), order))
    unread = [f"{path}: images for {split} are left out" for split in content.parts if split not in parts]
    return pool, (*content.notes, *unread)


def _read(parts: Sequence[Embeddings], order: np.ndarray) -> Tensor:
    """f32 [N, D]: the vectors of all parts in i64 [N] order, read a few at a time."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    features = np.empty((len(order), parts[0].features.shape[1]), dtype=np.float32)
    before = 0
    for part in parts:
        for start in range(0, len(part), BATCH_ROWS):
            vectors = part.read(start, min(start + BATCH_ROWS, len(part)))
            features[place[before + start : before + start + len(vectors)]] = vectors
        before += len(part)
    return torch.from_numpy(features)

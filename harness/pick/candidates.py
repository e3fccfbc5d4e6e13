"""The images to choose from: a folder, embedded once and remembered, or a file of embeddings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import embed, files, progress
from harness.code import code_of
from harness.data.splits import in_random_order
from harness.encoders.saved import SavedEncoder
from harness.messages import message_of
from harness.plugins import registry

ORDER_SEED = 0
"""Of the order of the pool, as `data.split_seed` of a trial by default: a position says nothing of an image's name."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The pool.

    Attributes:
        names: of N images, distinct, in the pool's order.
        features: f32 [N, D].
        folder: that the names are below; None where they are paths or numbers of their own.
    """

    names: list[str]
    features: Tensor
    folder: Path | None

    def file(self, position: int) -> Path:
        """Where the image would be; there need not be one."""
        return Path(self.names[position]) if self.folder is None else self.folder / self.names[position]


def of_folder(folder: Path, encoder: SavedEncoder, cache: Path) -> Candidates:
    """Every image below a folder, named by its path there.

    Args:
        folder: of the images.
        encoder: that embeds them.
        cache: where embeddings are remembered: only files that are new or have changed are embedded again.

    Raises:
        ValueError: there is no image, or one cannot be decoded.
    """
    paths = embed.image_files([folder])
    order = in_random_order(torch.arange(len(paths)), ORDER_SEED, "pool").tolist()
    paths = [paths[row] for row in order]
    key = {
        "encoder": dict(encoder.about),
        "device": encoder.runtime.device.type,
        "code": code_of(embed.embed, *registry.sources(_backbone(encoder))).key,
        "folder": str(folder.resolve()),
    }
    remembered = cache / f"pick-{files.digest_of(key)}.npz"
    features = _embedded(encoder, paths, remembered)
    return Candidates([path.relative_to(folder).as_posix() for path in paths], features, folder)


def _backbone(encoder: SavedEncoder) -> registry.PluginSpec:
    return registry.as_spec("backbones", encoder.about["backbone"])


def _embedded(encoder: SavedEncoder, paths: Sequence[Path], remembered: Path) -> Tensor:
    """f32 [N, D], those that are remembered from there; what is remembered afterwards are these."""
    states = [json.dumps([str(path), status.st_size, status.st_mtime_ns]) for path in paths for status in [path.stat()]]
    known, before = _remembered(remembered)
    new = [number for number, state in enumerate(states) if state not in known]
    if before is not None and not new:
        return torch.from_numpy(before[[known[state] for state in states]])
    fresh = []
    with progress.track(len(new), "Embedding") as advance:
        for start in range(0, len(new), embed.CHUNK):
            part = [paths[number] for number in new[start : start + embed.CHUNK]]
            fresh.append(embed.embed(encoder, part))
            advance(len(part))
    features = np.empty((len(paths), encoder.backbone.feature_dim), dtype=np.float32)
    features[new] = np.concatenate(fresh)
    old = [number for number, state in enumerate(states) if state in known]
    if before is not None and old:
        features[old] = before[[known[states[number]] for number in old]]
    remembered.parent.mkdir(parents=True, exist_ok=True)
    temporary = files.temporary_name(remembered)
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, states=np.array(states), features=features)
        temporary.replace(remembered)
    finally:
        temporary.unlink(missing_ok=True)
    return torch.from_numpy(features)


def _remembered(file: Path) -> tuple[dict[str, int], np.ndarray | None]:
    try:
        with np.load(file, allow_pickle=False) as content:
            return {str(state): row for row, state in enumerate(content["states"])}, content["features"]
    except (OSError, ValueError, KeyError, EOFError):
        return {}, None


def of_embeddings(file: Path, paths: Path | None) -> Candidates:
    """The images of a file of embeddings.

    Args:
        file: .npz with `embeddings` [N, D] and `files` [N], as `harness.embed` writes it, or .npy [N, D].
        paths: of a .npy: a text file with the path of each image, a line each; None: their numbers from 0.

    Raises:
        ValueError: it is none, or its names are not distinct, or a feature is not finite.
    """
    array, names = _arrays(file)
    if paths is not None:
        names = paths.read_text(encoding="utf-8").splitlines()
    if names is None:
        names = [str(number) for number in range(len(array))]
    if array.ndim != 2 or array.dtype.kind != "f" or len(names) != len(array):
        raise ValueError(
            f"{file}: embeddings are floats [N, D] with N names, not {array.dtype} {array.shape} with {len(names)}"
        )
    if len(set(names)) < len(names):
        doubled = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{paths or file}: {doubled!r} stands there twice")
    order = in_random_order(torch.arange(len(array)), ORDER_SEED, "pool").numpy()
    features = torch.from_numpy(np.asarray(array[order], dtype=np.float32))
    if bad := int((~features.isfinite().all(1)).sum()):
        raise ValueError(f"{file}: {bad} of {len(features)} embeddings are not finite")
    return Candidates([names[row] for row in order], features, None)


def _arrays(file: Path) -> tuple[np.ndarray, list[str] | None]:
    try:
        content: Any = np.load(file, mmap_mode="r", allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content, None
        with content:
            return content["embeddings"], [str(name) for name in content["files"]]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(f"{file} cannot be read as embeddings: {message_of(error)}") from error

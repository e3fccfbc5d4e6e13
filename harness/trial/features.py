"""Features of a fixed encoder, kept on disk: each image is encoded once, for all trials, seeds, splits and selectors.

An encoder whose weights came from elsewhere gives an image the same features in every trial that shows it alike, as it
is or under an augmentation that draws nothing. They lie in a folder that is named by its weights and by what it is
shown, in files that are named by the images' content and not by a split of them; rows are computed when somebody first
asks for them:

    <images>.npy   f32 [M, D], of rows that nobody asked for yet a hole in the file
    <images>.crc   u32 [M], the checksum of each row; 0 where there is none
    cost.json      how many rows were computed, and the seconds that this took

A row is believed only if its checksum holds; any other is computed again. Batches have one size, the last one filled
up, so that an image's features do not depend on which others were asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from harness.api import Augmentation, Backbone, Images
from harness.config.schema import as_dict
from harness.files import replace_text
from harness.messages import printable
from harness.plugins import registry
from harness.plugins.registry import PluginSpec
from harness.progress import track
from harness.trial.context import Context
from harness.trial.runtime import Runtime

WRITTEN = 2048
"""Images whose features are written at a time."""


@dataclass(frozen=True)
class KeptFeatures:
    """The features of one encoder and data set.

    Attributes:
        folder: where they are kept.
        context: of the trial whose encoder and data they are.
        backbone: in evaluation mode.
        view: what the images are seen under, which draws nothing; None: as they are.
    """

    folder: Path
    context: Context
    backbone: Backbone
    view: Augmentation | None

    def under(self, seen: PluginSpec) -> KeptFeatures | None:
        """Those of the same images under an augmentation that draws nothing, see `kept_features`."""
        return kept_features(self.context, self.backbone, seen)

    def __call__(self, part: str, positions: Tensor | None = None) -> tuple[Tensor, float]:
        """f32 [n, D] on the CPU of i64 [n] positions in a part, or of all of it; the seconds that this saved."""
        store, size, rows = self.context.data.places[part]
        positions = torch.arange(len(rows)) if positions is None else positions
        wanted = rows[positions].numpy()
        file = self._open(store, size)
        features, missing = file.read(wanted)
        if len(missing):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                features, missing = file.read(wanted)  # another process may have computed them while we waited
                started = time.perf_counter()
                self._compute(file, wanted, features, missing, self._images(part), positions)
                self._note(len(missing), time.perf_counter() - started)
        return torch.from_numpy(features), (len(wanted) - len(missing)) * self._seconds_each()

    def _note(self, count: int, seconds: float) -> None:
        """Adds to what the features have cost so far."""
        cost = self._cost()
        total = {"images": cost["images"] + count, "seconds": cost["seconds"] + seconds}
        replace_text(self.folder / "cost.json", json.dumps(total))

    def _seconds_each(self) -> float:
        cost = self._cost()
        return cost["seconds"] / max(cost["images"], 1)

    def _cost(self) -> dict[str, float]:
        try:
            return json.loads((self.folder / "cost.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {"images": 0, "seconds": 0.0}

    def _compute(
        self,
        file: _RowFile,
        rows: np.ndarray,
        features: np.ndarray,
        missing: np.ndarray,
        images: Images,
        positions: Tensor,
    ) -> None:
        with track(len(missing), f"Encoding images with {self.context.config.backbone.name}") as advance:
            for start in range(0, len(missing), WRITTEN):
                some = missing[start : start + WRITTEN]
                features[some] = encode(
                    self.backbone, self.context.runtime, images, positions[some], self.view, advance
                )
                file.write(rows[some], features[some])

    def _images(self, part: str) -> Images:
        data = self.context.data
        images = {"pool": data.pool, "val": data.val, "test": data.test}[part]
        assert images is not None
        return images

    def _open(self, store: str, size: int) -> _RowFile:
        return _RowFile(self.folder / store, size, self.backbone.feature_dim)


def kept_features(context: Context, backbone: Backbone, seen: PluginSpec | None = None) -> KeptFeatures | None:
    """Where the features of a trial's encoder are kept; None where the code's files changed since they were loaded.

    Args:
        context: of the trial.
        backbone: on its device, not trained any more.
        seen: an augmentation that draws nothing, under which it sees the images; None: as they are.
    """
    config = context.config
    settings = config.backbone.as_dict()
    key = {
        "weights": _digest(backbone),
        "backbone": {name: value for name, value in settings.items() if name not in ("weights", "freeze")},
        "inputs": context.inputs.as_dict(),
        "compute": as_dict(config.compute.resolved()),
    }
    sources = registry.sources(config.backbone)
    if seen is not None:
        key["seen"] = seen.as_dict()
        sources += registry.sources(seen)
    folder = context.stages.place("features", key, [kept_features, *sources])
    if folder is None:
        return None
    return KeptFeatures(folder, context, backbone, None if seen is None else registry.build(seen))


def _digest(backbone: Backbone) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, value in backbone.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@torch.no_grad()
def encode(
    backbone: Backbone,
    runtime: Runtime,
    images: Images,
    positions: Tensor,
    view: Augmentation | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """f32 [n, D] of the images at i64 [n] positions, in batches of one size.

    Args:
        backbone: is put into evaluation mode.
        runtime: device, precision and what the encoder is shown.
        images: are read as they are needed.
        positions: in `images`.
        view: what they are seen under, which draws nothing; None: as they are.
        advance: told how many images were encoded.
    """
    backbone.eval()
    batch = runtime.batch_size(images)
    features = np.empty((len(positions), backbone.feature_dim), np.float32)
    with runtime.autocast():
        for index in torch.arange(len(positions)).split(batch):
            filled = torch.cat([index, index[-1:].expand(batch - len(index))])
            shown = images[positions[filled]].to(runtime.device)
            if view is not None:
                shown = view(shown, view=0, rng=torch.Generator(runtime.device))
            outputs = backbone(runtime.inputs(shown))
            features[index] = outputs[: len(index)].float().cpu().numpy()
            advance(len(index))
    return features


@dataclass(frozen=True)
class _RowFile:
    """Rows in a file, each with a checksum.

    Attributes:
        path: without an ending.
        count: M.
        dims: D.
    """

    path: Path
    count: int
    dims: int

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f32 [n, D] of the rows, and the places among them whose row is not there or damaged."""
        values = np.zeros((len(rows), self.dims), np.float32)
        try:
            kept = np.load(self._values, mmap_mode="r")
            sums = np.fromfile(self._sums, np.uint32)
            if kept.shape != (self.count, self.dims) or kept.dtype != np.float32 or len(sums) != self.count:
                raise ValueError(f"{kept.shape} features with {len(sums)} checksums")
            values[:] = kept[rows]
        except FileNotFoundError:
            return values, np.arange(len(rows))
        except (OSError, ValueError) as error:
            print(printable(f"{self._values}: damaged features are computed again ({error})"), file=sys.stderr)
            self._values.unlink(missing_ok=True)
            return values, np.arange(len(rows))
        known = sums[rows] != 0
        right = np.fromiter((_sum(row) for row in values), np.uint32, len(rows)) == sums[rows]
        if (known & ~right).any():
            print(
                printable(f"{self._values}: {(known & ~right).sum()} damaged rows are computed again"), file=sys.stderr
            )
        return values, (~right).nonzero()[0]

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Writes f32 [n, D]; a lock is held. What is deleted meanwhile is computed again when somebody asks for it."""
        with contextlib.suppress(FileNotFoundError):
            if not self._values.exists():
                self._create()
            # Written and not mapped: a full disk kills a process that writes through a map where write() raises.
            with self._values.open("r+b") as file, self._sums.open("r+b") as sums:
                first = np.load(self._values, mmap_mode="r").offset
                for row, value in zip(rows.tolist(), values, strict=True):
                    file.seek(first + row * value.nbytes)
                    file.write(value.data)
                    sums.seek(4 * row)
                    sums.write(np.uint32(_sum(value)).tobytes())

    def _create(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._sums.write_bytes(b"")
        with self._sums.open("r+b") as sums:
            sums.truncate(4 * self.count)
        partial = self._values.with_suffix(".partial")
        with partial.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (self.count, self.dims)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + 4 * self.count * self.dims)
        partial.rename(self._values)

    @property
    def _values(self) -> Path:
        return self.path.with_name(f"{self.path.name}.npy")

    @property
    def _sums(self) -> Path:
        return self.path.with_name(f"{self.path.name}.crc")


def _sum(row: np.ndarray) -> int:
    return zlib.crc32(row.data) or 1

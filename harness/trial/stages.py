"""Content-addressed results of stages: computed once, by one process, while others that need them wait.

A stage is named by the hash of everything that determines its result: the data's fingerprint, its part of the
configuration, the seed, the source code it runs and the stages before it. Its folder holds

    result.pt        the result, tensors and plain values only
    meta.json        the key, the seconds it took, the result's checksum and its own; written last
    checkpoint.pt    where a killed computation goes on, its checksum behind it; gone once the result is there

A result is believed only if meta.json is there and the checksum holds; anything else is computed again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from harness.files import CHECKSUM_LENGTH, beside, checksum, digest_of, save


@dataclass(frozen=True)
class Stage:
    """A stage's result.

    Attributes:
        value: what the computation returned.
        digest: the stage's name; part of the key of every stage that builds on it.
        seconds: wall time of the computation, also when it happened earlier.
        cached: whether it was found rather than computed.
    """

    value: dict[str, Any]
    digest: str
    seconds: float
    cached: bool


class Checkpoint:
    """Where a long computation saves its state, so that a killed one loses minutes, not the run.

    Args:
        file: the checkpoint's place.
        every_seconds: a new state is `due` this long after the last.
    """

    def __init__(self, file: Path, every_seconds: float = 20.0):
        self._file = file
        self._every = every_seconds
        self._last = time.monotonic()
        self._started = time.perf_counter()
        self._before = 0.0

    @property
    def seconds(self) -> float:
        """Wall time of the computation so far, what earlier processes spent on its state included."""
        return self._before + time.perf_counter() - self._started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside is not the computation's, such as that of reports."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._before -= time.perf_counter() - started

    def load(self) -> dict[str, Any] | None:
        """The last state saved, or None; a damaged one counts as none."""
        try:
            with self._file.open("rb") as stream:
                stream.seek(-CHECKSUM_LENGTH, os.SEEK_END)
                if stream.read().decode() != checksum(self._file, CHECKSUM_LENGTH):
                    raise ValueError("checksum differs")
            content = torch.load(self._file, map_location="cpu", weights_only=True)
            self._before += content["seconds"]
            return content["state"]
        except FileNotFoundError:
            return None
        except Exception as error:  # torch.load raises many types for a damaged file
            print(f"{self._file}: damaged checkpoint ignored ({type(error).__name__})", file=sys.stderr)
            return None

    @property
    def due(self) -> bool:
        """Whether the last write is long enough ago."""
        return time.monotonic() - self._last >= self._every

    def save(self, state: dict[str, Any]) -> None:
        """Writes the state atomically."""
        save({"state": state, "seconds": self.seconds}, self._file, signed=True)
        self._last = time.monotonic()


class StageCache:
    """The results of stages below one folder, shared by every trial that can see it."""

    def __init__(self, root: Path):
        self.root = root

    def run(self, kind: str, key: Mapping[str, Any], compute: Callable[[Checkpoint], dict[str, Any]]) -> Stage:
        """Returns the stage's result, computing it if no process has done so yet.

        Args:
            kind: the stage's kind, such as `pretrain`; names its folder.
            key: everything that determines the result; JSON values.
            compute: makes the result: tensors and plain values.
        """
        digest = digest_of({"kind": kind, **key})
        folder = self.root / kind / digest
        found = _read(folder, digest)
        if found:
            return found
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):  # the system frees the lock of a dead process
            found = _read(folder, digest)  # another process may have finished it while we waited
            if found:
                return found
            checkpoint = Checkpoint(folder / "checkpoint.pt")
            value = compute(checkpoint)
            seconds = float(value.get("seconds", checkpoint.seconds))
            _write(folder, value, key, seconds)
            return Stage(value, digest, seconds, cached=False)

    def find(self, kind: str, digest: str) -> Stage | None:
        """The stage of that name, if it is there."""
        return _read(self.root / kind / digest, digest)

    def holds(self, kind: str, key: Mapping[str, Any]) -> bool:
        """Whether the stage's result is already there."""
        digest = digest_of({"kind": kind, **key})
        return _read(self.root / kind / digest, digest) is not None


def _read(folder: Path, digest: str) -> Stage | None:
    try:
        meta = json.loads((folder / "meta.json").read_text())
        content = folder / "result.pt"
        own = meta.pop("own_checksum", None)
        if checksum(content) != meta["checksum"] or own not in (None, digest_of(meta)):  # early versions wrote no own
            raise ValueError("checksum differs")
        value = torch.load(content, map_location="cpu", weights_only=True)
        return Stage(value, digest, meta["seconds"], cached=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged result is computed again, whatever the damage
        print(f"{folder}: damaged stage is computed again ({error})", file=sys.stderr)
        return None


def _write(folder: Path, value: dict[str, Any], key: Mapping[str, Any], seconds: float) -> None:
    save(value, folder / "result.pt")
    meta = {"key": key, "seconds": seconds, "checksum": checksum(folder / "result.pt"), "finished": time.time()}
    meta["own_checksum"] = digest_of(json.loads(json.dumps(meta)))
    temporary = beside(folder / "meta.json")
    try:
        temporary.write_text(json.dumps(meta, indent=1))
        temporary.replace(folder / "meta.json")
    finally:
        temporary.unlink(missing_ok=True)
    (folder / "checkpoint.pt").unlink(missing_ok=True)

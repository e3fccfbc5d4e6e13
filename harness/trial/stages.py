"""Content-addressed results of stages: computed once, by one process, while others that need them wait.

A stage is named by the hash of everything that determines its result: the data's fingerprint, its part of the
configuration, the seed, the machine, the code it runs (`harness.code`) and the stages before it. Its folder holds

    result.pt        the result, tensors and plain values only
    meta.json        the key, the seconds it took, the result's checksum and its own; written last
    checkpoint.pt    where a killed computation goes on, its checksum behind it; gone once the result is there

A result is believed only if meta.json is there and the checksum holds; anything else is computed again.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import threadpoolctl
import torch
from filelock import FileLock

from harness.code import Code, Root, code_of
from harness.files import CHECKSUM_LENGTH, checksum, digest_of, replace_text, save_tensors
from harness.messages import printable


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

    def load(self, accepts: Callable[[dict[str, Any]], bool] = lambda state: True) -> dict[str, Any] | None:
        """The last state saved, or None; one that is damaged or not accepted counts as none, and so does its time."""
        try:
            with self._file.open("rb") as stream:
                stream.seek(-CHECKSUM_LENGTH, os.SEEK_END)
                if stream.read().decode() != checksum(self._file, CHECKSUM_LENGTH):
                    raise ValueError("checksum differs")
            content = torch.load(self._file, map_location="cpu", weights_only=True)
            if not accepts(content["state"]):
                return None
            self._before += content["seconds"]
            return content["state"]
        except FileNotFoundError:
            return None
        except Exception as error:  # torch.load raises many types for a damaged file
            print(printable(f"{self._file}: damaged checkpoint ignored ({type(error).__name__})"), file=sys.stderr)
            return None

    @property
    def due(self) -> bool:
        """Whether the last write is long enough ago."""
        return time.monotonic() - self._last >= self._every

    def save(self, state: dict[str, Any]) -> None:
        """Writes the state atomically."""
        save_tensors({"state": state, "seconds": self.seconds}, self._file, signed=True)
        self._last = time.monotonic()

    def forget(self) -> None:
        """Removes the last state saved, if any."""
        self._file.unlink(missing_ok=True)


def machine(device: str) -> dict[str, Any]:
    """What of a machine changes numbers in their last digits, and so, sooner or later, a pick.

    Args:
        device: "cpu" or "cuda".
    """
    facts = {
        "threads": torch.get_num_threads(),
        "cpu": [platform.machine(), torch.backends.cpu.get_cpu_capability()],
        "blas": _blas(),
    }
    if device == "cuda":
        facts["gpu"] = [torch.cuda.get_device_name(), torch.version.cuda, torch.backends.cudnn.version()]
    return facts


@cache
def _blas() -> list[list[Any]]:
    """Kind, threads and kernels of the linear algebra that NumPy, SciPy and scikit-learn call."""
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    every = {(pool["internal_api"], pool["num_threads"], pool.get("architecture", "")) for pool in pools}
    return [list(one) for one in sorted(every)]  # each library brings its own copy: a set, however many are loaded


class StageCache:
    """The results of stages below one folder, shared by every trial that can see it.

    Args:
        root: the folder.
        machine: what its results depend on beside their keys and code, see `machine`.
    """

    def __init__(self, root: Path, machine: Mapping[str, Any] | None = None):
        self.root = root
        self._machine = machine or {}

    def run(
        self,
        kind: str,
        key: Mapping[str, Any],
        compute: Callable[[Checkpoint], dict[str, Any]],
        plugins: Iterable[Root] = (),
        is_complete: Callable[[dict[str, Any]], bool] = lambda value: True,
    ) -> Stage:
        """Returns the stage's result, computing it if no process has done so yet.

        A result of code whose files have changed since they were loaded is not kept: its name would be that of other
        code.

        Args:
            kind: the stage's kind, such as `pretrain`; names its folder.
            key: everything that determines the result, but for the code; JSON values.
            compute: makes the result: tensors and plain values. Its module and what that imports is in the name.
            plugins: what else it runs, found by names in a configuration and not by imports.
            is_complete: whether a result that was found says all that is asked; if not, one that does replaces it.
        """
        code = code_of(compute, *plugins)
        key = self._complete(key, code)
        digest = digest_of({"kind": kind, **key})
        folder = self.root / kind / digest
        stage = _read(folder, digest)
        if stage and is_complete(stage.value):
            return stage
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):  # the system frees the lock of a dead process
            stage = _read(folder, digest)  # another process may have finished it while we waited
            if stage and is_complete(stage.value):
                return stage
            checkpoint = Checkpoint(folder / "checkpoint.pt")
            value = compute(checkpoint)
            stage = Stage(value, digest, checkpoint.seconds, cached=False)
            if code.is_current():
                _write(folder, stage, key)
            else:
                stage = replace(stage, digest=uuid.uuid4().hex)  # stages that build on it are not found either
            checkpoint.forget()
            return stage

    def name(self, kind: str, key: Mapping[str, Any], roots: Iterable[Root]) -> str:
        """What a stage would be called, for what is computed so fast that it is not kept; `roots` are what it runs."""
        return digest_of({"kind": kind, **self._complete(key, code_of(*roots))})

    def place(self, kind: str, key: Mapping[str, Any], roots: Iterable[Root]) -> Path | None:
        """The folder of a result that grows, see `name`; None where the code changed since it was loaded."""
        code = code_of(*roots)
        return self.root / kind / digest_of({"kind": kind, **self._complete(key, code)}) if code.is_current() else None

    def _complete(self, key: Mapping[str, Any], code: Code) -> dict[str, Any]:
        return {**key, "machine": self._machine, "code": code.key}

    def find(self, kind: str, digest: str) -> Stage | None:
        """The stage of that name, if it is there."""
        return _read(self.root / kind / digest, digest)


def _read(folder: Path, digest: str) -> Stage | None:
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        content = folder / "result.pt"
        own = meta.pop("own_checksum")
        if checksum(content) != meta["checksum"] or own != digest_of(meta):
            raise ValueError("checksum differs")
        value = torch.load(content, map_location="cpu", weights_only=True)
        return Stage(value, digest, meta["seconds"], cached=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged result is computed again, whatever the damage
        print(printable(f"{folder}: damaged stage is computed again ({error})"), file=sys.stderr)
        return None


def _write(folder: Path, stage: Stage, key: Mapping[str, Any]) -> None:
    save_tensors(stage.value, folder / "result.pt")
    meta = {"key": key, "seconds": stage.seconds, "checksum": checksum(folder / "result.pt"), "finished": time.time()}
    meta["own_checksum"] = digest_of(json.loads(json.dumps(meta)))
    replace_text(folder / "meta.json", json.dumps(meta, indent=1))

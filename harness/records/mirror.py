"""Keeps a sweep's folder in an object store: `--results s3://bucket/prefix` or `gs://bucket/prefix`.

The sweep works in a folder on the driver's disk, where files can be appended to and locked, and a thread copies
what changed to the store every few seconds. `--resume` first fetches what the store holds and this machine does
not, so a sweep can be continued elsewhere. What the store holds is at any moment a folder that can be resumed: a
record is copied after the files that belong to it, Optuna's log after the records.

An object store has no locks: one driver at a time is the user's to see to.
"""

from __future__ import annotations

import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness import files
from harness.config.schema import ConfigError
from harness.messages import message_of, without_secrets
from harness.progress import say_anyway
from harness.records.rows import ROWS

MIRROR_SCHEMES = ("s3", "gs")
PERIOD_SECONDS = 10.0
FINAL_SECONDS = 60.0
"""How long the last copy is tried again."""


RECORDS, STUDY = ROWS, "optuna.log"


def is_remote(results: str) -> bool:
    """Whether `--results` names an object store, or is meant to."""
    return "://" in results or results.startswith(tuple(f"{scheme}:" for scheme in MIRROR_SCHEMES))


def local_folder(results: str) -> Path:
    """The folder of `--results`; of an object store the one on this machine that is copied: `results/runs/s3/...`.

    Raises:
        ConfigError: no such kind of store, or no bucket.
    """
    if not is_remote(results):
        return Path(results)
    shown = without_secrets(results)
    scheme, _, place = shown.partition("://")
    if scheme not in MIRROR_SCHEMES or not all(re.match(rf"{scheme}://[^/?]", uri) for uri in (results, shown)):
        expected = "expected a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, with two slashes"
        raise ConfigError([f"--results {shown}: {expected}"])
    return Path("results/runs", scheme, *Path(place.partition("?")[0]).parts)


class Mirror:
    """A sweep's folder and its copy in a store.

    Args:
        uri: of the results; options such as `?endpoint_override=` as pyarrow's `FileSystem.from_uri` knows them.
        folder: the sweep's, on this machine; its name is the copy's too.

    Raises:
        ConfigError: no such store, or it does not answer.
    """

    def __init__(self, uri: str, folder: Path):
        from pyarrow import fs

        self._folder = folder
        shown = without_secrets(uri)
        self.uri = f"{shown.partition('?')[0].rstrip('/')}/{folder.name}"
        if uri.startswith("gs://") and "retry_limit_seconds" not in uri:
            uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds=30"  # by default it tries for minutes
        try:
            self._store, path = fs.FileSystem.from_uri(uri)
            self._root = f"{path.rstrip('/')}/{folder.name}"
            self._there = self._list()
            self._put(".selbench", b"a folder of selbench\n")
        except (OSError, ValueError) as error:
            raise ConfigError([f"--results {shown}: {message_of(error, 400)}"]) from None
        self._copied: dict[str, Any] = {}
        self._stopping = threading.Event()
        self._complained = False
        self._thread: threading.Thread | None = None

    # Fetching --------------------------------------------------------------------------------------------------

    def fetch(self) -> None:
        """Brings here what the store holds and this machine does not.

        Raises:
            ConfigError: each holds records that the other has not, or the store does not answer.
        """
        try:
            theirs = self._get(RECORDS) if RECORDS in self._there else b""
            file = self._folder / RECORDS
            ours = file.read_bytes() if file.exists() else b""
            if not (theirs.startswith(ours) or ours.startswith(theirs)):
                raise ConfigError(
                    [f"{self._folder} and {self.uri} hold different records; move one of them out of the way"]
                )
            newer = len(theirs) > len(ours)
            wanted = [name for name in self._there if newer or not (self._folder / name).exists()]
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(self._fetch_file, sorted(wanted, key=lambda name: name == RECORDS)))
        except OSError as error:
            raise ConfigError([f"--results {self.uri}: {message_of(error, 400)}"]) from None

    def _fetch_file(self, name: str) -> None:
        file = self._folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        files.replace(file, self._get(name))
        os.utime(file, (self._there[name][1],) * 2)

    # Copying ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Copies from now on, in a thread; a store that does not answer is tried again and does not end the sweep."""
        for name, (size, when) in self._there.items():
            file = self._folder / name
            about = file.stat() if file.exists() and name not in (RECORDS, STUDY) else None
            if about and about.st_size == size and about.st_mtime <= when:
                self._copied[name] = _stamp(file)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Copies nothing more, for the folder is another sweep's now."""
        self._stopping.set()

    def close(self) -> str | None:
        """Copies what is left; returns why the copy is not complete, or None."""
        self.stop()
        if self._thread:
            self._thread.join()
        deadline = time.monotonic() + FINAL_SECONDS
        while True:
            try:
                self.copy()
                return None
            except OSError as error:
                if time.monotonic() > deadline:
                    cause = message_of(error, 400)
                    return f"{self.uri} is not complete ({cause}); {self._folder} is, and --resume copies the rest"
                time.sleep(1)

    def _work(self) -> None:
        while not self._stopping.wait(PERIOD_SECONDS):
            try:
                self.copy()
                self._complained = False
            except OSError as error:
                if not self._complained:
                    self._complained = True
                    cause = message_of(error, 400)
                    say_anyway(f"{self.uri} does not answer and is tried again ({cause})")

    def copy(self) -> None:
        """Copies what changed since the last time.

        Raises:
            OSError: something could not be copied.
        """
        # read before anything is sent: what they promise is then among what is sent before them
        last = {name: file.read_bytes() for name in (STUDY, RECORDS) if (file := self._folder / name).exists()}
        changed = {
            name: stamp
            for file in sorted(self._folder.rglob("*"))
            if file.is_file()
            and (name := file.relative_to(self._folder).as_posix()) not in (RECORDS, STUDY)
            and not _private(name)
            and (stamp := _stamp(file)) != self._copied.get(name)
        }
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(self._copy_file, changed, changed.values()))
        for name in (RECORDS, STUDY):
            digest = files.digest(last[name]) if name in last else None
            if digest and digest != self._copied.get(name):
                self._put(name, last[name])
                self._copied[name] = digest

    def _copy_file(self, name: str, stamp: tuple[int, int]) -> None:
        try:
            content = (self._folder / name).read_bytes()
        except FileNotFoundError:  # replaced or removed meanwhile
            return
        self._put(name, content)
        self._copied[name] = stamp

    # The store -------------------------------------------------------------------------------------------------

    def _list(self) -> dict[str, tuple[int, float]]:
        """The files of the copy: name -> size, time."""
        from pyarrow import fs

        entries = self._store.get_file_info(fs.FileSelector(self._root, recursive=True, allow_not_found=True))
        stored = (info for info in entries if info.type == fs.FileType.File)
        listed = {info.path.removeprefix(f"{self._root}/"): (info.size, info.mtime_ns / 1e9) for info in stored}
        return {name: about for name, about in listed.items() if not _private(name)}

    def _get(self, name: str) -> bytes:
        with self._store.open_input_stream(f"{self._root}/{name}") as stream:
            return stream.read()

    def _put(self, name: str, content: bytes) -> None:
        with self._store.open_output_stream(f"{self._root}/{name}") as stream:
            stream.write(content)


def _private(name: str) -> bool:
    """Whether a file matters to this machine alone: Ray's state, locks, files that are being written."""
    first, _, rest = name.partition("/")
    return first == "ray" or any(part.startswith(".") for part in name.split("/")) or (not rest and first == "lock")


def _stamp(file: Path) -> tuple[int, int]:
    about = file.stat()
    return about.st_mtime_ns, about.st_size

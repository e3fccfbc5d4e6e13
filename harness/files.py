"""Files that are whole or not there: atomic writes, checksums, and how a full disk is told from other errors."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path("results/runs")
"""Where the folders of sweeps are, if nothing else is said."""

STAGES, CACHE = RESULTS / "stages", RESULTS / "data"
"""Where results of stages, and decoded data sets, are kept if nothing else is said."""

TAKEN = (STAGES.name, CACHE.name, "mlflow.db", "mlflow_artifacts", "s3", "gs")
"""What else lies beside the folders of sweeps."""

LONGEST_NAME = 200
"""Bytes of the name of a sweep's folder; file systems take 255, and files beside it have longer names."""

CHECKSUM_LENGTH = 24
"""Hexadecimal digits of a checksum."""


def unusable_name(name: str) -> str:
    """Why a sweep's folder cannot be called so; empty if it can."""
    if name.startswith("-"):
        return f"{name!r} would be read as an option where a command names it; did you mean {name.lstrip('-')!r}?"
    if not name or set(name) & set('/\\:*?"<>|') or name in (".", "..") or not name.isprintable():
        return f"{name!r} cannot name a folder"
    if name != name.strip():
        return f"{name!r} has a blank at its end; did you mean {name.strip()!r}?"
    if name.casefold() in TAKEN or name.casefold().startswith("mlflow.db"):
        return f"{name!r} is taken: {', '.join(TAKEN)} lie beside the folders of sweeps"
    if len(os.fsencode(name)) > LONGEST_NAME:
        return f"{name[:20]!r}... has {len(os.fsencode(name))} bytes; at most {LONGEST_NAME} can name a folder"
    return ""


def digest_of(key: Mapping[str, Any]) -> str:
    """24 hexadecimal digits that name a key."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return digest(text.encode(errors="surrogatepass"))  # the name of a file need not be valid text


def digest(content: bytes) -> str:
    """24 hexadecimal digits that name a content."""
    return hashlib.blake2b(content, digest_size=CHECKSUM_LENGTH // 2).hexdigest()


def give_home() -> None:
    """Gives a user id with neither a name nor `HOME` the home `/`, as containers do: Ray raises where there is none."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)


def no_space(error: BaseException | None) -> bool:
    """Whether an error is, or was caused by, a full disk, an exhausted quota or a file that may not grow."""
    return refusal(error) is not None


def refusal(error: BaseException | None, *places: Path) -> OSError | None:
    """What an error is, or was caused by, if that is a full disk or a file below the places that cannot be written."""
    while error is not None:
        if isinstance(error, OSError):
            below = isinstance(error.filename, str) and any(map(Path(error.filename).is_relative_to, places))
            if error.errno in FULL or (below and error.errno in CLOSED):
                return error
        error = error.__cause__ or error.__context__
    return None


def save_tensors(value: dict[str, Any], file: Path, signed: bool = False) -> None:
    """Writes a value atomically, and its folder where that is gone; `signed` puts its checksum behind it, which torch
    does not mind.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    import torch

    temporary = temporary_name(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            torch.save(value, stream)
        if signed:
            with temporary.open("ab") as stream:
                stream.write(checksum(temporary).encode())
        temporary.replace(file)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch has words of its own for a full disk
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(file)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(file: Path) -> Path:
    """A hidden name that no other process uses, on whichever node: process ids repeat from container to container."""
    return file.with_name(f".{file.name}.{socket.gethostname()}.{os.getpid()}")


def check_output(option: str, output: Path) -> None:
    """That what is asked for by an option can be written, as far as its place tells before any work is done.

    Raises:
        ValueError: its folder is not there, or it is a folder itself.
    """
    if not output.resolve().parent.is_dir():
        raise ValueError(f"{option} {output}: no folder {output.resolve().parent}")
    if output.is_dir():
        raise ValueError(f"{option} {output}: is a folder")


def checksum(file: Path, without: int = 0) -> str:
    """Of a file, without so many bytes at its end."""
    digest, left = hashlib.blake2b(digest_size=CHECKSUM_LENGTH // 2), file.stat().st_size - without
    with file.open("rb") as stream:
        while left > 0 and (block := stream.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def state_of(file: Path | int) -> tuple[int, int, int, int] | None:
    """Which file it is, when it was written to last, and how long it is, by its path or descriptor; None without one.

    Whoever keeps it after what it wrote itself sees by it that somebody else wrote, replaced or deleted the file.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        about = os.stat(file)
        return about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size
    return None


def which_file(file: Path) -> tuple[int, int] | None:
    """Which file has that name, whatever is in it; None where there is none."""
    state = state_of(file)
    return state and state[:2]


def replace_text(file: Path, text: str) -> None:
    """Writes a text file so that it is either the old or the new one, never half of it."""
    replace(file, text.encode())


def replace(file: Path, content: bytes) -> None:
    """Writes a file so that it is either the old or the new one, never half; its folder too where that is gone."""
    temporary = temporary_name(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)

"""Python's collector of garbage, and a process that imports libraries of seconds."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def nothing_collected() -> Iterator[None]:
    """Inside the block no garbage is collected, and what is there at its end is never looked at again.

    For imports: of the million objects that torch, Ray and MLflow bring, none is garbage, but the collector walks
    through all of them time and again, and once more as the process ends. That is an eighth of a process's start, and
    over a second of its end.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()

"""What a trial may use: the memory of its process, watched from within."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

STATUS = Path("/proc/self/status")
POLL_SECONDS = 0.05
GIBIBYTE = 2**30


def can_watch_memory() -> bool:
    """Whether this system tells how much memory of its own a process holds (Linux does)."""
    return own_memory() is not None


def own_memory() -> int | None:
    """Bytes that this process holds alone; data sets that are mapped into it do not count. None: not known."""
    try:
        lines = STATUS.read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    except (OSError, StopIteration):
        return None


@contextlib.contextmanager
def watched_memory(gigabytes: float | None, exceeded: Callable[[str], None]) -> Iterator[None]:
    """Inside the block a thread calls `exceeded` with the cause, once, as soon as the process holds too much.

    The thread sees nothing while a single call holds Python's lock; where such a call takes all the memory that
    there is, the system ends the process.

    Args:
        gigabytes: what the process may hold, in units of 2**30 bytes, libraries included; None: anything.
        exceeded: called from the watching thread.
    """
    if gigabytes is None:
        yield
        return
    _return_freed_memory()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            held = own_memory() or 0
            if held > gigabytes * GIBIBYTE:
                exceeded(f"MemoryError: the trial held {held / GIBIBYTE:.2f} GB; resources.memory_gb is {gigabytes:g}")
                return

    thread = threading.Thread(target=watch, name="memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _return_freed_memory() -> None:
    """Gives back what earlier trials of this process freed, so that it does not count for the next one."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)

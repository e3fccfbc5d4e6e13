"""The memory of this process: what a trial needed, what it may hold, and what becomes of what a step frees."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

STATUS = Path("/proc/self/status")
MEMORY_POLL_SECONDS = 0.05
GIBIBYTE = 2**30


class PeakMemory:
    """The peak since construction: of the device for CUDA, else of this process.

    The process's peak is reset at construction where the system allows it (Linux), so that trials that share a
    worker do not inherit each other's.
    """

    def __init__(self) -> None:
        import torch

        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def peak(self, device: torch.device) -> float:
        """In bytes."""
        import torch

        if device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(device))
        resident = _status("VmHWM")
        if resident is None:
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
        return float(resident)


def own_memory() -> int | None:
    """Bytes that this process holds alone; data sets that are mapped into it do not count. None: not known."""
    return _status("RssAnon")


def can_watch_memory() -> bool:
    """Whether this system tells how much memory of its own a process holds (Linux does)."""
    return own_memory() is not None


def _status(name: str) -> int | None:
    """Bytes, as the system counts them for this process; None where it does not."""
    try:
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
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
    return_freed_memory()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(MEMORY_POLL_SECONDS):
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


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""


def keep_freed_memory() -> None:
    """Lets this process keep the memory that a training step frees, for the next step; called once, at its start.

    By default glibc returns large blocks to the system and gets them back, page fault by page fault, in every step:
    on a CPU that was 40 % of the time of a small network's step. Does nothing where there is no glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Gives back what earlier trials of this process freed, so that it does not count for the next one."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)

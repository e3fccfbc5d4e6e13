"""How much memory a trial needed, and how the allocator treats what a training step frees."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import torch


class PeakMemory:
    """The peak since construction: of the device for CUDA, else of this process.

    The process's peak is reset at construction where the system allows it (Linux), so that trials that share a
    worker do not inherit each other's.
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def peak(self, device: torch.device) -> float:
        """In bytes."""
        if device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(device))
        return float(_peak_resident_bytes())


def _peak_resident_bytes() -> int:
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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

"""How many cores this process may use, which may be fewer than the machine has."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
"""Where SLURM says how many cores a job has on this machine; the first that is set counts."""


def usable_cores(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> int:
    """The fewest of those that the scheduler (`taskset`, SLURM's bindings), the quota of a container and SLURM allow.

    Args:
        root: of the file system, where `proc` and `sys` tell of quotas.
        environment: its variables.
    """
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    of_slurm = [environment[name] for name in SLURM if environment.get(name, "").isdecimal()]
    return max(1, math.floor(min([allowed, *map(float, of_slurm[:1]), *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Cores' worth of time that each control group around this process may use, of either version; see cgroups(7)."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        groups = root / "sys/fs/cgroup" / (controllers and "cpu")
        inner = groups / place.strip("/")
        for group in (inner, *(parent for parent in inner.parents if parent.is_relative_to(groups))):
            with contextlib.suppress(OSError, ValueError):
                if controllers:
                    quota, period = (
                        (group / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
                    )
                else:
                    quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
                if float(quota) > 0:  # `max` is no number, and -1 is none either
                    yield float(quota) / float(period)

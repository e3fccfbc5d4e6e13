"""How many cores a process may use, by every authority that has a say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.cores import usable_cores
from harness.sweep.placement import this_machine


@pytest.fixture
def allowed():
    """The cores of this process, which a test may narrow."""
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


def system(root: Path, groups: str, **quotas: str) -> Path:
    """A file system of a kernel that tells of control groups; `__` in a name stands for a folder."""
    for name, text in {"proc__self__cgroup": groups, **quotas}.items():
        file = root / name.replace("__", "/").replace("DOT", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_a_machine_offers_what_the_scheduler_allows(allowed):
    assert usable_cores(Path("/no/system"), {}) == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})  # as `taskset` does
    assert usable_cores(Path("/no/system"), {}) == 1
    assert this_machine().resources["CPU"] == 1


@pytest.mark.parametrize(
    ("variables", "cores"),
    [
        ({"SLURM_CPUS_ON_NODE": "3"}, 3),
        ({"SLURM_CPUS_PER_TASK": "2", "SLURM_CPUS_ON_NODE": "3"}, 2),
        ({"SLURM_CPUS_ON_NODE": "many"}, 5),
        ({"SLURM_CPUS_ON_NODE": "0"}, 1),
        ({}, 5),
    ],
)
def test_slurm_has_a_say(monkeypatch, variables, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)))
    assert usable_cores(Path("/no/system"), variables) == cores


@pytest.mark.parametrize(
    ("inner", "outer", "cores"),
    [("max 100000", "max 100000", 8), ("250000 100000", "max 100000", 2), ("max 100000", "50000 100000", 1)],
)
def test_the_quota_of_a_container_counts(tmp_path, monkeypatch, inner, outer, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    base = "sys__fs__cgroup__jobs"
    root = system(tmp_path, "0::/jobs/mine\n", **{f"{base}__mine__cpuDOTmax": inner, f"{base}__cpuDOTmax": outer})
    assert usable_cores(root, {}) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("300000", 3), ("10000", 1)])
def test_so_does_that_of_an_older_kernel(tmp_path, monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    base = "sys__fs__cgroup__cpu__docker__cpuDOTcfs"
    groups = "5:memory:/docker\n4:cpuacct,cpu:/docker\n0::/\n"
    root = system(tmp_path, groups, **{f"{base}_quota_us": quota, f"{base}_period_us": "100000"})
    assert usable_cores(root, {}) == cores

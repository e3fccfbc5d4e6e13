"""The compiled kernels' life outside a single healthy process: caches, forks, absent numba."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import baselines
from baselines.augmentations import kernels
from baselines.augmentations.flip import Flip

REPOSITORY = Path(baselines.__file__).parents[1]
FLIP_ALL = """
import torch
from baselines.augmentations.flip import Flip
images = torch.arange(24, dtype=torch.uint8).reshape(2, 1, 3, 4)
flipped = Flip(probability=1)(images, view=0, rng=torch.Generator())
assert torch.equal((flipped * 255).round().to(torch.uint8), images.flip(3))
"""


def start(code: str, folder: Path = REPOSITORY, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def test_processes_that_start_at_once_share_an_empty_cache(tmp_path):
    processes = [start(FLIP_ALL, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(3)]
    for process in processes:
        finish(process)
    files = sorted(path.name.split("-")[0] + path.suffix for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["kernels.flip.nbc", "kernels.flip.nbi", "kernels.unit.nbc", "kernels.unit.nbi"]
    hits = "\nfrom baselines.augmentations import kernels\nprint(sum(kernels.flip.stats.cache_hits.values()))"
    assert finish(start(FLIP_ALL + hits, NUMBA_CACHE_DIR=str(tmp_path))).strip() == "1"


def test_nothing_to_write_the_cache_to(tmp_path):
    for package in ("baselines/augmentations", "harness"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "baselines" / "__init__.py").touch()
    # Files where folders would be, because permissions do not stop every user.
    (tmp_path / "baselines" / "augmentations" / "__pycache__").touch()
    (tmp_path / "home").touch()
    home = str(tmp_path / "home")
    finish(start(FLIP_ALL, tmp_path, HOME=home, XDG_CACHE_HOME=home, NUMBA_CACHE_DIR=""))


def test_a_disk_that_fills_up_while_a_kernel_is_compiled(monkeypatch):
    compiled, calls = kernels.flip, []

    def first_call_fails(*arguments):
        calls.append(arguments)
        if len(calls) == 1:  # numba writes the cache after compiling and before running
            raise OSError(28, "No space left on device")
        compiled(*arguments)

    monkeypatch.setattr(kernels, "flip", first_call_fails)
    images = torch.rand(1, 1, 2, 3)
    assert torch.equal(Flip(probability=1)(images, view=0, rng=torch.Generator()), images.flip(3))
    assert len(calls) == 2


def test_without_numba_torch_serves():
    absent = "import sys; sys.modules['numba'] = None\nimport importlib.util as u; find = u.find_spec\n"
    absent += "u.find_spec = lambda name, *rest: None if name == 'numba' else find(name, *rest)\n"
    loaded = "\nassert 'baselines.augmentations.kernels' not in sys.modules"
    finish(start(absent + FLIP_ALL + loaded))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_makes_its_own_threads():
    # In a process of its own: forking one in which other tests have started threads may hang by their fault.
    code = """
import os, torch
from baselines.augmentations.flip import Flip
torch.set_num_threads(2)
images = torch.rand(8, 1, 4, 4)
flip = lambda: Flip(probability=1)(images, view=0, rng=torch.Generator())
assert torch.equal(flip(), images.flip(3))
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(flip(), images.flip(3)) else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    finish(start(code))


def test_an_error_in_another_thread_is_raised(monkeypatch):
    def fail_later(images, out, chosen, first, last):
        if first > 0:
            raise RuntimeError("second part")

    monkeypatch.setattr(kernels, "flip", fail_later)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="second part"):
            Flip()(torch.rand(4, 1, 2, 2), view=0, rng=torch.Generator())
    finally:
        torch.set_num_threads(threads)

"""What a result was made on: hardware, code, versions, data."""

from __future__ import annotations

import contextlib
import platform
import socket
import subprocess
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from harness import messages
from harness.config.trial import TrialConfig
from harness.cores import usable_cores
from harness.data.splits import Data
from harness.records import rows

NUMERIC = (
    "torch",
    "torchvision",
    "numpy",
    "scikit-learn",
    "numba",
    "openTSNE",
    "scikit-activeml",
    "umap-learn",
    "pacmap",
)
"""Packages that trials compute with; the last three are optional."""

PACKAGES = (*NUMERIC, "ray", "optuna", "mlflow", "pandas")


def describe_environment(
    folder: Path, prepared: Sequence[tuple[TrialConfig, Data]], concurrent: int, command: str
) -> dict[str, Any]:
    """The content of `environment.json`.

    Args:
        folder: the sweep's; a resumed sweep keeps its id and its start.
        prepared: a trial of each data set and split, with its data.
        concurrent: how many trials run side by side, which every time in the records was measured beside.
        command: what was typed or called, without secrets.

    Raises:
        ValueError: the file is there and damaged.
    """
    file = folder / "environment.json"
    before = rows.mapping(file) if file.exists() else {}
    config, _ = prepared[0]
    compute = config.compute.resolved()
    return {
        "sweep_id": before.get("sweep_id") or uuid.uuid4().hex,
        "started": before.get("started") or datetime.now(UTC).isoformat(timespec="seconds"),
        **commit_of_code(),
        "hostname": socket.gethostname(),
        "platform": platform.platform(),
        "cpu": cpu(),
        "cores": usable_cores(),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "device": compute.device,
        "precision": compute.precision,
        "channels_last": compute.channels_last,
        "concurrent_trials": concurrent,
        "python": platform.python_version(),
        "packages": packages(),
        "command": messages.public(command),
        "datasets": [_dataset(*item) for item in prepared],
    }


def packages() -> dict[str, str]:
    """The versions of the packages that matter to results."""
    return _versions(PACKAGES)


def _dataset(config: TrialConfig, data: Data) -> dict[str, Any]:
    counts = dict(data.counts)
    return {
        "name": config.dataset.name,
        "path": config.dataset.as_dict().get("path"),
        "fingerprint": data.fingerprint,
        "train": counts["pool"],
        "val": counts["val"],
        "test": counts["test"],
        "carved": [part for part in ("val", "test") if data.is_carved(part)],
        "classes": list(data.class_names),
        "image_shape": list(data.image_shape),
        "tally": dict(data.tally),
        "notes": list(data.notes),
    }


def commit_of_code() -> dict[str, Any]:
    """The commit of the code that runs, and whether it was changed since; None outside a checkout of it."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=here.parents[1], capture_output=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.decode(errors="replace").strip()

    if git("ls-files", "--error-unmatch", str(here)) is None:  # installed below somebody else's checkout, for example
        return {"commit": None, "dirty": None}
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}


def cpu() -> str:
    """The model of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def numeric_versions() -> dict[str, str]:
    """The versions of the packages that trials compute with."""
    return _versions(NUMERIC)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Of those that are installed."""
    versions = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions

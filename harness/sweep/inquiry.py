"""What every node of a cluster is asked before the first trial, and what it says. Plain code, without Ray."""

from __future__ import annotations

import os
import socket
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, SoftFileLock, Timeout

import baselines
from harness.config.trial import TrialConfig
from harness.files import digest_of
from harness.messages import message_of
from harness.plugins.registry import PluginSpec, classes
from harness.records import environment
from harness.trial.run import Folders, load_data

OURS = (Path(__file__).parents[1], Path(str(baselines.__file__)).parent)
"""The folders of our own code: the harness and its baselines."""


@dataclass(frozen=True)
class Question:
    """What a node is asked.

    Attributes:
        data: a trial of each data set and split, with the fingerprint that the driver found.
        plugins: all that trials name.
        folders: caches.
        code: of this project, on the driver.
        packages: versions on the driver.
        cwd: the driver's working folder, to which relative paths refer.
        probe: a file in the folder of stages that the driver holds the lock of.
    """

    data: Sequence[tuple[TrialConfig, str]]
    plugins: Sequence[PluginSpec]
    folders: Folders
    code: str
    packages: Mapping[str, str]
    cwd: str
    probe: Path


@dataclass(frozen=True)
class Answer:
    """What a node says.

    Attributes:
        hostname: its name.
        cpu: model of its processor.
        gpus: models of its GPUs.
        gpu_bytes: memory of its smallest GPU.
        compute: device, precision and layout that trials have there.
        shared: whether it sees the driver's folder of stages.
        locked: whether it sees the driver's lock there.
        problems: why it cannot run the trials.
    """

    hostname: str
    cpu: str
    gpus: list[str]
    gpu_bytes: int
    compute: Mapping[str, Any]
    shared: bool
    locked: bool
    problems: list[str]


def answer(question: Question) -> Answer:
    """What this node says."""
    enter(question.cwd)
    problems = list(differences_from_driver(question))
    shared, locked = False, False
    try:
        question.folders.stages.mkdir(parents=True, exist_ok=True)
        check_locks(question.folders.stages)
        shared = question.probe.exists()
        locked = shared and _is_locked(question.probe)
        if not problems:  # other code may decode otherwise
            problems += data_problems(question)
    except OSError as error:
        problems.append(message_of(error))
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    compute = question.data[0][0].compute.resolved()
    return Answer(
        hostname=socket.gethostname(),
        cpu=environment.cpu(),
        gpus=[gpu.name for gpu in gpus],
        gpu_bytes=min((gpu.total_memory for gpu in gpus), default=0),
        compute={
            "device": compute.device,
            "precision": compute.precision,
            "channels_last": compute.channels_last,
        },
        shared=shared,
        locked=locked,
        problems=problems,
    )


def enter(cwd: str) -> None:
    """Relative paths mean what they mean to the driver, where its working folder is there too."""
    if os.path.isdir(cwd):
        os.chdir(cwd)


def differences_from_driver(question: Question) -> Iterator[str]:
    """Where results here would differ from the driver's, or not come about."""
    if code_version() != question.code:
        yield f"{OURS[0]} is other code than the driver's; update or remove it"
    for name, version in environment.numeric_versions().items():
        if version != question.packages.get(name, version):  # what the driver has not got, no trial here asks for
            yield f"{name} is {version}, but {question.packages.get(name)} on the driver; install the same"
    for spec in question.plugins:
        try:
            classes(spec)
        except ValueError as error:
            yield f"{error}; install its package on every node"


def data_problems(question: Question) -> Iterator[str]:
    """Where this node has other data than the driver; decodes what is not decoded yet."""
    for config, expected in question.data:
        try:
            fingerprint = load_data(config, question.folders.cache, with_test=False)[0].fingerprint
        except (ValueError, OSError) as error:
            yield f"data set {config.dataset.name}: {error}"
            continue
        if fingerprint != expected:
            yield f"data set {config.dataset.name} holds other images or labels than on the driver"


def check_locks(folder: Path) -> None:
    """Whether locks in this folder are the system's, which frees them when their holder dies.

    Raises:
        OSError: they are not.
    """
    file = folder / f".probe-{uuid.uuid4().hex}"
    lock = FileLock(file)
    try:
        with warnings.catch_warnings(action="ignore"), lock:
            usable = not isinstance(lock, SoftFileLock)  # filelock's way out, in which a dead holder blocks for ever
    except (OSError, NotImplementedError) as error:
        raise OSError(f"{folder}: {error}; let --stages be on a disk of each node's own") from None
    finally:
        file.unlink(missing_ok=True)
    if not usable:
        raise OSError(f"{folder}: its file system has no locks; let --stages be on a disk of each node's own")


def _is_locked(file: Path) -> bool:
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True


def code_version() -> str:
    """A hash of the sources of this project as this process imports them."""
    files: dict[str, str] = {}
    for root in OURS:
        for file in (*root.rglob("*.py"), *root.rglob("*.yaml")):
            files[f"{root.name}/{file.relative_to(root).as_posix()}"] = digest_of(
                {"text": file.read_text(encoding="utf-8", errors="replace")}
            )
    return digest_of(files)

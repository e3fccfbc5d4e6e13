"""Joins a Ray cluster, and asks its nodes before the first trial whether they can do what is asked.

Code goes to the nodes with the job: this project's and the user's own plugin modules. Data does not: every node
reads it where the configuration says, decodes it once, and must find the same images as the driver.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import sysconfig
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.config.plan import Plan
from harness.config.schema import ConfigError, plugins_in
from harness.config.trial import TrialConfig
from harness.data.splits import Data
from harness.files import digest_of
from harness.messages import message_of, one_line
from harness.plugins.registry import PluginSpec, classes
from harness.records import environment
from harness.sweep.inquiry import OURS, Answer, Question, answer, check_locks, code_version
from harness.sweep.options import host_and_port
from harness.sweep.placement import Node
from harness.trial.run import Folders

JOIN_SECONDS = 60.0
"""How long a cluster may take to answer. Ray itself would ask for many minutes."""

WORKER_VARIABLES = {"RAY_CHDIR_TO_TRIAL_DIR": "0"}
"""What workers read from their environment; those of a private Ray inherit the driver's."""


def check_address(address: str) -> None:
    """Whether a cluster can be joined there, in a process that can be given up.

    Args:
        address: `auto` or HOST:PORT.

    Raises:
        ConfigError: it cannot.
    """
    place, at = f"--address {address}", host_and_port(address)
    if at:
        try:
            socket.create_connection(at, timeout=5).close()
        except (OSError, OverflowError) as error:
            raise ConfigError([f"{place}: nothing answers there: {error}"]) from None
    code = "import sys, ray; ray.init(address=sys.argv[1], logging_level='ERROR', log_to_driver=False)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, address], capture_output=True, timeout=JOIN_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            [f"{place}: no Ray cluster that this machine is a node of answers there within {JOIN_SECONDS:g} s"]
        ) from None
    if done.returncode:
        raise ConfigError([f"{place}: {cause_in(done.stderr.decode(errors='replace'))}"])


def cause_in(stderr: str) -> str:
    """The message of the exception that ended a process, as one line."""
    _, _, message = stderr.rpartition("\nTraceback (most recent call last):")
    start = re.search(r"^[\w.]+(Error|Exception|Mismatch)\w*: ", message, flags=re.MULTILINE)
    return one_line(message[start.end() :] if start else stderr[-500:])


def join(address: str, plan: Plan) -> None:
    """Connects to a cluster; its workers get the code that the plan needs.

    Raises:
        ConfigError: it went away, or the code cannot be sent.
    """
    try:
        ray.init(
            address=address,
            configure_logging=True,
            logging_level="ERROR",
            log_to_driver=False,
            runtime_env={"py_modules": modules(plan), "excludes": ["__pycache__"], "env_vars": WORKER_VARIABLES},
        )
    except (RuntimeError, ConnectionError, ray.exceptions.RayError) as error:
        raise ConfigError([f"--address {address}: {message_of(error, 500)}"]) from None


def modules(plan: Plan) -> list[str]:
    """The files and folders of the code that workers import: ours, and plugins of the user that are not installed."""
    places = {str(folder): None for folder in OURS}
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    for spec in specs(plan):
        for cls in classes(spec):
            top = sys.modules[cls.__module__.partition(".")[0]]
            if Path(str(top.__file__)).parent in OURS:
                continue
            file = Path(top.__path__[0] if hasattr(top, "__path__") else str(top.__file__)).resolve()
            if not installed & set(file.parents):
                places[str(file)] = None
    return list(places)


def specs(plan: Plan) -> list[PluginSpec]:
    """Every plugin that the plan's trials name."""
    different: dict[str, PluginSpec] = {}
    for candidate in plan.some_candidates():
        for spec in plugins_in(candidate.trial):
            different.setdefault(f"{spec.kind} {spec.name} {digest_of(spec.as_dict())}", spec)
    return list(different.values())


@dataclass(frozen=True)
class Nodes:
    """The nodes of a cluster that have processors for trials.

    Attributes:
        all: what each offers.
        about: each as `environment.json` describes it.
        compute: device, precision and layout of the first.
        shared_stages: whether all nodes see one folder of stages.
        notes: what the user should know.
    """

    all: list[Node]
    about: list[dict[str, Any]]
    compute: Mapping[str, Any]
    shared_stages: bool
    notes: list[str]


def look(plan: Plan, prepared: Sequence[tuple[TrialConfig, Data]], folders: Folders) -> Nodes:
    """Asks every node that has processors, all at once; each decodes the data sets that it has not decoded yet.

    Raises:
        ConfigError: what keeps a node from running the trials, for all of them.
    """
    alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not alive:
        raise ConfigError(["the cluster has no node with processors for trials"])
    try:
        folders.stages.mkdir(parents=True, exist_ok=True)
        check_locks(folders.stages)
    except OSError as error:
        raise ConfigError([str(error)]) from None
    probe = folders.stages / f".probe-{uuid.uuid4().hex}"
    data = [(config, images.fingerprint) for config, images in prepared]
    question = Question(data, specs(plan), folders, code_version(), environment.numeric_versions(), os.getcwd(), probe)
    ask = ray.remote(num_cpus=0, max_retries=0)(answer)
    try:
        with FileLock(probe):
            asked = [
                ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                    question
                )
                for node in alive
            ]
            answers = [_get(reference) for reference in asked]
    finally:
        probe.unlink(missing_ok=True)
    names = [f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})" for node in alive]
    problems = []
    for name, told in zip(names, answers, strict=True):
        problems += [f"{name}: {problem}" for problem in ([told] if isinstance(told, str) else told.problems)]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return nodes_of(alive, [told for told in answers if isinstance(told, Answer)], folders)


def _get(reference: Any) -> Answer | str:
    """A node's answer, or why there is none."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[-1] if isinstance(error, ray.exceptions.RayTaskError) else message_of(error, 500)


def nodes_of(alive: Sequence[Mapping[str, Any]], answers: Sequence[Answer], folders: Folders) -> Nodes:
    """What Ray says of its nodes and what they say themselves, put together."""
    shared = all(told.shared for told in answers)
    notes = []
    if not shared:
        notes.append(f"{folders.stages} is not one folder for all nodes: each computes and keeps its own stages")
    elif not all(told.locked for told in answers):
        notes.append(
            f"{folders.stages}: locks are not seen by other nodes, so that two may compute the same stage at once"
        )
    about, nodes = [], []
    for node, told in zip(alive, answers, strict=True):
        offered = {k: v for k, v in node["Resources"].items() if not k.startswith(("node:", "memory", "object_store"))}
        nodes.append(Node(told.hostname, node["Resources"], told.gpu_bytes))
        about.append(
            {
                "hostname": told.hostname,
                "cpu": told.cpu,
                "gpus": told.gpus,
                "resources": offered,
                **told.compute,
            }
        )
    return Nodes(nodes, about, answers[0].compute, shared, notes)

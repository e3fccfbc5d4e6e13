"""Which nodes can run a trial, and how many trials run at once. Plain arithmetic, without Ray."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from harness.config.resources import Resources
from harness.config.schema import ConfigError
from harness.cores import usable_cores
from harness.messages import closest


@dataclass(frozen=True)
class Node:
    """A machine that may run trials.

    Attributes:
        name: for messages.
        resources: what it offers, as Ray names it: CPU, GPU, and custom resources.
        gpu_bytes: memory of its smallest GPU; 0 without one.
    """

    name: str
    resources: Mapping[str, float]
    gpu_bytes: int = 0


@dataclass(frozen=True)
class Placement:
    """What every trial gets and how many fit.

    Attributes:
        resources: of a trial, as Tune takes them: cpu, gpu, and custom resources.
        concurrent: trials at once, over all nodes.
    """

    resources: Mapping[str, float] = field(default_factory=dict)
    concurrent: int = 1


def this_machine(cpus: float | None = None, gpus: float | None = None) -> Node:
    """This machine, with what Ray says that it offers; before Ray is asked, all that this process may use."""
    known = [torch.cuda.get_device_properties(number).total_memory for number in range(torch.cuda.device_count())]
    offered = {"CPU": usable_cores() if cpus is None else cpus, "GPU": len(known) if gpus is None else gpus}
    return Node(socket.gethostname(), offered, min(known, default=0))


def place(asked: Resources, nodes: Sequence[Node], name: str) -> Placement:
    """Finds room for trials on the nodes.

    Args:
        asked: of a trial.
        nodes: all of them.
        name: of the sweep, for messages.

    Raises:
        ConfigError: a trial fits on no node, so that it would wait for ever; says what is there.
    """
    gpus = asked.gpus
    if gpus is None:
        sizes = [node.gpu_bytes for node in nodes if node.resources.get("GPU")]
        gpus = 1 / (asked.trials_per_gpu or _trials_per_gpu(min(sizes))) if sizes else 0.0
    wanted = {"CPU": float(asked.cpus), "GPU": gpus, **(asked.custom or {})}
    fit = sum(_room(wanted, node.resources) for node in nodes)
    if not fit:
        raise ConfigError([f"{name}: {problem}" for problem in _shortages(wanted, nodes)])
    lower = {"CPU": "cpu", "GPU": "gpu"}
    resources = {lower.get(kind, kind): amount for kind, amount in wanted.items()}
    return Placement(resources, min(fit, asked.max_concurrent or fit))


def _room(wanted: Mapping[str, float], there: Mapping[str, float]) -> int:
    """How many trials fit on one node. A share of a GPU lies on one GPU: of 0.4 each holds two."""
    counts = []
    for kind, amount in wanted.items():
        have = there.get(kind, 0.0)
        if kind == "GPU" and 0 < amount < 1:
            counts.append(int(have) * int(1 / amount + 1e-9))
        elif amount:
            counts.append(int(have / amount + 1e-9))
    return min(counts)


def _shortages(wanted: Mapping[str, float], nodes: Sequence[Node]) -> list[str]:
    """Why a trial fits nowhere: each resource that no node has enough of, else their combination."""
    where = "this machine" if len(nodes) == 1 else f"the largest of {len(nodes)} nodes"
    known = sorted({kind for node in nodes for kind in node.resources if _custom(kind)})
    shortages = []
    for kind, amount in wanted.items():
        most = max((node.resources.get(kind, 0.0) for node in nodes), default=0.0)
        if amount <= most:
            continue
        if not _custom(kind):
            shortages.append(f"resources.{kind.lower()}s: {amount:g} asked for, but {where} has {most:g}")
        elif most:
            shortages.append(f"resources.custom.{kind}: {amount:g} asked for, but {where} has {most:g}")
        else:
            shortages.append(f"resources.custom.{kind}: no node has it; {closest(kind, known)}")
    if not shortages:
        text = ", ".join(f"{amount:g} {kind}" for kind, amount in wanted.items() if amount)
        offers = "; ".join(f"{node.name}: {_offer(node)}" for node in nodes)
        shortages.append(f"resources: no node has {text} together; there are {offers}")
    return shortages


def _offer(node: Node) -> str:
    shown = [kind for kind in node.resources if kind in ("CPU", "GPU") or _custom(kind)]
    return ", ".join(f"{node.resources[kind]:g} {kind}" for kind in shown)


def _custom(kind: str) -> bool:
    """Whether a user gave a node this resource, and not Ray itself."""
    return kind not in ("CPU", "GPU", "memory", "object_store_memory") and ":" not in kind


def _trials_per_gpu(gpu_bytes: int) -> int:
    """One trial for each 8 GiB of a GPU's memory, at most 8."""
    return max(1, min(8, gpu_bytes // 2**33))

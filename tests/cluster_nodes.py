"""A Ray cluster on one machine: every node has processes and a working folder of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PLUGIN = """
import os, time
import harness, ray
from harness.api import Selector

class Telling(Selector):
    "Chooses the first images, and says where and on what."
    supports_cold_start = True
    def __init__(self, *, log: str = "", seconds: float = 0.0, offset: int = 0):
        self.log = log
        self.seconds = seconds
        self.offset = offset
    def select(self, pool, budget, *, rng):
        self.say("begins")
        time.sleep(self.seconds)
        patience = time.monotonic() + 180
        while os.path.exists(self.log + ".together") and len(self.begun()) < 2 and time.monotonic() < patience:
            time.sleep(0.1)
        self.say("ends")
        return pool.unlabeled[self.offset : self.offset + budget]
    def begun(self):
        with open(self.log) as file:
            return {line.split()[1] for line in file}
    def say(self, what):
        with open(self.log, "a") as file:
            file.write(f"{what} {ray.get_runtime_context().get_node_id()} {harness.__file__} {self.offset}\\n")
"""
"""A module of a user, which no node has: `selector: {name: telling:Telling, log: FILE}`.

Where FILE.together is, a selection waits until one has begun on a second node: however slowly its worker starts there,
the first node does not make both.
"""


AS_DOCUMENTED = {"RAY_memory_monitor_refresh_ms": "0", "RAY_worker_niceness": "0"}
"""What docs/cluster.md says to start nodes with: else trials stand back behind whatever else this machine does."""

OF_RAY = ("num_cpus", "object_store_memory")
"""What a node may offer under a name of Ray's; the rest are names of the test's."""


@contextmanager
def nodes(*resources: dict[str, Any]) -> Iterator[Any]:
    """A cluster with a node for each of these; the first is the head.

    Nothing of this project can be imported in the folders where they run, nor by PYTHONPATH.
    """
    from ray.cluster_utils import Cluster

    folder = Path(tempfile.mkdtemp(prefix="nodes", dir="/tmp"))  # a short path: Ray's sockets lie below it
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AS_DOCUMENTED.items():
            patch.setenv(name, value)
        cluster = Cluster()
        try:
            for number, offered in enumerate(resources):
                (folder / str(number)).mkdir()
                head = {} if number else {"include_dashboard": False, "temp_dir": str(folder)}
                given = {"num_cpus": 1} | {kind: amount for kind, amount in offered.items() if kind in OF_RAY}
                others = {kind: amount for kind, amount in offered.items() if kind not in OF_RAY}
                with pytest.MonkeyPatch.context() as there:
                    there.chdir(folder / str(number))
                    there.delenv("PYTHONPATH", raising=False)
                    cluster.add_node(**given, resources=others, **head)
            yield cluster
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)

"""A private Ray on this machine, or a cluster that is joined: what there is to run trials on."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from harness.config.plan import Plan
from harness.config.resources import Resources
from harness.config.schema import ConfigError
from harness.config.trial import TrialConfig
from harness.data.splits import Data
from harness.progress import say_anyway
from harness.sweep import cluster
from harness.sweep.placement import Node, place, this_machine
from harness.sweep.servers import Servers, ServersOfCluster, silenced, start_private_ray, workers_as_started
from harness.trial.run import Folders

RAY_VARIABLES = {
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0: no output of Ray's own
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths keep their meaning in workers
    "RAY_memory_monitor_refresh_ms": "0",  # it would end the whole sweep, not the trial that needs too much
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_preload_python_modules": "harness.sweep.warm",  # by workers that start with Ray, while the driver goes on
    "RAY_kill_idle_workers_interval_ms": "0",  # never: they wait for the first trials
    "RAY_worker_niceness": "0",  # the default of 15 would let any other process distort the times
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `Interrupts` is ours
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # trials may start side by side; `ConcurrencyLimiter` bounds them
    "TUNE_GLOBAL_CHECKPOINT_S": "600",  # resuming reads our own records, not Ray's snapshots
}
"""How Ray is told to keep out of the way; it and the processes that it starts look there when a sweep runs."""


@contextlib.contextmanager
def connected(plan: Plan | None = None, address: str | None = None) -> Iterator[Servers]:
    """A private Ray on this machine, gone afterwards, or a cluster, which gets the plan's code and is left as it is.

    Yields:
        The servers of Ray's.

    Raises:
        ConfigError: this process uses Ray already, or the cluster cannot be joined.
    """
    if ray.is_initialized():
        raise ConfigError(["this process uses Ray already; call ray.shutdown() before a sweep is run in it"])
    with _ray_variables():
        if address:
            assert plan is not None
            cluster.join(address, plan)
            servers: Servers = ServersOfCluster()
        else:
            asked = plan.resources if plan else Resources()
            servers = start_private_ray(asked.threads, place(asked, [this_machine()], "").concurrent)
        for name in ("tune", "execution.tune_controller"):  # a worker that dies is reported by its trial, in one line
            logging.getLogger(f"ray.tune.{name}").setLevel(logging.CRITICAL)
        try:
            with silenced(), contextlib.nullcontext() if address else workers_as_started():
                yield servers
        finally:
            servers.end()


@contextlib.contextmanager
def _ray_variables() -> Iterator[None]:
    """Inside the block the environment holds `RAY_VARIABLES`; afterwards what Ray reads and sets is as it was.

    But for RAY_AUTH_MODE, which Ray sets for a private cluster and this process then keeps to: a cluster that it starts
    or joins later must be told the same.
    """
    before = dict(os.environ)
    os.environ.update(RAY_VARIABLES)
    try:
        yield
    finally:
        of_ray = {name for name in os.environ if name.startswith(("RAY_", "TUNE_"))} | {"PYTHONBREAKPOINT"}
        for name in of_ray & set(os.environ) - {"RAY_AUTH_MODE"}:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


def nodes_for(
    plan: Plan, address: str | None, folders: Folders, prepared: Sequence[tuple[TrialConfig, Data]]
) -> tuple[list[Node], dict[str, Any]]:
    """What there is to run trials on, and what `environment.json` says of it beyond this machine.

    Raises:
        ConfigError: what keeps a node of the cluster from running the trials.
    """
    if not address:
        there = ray.cluster_resources()
        return [this_machine(there.get("CPU", 0), there.get("GPU", 0))], {}
    nodes = cluster.look(plan, prepared, folders)
    for note in nodes.notes:
        say_anyway(note)
    gpus = sorted({gpu for about in nodes.about for gpu in about["gpus"]})
    return nodes.all, {**nodes.compute, "gpus": gpus, "nodes": nodes.about, "shared_stages": nodes.shared_stages}

"""The servers of Ray's that a sweep relies on: those that it starts on this machine, how they end, and a cluster's."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import secrets
import select
import signal
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import ray
from ray._private import ray_constants, services, utils
from ray._private import worker as ray_worker
from ray._private.node import Node
from ray.tune.execution import class_cache

from harness.config.schema import ConfigError
from harness.cores import usable_cores
from harness.messages import message_of
from harness.sweep.watch import how_it_ended

NEEDED = ("raylet", "gcs_server")
"""The processes of Ray's without which no trial can run."""

LONGEST_FOLDER = 40
"""Bytes of the path of Ray's folder. Below it lie sockets, whose whole path may have 107 (unix(7)): what Ray adds, a
session with time and process, `/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store`, has 65."""

HEAD_SECONDS = 30.0
"""For which the head of a cluster may be away, as one that starts anew; Ray itself ends a driver after 60."""

DEAF_TO = (signal.SIGTERM, signal.SIGHUP)
"""Signals that Ray's servers, and what they start, do not receive: they end with this process, which does."""

TOKEN = secrets.token_hex(32)
"""For a Ray whose user has no home. The same for all of a process, which reads it once."""

UNUSED = ("start_monitor", "start_log_monitor", "start_api_server")
"""How Ray starts its autoscaler, what prints workers' logs in the driver, and its dashboard: three Python processes
that serve nobody here, and take two processor seconds before the first trial and one second after the last."""

_end_with_parent = utils.set_kill_on_parent_death_linux


class Servers:
    """Ray's processes that a sweep relies on: as they stand here, those of a private Ray, which end with the sweep.

    Args:
        processes: Ray's name of a process -> it.

    Attributes:
        abandoned: whether something in this process still waits for them, and may do so for ever.
    """

    def __init__(self, processes: Mapping[str, subprocess.Popen] | None = None):
        self.abandoned = False
        self._processes = dict(processes or {})
        self._agent = ""
        self._ended = False
        if "raylet" in self._processes and hasattr(os, "pidfd_open"):  # Linux has it
            threading.Thread(target=self._watch_agents, name="agents", daemon=True).start()

    def _watch_agents(self) -> None:
        """Kills all once an agent dies: of that the raylet would end in order, and Ray's C++ then this process."""
        raylet = self._processes["raylet"]
        ended, names = select.poll(), {}
        with contextlib.ExitStack() as opened, contextlib.suppress(psutil.NoSuchProcess, OSError):
            for child in psutil.Process(raylet.pid).children():
                if "Agent" in child.name():
                    descriptor = os.pidfd_open(child.pid)
                    opened.callback(os.close, descriptor)
                    ended.register(descriptor, select.POLLIN)
                    names[descriptor] = child.name().removeprefix("ray::")
            (first, _), *_ = ended.poll()
            if not self._ended and raylet.poll() is None:
                self._agent = names[first]
                self.kill()

    def dead(self) -> str:
        """Which of those that are needed has died, and of what, in words; empty as long as all are there."""
        if self._agent:
            return f"{self._agent}, a server of Ray's that this sweep runs on, has ended"
        for name in NEEDED:
            status = self._processes[name].poll() if name in self._processes else None
            if status is not None:
                return f"{name}, a server of Ray's that this sweep runs on, {how_it_ended(status)}"
        return ""

    def end(self) -> None:
        """Ends Ray, also where it does not answer: then this process still counts as one that uses Ray."""
        self._ended = True
        if self.abandoned or self.dead():
            self.kill()  # Ray itself would wait for a minute for what is gone
            return
        for process in self._processes.values():  # which are deaf to the SIGTERM that Ray would try for a second each
            process.terminate = functools.partial(os.killpg, process.pid, signal.SIGKILL)  # type: ignore[method-assign]
        ray.shutdown()

    def kill(self) -> None:
        """Ends them at once, with the workers and agents that they started."""
        for process in self._processes.values():
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)


class ServersOfCluster(Servers):
    """Those of a cluster that this process has joined, which are left as they are: its head, and the raylet here."""

    def __init__(self) -> None:
        super().__init__()
        self._head = ray.get_runtime_context().gcs_address
        self._answered = self._asked = time.monotonic()
        named = f"--raylet_socket_name={ray_worker._global_node.raylet_socket_name}"
        every = psutil.process_iter(["cmdline"])
        self._raylet = next((one for one in every if named in (one.info["cmdline"] or ())), None)

    def dead(self) -> str:
        """See `Servers.dead`."""
        if self._raylet and _has_ended(self._raylet):
            return "raylet, the server of the Ray cluster on this machine, has ended"
        if time.monotonic() > self._asked + 1:
            host, _, port = self._head.rpartition(":")
            with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=1):
                self._answered = time.monotonic()
            self._asked = time.monotonic()
        if self._asked > self._answered + HEAD_SECONDS:
            return f"the head of the Ray cluster, {self._head}, has not answered for {HEAD_SECONDS:g} seconds"
        return ""


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def start_private_ray(threads: int = 1, at_once: int = 1) -> Servers:
    """Starts Ray for this process alone: reached by this machine alone, in process groups of its own.

    What ends this process's group, such as `timeout` or a terminal that is closed, so leaves Ray to this process. Ray
    starts a worker for each trial that runs at once; it imports this very code, before it knows what it will run.

    Args:
        threads: of a trial.
        at_once: trials that run at once.

    Raises:
        ConfigError: it cannot start.
    """
    folder = folder_for_ray()
    try:
        give_token()
        with (
            _set(
                utils,
                set_kill_on_parent_death_linux=_begin_group,
                set_sigterm_handler=lambda _: None,  # `Interrupts` is ours, also while Ray starts
            ),
            _set(ray_constants, ENABLE_RAY_CLUSTER=False),
            _set(Node, **dict.fromkeys(UNUSED, lambda *_, **__: None)),
            _set(services, multiprocessing=SimpleNamespace(cpu_count=lambda: at_once)),  # by which it counts workers
            _environment_of_workers(threads),
        ):
            ray.init(
                address="local",
                include_dashboard=False,
                configure_logging=True,
                logging_level="ERROR",
                log_to_driver=False,
                num_cpus=usable_cores(),
                num_gpus=None,
                _temp_dir=str(folder),
            )
    except Exception as error:  # of many types: a machine under load, no token
        ray.shutdown()
        raise ConfigError([f"Ray cannot start on this machine: {message_of(error)}"]) from error
    node = ray_worker._global_node
    return Servers({name: infos[0].process for name, infos in node.all_processes.items() if infos})


def silenced() -> AbstractContextManager[None]:
    """Inside the block Ray prints no pages of its state where a server dies: `Servers.dead` tells of that."""
    return _set(ray_worker, print_to_stdstream=lambda *_, **__: None)


def workers_as_started() -> AbstractContextManager[None]:
    """Inside the block trials run in workers that Ray has started already, whose environment is the driver's.

    Tune would pass some of its variables once more, for which each trial's worker is one that starts then.
    """
    return _set(class_cache, DEFAULT_ENV_VARS={}, ENV_VARS_TO_PROPAGATE=())


def folder_for_ray(candidates: Iterable[str] = ("/tmp", "/var/tmp", "/dev/shm")) -> Path:
    """The first folder, of those of the environment and then these, in which Ray can make its own.

    Raises:
        ConfigError: none can be written, is short enough, and has the only signs that Ray takes, those of ASCII.
    """
    named = (os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"))
    given = [path for path in (*named, *candidates) if path]
    for path in given:
        folder = Path(path).absolute() / "ray"
        nearest = folder if folder.exists() else folder.parent
        if str(folder).isascii() and len(str(folder)) <= LONGEST_FOLDER and os.access(nearest, os.W_OK | os.X_OK):
            return folder
    most = LONGEST_FOLDER - len("/ray")
    raise ConfigError(
        [f"Ray has no folder for its sockets: none of {', '.join(given)} can be written and has at most {most} "
         "signs, all of ASCII; let RAY_TMPDIR name one"]
    )  # fmt: skip


def give_token() -> None:
    """What guards the ports of a private Ray: a file in the home folder, read by nobody else, else a variable.

    The file is locked, for of several sweeps that find none one writes it, and the others read what that one wrote.
    """
    try:
        path = Path.home() / ".ray/auth_token"
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            os.fchmod(file.fileno(), 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            if not file.read().strip():
                file.seek(0)
                file.write(TOKEN.encode())
                file.truncate()
    except (OSError, RuntimeError):  # read-only, another's, or no home at all
        os.environ.setdefault("RAY_AUTH_TOKEN", TOKEN)


def _begin_group() -> None:
    """In a process that is about to be one of Ray's, which no signal to a group or to all of a job is to end."""
    os.setpgrp()
    signal.pthread_sigmask(signal.SIG_BLOCK, DEAF_TO)
    _end_with_parent()


@contextlib.contextmanager
def _environment_of_workers(threads: int) -> Iterator[None]:
    """Inside the block what starts has so many threads, and imports the code that this process runs.

    Ray would say so to each worker with its trial, when a library that is imported already has its threads.
    """
    home, given = Path(__file__).resolve().parents[2], os.environ.get("PYTHONPATH")
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    paths = [path for path in ("" if home in installed else str(home), given) if path]
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "OMP_NUM_THREADS")}
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _set(module: Any, **values: Any) -> Iterator[None]:
    """Inside the block names of a module, or of a class, have these values."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)

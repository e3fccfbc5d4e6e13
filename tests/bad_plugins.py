"""Selectors that do to a trial what a plugin may do: `test_faults` names them as `bad_plugins:Class`."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time

from torch import Tensor

from harness.api import Selector


class Raises(Selector):
    """Raises what no code of ours would."""

    def select(self, pool, budget, *, rng) -> Tensor:
        raise ArithmeticError("the plugin's own\ntrouble")


SECRET = "hunter2x"


class Tells(Selector):
    """Raises what a database driver or a client would, with the password that it was given."""

    def select(self, pool, budget, *, rng) -> Tensor:
        login = {"user": "me", "password": SECRET, "host": "box"}
        try:
            raise ConnectionError(
                f"cannot log in as {login} or {json.dumps(login)}, with PGPASSWORD={SECRET} or token={SECRET}"
            )
        except ConnectionError as error:
            header = f"Authorization: Bearer {SECRET}"
            raise ArithmeticError(f"{header} refused at postgresql+psycopg2:me:{SECRET}@box", login) from error


class LoopsInC(Selector):
    """Never comes back from a call that holds Python's lock, so that no thread of its process can do anything."""

    def select(self, pool, budget, *, rng) -> Tensor:
        ctypes.PyDLL(None).sleep(100_000)
        raise AssertionError


class Loops(Selector):
    """Never comes back, and catches what is raised in it."""

    def select(self, pool, budget, *, rng) -> Tensor:
        while True:
            try:
                time.sleep(0.01)
            except BaseException:
                continue


class Hoards(Selector):
    """Takes memory, 50 MB at a time, until somebody ends it."""

    def select(self, pool, budget, *, rng) -> Tensor:
        held = []
        while True:
            held.append(b"x" * 50_000_000)


class Dies(Selector):
    """Ends its process in some selections, and notes all of them.

    Args:
        log: a file.
        first: the selection, from 1, in which it begins to.
        times: how often; afterwards it selects.
    """

    def __init__(self, *, log: str = "", first: int = 1, times: int = 1_000):
        self.log = log
        self.first = first
        self.times = times

    def select(self, pool, budget, *, rng) -> Tensor:
        with open(self.log, "a+") as file:
            file.write("asked\n")
            file.seek(0)
            asked = len(file.readlines())
        if self.first <= asked < self.first + self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return pool.unlabeled[:budget]


class Fills(Selector):
    """Fills the disk that a folder lies on, once.

    Args:
        folder: gets the file `ballast`.
    """

    def __init__(self, *, folder: str = ""):
        self.folder = folder

    def select(self, pool, budget, *, rng) -> Tensor:
        noted = f"{self.folder}/ballast"
        if not os.path.exists(noted):
            with open(noted, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"x" * 4096)
                except OSError:
                    pass
        return pool.unlabeled[:budget]

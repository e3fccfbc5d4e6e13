"""Loggers of others, which hear of a sweep beside MLflow; `harness.api.Logger` is their contract."""

from __future__ import annotations

import copy
import importlib
import inspect
import queue
import threading
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from harness.api import Logger
from harness.messages import cause_of, closest
from harness.records import rows
from harness.records.names import run_name, varied
from harness.records.rows import Record
from harness.tracking.server import print_line

GROUP = "selbench.loggers"
"""Of the entry points by which packages offer theirs."""


def find_logger(name: str) -> type[Logger]:
    """The class of a logger: of an entry point, or as `module:Class`.

    Raises:
        ValueError: there is none, or it is no `Logger`.
    """
    offered = {point.name: point.value for point in entry_points(group=GROUP)}
    module, colon, class_name = offered.get(name, name).partition(":")
    if not colon:
        known = closest(name, offered) if offered else "no installed package offers one; name one as module:Class"
        raise ValueError(f"--logger: no logger {name!r}; {known}")
    try:
        logger = getattr(importlib.import_module(module), class_name)
    except Exception as error:  # a module of somebody's may fail in any way
        raise ValueError(f"--logger: {name!r} cannot be imported: {cause_of(error)}") from error
    if not (inspect.isclass(logger) and issubclass(logger, Logger)):
        raise ValueError(f"--logger: {name!r} does not derive from harness.api.Logger")
    return logger


class Loggers:
    """Tells loggers of a sweep, each in a thread of its own; no method raises, and none but `finish` waits.

    Args:
        names: see `find_logger`.
        folder: the sweep's, with `space.yaml`.
    """

    def __init__(self, names: Iterable[str], folder: Path):
        self._listeners = [_Listener(name, find_logger(name), folder) for name in names]

    def start(self) -> None:
        """Starts them."""
        for listener in self._listeners:
            listener.thread.start()

    def record(self, row: Record) -> None:
        """Takes a record and returns at once; each hears a copy, for it may change what it is given."""
        for listener in self._listeners:
            listener.queue.put(copy.deepcopy(row))

    def finish(self, answer: str | None, timeout: float) -> None:
        """Tells them the answer, and waits so many seconds for each of them."""
        for listener in self._listeners:
            listener.answer = answer
            listener.queue.put(None)
        for listener in self._listeners:
            listener.thread.join(timeout)


class _Listener:
    """One logger, its thread, and what it has not heard yet; None in the queue is the end."""

    def __init__(self, name: str, logger: type[Logger], folder: Path):
        self.queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self.answer: str | None = None
        self.thread = threading.Thread(target=self._work, args=(name, logger, folder), name="logger", daemon=True)

    def _work(self, name: str, logger: type[Logger], folder: Path) -> None:
        try:
            self._tell(logger(), folder)
        except Exception as error:
            print_line(f"logger {name} hears no more of this sweep: {cause_of(error)}")

    def _tell(self, logger: Logger, folder: Path) -> None:
        question: Mapping[str, Any] = rows.mapping(folder / "space.yaml")
        differing = varied(question)
        logger.start(folder, question)
        while (record := self.queue.get()) is not None:
            logger.record(run_name(record, question["trial"], differing), record)
        logger.finish(self.answer)

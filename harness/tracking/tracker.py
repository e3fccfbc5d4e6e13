"""A sweep's records on their way to MLflow, in a thread of their own."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import messages
from harness.records import rows
from harness.records.rows import Record
from harness.tracking.delivery import Delivery
from harness.tracking.refusals import cure_of, told
from harness.tracking.server import print_line

POLL_SECONDS = 0.2
"""Between two looks at what has been recorded."""

RETRY_SECONDS = 30.0
"""The longest wait before a server that does not answer is tried again."""

SWEEP_ENDINGS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
"""MLflow's word for how a sweep ended."""


class Tracker:
    """Delivers records in a thread, beside the sweep; no method raises, and none but `finish` waits.

    Args:
        uri: see `tracking_uri`.
        experiment: MLflow experiment, created if it does not exist.
        folder: the sweep's folder, with `space.yaml`; records that are already in it are delivered as well.
        environment: the content of `environment.json`.
        poll_seconds: between two looks at what has been recorded.
        retry_seconds: the longest wait before a server that does not answer is tried again.

    Attributes:
        failing: whether the last delivery failed.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        folder: Path,
        environment: Mapping[str, Any],
        *,
        poll_seconds: float = POLL_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ):
        self.failing = False
        self._arguments = uri, experiment, Path(folder), environment
        self._poll_seconds = poll_seconds
        self._retry_seconds = retry_seconds
        self._queue: queue.SimpleQueue[Record] = queue.SimpleQueue()
        self._finishing = threading.Event()
        self._stopped = False
        self._ending = "KILLED"
        self.experiment: str | None = None
        self._deadline = math.inf
        self._patience: float | None = None
        self._complete = False
        self._newest = self._said = ""  # failure, and that which was told
        self._cure: str | None = None
        self._delivered: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)

    def start(self) -> None:
        """Starts delivering: the database, the experiment, the sweep's run, then records."""
        self._thread.start()

    def record(self, row: Record) -> None:
        """Takes a record for delivery and returns at once. The caller must not change it afterwards."""
        self._queue.put(row)

    def stop(self) -> None:
        """Delivers nothing more, for the folder is another sweep's now: the runs stay as they are."""
        self._stopped = True
        self._finishing.set()

    def finish(self, status: str, timeout: float = 60.0, *, patient: bool = False) -> bool:
        """Delivers what is left, with the sweep's artifacts, and closes every run.

        Where the server refuses that for good it is not waited for.

        Args:
            status: "finished", "failed" or "interrupted".
            timeout: seconds after which it gives up and says how to deliver the rest later.
            patient: whether the seconds begin anew with every trial that is delivered.

        Returns:
            Whether all was delivered.
        """
        self._ending = SWEEP_ENDINGS[status]
        self._deadline = time.monotonic() + timeout
        if patient:
            self._patience = timeout
        self._finishing.set()
        while self._thread.is_alive() and (left := self._deadline - time.monotonic()) > 0:
            self._thread.join(left)
        if not self._complete:
            uri, experiment, folder, _ = self._arguments
            words = [str(folder), "--tracking-uri", uri, "--experiment", experiment]
            later = messages.public_command("python -m harness.tracking sync", words)
            why = "" if self._newest == self._said else f" ({self._newest})"
            print_line(f"not all was delivered{why}; later: {later}")
        return self._complete

    def _work(self) -> None:
        delivery: Delivery | None = None
        pause = self._poll_seconds
        while True:
            finishing = self._finishing.wait(pause)
            if self._stopped:
                return
            try:
                delivery = delivery or Delivery(*self._arguments, live=True, delivered=self._prolong)
                while not self._queue.empty():
                    delivery.add(self._queue.get())
                if finishing:
                    delivery.close(self._ending)
                    self.experiment = delivery.experiment
                    self._complete = True
                    return
                delivery.flush()
                self.experiment = delivery.experiment
                pause, self.failing = self._poll_seconds, False
            except Exception as error:
                refused = self._complain(error)
                pause = min(2 * pause, self._retry_seconds)
                if finishing:
                    if refused or time.monotonic() + 1 > self._deadline:
                        return
                    time.sleep(1)

    def _prolong(self, trial: str) -> None:
        """A trial was delivered: where patience was asked for, the time for the others begins anew."""
        if self._patience is not None and trial not in self._delivered:
            self._deadline = time.monotonic() + self._patience
        self._delivered.add(trial)

    def _complain(self, error: Exception) -> bool:
        """Says in one line that deliveries fail, once until they succeed again or need another cure.

        Returns:
            Whether waiting is of no use.
        """
        cure, self._newest = cure_of(error), told(error)
        if not self.failing or cure != self._cure:
            self.failing, self._cure, self._said = True, cure, self._newest
            uri = messages.without_secrets(self._arguments[0])
            what = "refuses what it is sent" if cure else "does not answer as it should"
            print_line(f"MLflow at {uri} {what} and is tried again ({self._newest})")
        return cure is not None


def sync(folder: Path, uri: str, experiment: str | None = None) -> str:
    """Delivers a folder's records; a second time changes nothing.

    Args:
        folder: the sweep's.
        uri: see `tracking_uri`.
        experiment: the one that the sweep was tracked in, by default named as the sweep is.

    Returns:
        The experiment's name.

    Raises:
        ValueError: the folder is not a sweep's, is damaged, or belongs to a sweep that is running or to another sync.
    """
    from harness.records.folder import claim

    for name in ("space.yaml", "environment.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is not a sweep's folder: it has no {name}")
    environment = rows.mapping(folder / "environment.json")
    experiment = experiment or str(rows.mapping(folder / "space.yaml")["name"])
    lock = folder / "lock"
    ours = os.access(lock if lock.exists() else folder, os.W_OK)
    claimed = claim(folder) if ours else None
    try:
        delivery = Delivery(uri, experiment, folder, environment, live=False)
        try:
            delivery.close(None)
        except Exception:  # once more, as MLflow is told not to try again
            delivery.close(None)
    finally:
        if claimed:
            claimed.release()
    return experiment

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
from harness.tracking.delivery import MAX_RETRY_SECONDS, MOST_BEHIND, PACE_SECONDS, POLL_SECONDS, Delivery
from harness.tracking.server import say


class Tracker:
    """Delivers records in a thread, beside the sweep; no method raises, and none but `finish` waits for long.

    Args:
        uri: see `tracking_uri`.
        experiment: MLflow experiment, created if it does not exist.
        folder: the sweep's folder, with `space.yaml`; records that are already in it are delivered as well.
        environment: the content of `environment.json`.
    """

    ENDINGS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}  # noqa: RUF012

    def __init__(self, uri: str, experiment: str, folder: Path, environment: Mapping[str, Any]):
        self._arguments = uri, experiment, Path(folder), environment
        self._queue: queue.SimpleQueue[Record] = queue.SimpleQueue()
        self._finishing = threading.Event()
        self._ending = "KILLED"
        self._deadline = math.inf
        self._patience: float | None = None
        self._delivered = False
        self._complained = False
        self._behind: set[str] = set()  # trials that have ended and whose runs are not closed yet
        self._closed: set[str] = set()
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)

    def start(self) -> None:
        """Starts delivering: the database, the experiment, the sweep's run, then records."""
        self._thread.start()

    def record(self, row: Record) -> None:
        """Takes a record for delivery. The caller must not change it afterwards.

        Returns at once, but for the end of a trial while MLflow answers and lacks more than `MOST_BEHIND` of them:
        then it waits until it lacks fewer, for `PACE_SECONDS` at most.
        """
        with self._progress:  # so that an ending is counted before it can be counted off
            self._queue.put(row)
            if row["status"] in rows.FINAL:
                self._behind.add(row["trial"])
                self._progress.wait_for(self._need_not_wait, PACE_SECONDS)

    def _need_not_wait(self) -> bool:
        return len(self._behind) <= MOST_BEHIND or self._complained or not self._thread.is_alive()

    def finish(self, status: str, timeout: float = 60.0, *, patient: bool = False) -> bool:
        """Delivers what is left, with the sweep's artifacts, and closes every run.

        Args:
            status: "finished", "failed" or "interrupted".
            timeout: seconds after which it gives up and says how to deliver the rest later.
            patient: whether the seconds begin anew with every trial that is delivered.

        Returns:
            Whether all was delivered.
        """
        self._ending = self.ENDINGS[status]
        self._deadline = time.monotonic() + timeout
        if patient:
            self._patience = timeout
        self._finishing.set()
        while self._thread.is_alive() and (left := self._deadline - time.monotonic()) > 0:
            self._thread.join(left)
        if not self._delivered:
            uri, experiment, folder, _ = self._arguments
            options = f"--tracking-uri {messages.public(uri)} --experiment {experiment}"
            say(f"not all was delivered; later: python -m harness.tracking sync {folder} {options}")
        return self._delivered

    def _work(self) -> None:
        delivery: Delivery | None = None
        pause = POLL_SECONDS
        while True:
            finishing = self._finishing.wait(pause)
            try:
                delivery = delivery or Delivery(*self._arguments, live=True, delivered=self._advance)
                while not self._queue.empty():
                    delivery.add(self._queue.get())
                if finishing:
                    delivery.close(self._ending)
                    self._delivered = True
                    return
                delivery.flush()
                pause, self._complained = POLL_SECONDS, False
            except Exception as error:
                self._complain(error)
                pause = min(2 * pause, MAX_RETRY_SECONDS)
                if finishing:
                    if time.monotonic() + 1 > self._deadline:
                        return
                    time.sleep(1)

    def _advance(self, trial: str) -> None:
        with self._progress:
            self._behind.discard(trial)
            self._progress.notify_all()
        if self._patience is not None and trial not in self._closed:
            self._deadline = time.monotonic() + self._patience
        self._closed.add(trial)

    def _complain(self, error: Exception) -> None:
        """Says in one line that deliveries fail, once until they succeed again."""
        if not self._complained:
            with self._progress:
                self._complained = True
                self._progress.notify_all()
            cause = messages.public(messages.cause_of(error, 300))
            uri = messages.public(self._arguments[0])
            say(f"MLflow at {uri} does not answer as it should and is tried again ({cause})")


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

"""In the driver: what trials report is written, and the endings that a trial cannot report itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune

from harness.progress import say_anyway
from harness.records.details import Details
from harness.records.folder import Recorder
from harness.records.rows import FINAL
from harness.sweep.notes import forget_endings, limit_passed, note_ending, note_limit
from harness.sweep.screen import Display
from harness.sweep.worker import record_of, tasks_in

MAX_FAILURES = 2
"""How often a trial whose worker died is tried again."""

LONGEST_STEP = 1.0
"""Seconds of a step of Tune's that count for a time limit. In one that takes much more this process stood still, and
what trials reported meanwhile has not been read."""


class RecordCallback(tune.Callback):
    """Writes what trials report, and the endings that a trial cannot report itself.

    Args:
        recorder: takes the records.
        display: shows them.
        time_limit: of a trial, in seconds.
        stopping: whether trials are to end.

    Attributes:
        unwritten: why a record could not be kept, which ended the sweep.
    """

    def __init__(self, recorder: Recorder, display: Display, time_limit: float | None, stopping: Callable[[], bool]):
        self._recorder = recorder
        self._display = display
        self._time_limit = time_limit
        self._stopping = stopping
        self._running: dict[str, tuple[str, float]] = {}  # Tune's trial -> the trial that it runs, since when
        self._awake, self._looked = 0.0, time.monotonic()  # for how long this process has been awake, as of when
        self.unwritten: OSError | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune's snapshots are not used to resume, and a terminal cannot be pickled

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """A report of a trial."""
        if "refused" in result:
            self._stop(OSError(*result["refused"]))
        if "portrait" in result:
            self._keep(result["portrait_of"], Details(portrait=result["portrait"], album=result["album"]))
        elif "warning" in result:
            say_anyway(f"{result['portrait_of']}: {result['warning']}")
        elif "portrait_of" in result:
            self._running[trial.trial_id] = result["portrait_of"], self._awake
        elif "goes_on" in result:
            name, details = result["goes_on"]
            self._running[trial.trial_id] = name, self._awake
            self._keep(name, details)
        if "sent" not in result:
            return
        record, details = result["sent"]
        if record["status"] in FINAL:
            self._running.pop(trial.trial_id, None)
        elif record["trial"] != self._running.get(trial.trial_id, ("", 0.0))[0] or details.config is not None:
            self._running[trial.trial_id] = record["trial"], self._awake
        self._write(record, details)
        if record["status"] in FINAL:
            note_ending(trial.trial_id, record)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """Ends the workers of all trials where they are to end, else of those that take longer than they may."""
        if self._stopping():
            for trial in trials:
                if trial.temporary_state.ray_actor is not None:
                    ray.kill(trial.temporary_state.ray_actor)
            raise KeyboardInterrupt  # no error, of which Tune would make endings
        if self._time_limit is None:
            return
        before, self._looked = self._looked, time.monotonic()
        self._awake += min(self._looked - before, LONGEST_STEP)
        began = self._awake - self._time_limit
        late = {of_tune: name for of_tune, (name, since) in self._running.items() if since < began}
        for trial in trials if late else ():
            actor = trial.temporary_state.ray_actor
            if trial.trial_id in late and actor is not None:
                cause = f"TimeoutError: the trial took longer than resources.time_limit, {self._time_limit:g} seconds"
                note_limit(late[trial.trial_id], cause)
                del self._running[trial.trial_id]
                ray.kill(actor)

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A worker died, and the trial waits for another."""
        self._running.pop(trial.trial_id, None)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial that ended without saying so was stopped early."""
        self._close(trial, "stopped")
        forget_endings(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A worker died, and its retries are used up."""
        self._close(trial, "failed", error=_cause(trial))
        forget_endings(trial.trial_id)

    def _close(self, trial: Any, status: str, **more: Any) -> None:
        """Ends the task that Tune's trial was at; there is none where only a portrait was made."""
        self._running.pop(trial.trial_id, None)
        tasks = tasks_in(trial.config)
        last = self._recorder.unfinished([task.trial_id for task in tasks])
        if last is None and status == "failed":  # it died before its first report
            left = self._recorder.left(tasks)
            last = record_of(left[0], "labels", 0, {}) if left else None
        if last is None:
            return
        limit = limit_passed(last["trial"]) if status == "failed" else None
        ending = {**last, "status": status, "step_kind": "labels", "step": 0, "time": int(time.time() * 1000)}
        self._write(ending | more | ({"error": limit} if limit else {}), Details())

    def _keep(self, trial: str, details: Details) -> None:
        try:
            self._recorder.keep(trial, 0, details)
        except OSError as error:
            self._stop(error)

    def _write(self, record: dict[str, Any], details: Details) -> None:
        try:
            self._recorder.write(record, details)
        except OSError as error:
            self._stop(error)
        self._display.add(record, details)

    def _stop(self, error: OSError) -> None:
        """Ends the sweep: trials that cannot leave their results behind are not worth running."""
        self.unwritten = error
        raise error


def _cause(trial: Any) -> str:
    """Why a trial has no worker any more, from the file in which Tune notes it."""
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except (OSError, TypeError):
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "The actor died" not in text:
        return lines[-1] if lines else "no cause is known"
    details = [line for line in lines if line.startswith("The actor is dead")]
    return f"the worker died {MAX_FAILURES + 1} times" + (f": {details[-1]}" if details else "")

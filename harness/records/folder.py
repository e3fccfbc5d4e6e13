"""A sweep's folder: what it was asked, every record, and what each trial left behind.

space.yaml        the resolved search space, below its file's opening comment
environment.json  hardware, commit, versions, data
rows.jsonl        every record, in the order in which it was reported
trials/<trial>/   what `details` names (`trial_files` reads it)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.config.extension import compare_questions
from harness.config.plan import Plan, load_plan
from harness.config.schema import ConfigError
from harness.config.search import Objective
from harness.config.space import Assignment
from harness.config.tasks import Task
from harness.files import replace, replace_text, state_of, which_file
from harness.messages import count
from harness.plain_yaml import parse_yaml, to_yaml
from harness.progress import say, say_anyway
from harness.records import rows as record_rows
from harness.records.details import Details
from harness.records.rows import FINAL, History, Record, add, by_trial, going_on, last, mapping, read_rows, sealed
from harness.records.standing import above_complete

LOCK = "lock"
"""The file by which a sweep's folder is one process's alone."""


class TakenError(OSError):
    """Another sweep has been in the folder of one that runs, which must not write there any more."""


def open_folder(path: Path, plan: Plan, *, resume: bool, check: Callable[[], None] = lambda: None) -> FileLock:
    """Makes the folder, or opens that of an interrupted sweep; nothing is ever overwritten.

    Args:
        path: the folder.
        plan: the sweep.
        resume: whether it may be there already.
        check: of a folder that is there: raises ConfigError where its records cannot stand beside new ones.

    Returns:
        The lock that keeps a second sweep out of the folder; held until released or the process ends.

    Raises:
        ConfigError: the folder is in use, or as `check_folder`.
    """
    resolved = plan.header + to_yaml(plan.as_dict())
    path.mkdir(parents=True, exist_ok=True)
    lock = claim(path)
    try:
        check_folder(path, plan, resume=resume, check=check)  # under the lock: two may start at the same moment
        replace_text(path / "space.yaml", resolved)
    except BaseException:
        lock.release()
        raise
    return lock


def check_folder(path: Path, plan: Plan, *, resume: bool, check: Callable[[], None] = lambda: None) -> None:
    """Whether a sweep may run in a folder, as `open_folder` asks; changes nothing.

    Raises:
        ConfigError: the folder exists and `resume` is not set, holds another question, or what `check` raises.
    """
    space = path / "space.yaml"
    if space.exists():
        if not resume:
            raise ConfigError(
                [f"{path}: this sweep exists; continue it with --resume, or rename this one with --set name=NEW"]
            )
        _check_extends(space, plan)
    environment = path / "environment.json"
    if environment.exists():
        try:
            mapping(environment)
        except ValueError as error:
            raise ConfigError([f"{error}; delete it, and MLflow gets the sweep as a new run"]) from None
    if space.exists():
        check()


def claim(path: Path) -> FileLock:
    """The lock that a sweep's folder is changed or delivered under, taken.

    Raises:
        ConfigError: another process has it.
    """
    lock = FileLock(path / LOCK, thread_local=False)  # whichever thread of ours takes it
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _claimed(path) from None
    return lock


def check_unclaimed(path: Path) -> None:
    """Whether `claim` would succeed; changes nothing.

    Raises:
        ConfigError: another process has it.
    """
    with contextlib.suppress(FileNotFoundError), (path / LOCK).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _claimed(path) from None


def _claimed(path: Path) -> ConfigError:
    return ConfigError([f"{path}: another sweep is running in this folder, or its records are being sent"])


def _classes(content: Any) -> set[str]:
    """Every `module:Class` in the content of a question."""
    if isinstance(content, Mapping):
        return set[str]().union(*map(_classes, content.values()))
    if isinstance(content, list | tuple):
        return set[str]().union(*map(_classes, content))
    return {content} if isinstance(content, str) and re.fullmatch(r"[\w.]+:\w+", content) else set()


def _check_extends(space: Path, plan: Plan) -> None:
    """The question may contain the one that was begun here, and is said to be larger; no record may change by it."""
    try:
        before = mapping(space)
    except ValueError as error:
        raise ConfigError(
            [f"{error}; move {space.parent.name} away, or delete this file if it was the same question"]
        ) from None
    if before == parse_yaml(to_yaml(plan.as_dict())):
        return
    way_out = "the trials that are here would be others; rename this sweep with --set name=NEW"
    strange = _classes(before) - _classes(plan.as_dict())
    if strange:  # whoever names no such class in a file of theirs does not run its module
        raise ConfigError([f"{space}: names {', '.join(sorted(strange))}, which this question does not; {way_out}"])
    compared = compare_questions(load_plan(before | {"reference": None}, {}), plan)  # which may be another one now
    if compared.refused:
        raise ConfigError([f"{space}: {change}; {way_out}" for change in compared.refused])
    if compared.grown:
        say(f"{plan.name} grows: {'; '.join(compared.grown)}; what has ended stays as it is")


BESIDE = ("space.yaml", "environment.json")
"""What a folder of records needs beside them to be a sweep's."""


def _ends_a_line(file: Path) -> bool:
    with file.open("rb") as content:
        content.seek(-1, os.SEEK_END)
        return content.read() == b"\n"


def _content(file: Path) -> bytes | None:
    """What is in a file; None where it cannot be read."""
    with contextlib.suppress(OSError):
        return file.read_bytes()
    return None


class Recorder:
    """Appends records to a sweep's folder and answers what it holds.

    Args:
        folder: the sweep's.
        deliver: also receives each record, at once.

    Attributes:
        wrote: whether it has kept a record.
    """

    def __init__(self, folder: Path, deliver: Callable[[Record], None]):
        self.folder = folder
        self.wrote = False
        self._deliver = deliver
        record_rows.unpack_rows(folder)
        records = read_rows(folder)[0]
        self._trials: dict[str, History] = by_trial(records)
        self._going_on = going_on(records)
        self._beside = {name: file.read_bytes() for name in BESIDE if (file := folder / name).exists()}
        self._lock = which_file(folder / LOCK)
        self._claimed: FileLock | None = None  # in place of the one that the folder was opened with
        self._file = self._path.open("ab", buffering=0)
        self._left = state_of(self._file.fileno())
        if self._path.stat().st_size and not _ends_a_line(self._path):
            self._append(b"\n")  # a killed process left half a line

    @property
    def _path(self) -> Path:
        return self.folder / record_rows.ROWS

    def hold(self) -> None:
        """Writes the records anew where anything was done to their file since the last one, and says so.

        An editor does that, or a checkout of another commit. What belongs to a sweep's folder beside them is written
        where it is gone or another, which may be later: who deletes a folder deletes one file after the other.

        Raises:
            TakenError: another sweep has been here since.
            OSError: they cannot be written.
        """
        if which_file(self.folder / LOCK) != self._lock:
            self._claim_anew()
        changed = [name for name, content in self._beside.items() if _content(self.folder / name) != content]
        for name in changed:
            replace(self.folder / name, self._beside[name])
        if state_of(self._path) == self._left:
            for name in changed:
                say(f"{self.folder / name} was deleted or changed while the sweep runs; written anew")
            return
        records = [record for history in self._trials.values() for record in history.values()]
        what = f"deleted or changed while the sweep runs; written anew, with {count(len(records), 'record')}"
        say_anyway(f"{self._path} was {what}")
        content = b"".join(map(record_rows.line, records))
        replace(self._path, content)
        self._file.close()
        self._file = self._path.open("ab", buffering=0)
        self._left = state_of(self._file.fileno())

    def _claim_anew(self) -> None:
        """Takes the lock that is there now, or makes one: who comes next is kept out by that, and not by what is gone.

        Raises:
            TakenError: another sweep came first; it is there now, or has left records.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            claimed = claim(self.folder)
        except ConfigError:
            raise TakenError(f"{self.folder} was deleted, or its lock, and another sweep runs there now") from None
        left = by_trial(read_rows(self.folder)[0])
        if any(history.keys() - self._trials.get(trial, {}).keys() for trial, history in left.items()):
            claimed.release()
            raise TakenError(f"{self.folder} was deleted, or its lock, and another sweep left its records there")
        if self._claimed:
            self._claimed.release()
        self._claimed, self._lock = claimed, which_file(self.folder / LOCK)

    def write(self, record: Record, details: Details) -> None:
        """Keeps a record, and before it the files that belong to it."""
        history = self._trials.get(record["trial"], {})
        final = record["status"] in FINAL
        if final:
            record = sealed(history, record)
        self.hold()
        self.keep(record["trial"], record["step"], details)
        self._append(record_rows.line(record))
        self.wrote = True
        if final:
            os.fsync(self._file.fileno())  # an ending survives a power cut
        add(history, record)
        self._trials[record["trial"]] = history
        self._deliver(record)

    def keep(self, trial: str, labels: int, details: Details) -> None:
        """Keeps the files of a trial that has used so many labels; no record tells of them."""
        folder = self.folder / "trials" / trial
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in details.files(labels):
            replace(folder / name, content)

    def _append(self, line: bytes) -> None:
        """Writes a line, or nothing at all where the disk is full."""
        left, size = line, os.fstat(self._file.fileno()).st_size
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(size)
            raise
        finally:
            self._left = state_of(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        if self._claimed:
            self._claimed.release()

    def has_begun(self, trial: str) -> bool:
        """Whether there is a record of a trial."""
        return trial in self._trials

    def ended(self, trial: str, *, retry_failed: bool = True, labels: int | None = None) -> bool:
        """Whether a trial needs no more running.

        Args:
            trial: its name.
            retry_failed: whether one that failed does.
            labels: one that finished with fewer does.
        """
        history = self._trials.get(trial)
        if not history or last(history)["status"] not in FINAL:
            return False
        ending = last(history)
        if ending["status"] == "failed":
            return not retry_failed
        return labels is None or ending["status"] != "finished" or ending["step"] >= labels

    def left(self, tasks: Sequence[Task], *, retry_failed: bool = True) -> list[Task]:
        """The tasks that need running; one that ended before it had as many labels as it now may have goes on."""
        return [
            replace_fields(task, known=self._told(task.trial_id))
            for task in tasks
            if not self.ended(task.trial_id, retry_failed=retry_failed, labels=task.trial.labels.total)
        ]

    def left_in_turn(self, tasks: Sequence[Task], *, retry_failed: bool = True) -> list[Task]:
        """As `left`, where the tasks of a configuration run in turn: of those after one that broke off none begins."""
        broke_off: set[str] = set()
        left = []
        for task in tasks:
            configuration = task.candidate.configuration
            if configuration not in broke_off or self.has_begun(task.trial_id):
                left += self.left([task], retry_failed=retry_failed)
            ending = self.ending(task.trial_id)
            if ending and (ending["status"] == "stopped" or (ending["status"] == "failed" and not retry_failed)):
                broke_off.add(configuration)
        return left

    def _told(self, trial: str) -> dict[tuple[str, int], dict[str, float]]:
        """What a trial that had finished told on its way, by (step_kind, step); of another one nothing."""
        history = self._trials.get(trial)
        if not history or (last(history)["status"] != "finished" and trial not in self._going_on):
            return {}
        rounds = [record_rows.as_round(one) if status == "finished" else one for (_, _, status), one in history.items()]
        return {(one["step_kind"], one["step"]): one["metrics"] for one in rounds if one["status"] not in FINAL}

    def ending(self, trial: str, labels: int | None = None) -> Record | None:
        """The record that ended a trial; none where it is to have more labels than it finished with."""
        ended = self.ended(trial, retry_failed=False, labels=labels)
        return last(self._trials[trial]) if ended else None

    def unfinished(self, trials: Sequence[str]) -> Record | None:
        """The last record of the one of these trials that has begun and not ended."""
        for trial in trials:
            history = self._trials.get(trial)
            if history and not self.ended(trial, retry_failed=False):
                return last(history)
        return None

    def epochs(self, trial: str) -> dict[int, dict[str, float]]:
        """What a trial told of its epochs, by their numbers."""
        history = self._trials.get(trial, {})
        return {step: one["metrics"] for (kind, step, _), one in history.items() if kind == "epoch"}

    def failed(self) -> dict[str, str]:
        """The trials that failed, with their causes."""
        newest = [last(history) for history in self._trials.values()]
        return {r["trial"]: r.get("error", "no cause given") for r in newest if r["status"] == "failed"}

    def confirmed(self) -> list[Assignment]:
        """The configurations of which trials of the second phase have begun: those that were the best at some time."""
        newest = [last(history) for history in self._trials.values()]
        return list({r["configuration"]: r["parameters"] for r in newest if r["phase"] == "confirm"}.values())

    def best(self, objectives: Sequence[Objective], top: int | None = None) -> list[Assignment]:
        """The best configurations of the search, by the mean over their seeds; all of them in order, if None.

        Those that lack a seed, for it failed or was stopped, come after all that do not. With several objectives those
        that no other beats in all of them come first, ordered by the first objective. Among equals the order is that
        of their names, so that it does not depend on which trial was faster.
        """
        newest = [last(history) for history in self._trials.values()]
        searched = [record for record in newest if record["phase"] == "search"]
        finished = [record for record in searched if record["status"] == "finished"]
        parameters = {record["configuration"]: record["parameters"] for record in finished}
        values: list[dict[str, dict[int, float]]] = [{name: {} for name in parameters} for _ in objectives]
        for record in finished:
            for column, objective in zip(values, objectives, strict=True):
                sign = 1 if objective.direction == "maximize" else -1
                column[record["configuration"]][record["seed"]] = sign * record["metrics"][objective.name]
        seeds = {record["seed"] for record in searched}
        missing = {name: len(seeds) - len(values[0][name]) for name in parameters}
        above = [above_complete(column, missing) for column in values]
        reached = {name: tuple(column[name] for column in above) for name in parameters}

        def rank(name: str) -> tuple[int, int, float, str]:
            mine = reached[name]
            others = [other for one, other in reached.items() if missing[one] <= missing[name] and other != mine]
            better = [other for other in others if all(a >= b for a, b in zip(other, mine, strict=True))]
            return missing[name], len(better), -mine[0], name

        return [parameters[name] for name in sorted(parameters, key=rank)[:top]]

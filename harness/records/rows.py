"""Reads what a sweep wrote: the records of `rows.jsonl`, trial by trial.

A record is one line: a trial's metrics at one step, with the status that the trial had then. What a trial has at its
end stands in the record of its last round, so that no step of a trial that finished has two. The sweep only ever
appends, so a sweep that was interrupted and resumed may hold several records of the same step; `add` says which
of them count. Both the tracking and the report read a folder through this module and so agree.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.messages import message_of
from harness.metrics import is_of_trial
from harness.plain_yaml import parse_yaml

Record = dict[str, Any]
History = dict[tuple[str, int, str], Record]
"""The records of one trial that count, in order, by (step_kind, step, status)."""

FINAL = ("finished", "stopped", "failed")
"""The statuses that end a trial; `stopped` is early stopping."""

TRAIL = "trail"
"""The key of an ending under which it has the `trail_of` its trial's records."""

CHECKSUM = "crc32"
"""The last key of a line: the CRC-32 of the line without it, as 8 hexadecimal digits."""


def line(record: Record) -> bytes:
    """A record as a line of `rows.jsonl`."""
    text = json.dumps(record)
    return f'{text[:-1]}, "{CHECKSUM}": "{_crc32(text)}"}}\n'.encode()


def _crc32(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def read_rows(folder: Path) -> tuple[list[Record], int]:
    """Reads `rows.jsonl`.

    Returns:
        The records in the order written, and how many lines could not be read (a process killed while it
        wrote leaves half a line) or do not have their checksum.
    """
    path = folder / "rows.jsonl"
    records: list[Record] = []
    unreadable = 0
    for text in path.read_bytes().splitlines() if path.exists() else []:
        try:
            record = json.loads(text)
            record["trial"], record["step_kind"], record["step"], record["status"], record["time"], record["metrics"]
            if record.pop(CHECKSUM) != _crc32(json.dumps(record)):
                raise ValueError(text)
        except (ValueError, TypeError, KeyError):
            unreadable += 1
        else:
            records.append(record)
    return records, unreadable


def mapping(file: Path) -> dict[str, Any]:
    """The content of a file that a sweep keeps, JSON or YAML by its name.

    Raises:
        ValueError: it is damaged.
    """
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text) if file.suffix == ".json" else parse_yaml(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: {message_of(error)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is damaged: it holds no mapping")
    return content


def add(history: History, record: Record) -> None:
    """Adds a record to its trial's history.

    The steps of an axis rise. A trial that is run again writes them again: a later record counts, and every earlier one
    of that axis from its step on is void, for it belongs to the run that was lost. An ending that is followed by more
    records (of a failed trial that was tried again) is void too; where a trial had finished and got more rounds, it is
    the record of its last round from then on. Adding the same record twice changes nothing.
    """
    key = record["step_kind"], record["step"], record["status"]
    if key in history and history[key]["time"] == record["time"]:
        return
    keys = list(history)
    if keys and keys[-1][2] in FINAL:
        ending = history.pop(keys.pop())
        place = ending["step_kind"], ending["step"], "running"
        if ending["status"] == "finished" and place not in history:
            history[place] = as_round(ending)
            keys.append(place)
    if record["status"] not in FINAL:
        for void in keys:
            if void[0] == key[0] and void[1] >= key[1]:
                del history[void]
    history[key] = record


def as_round(ending: Record) -> Record:
    """What a trial's ending says of its last round, without what it says of the trial as a whole."""
    metrics = {name: value for name, value in ending["metrics"].items() if not is_of_trial(name)}
    kept = {name: value for name, value in ending.items() if name not in (TRAIL, "warning")}
    return kept | {"status": "running", "metrics": metrics}


def trail_of(history: History) -> str:
    """The CRC-32 of the times of a trial's records, by which its ending tells that none of them is missing."""
    return _crc32(json.dumps([record["time"] for record in history.values()]))


def sealed(history: History, ending: Record) -> Record:
    """The ending of a trial with the trail of its records; `history` stays as it is."""
    after = dict(history)
    add(after, ending)
    return ending | {TRAIL: trail_of(after)}


def by_trial(records: Iterable[Record]) -> dict[str, History]:
    """The records that count, for every trial, in the order in which the trials first appear.

    A trial that lacks a record which its ending knows of (its line was damaged) has no ending: it is to be run again.
    """
    trials: dict[str, History] = {}
    for record in records:
        add(trials.setdefault(record["trial"], {}), record)
    for trial, history in list(trials.items()):
        ending = last(history)
        if ending["status"] in FINAL and ending.get(TRAIL) != trail_of(history):
            history.popitem()
            if not history:
                del trials[trial]
    return trials


def going_on(records: Iterable[Record]) -> set[str]:
    """The trials that had finished and have told more since: those that were in the middle of further rounds."""
    finished: dict[str, int] = {}
    more: set[str] = set()
    for record in records:
        trial, status = record["trial"], record["status"]
        anew = record["step_kind"] == "labels" and record["step"] <= finished.get(trial, -1)
        if status == "running" and trial in finished and not anew:
            more.add(trial)
            continue
        more.discard(trial)
        finished.pop(trial, None)
        if status == "finished":
            finished[trial] = record["step"]
    return more


def last(history: History) -> Record:
    """The trial's newest record; its status is the trial's."""
    return history[next(reversed(history))]

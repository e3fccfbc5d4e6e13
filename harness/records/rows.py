"""Reads what a sweep wrote: the records of `rows.jsonl`, trial by trial.

A record is one line: a trial's metrics at one step, with the status that the trial had then. What a trial has at its
end stands in the record of its last round, so that no step of a trial that finished has two. The sweep only ever
appends, so a sweep that was interrupted and resumed may hold several records of the same step; `add` says which
of them count. Both the tracking and the report read a folder through this module and so agree.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from harness.files import replace
from harness.messages import message_of
from harness.metrics import is_of_trial
from harness.plain_yaml import parse_yaml

ROWS, PACKED = "rows.jsonl", "rows.jsonl.gz"

Record = dict[str, Any]
History = dict[tuple[str, int, str], Record]
"""The records of one trial that count, in order, by (step_kind, step, status)."""

FINAL = ("finished", "stopped", "failed")
"""The statuses that end a trial; `stopped` is early stopping."""

TRAIL = "trail"
"""The key of an ending under which it has the `trail_of` its trial's records."""

CHECKSUM = "crc32"
"""The last key of a line: the CRC-32 of the line without it, as 8 hexadecimal digits."""

KEYS = frozenset({"trial", "step_kind", "step", "status", "time", "metrics", CHECKSUM})
"""The keys that every line has."""

DIGITS = 12
"""Hexadecimal digits of a digest in a record: 48 bits tell a few thousand data sets and codes apart."""

AT_ONCE = 1000
"""So many lines are parsed together."""


def line(record: Record) -> bytes:
    """A record as a line of `rows.jsonl`."""
    text = json.dumps(record).encode()
    return text[:-1] + _end_of(zlib.crc32(text)) + b"\n"


def _end_of(crc: int) -> bytes:
    """What a line ends with in the place of its closing brace."""
    return f', "{CHECKSUM}": "{crc:08x}"}}'.encode()


_END = len(_end_of(0))


def rows_file(folder: Path) -> Path:
    """Where a sweep's records are, whether or not there are any: `rows.jsonl`, or what `gzip` made of it."""
    plain, packed = folder / ROWS, folder / PACKED
    return packed if packed.exists() and not plain.exists() else plain


def read_rows(folder: Path) -> tuple[list[Record], int]:
    """Reads `rows.jsonl`, or `rows.jsonl.gz`.

    Returns:
        The records in the order written, and how many lines could not be read (a process killed while it
        wrote leaves half a line) or do not have their checksum.

    Raises:
        ValueError: the packed file is damaged.
    """
    path = rows_file(folder)
    records: list[Record] = []
    num_lines = 0
    if path.exists():
        with _opened(path) as file:
            while lines := list(itertools.islice(file, AT_ONCE)):
                num_lines += len(lines)
                records += _parsed([text for text in map(bytes.rstrip, lines) if _has_checksum(text)])
    return records, num_lines - len(records)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BufferedIOBase]:
    """A file of records for reading, unpacked where it is packed."""
    try:
        with gzip.open(path) if path.name == PACKED else path.open("rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged: {message_of(error)}") from None


def unpack_rows(folder: Path) -> None:
    """Makes `rows.jsonl` of records that are packed; `gzip -d` does the same.

    Raises:
        ValueError: the packed file is damaged.
        OSError: there is no room for it.
    """
    path = rows_file(folder)
    if path.name == PACKED:
        with _opened(path) as file:
            replace(folder / ROWS, file.read())
        path.unlink()


def _has_checksum(text: bytes) -> bool:
    """Whether a line has its checksum, at its end."""
    before, end = text[:-_END], text[-_END:]
    return end == _end_of(zlib.crc32(b"}", zlib.crc32(before)))


def _parsed(lines: Sequence[bytes]) -> list[Record]:
    """The records of lines, but for those that are none; parsed at once they share their keys, and memory."""
    try:
        records = json.loads(b"[" + b",".join(lines) + b"]")
        whole = all(record.keys() >= KEYS for record in records) and len(records) == len(lines)
    except (ValueError, AttributeError, RecursionError):
        whole = False
    if not whole:
        return [record for text in lines for record in _parsed([text])] if len(lines) > 1 else []
    for record in records:
        del record[CHECKSUM]
    return records


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
    if history and last(history)["status"] in FINAL:
        reopen(history)
    if record["status"] not in FINAL:
        of_axis = (place for place in reversed(history) if place[0] == key[0])
        for void in list(itertools.takewhile(lambda place: place[1] >= key[1], of_axis)):
            del history[void]
    history[key] = record


def reopen(history: History) -> None:
    """Takes a trial's ending from its history, as it is where the trial goes on: of one that had finished a round."""
    _, ending = history.popitem()
    place = ending["step_kind"], ending["step"], "running"
    if ending["status"] == "finished" and place not in history:
        history[place] = as_round(ending)


def as_round(ending: Record) -> Record:
    """What a trial's ending says of its last round, without what it says of the trial as a whole."""
    metrics = {name: value for name, value in ending["metrics"].items() if not is_of_trial(name)}
    kept = {name: value for name, value in ending.items() if name not in (TRAIL, "warning")}
    return kept | {"status": "running", "metrics": metrics}


def trail_of(history: History) -> str:
    """The CRC-32 of the times of a trial's records, by which its ending tells that none of them is missing."""
    return f"{zlib.crc32(json.dumps([record['time'] for record in history.values()]).encode()):08x}"


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

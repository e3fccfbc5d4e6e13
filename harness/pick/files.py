"""What is taken to the desk: the batch as CSV, as tasks of Label Studio, and which round it is."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import quote

from harness.files import replace_text
from harness.messages import count
from harness.pick.candidates import Candidates
from harness.pick.choice import Pick
from harness.pick.labels import OF_A_BATCH, Known
from harness.tables import ImageTable, read_table

LOCAL_FILES = "/data/local-files/?d="
"""The URL of Label Studio under which it serves files of its own machine."""

ANOTHER_ROUND = "take another --round"
"""What can be done where a batch is not to be written over."""

INDEX_NAMES = ("", "index", "Unnamed: 0")
"""What programs call the column of row numbers that they write beside a table's own."""


def batch_file(output: Path, number: int) -> Path:
    """The CSV of a round."""
    return output / f"round-{number}.csv"


def round_of(output: Path, known: Known, labeled: Collection[int], named: Collection[Path]) -> int:
    """The number of the next round: 1 more than the rounds in the folder that have been labelled, if only in part.

    A batch of which nothing has come back is chosen again: with the same labels it is the same.

    Args:
        output: the folder of batches.
        known: the pool's images.
        labeled: positions whose labels are known.
        named: files of labels; a batch among these has come back whatever is filled in, such as -1 for no class.
    """
    come_back = {file.resolve() for file in named}
    number = 1
    while (file := batch_file(output, number)).is_file():
        table = _batch(file)
        filled = table is not None and file.resolve() in come_back and any(_filled_in(table))
        if not filled and not any(known.position(path) in labeled for path in _paths(table)):
            break
        number += 1
    return number


def check_not_filled(file: Path, remedy: str) -> None:
    """That a batch, if there is one, may be written over: nobody has filled in its label, or a column of their own.

    Raises:
        ValueError: somebody has; says how many rows of it, and the remedy.
    """
    table = _batch(file) if file.is_file() else None
    if table is None:
        return
    filled = _filled_in(table)
    if number := sum(map(bool, filled)):
        columns = dict.fromkeys(column for names in filled for column in names)
        if not any(columns):  # labels are not read from there
            remedy = ANOTHER_ROUND
        shown = ", ".join(column or "a column without a name" for column in columns)
        raise ValueError(f"{file}: {count(number, 'row')} filled in ({shown}) would be lost; {remedy}, or remove it")


def _filled_in(table: ImageTable) -> list[list[str]]:
    """Of each row of a batch the columns that somebody has filled in."""
    own = [
        (place, column)
        for place, column in enumerate(table.columns)
        if column not in ("path", *OF_A_BATCH) and not _numbers_rows(table, place)
    ]
    return [[column for place, column in own if cells[place]] for _, cells in table.rows]


def _numbers_rows(table: ImageTable, place: int) -> bool:
    """Whether a column is a program's: the numbers of the rows, from 0 or 1, in any order."""
    if table.columns[place] not in INDEX_NAMES:
        return False
    cells, size = sorted(cells[place] for _, cells in table.rows), len(table.rows)
    return any(cells == sorted(map(str, range(first, first + size))) for first in (0, 1))


def _paths(table: ImageTable | None) -> list[str]:
    """The images of a batch, in the column that `write_csv` writes; none where somebody called it otherwise."""
    if table is None or "path" not in table.columns:
        return []
    place = table.columns.index("path")
    return [cells[place] for _, cells in table.rows]


def _batch(file: Path) -> ImageTable | None:
    """The table; None where there is nothing but its titles."""
    return read_table(file) if b"\n" in file.read_bytes().strip() else None


def write_csv(file: Path, picks: Sequence[Pick], candidates: Candidates) -> None:
    """The batch, a row per image, with an empty column for the label."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", *OF_A_BATCH, "label"])
    for rank, pick in enumerate(picks, start=1):
        score = "" if pick.score is None else f"{pick.score:.6g}"
        rows.writerow([candidates.names[pick.position], rank, score, pick.why, ""])
    replace_text(file, text.getvalue())


def write_tasks(file: Path, picks: Sequence[Pick], candidates: Candidates, prefix: str) -> None:
    """The batch as Label Studio imports it; `path` comes back with its export."""
    tasks = [
        {
            "data": {
                "image": prefix + quote(name),
                "path": name,
                "rank": rank,
                "why": pick.why,
            }
        }
        for rank, pick in enumerate(picks, start=1)
        for name in [candidates.names[pick.position]]
    ]
    replace_text(file, json.dumps(tasks, indent=1, ensure_ascii=False))

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
from harness.tables import Columns, ImageTable, list_images, read_table

LOCAL_FILES = "/data/local-files/?d="
"""The URL of Label Studio under which it serves files of its own machine."""


def batch_file(output: Path, number: int) -> Path:
    """The CSV of a round."""
    return output / f"round-{number}.csv"


def round_of(output: Path, known: Known, labeled: Collection[int]) -> int:
    """The number of the next round: 1 more than the rounds in the folder that have been labelled, if only in part.

    A batch of which nothing has come back is chosen again: with the same labels it is the same.

    Args:
        output: the folder of batches.
        known: the pool's images.
        labeled: positions whose labels are known.
    """
    number = 1
    while (file := batch_file(output, number)).is_file():
        table = _batch(file)
        rows = list_images(table, Columns(), ("path",), with_labels=False).rows if table else ()
        if not any(known.position(row.path) in labeled for row in rows):
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
    own = [place for place, column in enumerate(table.columns) if column not in ("path", *OF_A_BATCH)]
    filled = [[table.columns[place] for place in own if cells[place]] for _, cells in table.rows]
    if number := sum(map(bool, filled)):
        columns = ", ".join(dict.fromkeys(column for names in filled for column in names))
        raise ValueError(f"{file}: {count(number, 'row')} filled in ({columns}) would be lost; {remedy}, or remove it")


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

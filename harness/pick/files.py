"""What is taken to the desk: the batch as CSV, as tasks of Label Studio, and which round it is."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import quote

from harness.files import replace_text
from harness.pick.candidates import Candidates
from harness.pick.choice import Pick
from harness.pick.labels import Known, lines_of

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

    Raises:
        ValueError: the batch that would be written over holds labels that are not among these.
    """
    number = 1
    while (file := batch_file(output, number)).is_file():
        lines = [(known.position(line.path), line.label) for line in lines_of(file)[0]]
        if not any(position in labeled for position, _ in lines):
            if filled := sum(label is not None for _, label in lines):
                raise ValueError(
                    f"{file} holds {filled} labels that would be lost; name it among --labels, or remove it"
                )
            break
        number += 1
    return number


def write_csv(file: Path, picks: Sequence[Pick], candidates: Candidates) -> None:
    """The batch, a row per image, with an empty column for the label."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", "rank", "score", "why", "label"])
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

"""What trials left behind in their folders, read again: `trials/<trial>/` of a sweep."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.records import rows
from harness.records.portrait import Portrait, unpack

Confusion = dict[str, Any]
"""`class_names`, `matrix` (rows = true class, columns = predicted) and the `split` it was counted on."""


def confusion_matrices(folder: Path) -> dict[int, Confusion]:
    """Number of labels -> the confusion matrix of that round, in rising order; damaged ones are left out.

    Older folders hold the last round's alone, under a name without the number of labels.
    """
    found = {labels: matrix for labels, file in _by_labels(folder, "confusion_matrix") if (matrix := _confusion(file))}
    alone = folder / "confusion_matrix.json"
    if not found and alone.is_file():
        rounds = [labels for name in ("class_counts", "selected") for labels, _ in _by_labels(folder, name)]
        if matrix := _confusion(alone):
            found[max(rounds, default=0)] = matrix
    return found


def _confusion(file: Path) -> Confusion | None:
    """A confusion matrix; None if it is damaged."""
    try:
        found = rows.mapping(file)
        names, matrix = found["class_names"], found["matrix"]
        square = len(matrix) == len(names) and all(len(row) == len(names) for row in matrix)
        whole = all(isinstance(cell, int) for row in matrix for cell in row)
    except (ValueError, KeyError, TypeError):
        return None
    return found if square and whole and "split" in found else None


def class_counts(folder: Path) -> dict[int, list[int]]:
    """Number of labels -> how many of them are of each class, in rising order; none at all where one is damaged.

    The rounds are differences of these, so that a gap would show the picks of two rounds as those of one.
    """
    found = {labels: _counts(file) for labels, file in _by_labels(folder, "class_counts")}
    whole = {labels: counts for labels, counts in found.items() if counts}
    return whole if len(whole) == len(found) and len({len(counts) for counts in whole.values()}) <= 1 else {}


def pool_counts(folder: Path) -> list[int] | None:
    """How many images of each class the pool holds; None in older folders, or if the file is damaged."""
    return _counts(folder / "class_counts_pool.json")


def _counts(file: Path) -> list[int] | None:
    """A list of counts; None if it is not there or damaged."""
    try:
        counts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(counts, list) and counts and all(type(count) is int and count >= 0 for count in counts)
    return counts if whole else None


def portrait(folder: Path) -> Portrait | None:
    """The encoder's portrait, where the trial left one; None if it is damaged."""
    file = folder / "portrait.npz"
    try:
        return unpack(file.read_bytes()) if file.is_file() else None
    except Exception:  # numpy and PIL raise many types for a damaged file
        return None


def damaged(folder: Path) -> list[str]:
    """The names of the files that are there and count as absent because they cannot be read."""
    counts = [file for _, file in _by_labels(folder, "class_counts")]
    pool, picture = folder / "class_counts_pool.json", folder / "portrait.npz"
    bad = [file for file in [*counts, pool] if file.is_file() and _counts(file) is None]
    bad += [file for _, file in _by_labels(folder, "confusion_matrix") if _confusion(file) is None]
    if picture.is_file() and portrait(folder) is None:
        bad.append(picture)
    return [file.name for file in bad]


def _by_labels(folder: Path, name: str) -> Iterator[tuple[int, Path]]:
    """The files `<name>_<labels>.json` in rising order."""
    numbers = ((re.search(r"_(\d+)\.json$", file.name), file) for file in folder.glob(f"{name}_*.json"))
    yield from sorted((int(number[1]), file) for number, file in numbers if number)

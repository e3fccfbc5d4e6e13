"""What trials left behind in their folders, read again: `trials/<trial>/` of a sweep."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import records
from harness.portrait import Portrait, unpack

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
        found = records.mapping(file)
        names, matrix = found["class_names"], found["matrix"]
        square = len(matrix) == len(names) and all(len(row) == len(names) for row in matrix)
        whole = all(isinstance(cell, int) for row in matrix for cell in row)
    except (ValueError, KeyError, TypeError):
        return None
    return found if square and whole and "split" in found else None


def class_counts(folder: Path) -> dict[int, list[int]]:
    """Number of labels -> how many of them are of each class, in rising order."""
    return {labels: _json(file) for labels, file in _by_labels(folder, "class_counts")}


def pool_counts(folder: Path) -> list[int] | None:
    """How many images of each class the pool holds; None in older folders."""
    file = folder / "class_counts_pool.json"
    return _json(file) if file.is_file() else None


def portrait(folder: Path) -> Portrait | None:
    """The encoder's portrait, where the trial left one.

    Raises:
        ValueError: the file is damaged.
    """
    file = folder / "portrait.npz"
    if not file.is_file():
        return None
    try:
        return unpack(file.read_bytes())
    except Exception as error:  # numpy and PIL raise many types for a damaged file
        raise ValueError(f"{file} is damaged ({type(error).__name__}: {error}); remove it") from error


def _by_labels(folder: Path, name: str) -> Iterator[tuple[int, Path]]:
    """The files `<name>_<labels>.json` in rising order."""
    numbers = ((re.search(r"_(\d+)\.json$", file.name), file) for file in folder.glob(f"{name}_*.json"))
    yield from sorted((int(number[1]), file) for number, file in numbers if number)


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))

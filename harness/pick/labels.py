"""The labels so far, as people and Label Studio write them: CSV with `path` and `label`, or an export in JSON."""

from __future__ import annotations

import csv
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import torch

from harness.config.schema import ConfigError
from harness.messages import closest, message_of
from harness.trial.selection import Bought

BATCH_COLUMNS = ("path", "label", "rank", "score", "why")
"""Of a CSV: those that `pick` itself writes, of which the first two are read."""

PROBLEMS_SHOWN = 10
"""Problems of one kind that are told one by one."""


@dataclass(frozen=True)
class Line:
    """One image of a file of labels.

    Attributes:
        place: of it in the file, for messages.
        path: of the image, as written.
        label: its class; None where it has none yet.
    """

    place: str
    path: str
    label: str | None


class Known:
    """The images of a pool by the ways in which people write their paths.

    Args:
        names: of the pool's images, distinct.
        folder: that the names are below.
    """

    def __init__(self, names: Sequence[str], folder: Path):
        self._positions = {normal(name): position for position, name in enumerate(names)}
        self._names = names
        self._roots = [f"{normal(str(root))}/" for root in (folder, folder.absolute(), folder.resolve())]

    def position(self, path: str) -> int | None:
        """Of the image; None where no image is called so."""
        written = normal(path)
        for root in ("", *self._roots):
            if written.startswith(root) and (place := self._positions.get(written.removeprefix(root))) is not None:
                return place
        return None

    def advice(self, path: str) -> str:
        """What was meant, if an image in another folder has that file's name."""
        base = PurePosixPath(normal(path)).name
        alike = [name for name in self._names if PurePosixPath(name).name == base]
        return f"; did you mean {alike[0]!r}?" if alike else ""


def normal(path: str) -> str:
    """A path with `/` and composed letters, whichever system wrote it."""
    return unicodedata.normalize("NFC", os.path.normpath(path.strip()).replace("\\", "/"))


def read_labels(files: Iterable[Path], known: Known) -> dict[int, str]:
    """Position in the pool -> class name, of all files together.

    Raises:
        ConfigError: every path that is unknown, stands twice in one file, or has two labels.
    """
    labels: dict[int, str] = {}
    places: dict[int, str] = {}
    unknown, doubled, contradicting = [], [], []
    for file in files:
        seen: dict[int, str] = {}
        for line in lines_of(file):
            position = known.position(line.path)
            if position is None:
                unknown.append(f"{line.place}: no image {line.path!r}{known.advice(line.path)}")
                continue
            if line.label is not None and labels.get(position, line.label) != line.label:
                before = f"{labels[position]!r} in {places[position]}"
                contradicting.append(f"{line.place}: {line.path!r} is {line.label!r} here and {before}")
            elif position in seen:
                doubled.append(f"{line.place}: {line.path!r} stands twice, before in {seen[position]}")
            seen[position] = line.place
            if line.label is not None:
                labels.setdefault(position, line.label)
                places.setdefault(position, line.place)
    if problems := [text for kind in (unknown, doubled, contradicting) for text in _first(kind)]:
        raise ConfigError(problems)
    return labels


def _first(problems: Sequence[str]) -> list[str]:
    rest = len(problems) - PROBLEMS_SHOWN
    return [*problems[:PROBLEMS_SHOWN], *([f"... and {rest} more of this kind"] if rest > 0 else [])]


def lines_of(file: Path) -> list[Line]:
    """The images of a file of labels.

    Raises:
        ValueError: it cannot be read, or is neither of the two kinds.
    """
    if not file.is_file():
        raise ValueError(f"no file {file}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8: {message_of(error)}") from error
    if file.suffix == ".json":
        return list(_of_label_studio(text, file))
    return list(_of_csv(text, file))


def _of_csv(text: str, file: Path) -> Iterator[Line]:
    rows = csv.reader(text.splitlines(keepends=True), delimiter="\t" if file.suffix == ".tsv" else ",")
    header = [name.strip() for name in next(rows, [])]
    missing = [name for name in BATCH_COLUMNS[:2] if name not in header]
    if missing:
        raise ValueError(f"{file} has no column {missing[0]!r}; its first line is {','.join(header)!r}")
    unknown = [name for name in header if name not in BATCH_COLUMNS]
    if unknown:
        raise ValueError(f"{file}: unknown column {unknown[0]!r}; known: {', '.join(BATCH_COLUMNS)}")
    if len(set(header)) < len(header):
        raise ValueError(f"{file}: a column stands twice in {','.join(header)!r}")
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        place = f"{file}, line {rows.line_num}"
        if len(row) != len(header):
            raise ValueError(f"{place}: {len(row)} cells under {len(header)} columns; quote what holds a comma")
        cells = dict(zip(header, row, strict=True))
        yield Line(place, cells["path"], cells["label"].strip() or None)


def _of_label_studio(text: str, file: Path) -> Iterator[Line]:
    try:
        tasks = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {message_of(error)}") from error
    if not isinstance(tasks, list) or not all(isinstance(task, Mapping) and "data" in task for task in tasks):
        raise ValueError(f"{file} is no export of Label Studio: a list of tasks with `data`; export as JSON")
    for number, task in enumerate(tasks, start=1):
        place = f"{file}, task {task.get('id', number)}"
        path = _path_of(task["data"])
        if path is None:
            raise ValueError(f"{place}: its data name no image: neither path nor image")
        choices = [choice for annotation in task.get("annotations", ()) for choice in _choices(annotation, place)]
        if len(set(choices)) > 1:
            raise ConfigError([f"{place}: {path!r} is {' and '.join(map(repr, sorted(set(choices))))}"])
        yield Line(place, path, choices[0] if choices else None)


def _path_of(data: Any) -> str | None:
    if not isinstance(data, Mapping):
        return None
    if isinstance(data.get("path"), str):
        return data["path"]
    image = data.get("image")
    return unquote(image.rpartition("?d=")[2]) if isinstance(image, str) else None


def _choices(annotation: Any, place: str) -> list[str]:
    """What one person chose; nothing where the task was skipped."""
    if annotation.get("was_cancelled"):
        return []
    chosen = [choice for result in annotation["result"] for choice in result["value"].get("choices", ())]
    if len(chosen) > 1:
        raise ValueError(f"{place}: {len(chosen)} choices by one person; one class for each image is needed")
    return chosen


def bought(labels: Mapping[int, str], classes: Sequence[str]) -> Bought:
    """The labels as a selector gets them.

    Raises:
        ConfigError: a label is none of the classes.
    """
    if unknown := sorted(set(labels.values()) - set(classes)):
        raise ConfigError(_first([f"no class {label!r}; {closest(label, classes)}" for label in unknown]))
    positions = sorted(labels)
    numbers = {name: number for number, name in enumerate(classes)}
    return Bought(
        torch.tensor(positions, dtype=torch.int64),
        torch.tensor([numbers[labels[position]] for position in positions], dtype=torch.int64),
        len(classes),
    )

"""A table, in any of the formats that people keep one in, as text."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from harness.image_file import EXTENSIONS

DELIMITERS = ",;\t|"
NO_DELIMITER = "\x1f"
"""A delimiter that no line has."""

FORMATS = {
    "a table of text (.csv, .tsv, .tab, .txt)": (".csv", ".tsv", ".tab", ".txt"),
    "Parquet (.parquet, .pq)": (".parquet", ".pq"),
    "JSON lines (.jsonl, .ndjson)": (".jsonl", ".ndjson"),
    "JSON (.json)": (".json",),
}


@dataclass(frozen=True)
class ImageTable:
    """What a file holds, as text.

    Attributes:
        file: where it came from.
        columns: their names.
        rows: (number, as a spreadsheet or an editor counts; a cell for each column, empty where there is none).
        notes: what was decided by content, a line each.
        unit: what a row is called.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    notes: tuple[str, ...] = ()
    unit: str = "row"


def read_table(file: Path) -> ImageTable:
    """Reads a table by the ending of its file's name.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no such table; says where.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file.absolute()}; put a table of images and labels there")
    readers = dict(zip(FORMATS, (_read_text, _read_parquet, _read_json_lines, _read_json), strict=True))
    for about, endings in FORMATS.items():
        if file.name.lower().endswith(endings):
            table = readers[about](file)
            if not table.rows:
                raise ValueError(f"{file}: the table has no rows")
            return table
    raise ValueError(f"{file}: not {', '.join(FORMATS)}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def is_image_name(text: str) -> bool:
    """Whether a cell names an image file by its ending."""
    return text.lower().endswith(EXTENSIONS)


# ---------------------------------------------------------------- text


def _read_text(file: Path) -> ImageTable:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        row = file.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"{file}: row {row} is not UTF-8; save the table as UTF-8") from None
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = "\t" if file.suffix.lower() in (".tsv", ".tab") else max(DELIMITERS, key=first.count)
    if delimiter in first:
        rows = list(_delimited(file, text, delimiter))
    elif len(first.split()) == 1 and not is_image_name(first.strip()):  # one title, and so one column
        rows = list(_delimited(file, text, NO_DELIMITER))
    else:
        lines = enumerate(text.split("\n"), 1)
        rows = [(number, tuple(_path_and_label(line))) for number, line in lines if line.strip()]
    if not rows:
        return ImageTable(file, (), ())
    (number, header), *rest = rows
    if any(map(is_image_name, header)):  # a file is no title
        rest, columns = rows, tuple(str(place) for place in range(1, len(header) + 1))
        notes = [f"{file}: row {number} names an image, so there are no titles; columns are 1 to {len(columns)}"]
    else:
        columns, notes = header, []
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise ValueError(f"{file}: two columns are called {twice!r}; rename one")
    for number, cells in rest:
        if len(cells) > len(columns):
            raise ValueError(f"{file}: row {number} has {len(cells)} cells, and there are {len(columns)} columns")
    return ImageTable(
        file, columns, tuple((number, _filled(cells, len(columns))) for number, cells in rest), tuple(notes)
    )


def _delimited(file: Path, text: str, delimiter: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Number and stripped cells of each row that is not empty."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    number = 0
    try:
        for number, cells in enumerate(rows, 1):
            if any(map(str.strip, cells)):
                yield number, tuple(map(str.strip, cells))
    except csv.Error as error:
        raise ValueError(f"{file}: row {number + 1}: {_first_line(error)}") from None


def _path_and_label(line: str) -> list[str]:
    """`a b/c.jpg 7` is a path, which may hold blanks, and a label behind it."""
    line = line.strip()
    return [line] if is_image_name(line) else line.rsplit(maxsplit=1)


def _filled(cells: tuple[str, ...], length: int) -> tuple[str, ...]:
    return cells + ("",) * (length - len(cells))


# ---------------------------------------------------------------- Parquet and JSON


def _read_parquet(file: Path) -> ImageTable:
    try:
        from pyarrow import parquet, types
    except ImportError as error:
        raise ValueError(f"{file}: Parquet needs pyarrow: pip install pyarrow") from error
    try:
        opened = parquet.ParquetFile(file)
        names = [
            field.name
            for field in opened.schema_arrow
            if not (types.is_nested(field.type) or types.is_binary(field.type) or types.is_large_binary(field.type))
        ]
        columns = [[_text(value) for value in column.to_pylist()] for column in opened.read(columns=names).columns]
    except Exception as error:  # readers raise many types for a damaged file
        raise ValueError(f"{file} is not a Parquet file: {_first_line(error)}") from error
    left_out = [name for name in opened.schema_arrow.names if name not in names]
    notes = (f"{file}: {', '.join(map(repr, left_out))} hold no text and no numbers, and are not read",)
    rows = tuple(enumerate(zip(*columns, strict=True), 1))
    return ImageTable(file, tuple(names), rows, notes if left_out else ())


def _read_json_lines(file: Path) -> ImageTable:
    def records() -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), 1):
            if line.strip():
                yield number, _parsed(file, line, f"row {number}: ")

    return _of_records(file, records())


def _read_json(file: Path) -> ImageTable:
    content = _parsed(file, file.read_text(encoding="utf-8-sig"), "")
    if _is_label_studio(content):
        return _of_label_studio(file, content)
    if isinstance(content, Mapping) and {"images", "annotations"} <= content.keys():
        content = list(_coco(file, content))
    if not isinstance(content, list):
        raise ValueError(
            f"{file}: no list of records or of tasks of Label Studio, nor images and annotations as in COCO"
        )
    return _of_records(file, enumerate(content, 1))


def _parsed(file: Path, text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file}: {place}not JSON: {_first_line(error)}") from None


def _coco(file: Path, content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A record for each image and class of it, from the tables that COCO and iNaturalist keep apart."""
    try:
        names = {one["id"]: one["name"] for one in content.get("categories", [])}
        labels: dict[Any, list[Any]] = {}
        for one in content["annotations"]:
            of_image = labels.setdefault(one["image_id"], [])
            name = names.get(one["category_id"], one["category_id"])
            if name not in of_image:
                of_image.append(name)
        for image in content["images"]:
            for label in labels.get(image["id"], [None]):
                yield {"file_name": image["file_name"], "category": label}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: images and annotations are not as in COCO and iNaturalist: {error!r}") from None


def _of_records(file: Path, records: Iterable[tuple[int, Any]]) -> ImageTable:
    numbered = list(records)
    columns: dict[str, None] = {}
    for number, record in numbered:
        if not isinstance(record, Mapping):
            raise ValueError(f"{file}: row {number} is not a record of columns and values, but {record!r:.40}")
        columns |= dict.fromkeys(map(str, record))
    rows = tuple((number, tuple(_text(record.get(name)) for name in columns)) for number, record in numbered)
    return ImageTable(file, tuple(columns), rows)


def _text(value: Any) -> str:
    """As a class or file is called: 3 and 3.0 are `3`; nothing, NaN included, is empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


# ---------------------------------------------------------------- Label Studio


def _is_label_studio(content: Any) -> bool:
    """Whether it is an export: a list of tasks with `data`."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(task, Mapping) and isinstance(task.get("data"), Mapping) for task in content)
    )


def _of_label_studio(file: Path, tasks: Sequence[Mapping[str, Any]]) -> ImageTable:
    """The image of each task, and what people chose for it; empty where nobody did."""
    rows = []
    for position, task in enumerate(tasks, start=1):
        number = task.get("id", position)
        place = f"{file}: task {number}"
        path = _path_in(task["data"])
        if path is None:
            raise ValueError(f"{place}: its data name no image: neither path nor image")
        try:
            choices = {choice for one in task.get("annotations", ()) for choice in _choices(one, place)}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{place}: its annotations are not as Label Studio writes them: {error!r}") from None
        if len(choices) > 1:
            raise ValueError(f"{place}: {path!r} is {' and '.join(map(repr, sorted(choices)))}")
        rows.append((number, (path, *choices, "")[:2]))
    return ImageTable(file, ("path", "label"), tuple(rows), unit="task")


def _path_in(data: Mapping[str, Any]) -> str | None:
    if isinstance(data.get("path"), str):
        return data["path"]
    image = data.get("image")
    return unquote(image.rpartition("?d=")[2]) if isinstance(image, str) else None


def _choices(annotation: Mapping[str, Any], place: str) -> list[str]:
    """What one person chose; nothing where the task was skipped."""
    if annotation.get("was_cancelled"):
        return []
    chosen = [choice for result in annotation["result"] for choice in result["value"].get("choices", ())]
    if len(chosen) > 1:
        raise ValueError(f"{place}: {len(chosen)} choices by one person; one class for each image is needed")
    return chosen

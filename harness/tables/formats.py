"""A table, in any of the formats that people keep one in, as text."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from harness.image_file import EXTENSIONS

WRONG_SHOWN = 10
"""Of many tasks with something wrong so many are named."""

DELIMITERS = ",;\t|"
NO_DELIMITER = "\x1f"
"""A delimiter that no line has."""

SEPARATOR_LINE = re.compile(r'(\s*"?sep=(.)"?[ \t]*)(?=\n)', re.IGNORECASE)
"""A first line that tells Excel the delimiter."""

CHOICES_CELL = '{"choices"'
"""How a cell of Label Studio's CSV begins that holds several choices, or might have."""

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
        several: number of a row and place of a column -> how many values stand in one cell; 0 for a record of its own.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    notes: tuple[str, ...] = ()
    unit: str = "row"
    several: Mapping[tuple[int, int], int] = field(default_factory=dict)


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
            table = _without_lists(readers[about](file))
            if not table.rows:
                raise ValueError(f"{file}: the table has no rows")
            return table
    raise ValueError(f"{file}: not {', '.join(FORMATS)}")


def _decoded(file: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its mark in front, as spreadsheets save it.

    Raises:
        ValueError: it is neither; says where.
    """
    content = file.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{file}: row {row} is not {'UTF-16' if wide else 'UTF-8'}; save the table as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def is_image_name(text: str) -> bool:
    """Whether a cell names an image file by its ending."""
    return text.lower().endswith(EXTENSIONS)


# ---------------------------------------------------------------- text


def _read_text(file: Path) -> ImageTable:
    text = _decoded(file)
    excel = SEPARATOR_LINE.match(text)
    if excel:
        text = text[excel.end(1) :]  # the end of the line stays, so that rows keep their numbers
    first = text.lstrip("\r\n").partition("\n")[0]
    if excel:
        delimiter = excel[2]
    else:
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
    width = len(rows[0][1])
    for number, cells in rows:
        if any(cells[width:]):
            raise ValueError(f"{file}: row {number} has {len(cells)} cells, and there are {width} columns")
    rows = [(number, _filled(cells[:width], width)) for number, cells in rows]
    # a spreadsheet that once had more columns writes them all
    used = [place for place in range(width) if any(cells[place] for _, cells in rows)]
    rows = [(number, tuple(cells[place] for place in used)) for number, cells in rows]
    (number, header), *rest = rows
    if any(map(is_image_name, header)):  # a file is no title
        rest, columns = rows, tuple(str(place + 1) for place in used)
        named = f"1 to {width}" if len(used) == width else ", ".join(columns)
        notes = [f"{file}: row {number} names an image, so there are no titles; columns are {named}"]
    else:
        columns, notes = header, []
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise ValueError(f"{file}: two columns are called {twice!r}; rename one")
    return ImageTable(file, columns, tuple(rest), tuple(notes))


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
        for number, line in enumerate(_decoded(file).split("\n"), 1):
            if line.strip():
                yield number, _parsed(file, line, f"row {number}: ")

    return _of_records(file, records())


def _read_json(file: Path) -> ImageTable:
    content = _parsed(file, _decoded(file), "")
    if _is_label_studio(content):
        return _of_label_studio(file, content)
    if isinstance(content, Mapping) and {"images", "annotations"} <= content.keys():
        images, notes = _coco(file, content)
        return replace(_of_records(file, images), notes=tuple(notes), unit="image")
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


def _coco(file: Path, content: Mapping[str, Any]) -> tuple[list[tuple[Any, dict[str, Any]]], list[str]]:
    """The id and a record of each image, from the tables that COCO and iNaturalist keep apart; and what to say.

    Raises:
        ValueError: they are not as there, an id or a name is given twice, or no annotation is of an image.
    """
    try:
        names = _by_id(file, "categories", [(one["id"], _text(one["name"])) for one in content.get("categories") or ()])
        images = _by_id(file, "images", [(one["id"], one["file_name"]) for one in content["images"]])
        given = [(one["image_id"], one["category_id"]) for one in content["annotations"]]
        labels: dict[Any, dict[Any, None]] = {}
        for image, category in given:
            labels.setdefault(image, {})[names.get(category, category)] = None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: images and annotations are not as in COCO and iNaturalist: {error!r}") from None
    of_id: dict[Any, list[Any]] = {}
    for category, name in names.items():
        of_id.setdefault(name, []).append(category)
    if doubled := [(name, ids) for name, ids in of_id.items() if len(ids) > 1]:
        name, ids = doubled[0]
        raise ValueError(f"{file}: categories {' and '.join(map(repr, ids))} are both called {name!r}; rename one")
    notes = []
    if astray := [image for image, _ in given if image not in images]:
        said = f"{len(astray)} of {len(given)} annotations are of no image, such as image_id {astray[0]!r}"
        if len(astray) == len(given):
            raise ValueError(f"{file}: {said}; images are {', '.join(map(repr, list(images)[:3]))} and so on")
        notes.append(f"{file}: {said}; they are not read")
    if names and (unnamed := sorted({str(category) for _, category in given if category not in names})):
        notes.append(f"{file}: no name for the categories {', '.join(unnamed[:10])}; they are called by their ids")
    records = [(one, {"file_name": name, "category": list(labels.get(one, ()))}) for one, name in images.items()]
    return records, notes


def _by_id(file: Path, kind: str, pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    """id -> what has it; refused where two have one."""
    by_id: dict[Any, Any] = {}
    for one, value in pairs:
        if one in by_id:
            raise ValueError(f"{file}: two {kind} have the id {one!r}: {by_id[one]!r} and {value!r}")
        by_id[one] = value
    return by_id


def _of_records(file: Path, records: Iterable[tuple[int, Any]]) -> ImageTable:
    numbered = list(records)
    columns: dict[str, None] = {}
    for number, record in numbered:
        if not isinstance(record, Mapping):
            raise ValueError(f"{file}: row {number} is not a record of columns and values, but {record!r:.40}")
        columns |= dict.fromkeys(map(str, record))
    rows = tuple((number, tuple(_text(record.get(name)) for name in columns)) for number, record in numbered)
    several = {
        (number, place): 0 if isinstance(values[0], Mapping) else len(values)
        for number, record in numbered
        for place, name in enumerate(columns)
        for values in [_values(record.get(name))]
        if len(values) > 1 or (values and isinstance(values[0], Mapping))
    }
    return ImageTable(file, tuple(columns), rows, several=several)


def _without_lists(table: ImageTable) -> ImageTable:
    """The table whose cells `{"choices": ["a", "b"]}`, as Label Studio's CSV has them, are what they hold."""
    rows, several = [], dict(table.several)
    for number, cells in table.rows:
        if any(cell.startswith(CHOICES_CELL) for cell in cells):
            values = [_values(_parsed(table.file, cell, f"{table.unit} {number}: ")) if cell.startswith(CHOICES_CELL)
                      else [cell] for cell in cells]  # fmt: skip
            several |= {(number, place): len(value) for place, value in enumerate(values) if len(value) > 1}
            cells = tuple(_text(value) for value in values)
        rows.append((number, cells))
    return replace(table, rows=tuple(rows), several=several)


def _values(value: Any) -> list[Any]:
    """What a cell holds: the elements of a list, the choices of Label Studio, or the one value that it is."""
    if isinstance(value, Mapping) and set(value) == {"choices"}:
        value = value["choices"]
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    """As a class or file is called: 3 and 3.0 are `3`, a list of one is what it holds; nothing, NaN too, is empty."""
    values = _values(value)
    if len(values) <= 1:
        value = values[0] if values else None
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
    """The image of each task, and what people chose for it; empty where nobody did.

    Raises:
        ValueError: a task names no image, or people chose no one class for it; names them all, or the first of many.
    """
    rows: list[tuple[int, tuple[str, ...]]] = []
    wrong: list[str] = []
    others: set[str] = set()
    for position, task in enumerate(tasks, start=1):
        number = task.get("id", position)
        path = _path_in(task["data"])
        if path is None:
            wrong.append(f"task {number}: its data name no image: neither path nor image")
            continue
        try:
            results = [_results(one) for one in task.get("annotations") or ()]
            chosen = [[_text(choice) for result in one for choice in _chosen(result)] for one in results]
        except (KeyError, TypeError, AttributeError) as error:
            wrong.append(f"task {number}: its annotations are not as Label Studio writes them: {error!r}")
            continue
        others |= {str(kind) for one in results for result in one for kind in result["value"]} - {"choices"}
        choices = sorted({choice for one in chosen for choice in one if choice})
        if several := [one for one in chosen if len(one) > 1]:
            wrong.append(f"task {number}: {len(several[0])} choices by one person; one class for each image is needed")
        elif len(choices) > 1:
            wrong.append(f"task {number}: {path!r} is {' and '.join(map(repr, choices))}")
        rows.append((number, (path, *choices, "")[:2]))
    if wrong:
        more = f"; and {len(wrong) - WRONG_SHOWN} tasks more" if len(wrong) > WRONG_SHOWN else ""
        raise ValueError(f"{file}: {'; '.join(wrong[:WRONG_SHOWN])}{more}")
    notes = []
    if not any(label for _, (_, label) in rows):
        but = f", but {', '.join(sorted(others))}" if others else ""
        notes.append(f"{file}: none of its {len(rows)} tasks holds choices{but}; a class is a choice")
    return ImageTable(file, ("path", "label"), tuple(rows), tuple(notes), unit="task")


def _path_in(data: Mapping[str, Any]) -> str | None:
    if isinstance(data.get("path"), str):
        return data["path"]
    image = data.get("image")
    return unquote(image.rpartition("?d=")[2]) if isinstance(image, str) else None


def _results(annotation: Mapping[str, Any]) -> list[Any]:
    """What one person answered; nothing where the task was skipped."""
    return [] if annotation.get("was_cancelled") else [one for one in annotation["result"] if "value" in one]


def _chosen(result: Mapping[str, Any]) -> list[Any]:
    chosen = result["value"].get("choices") or []
    if not all(isinstance(choice, (str, int, float)) for choice in _values(chosen)):
        raise TypeError(f"choices {chosen!r:.40}")
    return _values(chosen)

"""A table of images: their files, classes and splits, in any of the formats that people keep one in."""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.image_file import EXTENSIONS

PATH_NAMES = (
    (
        *("path", "file", "filename", "filepath", "relpath", "relativepath", "photo", "picture"),
        *("image", "imagepath", "imagefile", "imagename", "imagefilename", "imagefilepath"),
        *("img", "imgpath", "imgfile", "imgname"),
    ),
    ("id", "imageid", "imgid", "photoid", "name", "key", "uuid"),
)
"""What a column of files is called, without blanks, signs and case: those of the second group where none of the first
is there."""

LABEL_NAMES = (
    (
        *("label", "labels", "class", "classname", "classlabel", "category", "categoryname", "target", "y"),
        *("species", "breed", "choice", "diagnosis", "dx"),
    ),
)
SPLIT_NAMES = (("split", "set", "subset", "partition", "phase", "usage"),)

DELIMITERS = ",;\t|"
FORMATS = {
    "a table of text (.csv, .tsv, .tab, .txt)": (".csv", ".tsv", ".tab", ".txt"),
    "Parquet (.parquet, .pq)": (".parquet", ".pq"),
    "JSON lines (.jsonl, .ndjson)": (".jsonl", ".ndjson"),
    "JSON (.json)": (".json",),
}


@dataclass(frozen=True)
class Table:
    """What a file holds, as text.

    Attributes:
        file: where it came from.
        columns: their names.
        rows: (number, as a spreadsheet or an editor counts; a cell for each column, empty where there is none).
        notes: what was decided by content, a line each.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    notes: tuple[str, ...] = ()

    def column(self, kind: str, chosen: str | None, known: Sequence[Sequence[str]]) -> int | None:
        """The place of a column.

        Args:
            kind: of the setting `<kind>_column`, for messages.
            chosen: its name; None finds it.
            known: groups of names that it may have, an earlier group before a later one.

        Returns:
            None where none of the names is there.

        Raises:
            ValueError: no column has the chosen name, or several have names that it may have.
        """
        if chosen is not None:
            if chosen not in self.columns:
                raise ValueError(f"{self.file}: {kind}_column: no column {chosen!r}; {nearest(chosen, self.columns)}")
            return self.columns.index(chosen)
        for names in known:
            fitting = [place for place, name in enumerate(self.columns) if _plain(name) in names]
            if len(fitting) == 1:
                return fitting[0]
            if fitting:
                several = " and ".join(self.columns[place] for place in fitting)
                raise ValueError(f"{self.file}: {several} may each be the {kind}; set {kind}_column")
        return None


def read_table(file: Path) -> Table:
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


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def nearest(text: str, known: Iterable[str]) -> str:
    """What may have been meant, for messages."""
    known = list(known)
    near = difflib.get_close_matches(text, known, n=1)
    more = ", ..." if len(known) > 8 else ""
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known[:8])}{more}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def is_image_name(text: str) -> bool:
    """Whether a cell names an image file by its ending."""
    return text.lower().endswith(EXTENSIONS)


# ---------------------------------------------------------------- text


def _read_text(file: Path) -> Table:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        row = file.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"{file}: row {row} is not UTF-8; save the table as UTF-8") from None
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = "\t" if file.suffix.lower() in (".tsv", ".tab") else max(DELIMITERS, key=first.count)
    if delimiter in first:
        rows = list(_delimited(file, text, delimiter))
    else:
        lines = enumerate(text.split("\n"), 1)
        rows = [(number, tuple(_path_and_label(line))) for number, line in lines if line.strip()]
    if not rows:
        return Table(file, (), ())
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
    return Table(file, columns, tuple((number, _filled(cells, len(columns))) for number, cells in rest), tuple(notes))


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


def _read_parquet(file: Path) -> Table:
    import pandas as pd

    try:
        frame = pd.read_parquet(file)
    except ImportError as error:
        raise ValueError(f"{file}: Parquet needs pyarrow: pip install pyarrow") from error
    except Exception as error:  # readers raise many types for a damaged file
        raise ValueError(f"{file} is not a Parquet file: {_first_line(error)}") from error
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return _of_records(file, ((number, record) for number, record in enumerate(records, 1)))


def _read_json_lines(file: Path) -> Table:
    def records() -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), 1):
            if line.strip():
                yield number, _parsed(file, line, f"row {number}: ")

    return _of_records(file, records())


def _read_json(file: Path) -> Table:
    content = _parsed(file, file.read_text(encoding="utf-8-sig"), "")
    if isinstance(content, Mapping) and {"images", "annotations"} <= content.keys():
        content = list(_coco(file, content))
    if not isinstance(content, list):
        raise ValueError(f"{file}: a list of records is needed, or images and annotations as in COCO and iNaturalist")
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


def _of_records(file: Path, records: Iterable[tuple[int, Any]]) -> Table:
    numbered = list(records)
    columns: dict[str, None] = {}
    for number, record in numbered:
        if not isinstance(record, Mapping):
            raise ValueError(f"{file}: row {number} is not a record of columns and values, but {record!r:.40}")
        columns |= dict.fromkeys(map(str, record))
    rows = tuple((number, tuple(_text(record.get(name)) for name in columns)) for number, record in numbered)
    return Table(file, tuple(columns), rows)


def _text(value: Any) -> str:
    """As a class or file is called: 3 and 3.0 are `3`; nothing, NaN included, is empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()

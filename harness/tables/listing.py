"""What a table says of images: which column holds their files, their classes and their splits."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from harness.messages import closest, count
from harness.tables.formats import ImageTable, is_image_name

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

SPLIT_WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validate", "validation", "dev", "eval", "evaluation", "publictest"),
    "test": ("test", "testing", "tst", "privatetest"),
    "unlabeled": ("unlabeled", "unlabelled", "unsup", "unsupervised"),
}
"""Split -> the words that a folder with its images, or a cell of a table, calls it by, in any case. Those in two words
are FER2013's: its public test images were for validation, its private ones for the test."""

FILLERS = ("seg", "set", "data", "dataset", "split", "image", "images", "img", "imgs", "x")
"""Words that may stand beside them, or in one with them, as in `seg_train`, `TrainingSet`, `testdata`; and digits."""

TASK_NAMES = {"image", "path"}
"""What `pick` calls the URL and the path of an image in its tasks, and so every export of Label Studio."""

WHOLE_NUMBER = re.compile(r"-?\d+(\.0+)?")
"""A whole number, as programs write it that take a column with gaps for one of floats."""


NO_LABEL = ("nan", "none", "null", "na", "n/a", "<na>", "nil", "?")
"""What programs write where there is no value, in any case of the letters; classes are called so, too."""

COLUMN_SETTINGS = {"path": "path_column", "label": "label_column", "split": "split_column"}
"""What names a column in a data set's settings."""


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns; None finds each by its name.

    Attributes:
        path: of the files.
        label: of the classes.
        split: of the parts.
    """

    path: str | None = None
    label: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Row:
    """An image as a table has it.

    Attributes:
        number: of the row, as an editor counts.
        path: of the file, as written; of a URL `file:///...` what stands behind it.
        label: the name of its class; empty where it has none.
        split: as it stands there; empty where nothing does.
    """

    number: int
    path: str
    label: str
    split: str


@dataclass(frozen=True)
class Listing:
    """The images of a table.

    Attributes:
        rows: in its order.
        columns: `path`, `label`, `split`, as far as the table has them -> the name of the column.
        unread: names of the others.
        notes: what was decided by content, a line each.
    """

    rows: Sequence[Row]
    columns: Mapping[str, str]
    unread: tuple[str, ...]
    notes: tuple[str, ...]


def list_images(
    table: ImageTable,
    columns: Columns,
    needs: Sequence[str],
    *,
    with_labels: bool = True,
    as_written: bool = False,
    settings: Mapping[str, str] = COLUMN_SETTINGS,
    hint: str = "",
) -> Listing:
    """Which image each row of a table is, in which class and split.

    Labels are brought into Unicode's composed form, and called as `class_names` says. A column of splits that nobody
    named is one only if it holds a name of `SPLIT_WORDS`.

    Args:
        table: as it was read.
        columns: that were named.
        needs: `path`, `label`: what the table must have.
        with_labels: whether labels are looked for.
        as_written: whether these are left as they are, for `class_names` of several tables together.
        settings: what names the column of `path`, `label` and `split`, where something does, for messages.
        hint: what may be done where there are no labels, for messages.

    Raises:
        ValueError: a column is not there, it is not clear which one is meant, or a cell holds several values.
    """
    path = _path_column(table, columns.path, settings, "path" in needs)
    split = _column(table, "split", columns.split, SPLIT_NAMES, settings)
    notes = list(table.notes)
    if split is not None and columns.split is None:
        given = {cells[split] for _, cells in table.rows if cells[split]}
        if given and not any(map(split_called, given)):
            notes.append(
                f"{table.file}: a column holds {min(given)!r} and the like, which are no splits; it is not used"
            )
            split = None
    label = None
    if with_labels:
        label = _label_column(table, columns.label, (path, split), settings, hint if "label" in needs else None)
    if label is not None and columns.label is None and _plain(table.columns[label]) not in LABEL_NAMES[0]:
        notes.append(f"{table.file}: labels are those of {table.columns[label]!r}, the only column that is left")
    places = {"path": path, "label": label, "split": split}
    _check_single(table, places)
    texts = {kind: ["" if place is None else cells[place] for _, cells in table.rows] for kind, place in places.items()}
    texts["label"] = [unicodedata.normalize("NFC", label) for label in texts["label"]]
    called, said = class_names([] if as_written else texts["label"])
    texts["label"] = [called.get(label, label) for label in texts["label"]]
    texts["path"] = [_local(path) for path in texts["path"]]
    numbers = [number for number, _ in table.rows]
    used = {kind: table.columns[place] for kind, place in places.items() if place is not None}
    unread = tuple(name for place, name in enumerate(table.columns) if place not in places.values())
    rows = [Row(*values) for values in zip(numbers, *texts.values(), strict=True)]
    return Listing(rows, used, unread, (*notes, *(f"{table.file}: {note}" for note in said)))


def _check_single(table: ImageTable, places: Mapping[str, int | None]) -> None:
    """That each cell that is read holds one value."""
    kinds = {place: kind for kind, place in places.items()}
    called = {"path": "file", "label": "class", "split": "split"}
    for (number, place), many in table.several.items():
        if place in kinds:
            one = called[kinds[place]]
            several = f"{many} {one}{'es' if one == 'class' else 's'}" if many else f"a record in place of a {one}"
            raise ValueError(f"{table.file}: {table.unit} {number}: {several}; one is needed")


def said_of_columns(file: Path, listing: Listing, *, but: Sequence[str] = ()) -> list[str]:
    """A line on columns that were not read, or none; of some of them nobody need be told."""
    unread = [name for name in listing.unread if name not in but]
    if not unread:
        return []
    words = {"path": "files", "label": "labels", "split": "splits"}
    said = ", ".join(f"{words[kind]} are those of {name!r}" for kind, name in listing.columns.items())
    return [f"{file}: {said}; not read: {', '.join(map(repr, unread))}"]


def said_of_no_label(labels: Iterable[str]) -> list[str]:
    """A line on each class whose name is a word of programs for nothing, as it may be none."""
    number = Counter(label for label in labels if label.casefold() in NO_LABEL)
    return [
        f"{count(times, 'label')} {'is' if times == 1 else 'are'} {label!r}, a class of that name; "
        "leave the cell empty where there is no label"
        for label, times in sorted(number.items())
    ]


def said_of_no_split(number: int) -> str:
    """What becomes of images whose cell of splits is empty, beside others with one."""
    return f"{count(number, 'image')} of no split (its cell is empty) count as training images"


def class_names(labels: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Label as written -> the class, empty where it is none, of those called otherwise; and what was decided.

    Where all labels are whole numbers, 3.0 is called 3, and -1 beside others stands for none.
    """
    given = {label for label in labels if label}
    if not given or not all(map(WHOLE_NUMBER.fullmatch, given)):
        return {}, said_of_no_label(labels)
    notes = []
    called = {label: label.partition(".")[0] for label in given}
    if decimal := sorted(label for label in given if "." in label):
        notes.append(f"labels are whole numbers: {decimal[0]} is called {called[decimal[0]]}")
    names = set(called.values()) - {"-1"}
    without = {label for label in given if called[label] == "-1"}
    if without and names and not any(name.startswith("-") for name in names):
        number = sum(label in without for label in labels)
        notes.append(f"{number} labels are -1, which stands for none; call it otherwise if it is a class")
        called |= dict.fromkeys(without, "")
    return called, notes


def names_of(labels: Iterable[str]) -> tuple[str, ...]:
    """The classes, sorted: as numbers where all are whole numbers, else as text."""
    names = set(labels)
    try:
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    except ValueError:
        return tuple(sorted(names))


def _path_column(table: ImageTable, chosen: str | None, settings: Mapping[str, str], needed: bool) -> int | None:
    place = _column(table, "path", chosen, PATH_NAMES, settings)
    if place is not None:
        return place
    (_, cells), *_ = table.rows
    like_files = [place for place, cell in enumerate(cells) if is_image_name(cell)]
    if len(like_files) == 1:
        return like_files[0]
    if not needed:
        return None
    raise ValueError(f"{table.file}: which column names the files? {_remedy('path', table.columns, settings)}")


def _label_column(
    table: ImageTable, chosen: str | None, others: Sequence[int | None], settings: Mapping[str, str], hint: str | None
) -> int | None:
    """The place of the labels; None where they are not clear and, without a hint, not needed."""
    place = _column(table, "label", chosen, LABEL_NAMES, settings)
    if place is not None:
        return place
    left = [place for place in range(len(table.columns)) if place not in others]
    if len(left) == 1:
        return left[0]
    if hint is None:
        return None
    if not left:
        raise ValueError(f"{table.file}: there is no column of labels{hint}")
    remedy = _remedy("label", [table.columns[place] for place in left], settings)
    raise ValueError(f"{table.file}: which column holds the labels? {remedy}{hint}")


def _remedy(kind: str, names: Sequence[str], settings: Mapping[str, str]) -> str:
    """What to do where one of these columns is meant, by its setting or, where there is none, its name."""
    listed = ", ".join(names)
    return f"Set {settings[kind]} to one of {listed}" if kind in settings else f"Call one of {listed} {kind!r}"


def _local(path: str) -> str:
    return unquote(path.removeprefix("file://")) if path.startswith("file:///") else path


def text_of(value: object) -> str:
    """A text, or bytes of UTF-8, in Unicode's composed form; empty where it holds nothing but blanks."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return unicodedata.normalize("NFC", text) if text.strip() else ""


def plain_path(path: str) -> str:
    """A path with `/` and composed letters, whichever system wrote it."""
    return unicodedata.normalize("NFC", os.path.normpath(path.strip().replace("\\", "/")))


def loose_names(path: str) -> set[str]:
    """What an image's path, its letters composed, may stand for: in small letters, with its ending and without."""
    stem = os.path.splitext(path)[0] if is_image_name(path) else path
    return {path.casefold(), stem.casefold()}


def split_called(name: str) -> str | None:
    """The split that a folder of this name holds; None where the name says nothing of a split."""
    told, others = _told(name)
    return told.pop() if len(told) == 1 and not others else None


def splits_named(name: str) -> set[str]:
    """The splits that words of a name name, whatever other words it has: {train} of `cifar10-train-00000-of-00002`."""
    return _told(name)[0]


def _told(name: str) -> tuple[set[str], list[str]]:
    """The splits that the words of a name name, and the words that name none and fill no gap."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)  # of TrainData
    words = re.findall(r"[^\W\d_]+", apart.casefold())
    of_word = {word: _split_word(word) for word in ("".join(words), *words)}
    if whole := of_word.get("".join(words)):
        return {whole}, []
    told = {split for split in of_word.values() if split}
    return told, [word for word in words if word not in FILLERS and not of_word[word]]


def _split_word(word: str) -> str | None:
    """The split that one word names, alone or with a filler at one end: `test`, `testdata`, `segtest`."""
    for split, names in SPLIT_WORDS.items():
        for filler in ("", *FILLERS):
            if word.removeprefix(filler) in names or word.removesuffix(filler) in names:
                return split
    return None


def _column(
    table: ImageTable, kind: str, chosen: str | None, known: Sequence[Sequence[str]], settings: Mapping[str, str]
) -> int | None:
    """The place of a column.

    Args:
        table: as it was read.
        kind: what it holds.
        chosen: its name; None finds it.
        known: groups of names that it may have, an earlier group before a later one.
        settings: what names columns, for messages.

    Returns:
        None where none of the names is there.

    Raises:
        ValueError: no column has the chosen name, or several have names that it may have.
    """
    if chosen is not None:
        if chosen not in table.columns:
            raise ValueError(f"{table.file}: {settings[kind]}: no column {chosen!r}; {closest(chosen, table.columns)}")
        return table.columns.index(chosen)
    for names in known:
        fitting = [place for place, name in enumerate(table.columns) if _plain(name) in names]
        if {_plain(table.columns[place]) for place in fitting} == TASK_NAMES:
            fitting = [place for place in fitting if _plain(table.columns[place]) == "path"]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            several = [table.columns[place] for place in fitting]
            remedy = _remedy(kind, several, settings) if kind in settings else "Rename all but one"
            raise ValueError(f"{table.file}: {' and '.join(several)} may each be the {kind}. {remedy}")
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())

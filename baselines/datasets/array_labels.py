"""Labels in whatever form people keep them in an array: counted from 0 or from 1, as names, one-hot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from harness.tables import names_of, said_of_no_label, text_of

VALUES_SHOWN = 5
"""So many labels are named in a message."""


@dataclass(frozen=True)
class Labels:
    """Labels as the harness reads them.

    Attributes:
        of: split -> i64 [N] in 0 .. K-1, where every label lies that `train` has; -1 where there is none.
        class_names: K names, in Unicode's composed form.
        notes: what was decided, a line each.
    """

    of: Mapping[str, np.ndarray]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def labels_of(given: Mapping[str, tuple[str, np.ndarray]], names: np.ndarray | None) -> Labels:
    """Reads labels of any of the forms below.

    Args:
        given: split -> the array's name and the array, [N] or [N, 1]: whole numbers, integers or floats, booleans, or
            strings; or [N, K], one-hot. An empty string, -1 and NaN are no label. `train` is among them.
        names: of the classes, [K], in the order of labels 0 .. K-1 or 1 .. K; None: the labels themselves, in theirs.

    Raises:
        ValueError: a label is none of that; names the array.
    """
    known = None if names is None else tuple(text_of(name) for name in names.reshape(-1).tolist())
    flat = {part: (name, _flat(name, array)) for part, (name, array) in given.items()}
    kinds = {array.dtype.kind for _, array in flat.values()}
    if kinds <= {"U", "S", "T"}:
        return _of_names(flat, known)
    if kinds & {"U", "S", "T"}:
        raise ValueError("labels differ in type: " + ", ".join(f"{name} is {one.dtype}" for name, one in flat.values()))
    if kinds == {"b"} and known is None:
        known = ("False", "True")
    return _of_numbers({part: (name, _whole(name, array)) for part, (name, array) in flat.items()}, known)


def _flat(name: str, array: np.ndarray) -> np.ndarray:
    """[N] of [N], [N, 1] or one-hot [N, K]."""
    if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
        return array.reshape(-1)
    if array.ndim != 2 or array.dtype.kind not in "buif":
        raise ValueError(f"{name} is {array.dtype} {list(array.shape)}; one label an image is needed")
    wrong = np.flatnonzero(~((array == 1).sum(1) == 1) | ~((array == 0).sum(1) == array.shape[1] - 1))
    if len(wrong):
        some = ", ".join(f"{value:g}" for value in array[wrong[0], :VALUES_SHOWN])
        row = some + ", ..." * (array.shape[1] > VALUES_SHOWN)
        raise ValueError(
            f"{name} is {list(array.shape)} and not one-hot: row {wrong[0]} is {row}; one label an image is needed"
        )
    return array.argmax(1)


def _of_names(flat: Mapping[str, tuple[str, np.ndarray]], known: tuple[str, ...] | None) -> Labels:
    texts = {part: (name, [text_of(one) for one in array.tolist()]) for part, (name, array) in flat.items()}
    class_names = known or names_of(set(texts["train"][1]) - {""})
    numbers = {"": -1} | {name: number for number, name in enumerate(class_names)}
    for name, labels in texts.values():
        unknown = next((label for label in labels if label not in numbers), None)
        if unknown is not None:
            where = "class_names" if known else texts["train"][0]
            raise ValueError(f"{name} holds {unknown!r}, which {where} does not")
    of = {part: np.array([numbers[one] for one in labels], dtype=np.int64) for part, (_, labels) in texts.items()}
    if not (of["train"] >= 0).any():
        raise ValueError(f"{texts['train'][0]} holds no label: all are empty")
    every = [label for _, labels in texts.values() for label in labels]
    return Labels(of, class_names, tuple(said_of_no_label(every)))


def _whole(name: str, array: np.ndarray) -> np.ndarray:
    """i64 of whole numbers >= 0, or -1 where there is none."""
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} is {array.dtype}; numbers or strings are needed")
    missing = array == -1 if array.dtype.kind != "f" else np.isnan(array) | (array == -1)
    given = array[~missing]
    with np.errstate(invalid="ignore"):  # of infinity
        wrong = given[(given.astype(np.int64) != given) | (given < 0)]
    if len(wrong):
        raise ValueError(f"{name} holds {wrong[0].item()}; labels are whole numbers from 0 on, or strings")
    return np.where(missing, 0, array).astype(np.int64) - missing


def _of_numbers(flat: Mapping[str, tuple[str, np.ndarray]], known: tuple[str, ...] | None) -> Labels:
    name, train = flat["train"]
    values = np.unique(train[train >= 0])
    if not len(values):
        raise ValueError(f"{name} holds no label" if len(train) else f"{name} is empty")
    if len(values) == 1 and (train < 0).any():
        raise ValueError(
            f"{name} holds one class, {values[0]}, for -1 and NaN stand for no label; at least 2 are needed"
        )
    least, most = int(values[0]), int(values[-1])
    counted_from_1 = least == 1 and len(values) == most and all((array != 0).all() for _, array in flat.values())
    if counted_from_1 and (known is None or len(known) == most):
        note = f"labels are 1 .. {most}, counted from 1: the first class is {known[0] if known else 1!r}"
        of = {part: np.maximum(array - 1, -1) for part, (_, array) in flat.items()}
        return Labels(of, known or tuple(str(value) for value in values), (note,))
    if known is not None:
        if len(known) <= most:
            raise ValueError(f"class_names holds {len(known)} names, but {name} has labels {least} .. {most}")
        return Labels({part: array for part, (_, array) in flat.items()}, known)
    for other, array in flat.values():
        unknown = array[(array >= 0) & ~np.isin(array, values)]
        if len(unknown):
            raise ValueError(f"{other} holds {unknown[0]}, which {name} does not")
    of = {part: np.where(array < 0, -1, np.searchsorted(values, array)) for part, (_, array) in flat.items()}
    notes: tuple[str, ...] = ()
    if len(values) != most + 1:
        some = ", ".join(map(str, values[:VALUES_SHOWN])) + (", ..." if len(values) > VALUES_SHOWN else "")
        notes = (f"labels are {some}, with gaps: {len(values)} classes, which are called by these numbers",)
    return Labels(of, tuple(str(value) for value in values), notes)


@dataclass(frozen=True)
class LabeledRows:
    """Which rows of the arrays make which split.

    Attributes:
        rows: split -> the array's split, i64 [n] rows of it (None for all of them), and their labels i64 [n], if any.
        notes: what became of images without a label, a line each.
        left_out: how many images are not used.
    """

    rows: Mapping[str, tuple[str, np.ndarray | None, np.ndarray | None]]
    notes: tuple[str, ...] = ()
    left_out: int = 0


def labeled_rows(labels: Labels, parts: Collection[str]) -> LabeledRows:
    """Divides arrays into splits: training images without a label are for pre-training, others without are left out.

    Args:
        labels: of the arrays.
        parts: the splits that there are arrays of, `unlabeled` perhaps among them.
    """
    rows: dict[str, tuple[str, np.ndarray | None, np.ndarray | None]] = {}
    notes, left_out = [], 0
    for part in parts:
        values = labels.of.get(part)
        if values is None or (values >= 0).all():
            rows[part] = part, None, values
            continue
        known = np.flatnonzero(values >= 0)
        without = len(values) - len(known)
        if len(known):
            rows[part] = part, known, values[known]
        if part == "train" and "unlabeled" not in parts:
            rows["unlabeled"] = part, np.flatnonzero(values < 0), None
            notes.append(
                f"{without} training images have no label (it is empty, -1 or NaN) and are for pre-training only"
            )
        else:
            left_out += without
            notes.append(
                f"{without} images of the split {part} are left out, which have no label (it is empty, -1 or NaN)"
            )
    return LabeledRows(rows, tuple(notes), left_out)

"""A data set as it opens: what it gives has the types of its contract, or is refused in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from harness.api import TALLIED, Dataset, Source, Split
from harness.messages import cause_of, closest, cut, one_line


def opened(dataset: Dataset, name: str) -> Source:
    """What a data set opens, its types checked.

    Args:
        dataset: where the images come from.
        name: of the data set, for messages.

    Raises:
        ValueError: it fails in a way of its own, or gives what its contract does not say.
        OSError: as it raises them.
    """
    try:
        source = dataset.open()
    except (ValueError, OSError):
        raise
    except Exception as error:  # a plugin may fail in any way
        raise ValueError(f"data set {name}: it cannot be opened: {cause_of(error)}") from error
    try:
        check_types(source)
    except ValueError as error:
        raise ValueError(f"data set {name}: {error}") from error
    return source


def check_types(source: object) -> None:
    """Whether a source and its splits hold what `harness.api.Source` says, by type.

    Raises:
        ValueError: in one line, the first that is of another type.
    """
    if not isinstance(source, Source):
        raise ValueError(f"open() returned {type(source).__name__}, not a Source")
    _check_each(source.image_shape, "image_shape", int)
    _check_each(source.class_names, "class_names", str)
    _check_each(source.notes, "notes", str)
    _check_type(source.splits, "splits", Mapping)
    _check_type(source.tally, "tally", Mapping)
    for what in source.tally:
        if what not in TALLIED:
            raise ValueError(f"tally has {what!r}; {closest(what, TALLIED)}")
    for split, part in source.splits.items():
        _check_type(part, f"split {split!r}", Split)
        _check_type(part.num_images, f"num_images of split {split!r}", int)
        if part.labels is not None:
            _check_type(part.labels, f"labels of split {split!r}", Tensor)
        for what, listed in (("files", part.files), ("names", part.names)):
            if listed is not None and len(listed) != part.num_images:
                raise ValueError(f"{what} of split {split!r} are not as many as images: {len(listed):,}")


def _check_each(value: Any, what: str, kind: type) -> None:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{what} is {_shown(value)}, not a tuple")
    for one in value:
        _check_type(one, f"one of {what}", kind)


def _check_type(value: Any, what: str, kind: type) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"{what} is of type {type(value).__name__}, not {kind.__name__}: {_shown(value)}")


def _shown(value: Any) -> str:
    return cut(one_line(repr(value)), 100)

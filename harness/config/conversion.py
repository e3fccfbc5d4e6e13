"""Values as the types that annotations ask: what YAML has are numbers, texts, lists and mappings."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from harness.plugins import registry

NOT_ONE = object()
"""In the place of a value that is not of a type."""


def convert(hint: Any, value: Any) -> Any:
    """`value` as this type, or NOT_ONE; one of a type that is none of YAML's stays as it is, for its user to judge."""
    if hint in (None, type(None)):
        return None if value is None else NOT_ONE
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Literal:
        is_choice = any(value is c or (type(value) is type(c) and value == c) for c in inner)
        return value if is_choice else NOT_ONE
    if origin in (types.UnionType, typing.Union):
        return next((one for option in inner if (one := convert(option, value)) is not NOT_ONE), NOT_ONE)
    if origin in registry.COLLECTIONS:
        return _convert_list(registry.COLLECTIONS[origin], inner, value)
    if origin in (dict, Mapping):
        return _convert_mapping(inner, value)
    if hint in (int, float):
        return to_number(hint, value)
    if hint is Path:
        return Path(value) if isinstance(value, str | Path) else NOT_ONE
    of_yaml = hint in (bool, str) or dataclasses.is_dataclass(hint) or registry.nested_kind(hint)
    return value if not of_yaml or isinstance(value, hint) else NOT_ONE


def _convert_list(collection: type, hints: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return NOT_ONE
    if collection is not tuple or len(hints) < 2 or hints[1] is Ellipsis:
        hints = (hints[0] if hints else Any,) * len(value)
    if len(hints) != len(value):
        return NOT_ONE
    items = [convert(hint, item) for hint, item in zip(hints, value, strict=True)]
    return NOT_ONE if any(item is NOT_ONE for item in items) else collection(items)


def _convert_mapping(hints: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, Mapping):
        return NOT_ONE
    items = {key: convert(hints[1] if hints else Any, item) for key, item in value.items()}
    return NOT_ONE if any(item is NOT_ONE for item in items.values()) else items


def to_number(hint: type, value: Any) -> Any:
    """`value` as int or float, or NOT_ONE."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOT_ONE
    if hint is int:
        return value if isinstance(value, int) else NOT_ONE
    try:
        return float(value) if math.isfinite(value) else NOT_ONE
    except OverflowError:  # a whole number beyond every float
        return NOT_ONE

"""Words for people: the nearest valid value, an error on one line, a count with its noun, no passwords."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

LISTED = 20
"""Valid values that are listed where none is near; of more, the first and how many there are."""


def closest(name: object, known: Iterable[object], *, unlisted: Iterable[str] = ()) -> str:
    """A sentence fragment that names the valid value nearest to `name`, or the first of all if none is near.

    Args:
        name: what was given.
        known: the valid values.
        unlisted: more of them, too many to be listed.
    """
    names = [str(item) for item in known]
    near = difflib.get_close_matches(str(name), [*names, *unlisted], n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    if not names:
        return "none is known"
    more = f", ... ({len(names)} in all)" if len(names) > LISTED else ""
    return f"known: {', '.join(sorted(names)[:LISTED])}{more}"


def one_line(text: str) -> str:
    """The text without line breaks and runs of spaces."""
    return " ".join(text.split())


def message_of(error: BaseException, length: int | None = None) -> str:
    """What an error says, on one line, cut to `length`; its type where it says nothing."""
    return cut(one_line(str(error)) or type(error).__name__, length)


def cause_of(error: BaseException, length: int | None = None) -> str:
    """An error's type and what it says, on one line, cut to `length`: `OutOfMemoryError: 3 GiB`."""
    return cut(one_line(f"{type(error).__name__}: {error}"), length)


def count(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def in_bytes(number: float) -> str:
    """`412 bytes`, `1.2 GB`: to two digits, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if unit == "bytes" or number >= 10 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def public(text: str) -> str:
    """The text without the user names and passwords of its URIs, also of passwords with `/` and `@` as they are."""
    return re.sub(r"//([^/\s:]*:(?!\d*/)\S*|[^/@\s]+)@", "//", text)


CUT = " ...[cut]"


def cut(text: str, length: int | None) -> str:
    """The text, its end replaced by `CUT` where it is longer."""
    return text if length is None or len(text) <= length else text[: length - len(CUT)] + CUT

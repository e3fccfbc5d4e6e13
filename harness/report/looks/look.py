"""The type of a look, and what those of portraits share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure

from harness.records.portrait import Portrait
from harness.report.cells import Cell
from harness.report.entry import Entry
from harness.report.model import Report
from harness.report.pictures.style import Svg
from harness.report.section import Picture, Section, Table

T = TypeVar("T")

CLASS_COLOURS = (
    "#0173B2", "#E69F00", "#019E73", "#D55F00", "#CC79A7", "#56B4E9", "#8C6D01", "#5E4FA2", "#E41A1C", "#6B6B6B",
)  # fmt: skip
"""Okabe and Ito's, and three more that stand apart from them. A shade off those that the report page changes in the
dark, so that a legend keeps the colours of its cloud of points, which are pixels."""

NAMED = 100
"""With more classes than these their names would be longer than the picture."""

CLASS_FORMS = "os^Dv*XPph"
"""Of each ten classes, which share colours: so a hundred can be told apart."""


@dataclass
class Look:
    """A picture that is not drawn yet, with what is said of it.

    Attributes:
        stem: the files' name without its ending.
        title: a heading.
        alt: what it shows, for those who do not see it: one sentence.
        caption: how to read it, with its numbers.
        draw: draws it.
        header: of a table of its numbers, if there is one.
        rows: of that table.
        notes: below the table.
    """

    stem: str
    title: str
    alt: str
    caption: str
    draw: Callable[[], Figure | Svg]
    header: list[str] = field(default_factory=list)
    rows: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def section(self) -> Section:
        """As a part of the report."""
        picture = Picture(self.stem, self.draw, self.alt, self.caption)
        table = [Table.of_rows(self.header, self.rows, self.notes, self.title)] if self.rows else []
        return Section(self.title, parts=[picture, *table])


def portraits(report: Report) -> list[tuple[Entry, Portrait]]:
    """The confirmed configurations that left a portrait, best first; of a search that nothing confirms, its best."""
    entries = [(entry, [files.portrait for files in entry.files.values() if files.portrait])
               for entry in report.confirmed or report.searched]  # fmt: skip
    return [(entry, of_seeds[0]) for entry, of_seeds in entries if of_seeds]


def whose(report: Report) -> str:
    """` of <the best configuration>`; nothing where all portraits show one encoder."""
    (best, first), *others = portraits(report)
    one = others and all(np.array_equal(first.points, portrait.points) for _, portrait in others)
    return "" if one else f" of {best.label}"


def some(items: Sequence[tuple[Entry, T]], report: Report, most: int) -> list[tuple[Entry, T]]:
    """The first `most` of what is shown of configurations, the reference's among them."""
    chosen = list(items[:most])
    reference = [item for item in items[most:] if report.is_reference(item[0])]
    return [*chosen[: most - len(reference)], *reference]


def colours(count: int) -> list[str]:
    """A colour for each class; with more than ten each comes again, under another of `CLASS_FORMS`."""
    return [CLASS_COLOURS[k % len(CLASS_COLOURS)] for k in range(count)]


def marker(number: int) -> str:
    """Of a class."""
    return CLASS_FORMS[number // len(CLASS_COLOURS) % len(CLASS_FORMS)]


def mosaic(tiles: np.ndarray, gap: int = 2) -> np.ndarray:
    """u8 [rows, columns, h, w, 3] as one picture with white gaps."""
    rows, columns, height, width, _ = tiles.shape
    picture = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for (row, column), tile in ((place, tiles[place]) for place in np.ndindex(rows, columns)):
        top, left = row * (height + gap), column * (width + gap)
        picture[top : top + height, left : left + width] = tile
    return picture

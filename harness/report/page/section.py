"""What the report page is made of: sections of pictures, tables and text, in the order in which they are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup
from matplotlib.figure import Figure


@dataclass
class Picture:
    """A figure on the page, and beside it as `<stem>.png` and `<stem>.svg`.

    What is exactly black takes the page's text colour, light or dark, and the background is left out; a colour that
    must stay as it is (a number on a pale cell) is any other.

    Attributes:
        stem: the files' name without its ending.
        figure: drawn without pyplot.
        alt: what it shows, for those who do not see it: one sentence.
        caption: how to read it; may be empty.
        photographs: whether it holds some, whose colours must stay.
    """

    stem: str
    figure: Figure
    alt: str
    caption: str = ""
    photographs: bool = False


@dataclass
class Table:
    """A table whose columns can be sorted; cells are plain text, of which the leading number is sorted by.

    Attributes:
        header: one title a column.
        rows: as many cells each; the first cell names the row.
        notes: below the table, one sentence each.
        name: what it shows, for those who hear the page.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    name: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Column by column, whether it holds numbers."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.header)
        return [all(_NUMBER.match(cell) or cell in ("–", "reference") for cell in column) for column in columns]


_NUMBER = re.compile(r"[<≥]?\s*[-+−]?[\d.]")


@dataclass
class Heading:
    """A heading below the section's."""

    text: str


@dataclass
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        anchor: its address in the page, such as `pairs`.
        parts: one below the other: headings, pictures, tables, paragraphs of plain text, in which `backquotes` set
            code, or HTML of one's own (`Markup`).
        caption: one or two sentences below the heading; may be empty.
    """

    title: str
    anchor: str
    parts: list[Heading | Picture | Table | Markup | str] = field(default_factory=list)
    caption: str = ""

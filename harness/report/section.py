"""What a report is made of: sections of text, pictures and tables, in the order in which they are read.

They hold data; `summary` writes them as Markdown, `page` as HTML, `terminal` in a window's width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from harness.report import words
from harness.report.cells import Cell, Shown
from harness.report.pictures.style import Svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A picture, on the page and beside it as `<stem>.svg`.

    What is exactly black takes the page's text colour, light or dark, and the background is left out; a colour that
    must stay as it is (a number on a pale cell) is any other.

    Attributes:
        stem: the file's name without its ending.
        draw: draws it without pyplot, each time anew: a figure, or an SVG without a background.
        alt: what it shows, for those who do not see it: one sentence.
        caption: how to read it; may be empty.
    """

    stem: str
    draw: Callable[[], Figure | Svg]
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: above it.
        cells: one a row.
        key: its name in files for programs; the title where it is empty.
        essential: whether a narrow terminal shows it, too.
    """

    title: str
    cells: Sequence[Cell]
    key: str = ""
    essential: bool = False

    @cached_property
    def shown(self) -> list[Shown]:
        """What a reader gets of each cell."""
        return [cell.show() for cell in self.cells]

    @cached_property
    def is_numeric(self) -> bool:
        """Whether it holds numbers and what stands for the lack of one."""
        return not any(isinstance(cell.value, str) for cell in self.shown)

    @property
    def says_nothing(self) -> bool:
        """Whether every cell is empty or 0."""
        return not any(cell.value for cell in self.shown)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: of equally many cells; the first names the rows.
        notes: below it, one sentence each.
        name: what it shows, for those who hear the page.
        anchors: of the rows, by which links on the page lead to them; none if left out.
    """

    columns: Sequence[Column]
    notes: Sequence[str] = ()
    name: str = ""
    anchors: Sequence[str] = ()

    @classmethod
    def of_rows(
        cls, titles: Sequence[str], rows: Sequence[Sequence[Cell]], notes: Sequence[str] = (), name: str = ""
    ) -> Table:
        """A table that is known row by row."""
        columns = [[row[place] for row in rows] for place in range(len(titles))]
        return cls([Column(title, cells) for title, cells in zip(titles, columns, strict=True)], notes, name)

    @property
    def titles(self) -> list[str]:
        """Of the columns."""
        return [column.title for column in self.columns]

    @property
    def rows(self) -> list[list[Cell]]:
        """The cells, row by row."""
        return [list(row) for row in zip(*(column.cells for column in self.columns), strict=True)]

    def records(self) -> list[dict[str, Any]]:
        """The table for programs, row by row: every value that its cells hold, by name."""
        keys = [column.key or column.title for column in self.columns]
        return [
            {name: value for key, cell in zip(keys, row, strict=True) for name, value in cell.fields(key).items()}
            for row in self.rows
        ]


@dataclass(frozen=True)
class Heading:
    """A heading below the section's."""

    text: str


Part = Heading | Picture | Table | Markup | str


def of_ground(parts: Sequence[Part], ground: str, number: int) -> list[Part]:
    """Parts that speak of one ground: its name stands in their headings, and its number in their pictures' files.

    Args:
        parts: of the ground.
        ground: its name; empty where there is one.
        number: 0 for the first, whose files have none.
    """

    def placed(part: Part) -> Part:
        if isinstance(part, Heading):
            return Heading(words.on_ground(part.text, ground))
        return replace(part, stem=f"{part.stem}_{number + 1}") if isinstance(part, Picture) and number else part

    return list(map(placed, parts))


@dataclass
class Section:
    """A part of a report.

    Attributes:
        title: its heading.
        anchor: its address on the page, such as `pairs`.
        parts: one below the other: headings, pictures, tables, paragraphs of plain text, in which `backquotes` set
            code, or HTML of one's own (`Markup`), which the page alone shows.
        caption: one or two sentences below the heading; may be empty.
    """

    title: str
    anchor: str = ""
    parts: list[Part] = field(default_factory=list)
    caption: str = ""

    @property
    def tables(self) -> list[Table]:
        """The tables among its parts."""
        return [part for part in self.parts if isinstance(part, Table)]

    @property
    def pictures(self) -> list[Picture]:
        """The pictures among its parts."""
        return [part for part in self.parts if isinstance(part, Picture)]

    def below(self) -> list[Part]:
        """Its parts under a heading, to be part of another section."""
        return [Heading(self.title), *([self.caption] if self.caption else []), *self.parts]

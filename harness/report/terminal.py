"""What a sweep found, on the terminal, within its width."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from harness import messages
from harness.report import across_tables, tables
from harness.report.cells import Shown
from harness.report.model import Report
from harness.report.section import Column, Table

if TYPE_CHECKING:
    import rich.console
    import rich.table

TERMINAL_SEARCH_ROWS = 10
"""How many configurations of a search are listed."""

NAME_WIDTH = 20
"""Of the rows' names, before columns are left out; a longer name takes several lines."""

EDGES = 2
"""Characters on the left and right of a table."""

TEXT_WIDTH = 14
"""Of other words, which take as many lines as they need, and the least of the names."""


def print_report(report: Report) -> None:
    """Prints all there is to say of a sweep to the terminal, the answer last."""
    print_tables(report)
    print_answer(report)


def print_answer(report: Report) -> None:
    """Prints the answer and what belongs to it; the last that a person reads."""
    console = _console()
    console.print(f"\n[bold]{_shown(report.space['name'])}[/bold]: {_shown(report.answer)}")
    for paragraph in report.about:
        console.print(_shown(paragraph))


def print_tables(report: Report) -> None:
    """Prints what a reader must know, the tables, what failed, and which files have more, each path on a line."""
    console = _console()
    for note in report.all_notes:
        console.print(f"[yellow]{_shown(note)}[/yellow]")
    sections = [*tables.comparison_tables(report), *across_tables.across_sections(report)]
    for section in [*sections, *tables.search_tables(report, TERMINAL_SEARCH_ROWS)]:
        for table in section.tables:
            console.print(grid(table, console.width))
    if report.failures:
        console.print(f"[red]{messages.count(len(report.failures), 'trial')} failed:[/red]")
        for trial, cause in report.failures.items():
            console.print(_shown(f"  {trial}: {cause}"))
    console.print("written:")
    for name in ("report.html", "summary.md", "leaderboard.csv"):
        console.print(_shown(f"  {report.folder / name}"), soft_wrap=True)


def _console() -> rich.console.Console:
    """Of stdout; a reader that has left is an error like any other, where rich would end the process, with status 1."""
    from rich.console import Console

    console = Console(highlight=False)
    console.on_broken_pipe = _reader_left  # type: ignore[method-assign]
    return console


def _reader_left() -> None:
    raise BrokenPipeError


def _shown(text: str) -> str:
    """Text that is no markup of rich's and no command to the terminal."""
    from rich.markup import escape

    return escape(messages.printable(text))


def grid(table: Table, width: int) -> rich.table.Table:
    """A table for so many characters: the essential columns, and the others from the left as far as they fit."""
    from rich import box
    from rich.table import Table as Grid

    columns = _fitting(table.columns, width)
    drawn = Grid(
        title=_shown(table.name), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    drawn.add_column(_shown(columns[0].title), overflow="fold", min_width=TEXT_WIDTH)
    for column in columns[1:]:
        drawn.add_column(_shown(_title(column)), justify="right" if column.is_numeric else "left", no_wrap=True)
    texts = [[cell.head for cell in columns[0].shown], *([_stacked(cell) for cell in c.shown] for c in columns[1:])]
    for row in zip(*texts, strict=True):
        drawn.add_row(*map(_shown, row))
    return drawn


def _fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns that are shown, in their order."""
    names, *others = columns
    longest = max(len(cell.head) for cell in names.shown)
    left = width - EDGES - max(TEXT_WIDTH, min(longest, NAME_WIDTH))
    left -= sum(_width(column) for column in others if column.essential)
    chosen = [names]
    for column in others:
        if column.essential:
            chosen.append(column)
        elif _width(column) <= left:
            chosen.append(column)
            left -= _width(column)
    return chosen


def _width(column: Column) -> int:
    """Of its widest line, and of the gap before it."""
    texts = [_title(column), *(_stacked(cell) for cell in column.shown)]
    return 1 + max(len(line) for text in texts for line in text.splitlines())


def _title(column: Column) -> str:
    return column.title.replace("/", "/\n").replace(" (", "\n(")


def _stacked(cell: Shown) -> str:
    """The head, and below it its spread, without which it would be too wide; words on several lines."""
    if isinstance(cell.value, str):
        return "\n".join(wrap(cell.brief or cell.head, TEXT_WIDTH))
    spread = cell.spread.strip().replace("± ", "±")
    return f"{cell.head}{cell.mark}" + (f"\n{spread}" if spread else "")

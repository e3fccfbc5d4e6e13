"""Who won: the confirmed configurations, the same under other classifiers, and what was searched."""

from __future__ import annotations

from harness import summary
from harness.findings import Report
from harness.page.section import Heading, Section, Table
from harness.sections import Section as Part

SEARCH_ROWS = 200
"""How many configurations of a search are listed on the page."""


def confirmed(report: Report) -> Section | None:
    """The comparison on test data."""
    parts = [*summary.confirmed(report), *summary.beside(report)]
    if not parts:
        return None
    first, *others = parts
    section = Section("Leaderboard", "leaderboard", [_table(first)])
    for part in others:
        section.parts += [Heading(part.title), _table(part)]
    return section


def searched(report: Report) -> Section | None:
    """The search on validation data."""
    for part in summary.searched(report, SEARCH_ROWS):
        return Section(part.title, "search", [_table(part)], " ".join(part.text))
    return None


def _table(part: Part) -> Table:
    return Table(part.header, part.rows, part.notes, part.title)

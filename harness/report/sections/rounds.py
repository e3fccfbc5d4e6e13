"""What several rounds show: learning curves, who beats whom, ranks, and which picks were shared."""

from __future__ import annotations

from harness.report import summary, tables
from harness.report.model import Report
from harness.report.page.section import Heading, Picture, Section, Table
from harness.report.pictures import rounds as round_pictures


def curves(report: Report) -> Section | None:
    """The pictures and tables of `harness.sections`, or the curves alone where there are no two to compare."""
    if report.rounds is None:
        for part in summary.curves(report):
            table = Table(part.header, part.rows, part.notes, part.title)
            return Section("Learning curves", "curves", [table], part.title.partition(": ")[2])
        return None
    figures = round_pictures.figures(report.rounds)
    section = Section("Over the rounds", "rounds", caption=tables.answer(report.rounds))
    for part in tables.sections(report.rounds):
        section.parts.append(Heading(part.title))
        section.parts += [Picture(stem, figures[stem], alt) for stem, alt in part.pictures.items()]
        section.parts += part.text
        if part.rows:
            rows = [[cell.strip("*") for cell in row] for row in part.rows]  # what is bold in `summary.md`
            section.parts.append(Table(part.header, rows, part.notes, part.title))
    return section

"""What several rounds show: learning curves first, then who beats whom, ranks, and which picks were shared."""

from __future__ import annotations

from harness.report import round_tables, tables
from harness.report.model import Report
from harness.report.section import Section


def over_rounds(report: Report) -> Section | None:
    """The one table and the one picture that say most; the curves alone where there are no two to compare."""
    if report.rounds:
        first, *others = round_tables.leading_sections(report.rounds)
        picture, *others = others
        parts = [*first.parts, *picture.parts, *(part for section in others for part in section.below())]
        return Section(first.title, "rounds", parts)  # what is said of it is the answer
    return None


def by_round(report: Report) -> Section | None:
    """Everything else that several rounds show."""
    if report.rounds:
        parts = [part for section in round_tables.detailed_sections(report.rounds) for part in section.below()]
        return Section("Round by round", "by_round", parts)
    sections = tables.curve_tables(report)
    if not sections:
        return None
    parts = [*sections[0].parts, *(part for section in sections[1:] for part in section.below())]
    return Section("Learning curves", "curves", parts, sections[0].title.partition(": ")[2])

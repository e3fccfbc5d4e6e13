"""What several rounds show: learning curves, who beats whom, ranks, and which picks were shared."""

from __future__ import annotations

from harness.report import round_tables, tables
from harness.report.model import Report
from harness.report.section import Section


def rounds_section(report: Report) -> Section | None:
    """The pictures and tables of `round_tables`, or the curves alone where there are no two to compare."""
    if report.rounds:
        parts = [part for section in round_tables.round_sections(report.rounds) for part in section.below()]
        return Section("Over the rounds", "rounds", parts, round_tables.answer_over_rounds(report.rounds))
    for section in tables.curve_tables(report):
        return Section("Learning curves", "curves", section.parts, section.title.partition(": ")[2])
    return None

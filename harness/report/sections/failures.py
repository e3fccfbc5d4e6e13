"""Which trials failed, and why."""

from __future__ import annotations

from harness.report import summary
from harness.report.model import Report
from harness.report.page.section import Section, Table


def failures(report: Report) -> Section | None:
    """Every failed trial with its cause."""
    for part in summary.failed(report):
        return Section(part.title, "failed", [Table(part.header, part.rows, name=part.title)])
    return None

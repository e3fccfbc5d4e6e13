"""Which trials failed, and why."""

from __future__ import annotations

from harness import summary
from harness.findings import Report
from harness.page.section import Section, Table


def failures(report: Report) -> Section | None:
    """Every failed trial with its cause."""
    for part in summary.failed(report):
        return Section(part.title, "failed", [Table(part.header, part.rows, name=part.title)])
    return None

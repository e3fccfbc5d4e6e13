"""Which trials failed, and why."""

from __future__ import annotations

from harness.report import tables
from harness.report.model import Report
from harness.report.section import Section


def failures(report: Report) -> Section | None:
    """Every failed trial with its cause."""
    for section in tables.failed(report):
        return Section(section.title, "failed", section.parts)
    return None

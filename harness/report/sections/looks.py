"""What was learnt and picked: maps, neighbours, classes, and the augmentation on real images."""

from __future__ import annotations

from harness.report.looks import gallery
from harness.report.model import Report
from harness.report.section import Section


def looks(report: Report) -> Section | None:
    """The pictures and tables of `looks.gallery`."""
    parts = [part for section in gallery.look_sections(report) for part in section.below()]
    return Section("What was learnt and picked", "looks", parts) if parts else None

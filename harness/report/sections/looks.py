"""What was learnt and picked: maps, neighbours, classes, and the augmentation on real images."""

from __future__ import annotations

from harness.report.looks import gallery
from harness.report.model import Report
from harness.report.page.section import Heading, Picture, Section, Table


def looks(report: Report) -> Section | None:
    """The pictures and tables of `harness.looks`."""
    section = Section("What was learnt and picked", "looks")
    for look in gallery.find(report):
        section.parts.append(Heading(look.title))
        section.parts.append(Picture(look.stem, look.draw(), look.alt, look.caption, look.photographs))
        if look.rows:
            section.parts.append(Table(look.header, look.rows, look.notes, look.title))
    return section if section.parts else None

"""What was learnt and picked: maps, neighbours, classes, and the augmentation on real images."""

from __future__ import annotations

from harness import looks as found
from harness.findings import Report
from harness.page.section import Heading, Picture, Section, Table


def looks(report: Report) -> Section | None:
    """The pictures and tables of `harness.looks`."""
    section = Section("What was learnt and picked", "looks")
    for look in found.find(report):
        section.parts.append(Heading(look.title))
        section.parts.append(Picture(look.stem, look.draw(), look.alt, look.caption, look.photographs))
        if look.rows:
            section.parts.append(Table(look.header, look.rows, look.notes, look.title))
    return section if section.parts else None

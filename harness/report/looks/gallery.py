"""What a sweep shows of the encoders it learned and of the images it picked: pictures, and tables of their numbers.

Each picture is found by a function `(report) -> Look | None`, None where the sweep has no data for it. `LOOKS` is the
table of contents.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.report.looks import balance, classes, maps, neighbors, views
from harness.report.looks.look import Look
from harness.report.model import Report
from harness.report.section import Section

__all__ = ["LOOKS", "Look", "find", "sections"]
LOOKS: tuple[Callable[[Report], Look | None], ...] = (
    maps.embedding,
    maps.encoders,
    neighbors.neighbors,
    classes.accuracy,
    classes.confusion,
    maps.picks,
    balance.balance,
    views.views,
)
"""In the order of `summary.md` and of the report page, which draws them (`harness.page.looks`)."""


def find(report: Report) -> list[Look]:
    """Every picture that the sweep has data for; nothing is drawn yet."""
    return [look for build in LOOKS if (look := build(report))]


def sections(report: Report) -> list[Section]:
    """The same as parts of a report."""
    return [look.section() for look in find(report)]

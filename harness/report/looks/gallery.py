"""The table of contents of the looks: what a sweep shows of the encoders it learned and of the images it picked.

Each look is made by a function `(report) -> Look | None`, None where the sweep has no data for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from harness.report.looks import balance, classes, maps, neighbors, views
from harness.report.looks.look import Look
from harness.report.model import Report
from harness.report.section import Section

__all__ = ["LOOKS", "Look", "find_looks", "look_sections"]
LOOKS: tuple[Callable[[Report], Look | None], ...] = (
    maps.embedding,
    maps.encoders,
    neighbors.neighbors,
    classes.class_accuracy,
    classes.confusion,
    maps.picks,
    balance.balance,
    views.views,
)
"""In the order of `summary.md` and of the report page."""


@lru_cache(maxsize=1)  # the summary and the page ask for the same
def find_looks(report: Report) -> tuple[Look, ...]:
    """Every look that the sweep has data for; nothing is drawn yet."""
    return tuple(look for build in LOOKS if (look := build(report)))


def look_sections(report: Report) -> list[Section]:
    """The same as parts of a report."""
    return [look.section() for look in find_looks(report)]

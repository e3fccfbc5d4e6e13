"""The report page: one self-contained `report.html`, which needs no network and no script to be read.

Each section is built by a function of its own module, `(report) -> Section | None`, None where the sweep has no data
for it; `SECTIONS` is the page's table of contents.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path

from harness import messages
from harness.files import replace_text
from harness.report import provenance
from harness.report.model import Report
from harness.report.page.document import PageHead, render
from harness.report.pictures import style
from harness.report.section import Section
from harness.report.sections import (
    deviations,
    failures,
    hyperparameters,
    images,
    leaderboard,
    looks,
    pairs,
    rounds,
    timeline,
    times,
    trials,
)

PAGE_SECTIONS: tuple[Callable[[Report], Section | None], ...] = (
    rounds.over_rounds,
    leaderboard.comparison_section,
    leaderboard.search_section,
    images.images,
    pairs.pairs,
    hyperparameters.hyperparameters,
    rounds.by_round,
    looks.looks,
    trials.trials,
    times.times,
    timeline.timeline,
    failures.failures,
    deviations.deviations,
)
"""In the order of the page."""

OF_OVERLAPS = "(see data.duplicates)"
"""Ends a note that test or validation images are trained on: that questions the figures, how data were read does not.
The words are `harness.data`'s, which a report does not load; a test holds the two together."""


def page_sections(report: Report) -> list[Section]:
    """Every section that the sweep has data for; no picture is drawn yet."""
    return [section for build in PAGE_SECTIONS if (section := build(report))]


def write_page(report: Report) -> None:
    """Writes `report.html` into the sweep's folder, and every picture of it as SVG."""
    text = messages.printable(render(_head(report), page_sections(report), report.folder))
    replace_text(report.folder / "report.html", text)  # who looks at it meanwhile sees the one or the other, whole


def write_figures(report: Report, kind: str) -> Path:
    """Writes every picture into the sweep's folder `figures`, as files of a kind such as `pdf`.

    One that cannot be drawn is said, and costs no other.
    """
    folder = report.folder / "figures"
    folder.mkdir(exist_ok=True)
    for picture in (picture for section in page_sections(report) for picture in section.pictures):
        try:
            style.save_figure(picture.draw(), folder / f"{picture.stem}.{kind}")
        except Exception as error:
            cause = f"{picture.stem} could not be drawn: {messages.cause_of(error, 300)}"
            print(messages.printable(f"{folder}: the picture {cause}"), file=sys.stderr)
    return folder


def _head(report: Report) -> PageHead:
    space = report.space
    started = str(report.environment.get("started") or "")[:10]
    of_data = {f"{note}." for data in report.environment["datasets"] for note in data.get("notes", [])}
    overlaps = [note for note in report.all_notes if note in of_data and note.endswith(f"{OF_OVERLAPS}.")]
    return PageHead(
        space["name"],
        f"selbench report, sweep of {started}" if started else "selbench report",
        messages.one_line(space.get("description") or ""),
        about(report.folder / "space.yaml"),
        [report.answer, *report.about],
        [*filter(None, [" ".join(overlaps)]), *(note for note in report.all_notes if note not in of_data)],
        [note for note in report.all_notes if note in of_data and note not in overlaps],
        provenance.facts(report),
    )


def about(file: Path) -> list[str]:
    """What a search space's opening comment says beside the question, a paragraph each.

    A line such as `Data: ...` begins a paragraph, which lines that are indented continue; so does the line after it.
    """
    comment = itertools.takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    lines = [line.removeprefix("#").removeprefix(" ").rstrip() for line in comment]
    named = re.compile(r"(?!Question:)[A-Z]\w*:(\s|$)")
    paragraphs: list[str] = []
    for line in itertools.dropwhile(lambda line: not named.match(line), lines):
        begins = named.match(line) or (named.match(paragraphs[-1]) and not line.startswith(" ")) or not paragraphs[-1]
        if begins:
            paragraphs.append(messages.one_line(line))
        else:
            paragraphs[-1] = f"{paragraphs[-1]} {line.strip()}".strip() if line else paragraphs[-1]
    return [paragraph for paragraph in paragraphs if paragraph]

"""Who won: the confirmed configurations, the same under other classifiers, and what was searched."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from harness.report import cells, summary
from harness.report.compare import NO_EVIDENCE, Estimate
from harness.report.model import Entry, Report
from harness.report.page.section import Heading, Picture, Section, Table
from harness.report.pictures import style
from harness.report.tables import Section as Part

SEARCH_ROWS = 200
"""How many configurations of a search are listed on the page."""


DRAWN_ROWS = 30
"""How many confirmed configurations are drawn."""


def confirmed(report: Report) -> Section | None:
    """The comparison on test data."""
    parts = [*summary.confirmed(report), *summary.beside(report)]
    if not parts:
        return None
    first, *others = parts
    section = Section("Leaderboard", "leaderboard")
    if any(entry.comparison for entry in report.confirmed):
        section.parts.append(_intervals(report))
    section.parts.append(_table(first, ["configuration", report.measure, *_DIFFERENCE], report))
    for part in others:
        section.parts += [Heading(part.title), _table(part, ["configuration", part.header[1], *_DIFFERENCE], report)]
    return section


def searched(report: Report) -> Section | None:
    """The search on validation data."""
    for part in summary.searched(report, SEARCH_ROWS):
        table = Table(part.header, part.rows, part.notes, part.title)
        return Section(part.title, "search", [table], " ".join(part.text))
    return None


_DIFFERENCE = ["difference", "verdict"]


def _table(part: Part, first: Sequence[str], report: Report) -> Table:
    """The table of `summary.md` with what matters most on the left, and without columns that say nothing."""
    header = ["difference" if title.endswith(" - reference") else title for title in part.header]
    columns = dict(zip(header, zip(*part.rows, strict=True), strict=True))
    columns["verdict"] = tuple(map(_short_verdict, columns["verdict"]))
    said = [title for title in header if title in first or not set(columns[title]) <= {"0", "–"}]
    order = [*first, *(title for title in said if title not in first)]
    rows = list(zip(*(columns[title] for title in order), strict=True))
    versus = f"difference to {report.reference.label}" if report.reference else "difference"
    shown = [versus if title == "difference" else title for title in order]
    return Table(shown, rows, part.notes, part.title)


def _short_verdict(words: str) -> str:
    return words.replace(f"{NO_EVIDENCE} after Holm's correction", "no evidence (Holm)").replace(
        NO_EVIDENCE, "no evidence"
    )


def _intervals(report: Report) -> Picture:
    """Two panels: every mean with its interval, and every paired difference to the reference with its own."""
    entries = report.confirmed[:DRAWN_ROWS]
    names = [style.wrapped(entry.label) for entry in entries]
    figure = style.canvas(8.6, (0.36 if any("\n" in name for name in names) else 0.27) * len(entries) + 1.0)
    left, right = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": [1, 1]})
    factor, unit = cells.scale(report.measure)
    assert report.reference is not None
    for place, entry in enumerate(entries):
        colour, marker = _look(report, entry)
        mean = entry.estimate(report.measure)
        if mean:
            _interval(left, place, mean, factor, colour, marker)
        if entry.comparison:
            _interval(right, place, entry.comparison.difference, factor, colour, marker)
    right.axvline(0, color=style.REFERENCE, linewidth=1, linestyle=(0, (5, 2)))
    left.set_yticks(range(len(entries)), names, fontsize=9)
    left.set_ylim(len(entries) - 0.5, -0.5)
    left.set_xlabel(f"{report.measure}{f' ({unit})' if unit else ''}")
    right.set_xlabel(f"difference to {style.short(report.reference.label)}" + (" (points)" if unit == "%" else ""))
    for axes in (left, right):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#E5E5E5", linewidth=0.7)
        axes.set_axisbelow(True)
    count = f"The first {len(entries)} of {len(report.confirmed)}. " if len(entries) < len(report.confirmed) else ""
    return Picture(
        "leaderboard",
        figure,
        f"Means of {report.measure} and paired differences to {report.reference.label}, with 95 % intervals",
        f"{count}Left: mean over seeds with its 95 % interval. Right: the difference seed by seed, whose interval is "
        "the one to judge by. Blue: better, orange: worse than the reference after Holm's correction; grey: no "
        "evidence of a difference; diamond: the reference.",
    )


def _look(report: Report, entry: Entry) -> tuple[str, str]:
    if entry is report.reference:
        return style.REFERENCE, "D"
    return {"better": style.BETTER, "worse": style.WORSE}.get(entry.verdict, style.UNCLEAR), "o"


def _interval(axes: Axes, place: int, value: Estimate, factor: float, colour: str, marker: str) -> None:
    half = factor * (value.half or 0)
    axes.errorbar(factor * value.mean, place, xerr=half or None, fmt=marker, color=colour, markersize=5, linewidth=1.5)

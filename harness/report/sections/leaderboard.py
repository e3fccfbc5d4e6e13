"""Who won: the confirmed configurations, the same under other classifiers, and what was searched."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.report import across_tables, tables, words
from harness.report.cells import Difference, Mean
from harness.report.compare import Estimate
from harness.report.entry import Entry
from harness.report.model import Report
from harness.report.pictures import style
from harness.report.section import Heading, Picture, Section

PAGE_SEARCH_ROWS = 200
"""How many configurations of a search are listed on the page."""

DRAWN_ROWS = 30
"""How many confirmed configurations are drawn."""


def comparison_section(report: Report) -> Section | None:
    """The comparison on test data."""
    section = Section("Leaderboard", "leaderboard")
    pictures = _intervals(report)
    for number, part in enumerate(tables.comparison_tables(report)):
        heading = [Heading(part.title)] if len(report.blocks) > 1 else []
        section.parts += [*heading, *pictures[number : number + 1], *part.parts]
    for part in across_tables.across_sections(report):
        section.parts += part.below()
    for other in tables.tables_of_other_classifiers(report):
        section.parts += other.below()
    return section if section.parts else None


def search_section(report: Report) -> Section | None:
    """The search on validation data."""
    for section in tables.search_tables(report, PAGE_SEARCH_ROWS):
        return Section(section.title, "search", section.parts, section.caption)
    return None


def _intervals(report: Report) -> list[Picture]:
    """Of each ground two panels: every mean and every paired difference to the reference, with their intervals."""
    if report.reference is None or not any(entry.judgement for entry in report.confirmed):
        return []
    return [
        _intervals_of(report, block, entries, f"leaderboard_{number + 1}" if number else "leaderboard")
        for number, (block, entries) in enumerate(report.blocks.items())
    ]


def _intervals_of(report: Report, block: str, entries: Sequence[Entry], stem: str) -> Picture:
    reference = report.reference_name
    shown, count = min(DRAWN_ROWS, len(entries)), len(entries)
    rows = f"The first {shown} of {count}. " if shown < count else ""
    where = f" on {block}" if block else ""
    return Picture(
        stem,
        partial(_draw, report, entries[:DRAWN_ROWS], reference),
        f"Means of {report.measure}{where} and paired differences to {reference}, with 95 % intervals",
        f"{rows}Left: the difference seed by seed, whose interval is the one to judge by. Right: mean over seeds with "
        "its 95 % interval. Blue: better, orange: worse than the reference after Holm's correction; grey: "
        "neither can be said; diamond: the reference.",
    )


def _draw(report: Report, entries: Sequence[Entry], reference: str) -> Figure:
    names = [style.wrapped(entry.name) for entry in entries]
    figure = style.canvas(8.6, (0.36 if any("\n" in name for name in names) else 0.27) * len(entries) + 1.0)
    differences, means = figure.subplots(1, 2, sharey=True)  # what is judged by is beside the names, seen on a phone
    factor, unit = words.scale(report.measure)
    for place, entry in enumerate(entries):
        colour, marker = _look(report, entry)
        mean = entry.estimate(report.measure)
        name = entry.name
        if mean:
            _interval(means, place, mean, factor, colour, marker)
            told = str(Mean(report.measure, mean))
            style.tell(means, name, [factor * mean.mean], [place], [f"{report.measure} {told}"], entry.link)
        if entry.judgement:
            difference = entry.judgement.difference
            _interval(differences, place, difference, factor, colour, marker)
            told = f"{Difference(report.measure, entry.judgement)}: {entry.verdict}"
            style.tell(differences, name, [factor * difference.mean], [place], [told], entry.link)
    differences.axvline(0, color=style.REFERENCE, linewidth=1, linestyle=(0, (5, 2)))
    differences.set_yticks(range(len(entries)), names, fontsize=9)
    differences.set_ylim(len(entries) - 0.5, -0.5)
    means.set_xlabel(words.axis(report.measure))
    differences.set_xlabel(f"difference to {style.short(reference)}" + (" (points)" if unit == "%" else ""))
    for axes in (differences, means):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#E5E5E5", linewidth=0.7)
        axes.set_axisbelow(True)
    return figure


def _look(report: Report, entry: Entry) -> tuple[str, str]:
    if report.is_reference(entry):
        return style.REFERENCE, "D"
    return {"better": style.BETTER, "worse": style.WORSE}.get(entry.kind, style.UNCLEAR), "o"


def _interval(axes: Axes, place: int, value: Estimate, factor: float, colour: str, marker: str) -> None:
    bar = style.error_bar(value, factor)
    axes.errorbar(factor * value.mean, place, xerr=bar, fmt=marker, color=colour, markersize=5, linewidth=1.5)

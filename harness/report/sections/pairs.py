"""Which two augmentations: the heat map of SimCLR's figure 5, first by second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.records import names
from harness.report import words
from harness.report.entry import Entry, by_ground
from harness.report.model import Report
from harness.report.pictures import style
from harness.report.section import Heading, Picture, Section, of_ground

FIRST, SECOND = "augmentation.first", "augmentation.second"


@dataclass(frozen=True)
class Pairs:
    """What was measured of each pair.

    Attributes:
        measure: the metric.
        rows: first operations.
        columns: second operations.
        panels: `best`, and `mean` where a pair was tried several times -> pair -> value.
        stopped: pairs of which every trial was stopped early.
    """

    measure: str
    rows: Sequence[str]
    columns: Sequence[str]
    panels: dict[str, dict[tuple[str, str], float]]
    stopped: set[tuple[str, str]]


def pairs(report: Report) -> Section | None:
    """Best and mean of every pair that was tried on each ground; None unless both halves of the pair vary."""
    entries, measure = (report.searched, report.goal) if report.searched else (report.confirmed, report.measure)
    section = Section("Augmentation pairs", "pairs")
    for number, (ground, of) in enumerate(by_ground(entries).items()):
        heading = [Heading("Best and mean of each pair")] if ground else []
        if picture := _of_ground(report, of, measure):
            section.parts += of_ground([*heading, picture], ground, number)
    return section if section.parts else None


def _of_ground(report: Report, entries: Sequence[Entry], measure: str) -> Picture | None:
    entries = [entry for entry in entries if {FIRST, SECOND} <= entry.parameters.keys()]
    rows, columns = (_operations(report, entries, path) for path in (FIRST, SECOND))
    if len(rows) < 2 or len(columns) < 2:
        return None
    measured: dict[tuple[str, str], list[float]] = {}
    tried: set[tuple[str, str]] = set()
    for entry in entries:
        pair = names.show_value(entry.parameters[FIRST]), names.show_value(entry.parameters[SECOND])
        tried.add(pair)
        mean = report.level(entry, measure)
        if mean is not None:
            measured.setdefault(pair, []).append(mean)
    if not measured:
        return None
    choose = max if report.maximize else min
    panels = {"best": {pair: choose(values) for pair, values in measured.items()}}
    if any(len(values) > 1 for values in measured.values()):
        panels["mean"] = {pair: float(np.mean(values)) for pair, values in measured.items()}
    best = choose(panels["best"], key=panels["best"].__getitem__)
    table = Pairs(measure, rows, columns, panels, tried - measured.keys())
    return _picture(table, best)


def _operations(report: Report, entries: Sequence[Entry], path: str) -> list[str]:
    """In the order of the question, then those that only appear in the records."""
    domain = (report.space.get("parameters") or {}).get(path)
    asked = domain.get("values", []) if isinstance(domain, Mapping) else []
    named: list[Any] = [*asked, *(entry.parameters[path] for entry in entries)]
    return list(dict.fromkeys(names.show_value(value) for value in named))


def _picture(pairs: Pairs, best: tuple[str, str]) -> Picture:
    measure, unit = pairs.measure, words.scale(pairs.measure)[1]
    tried, all_pairs = len(pairs.panels["best"]) + len(pairs.stopped), len(pairs.rows) * len(pairs.columns)
    crosses = " A cross: tried, but every trial was stopped early, so it has no figure." if pairs.stopped else ""
    empty = f" Empty cells were not tried ({tried} of {all_pairs} pairs were)." if tried < all_pairs else ""
    split = " Validation data: the best of many looks better here than it is." if measure.startswith("val/") else ""
    return Picture(
        "pairs",
        partial(_draw, pairs),
        f"Heat map of {measure} by first and second augmentation; the best pair is {best[0]}, then {best[1]}",
        f"{measure}{f' in {unit}' if unit else ''} by the first operation (rows) and the second (columns): the best"
        + (" and the mean over the trials of a pair" if len(pairs.panels) > 1 else " trial of each pair")
        + f".{crosses}{empty}{split}",
    )


def _draw(pairs: Pairs) -> Figure:
    rows, columns, panels = pairs.rows, pairs.columns, pairs.panels
    cell = 0.42
    figure = style.canvas(
        len(panels) * (cell * len(columns) + 0.4) + 1.2, cell * len(rows) + (1.75 if len(panels) > 1 else 1.45)
    )
    factor = words.scale(pairs.measure)[0]
    ends = [factor * value for panel in panels.values() for value in panel.values()]
    low, high = min(ends), max(ends)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (name, values) in zip(grid, panels.items(), strict=True):
        table = np.full((len(rows), len(columns)), np.nan)
        for (first, second), value in values.items():
            table[rows.index(first), columns.index(second)] = factor * value
        _panel(axes, table, rows, columns, low, high)
        for first, second in pairs.stopped:
            place = columns.index(second) + 0.5, rows.index(first) + 0.5
            axes.plot(*place, "x", color=style.UNCLEAR, markersize=5)
        if len(panels) > 1:
            axes.set_title(name, fontsize=10)
        axes.set_xlabel("second")
    figure.axes[0].set_ylabel("first")
    return figure


def _panel(axes: Axes, table: np.ndarray, rows: Sequence[str], columns: Sequence[str], low: float, high: float) -> None:
    span = (high - low) or 1.0
    axes.pcolormesh(np.zeros_like(table), alpha=0, edgecolor="#DDDDDD", linewidth=0.6)  # the grid, of empty cells too
    shades = 0.15 + 0.85 * (np.ma.masked_invalid(table) - low) / span  # the lowest is not white: it was measured
    axes.pcolormesh(shades, cmap="Blues", vmin=0, vmax=1.1, edgecolor="#DDDDDD", linewidth=0.6)
    axes.set_aspect("equal")
    axes.set_ylim(len(rows), 0)
    axes.set_xticks(np.arange(len(columns)) + 0.5, [style.short(c, 16) for c in columns], rotation=90)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [style.short(row, 16) for row in rows])
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            colour = style.LIGHT if shades[i, j] > 0.65 else style.DARK
            axes.text(
                j + 0.5,
                i + 0.5,
                f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color=colour,
            )

"""Which two augmentations: the heat map of SimCLR's figure 5, first by second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from harness.records import names
from harness.report import cells
from harness.report.model import Entry, Report
from harness.report.page.section import Picture, Section
from harness.report.pictures import style

FIRST, SECOND = "augmentation.first", "augmentation.second"
Cells = dict[tuple[str, str], list[float]]


def pairs(report: Report) -> Section | None:
    """Best and mean of every pair that was tried; None unless both halves of the pair vary."""
    entries, measure = (report.searched, report.goal) if report.searched else (report.confirmed, report.measure)
    entries = [entry for entry in entries if {FIRST, SECOND} <= entry.parameters.keys()]
    rows, columns = (_operations(report, entries, path) for path in (FIRST, SECOND))
    if len(rows) < 2 or len(columns) < 2:
        return None
    found: Cells = {}
    stopped: set[tuple[str, str]] = set()
    for entry in entries:
        pair = names.show(entry.parameters[FIRST]), names.show(entry.parameters[SECOND])
        mean = entry.mean(measure)
        if mean is None:
            stopped.add(pair)
        else:
            found.setdefault(pair, []).append(mean)
    if not found:
        return None
    return Section("Augmentation pairs", "pairs", [_picture(report, measure, rows, columns, found, stopped)])


def _operations(report: Report, entries: Sequence[Entry], path: str) -> list[str]:
    """In the order of the question, then those that only appear in the records."""
    about = (report.space.get("parameters") or {}).get(path)
    asked = about.get("values", []) if isinstance(about, Mapping) else []
    named: list[Any] = [*asked, *(entry.parameters[path] for entry in entries)]
    return list(dict.fromkeys(names.show(value) for value in named))


def _picture(
    report: Report,
    measure: str,
    rows: Sequence[str],
    columns: Sequence[str],
    found: Cells,
    stopped: set[tuple[str, str]],
) -> Picture:
    choose = max if report.maximize else min
    panels = {"best": {pair: choose(values) for pair, values in found.items()}}
    if any(len(values) > 1 for values in found.values()):
        panels["mean"] = {pair: float(np.mean(values)) for pair, values in found.items()}
    cell = 0.42
    figure = style.canvas(
        len(panels) * (cell * len(columns) + 0.4) + 1.2, cell * len(rows) + (1.75 if len(panels) > 1 else 1.45)
    )
    factor, unit = cells.scale(measure)
    ends = [factor * value for panel in panels.values() for value in panel.values()]
    low, high = min(ends), max(ends)
    for axes, (name, values) in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(),
                                    strict=True):  # fmt: skip
        table = np.full((len(rows), len(columns)), np.nan)
        for (first, second), value in values.items():
            table[rows.index(first), columns.index(second)] = factor * value
        _panel(axes, table, rows, columns, low, high)
        for first, second in stopped - found.keys():
            place = columns.index(second) + 0.5, rows.index(first) + 0.5
            axes.plot(*place, "x", color=style.UNCLEAR, markersize=5)
        if len(panels) > 1:
            axes.set_title(name, fontsize=10)
        axes.set_xlabel("second")
    figure.axes[0].set_ylabel("first")
    best = choose(panels["best"], key=panels["best"].__getitem__)
    tried = len(found.keys() | stopped)
    crosses = (
        " A cross: tried, but every trial was stopped early, so it has no figure." if stopped - found.keys() else ""
    )
    empty = f" Empty cells were not tried ({tried} of {len(rows) * len(columns)} pairs were)."
    split = " Validation data: the best of many looks better here than it is." if measure.startswith("val/") else ""
    return Picture(
        "pairs",
        figure,
        f"Heat map of {measure} by first and second augmentation; the best pair is {best[0]}, then {best[1]}",
        f"{measure}{f' in {unit}' if unit else ''} by the first operation (rows) and the second (columns): the best"
        + (" and the mean over the trials of a pair" if len(panels) > 1 else " trial of each pair")
        + f".{crosses}{empty if tried < len(rows) * len(columns) else ''}{split}",
    )


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

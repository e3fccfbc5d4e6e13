"""Which classes the picks are of, beside the pool's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from harness.report.cells import Cell, Count, Empty, Number, Spread, Text
from harness.report.compare import Estimate, estimate
from harness.report.entry import Entry
from harness.report.looks.look import Look, some
from harness.report.model import Report
from harness.report.pictures.style import REFERENCE, canvas, clean, short

MOST_PANELS = 8
"""Panels in the picture; the table has all."""


BAR, OWN = "#0072B2", "#7F7F7F"


@dataclass(frozen=True)
class Balance:
    """The classes of all that a configuration picked, the start pool left out.

    Attributes:
        shares: f64 [K], share of each class in the picks, mean over seeds.
        count: picks of a trial, mean over seeds.
        evenness: entropy of the shares over log K: 1 for equally many of each class.
    """

    shares: np.ndarray
    count: float
    evenness: Estimate


def evenness(counts: np.ndarray) -> float:
    """Entropy of the class shares over its largest value, log K; 1 where K = 1."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() / math.log(len(counts))) if len(counts) > 1 else 1.0


def of_picks(entry: Entry) -> Balance | None:
    """The classes of what a configuration's trials picked; None where nothing was selected."""
    picked = []
    for files in entry.files.values():
        counts = files.class_counts
        drawn = [step for step in counts if step not in files.selected]  # the start pool
        if len(drawn) < len(counts):
            start = np.array(counts[max(drawn)]) if drawn else 0
            picked.append(np.array(counts[max(counts)]) - start)
    picked = [counts for counts in picked if counts.sum() > 0]
    if not picked:
        return None
    shares = np.mean([counts / counts.sum() for counts in picked], axis=0)
    return Balance(
        shares, float(np.mean([c.sum() for c in picked])), estimate([evenness(c) for c in picked], limits=(0, 1))
    )


def balance(report: Report) -> Look | None:
    """Bars of the picks' classes for each configuration, and how even they are."""
    entries = report.confirmed or report.searched[:1]
    measured = [(entry, item) for entry in entries if (item := of_picks(entry)) and _names(entry)]
    if not measured:
        return None
    names = _names(measured[0][0])
    balances = [(entry, item) for entry, item in measured if _names(entry) == names]
    pool = _pool([entry for entry, _ in balances])
    shown = some(balances, report, MOST_PANELS)
    rows: list[list[Cell]] = [
        [Text(entry.label), *_cells(item, names), Count(item.evenness.n)] for entry, item in balances
    ]
    if pool is not None:
        extremes = _extremes(pool / pool.sum(), names)
        rows.append([Text("(the pool)"), Count(pool.sum()), Number(evenness(pool), ".3f"), *extremes, Empty()])
    line = "in the pool" if pool is not None else "that equally many of each would have"
    rest = f" {len(shown)} of {len(balances)} configurations." if len(shown) < len(balances) else ""
    others = [entry.label for entry, _ in measured if _names(entry) != names]
    rest += f" Of other classes, and so not here: {', '.join(others)}." if others else ""
    return Look(
        "balance",
        "Class balance of the picks",
        "Bars of the classes of the picks for each configuration",
        f"Share of each class in all that was picked, start pool left out, mean over seeds; dashed: its share {line}. "
        f"Beside each name: evenness, the entropy of the shares over log K; 1: equally many of each class.{rest}",
        lambda: _figure(shown, pool, names, report),
        header=["configuration", "picks", "evenness", "most picked", "least picked", "n"],
        rows=rows,
        notes=[
            "Mean ± half-width of the 95 % t-interval over n seeds, or its ends. Few picks are uneven by chance: "
            "compare with random ones. Most and least picked: share of the class in per cent, mean over seeds.",
        ],
    )


def _cells(item: Balance, names: Sequence[str]) -> list[Cell]:
    return [Count(item.count), Spread(item.evenness, ".3f"), *_extremes(item.shares, names)]


def _extremes(shares: np.ndarray, names: Sequence[str]) -> list[Cell]:
    if np.ptp(shares) < 1e-9:
        return [Number(100 * float(shares[0]), ".1f", "all")] * 2
    return [Number(100 * float(shares[k]), ".1f", names[k]) for k in (int(shares.argmax()), int(shares.argmin()))]


def _pool(entries: Sequence[Entry]) -> np.ndarray | None:
    """The pool's class counts, where all trials share them."""
    pools = {tuple(files.pool_counts) for entry in entries for files in entry.files.values() if files.pool_counts}
    return np.array(pools.pop(), float) if len(pools) == 1 else None


def _names(entry: Entry) -> Sequence[str]:
    """Of the classes of a configuration's data; empty where nothing says them."""
    return next((last.class_names for files in entry.files.values() if (last := files.last_confusion)), ())


def _figure(
    shown: Sequence[tuple[Entry, Balance]], pool: np.ndarray | None, names: Sequence[str], report: Report
) -> Figure:
    count = len(names)
    columns = min(len(shown), 4 if count <= 12 else 2)
    if len(shown) == 6 and columns == 4:
        columns = 3
    rows = math.ceil(len(shown) / columns)
    figure = canvas(max(3.0 * columns + 0.6, 6.4), 2.2 * rows + 1.0)
    grid = figure.subplots(rows, columns, sharey=True, sharex=True, squeeze=False)
    places = np.arange(count)
    expected = 100 * (pool / pool.sum() if pool is not None else np.full(count, 1 / count))
    for axes, (entry, item) in zip(grid.flat, shown, strict=False):
        axes.bar(places, 100 * item.shares, 0.8, color=OWN if report.is_reference(entry) else BAR)
        edges = np.arange(count + 1) - 0.5
        axes.stairs(expected, edges, baseline=None, color=REFERENCE, linestyle=(0, (4, 2)), linewidth=1.1)
        axes.set_title(short(entry.label, 24), fontsize=9, fontweight="bold", loc="left", pad=3)
        axes.set_title(f"{item.evenness.mean:.3f}", fontsize=8, loc="right", pad=3)
        clean(axes)
        axes.tick_params(axis="x", length=0)
        if count <= 20:
            axes.set_xticks(places, [short(name, 12) for name in names], rotation=90, fontsize=8)
        else:
            axes.set_xticks([])
            axes.set_xlabel(f"{count} classes", fontsize=8)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    for column in range(columns):
        lowest = max(row for row in range(rows) if row * columns + column < len(shown))
        grid[lowest, column].tick_params(labelbottom=True)
    figure.supylabel("share of the picks (%)", fontsize=10)
    return figure

"""Accuracy class by class, in the first and the last round, and what is taken for what."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from harness.records import trial_files
from harness.report.cells import Cell, Count, Empty, Number, Text
from harness.report.compare import Estimate, estimate
from harness.report.looks.look import Look
from harness.report.model import Entry, Report
from harness.report.pictures.style import canvas, clean, short

SPLITS = {"test": "test", "val": "validation"}
MOST = 20
"""With more classes the ten best and the ten worst are drawn."""


ENOUGH = 3
"""Seeds from which on intervals are drawn: with two a class's would reach from nothing to all."""


TABLE_STYLE = """
table { font: 14px sans-serif; border-collapse: collapse; background: #fff; color: #111 }
caption { padding: 8px; text-align: left }
td { padding: 6px 10px; text-align: right }
th { padding: 6px 10px; text-align: left; font-weight: normal }
"""
FIRST, LAST, OTHER = "#9CC7E4", "#0072B2", "#333333"


@dataclass(frozen=True)
class ClassAccuracy:
    """A configuration's accuracy by class, over its seeds.

    Attributes:
        class_names: K names.
        split: "val" or "test".
        first: labels and K estimates of the first round; None where there is one round alone.
        last: the same of the last round; the estimate is None for a class without images.
    """

    class_names: Sequence[str]
    split: str
    first: tuple[int, list[Estimate | None]] | None
    last: tuple[int, list[Estimate | None]]


def by_class(report: Report, entry: Entry) -> ClassAccuracy | None:
    """What the confusion matrices of a configuration's trials say; None where none was recorded."""
    trials = [trial_files.confusion_matrices(report.folder / "trials" / trial) for trial in entry.trials.values()]
    trials = [trial for trial in trials if trial]
    if not trials:
        return None
    steps = sorted(set.intersection(*(set(trial) for trial in trials)))
    if not steps:
        return None

    def recalls(step: int) -> tuple[int, list[Estimate | None]]:
        matrices = [np.array(trial[step]["matrix"], float) for trial in trials]
        found = []
        for k in range(len(matrices[0])):
            values = [float(m[k, k] / m[k].sum()) for m in matrices if m[k].sum()]
            found.append(estimate(values) if values else None)
        return step, found

    about = trials[0][steps[-1]]
    first = recalls(steps[0]) if len(steps) > 1 else None
    return ClassAccuracy(about["class_names"], about["split"], first, recalls(steps[-1]))


def accuracy(report: Report) -> Look | None:
    """Bars of the best configuration, the reference's beside them, and the worst and best class of each."""
    entries = report.confirmed or report.searched[:1]
    found = [(entry, item) for entry in entries if (item := by_class(report, entry))]
    if not found:
        return None
    best, shown = found[0]
    beside = next(((e, item) for e, item in found[1:] if e is report.reference), None)
    seeds = len(best.seeds)
    spread = f"Lines: 95 % t-interval over {seeds} seeds."
    if seeds < ENOUGH:
        spread = f"Mean over {seeds} seeds, too few for an interval." if seeds > 1 else "One seed, so no intervals."
    if shown.first:
        what = f"pale after the first round ({shown.first[0]:,} labels), dark after the last ({shown.last[0]:,})"
    else:
        what = f"with {shown.last[0]:,} labels" if shown.last[0] else "in the last round"
    mark = f" Diamonds: {beside[0].label}, the reference, after its last round." if beside else ""
    fewer = f" The {MOST // 2} best and the {MOST // 2} worst classes." if len(shown.class_names) > MOST else ""
    header = ["configuration", *(["first: worst class"] if shown.first else []), "last: worst class", "best class", "n"]
    return Look(
        "classes",
        f"Accuracy by class, {SPLITS[shown.split]} images",
        "Bars of the accuracy of each class, before and after the rounds",
        f"{best.label}: the share of each class's {SPLITS[shown.split]} images that is classified correctly, {what}. "
        f"{spread}{mark}{fewer}",
        lambda: _bars(shown, beside[1] if beside else None, short(beside[0].label) if beside else ""),
        header=header,
        rows=[_row(entry, item, first=bool(shown.first)) for entry, item in found],
        notes=["Per cent of the class's images, mean over n seeds."],
    )


def _row(entry: Entry, item: ClassAccuracy, *, first: bool) -> list[Cell]:
    def said(column: tuple[int, list[Estimate | None]] | None, choose: Any) -> Cell:
        known = [(e.mean, k) for k, e in enumerate(column[1]) if e] if column else []
        if not known:
            return Empty()
        value, k = choose(known)
        return Number(100 * value, ".1f", item.class_names[k])

    start = [said(item.first, min)] if first else []
    return [Text(entry.label), *start, said(item.last, min), said(item.last, max), Count(len(entry.seeds))]


def _bars(shown: ClassAccuracy, beside: ClassAccuracy | None, reference: str) -> Figure:
    order = sorted(
        (k for k, found in enumerate(shown.last[1]) if found),
        key=lambda k: -shown.last[1][k].mean,  # type: ignore[union-attr]
    )
    if len(order) > MOST:
        order = [*order[: MOST // 2], *order[-MOST // 2 :]]
    places = np.arange(len(order))
    figure = canvas(max(6.4, 0.62 * len(order) + 1.6), 4.0)
    axes = figure.subplots()
    width = 0.4 if shown.first else 0.6
    if shown.first:
        _bar(axes, places - width / 2, shown.first, order, width, FIRST, f"{shown.first[0]:,} labels")
    shift = width / 2 if shown.first else 0.0
    name = f"{shown.last[0]:,} labels" if shown.last[0] else "last round"
    _bar(axes, places + shift, shown.last, order, width, LAST, name)
    if beside and len(beside.class_names) == len(shown.class_names):
        values = [100 * e.mean if (e := beside.last[1][k]) else math.nan for k in order]
        axes.plot(
            places + shift, values, "D", color=OTHER, markeredgecolor="#FFFFFF", markersize=5.5,
            label=f"{reference}, {beside.last[0]:,} labels",
        )  # fmt: skip
    names = [short(shown.class_names[k], 16) for k in order]
    axes.set_xticks(places, names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_ylabel(f"{SPLITS[shown.split]} images correct (%)")
    axes.set_ylim(bottom=0)
    clean(axes)
    axes.tick_params(axis="x", length=0)
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda place: handles[place] in axes.get_lines())  # the bars first
    handles, names = [handles[place] for place in order], [names[place] for place in order]
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def _bar(
    axes: Any,
    places: np.ndarray,
    column: tuple[int, list[Estimate | None]],
    order: Sequence[int],
    width: float,
    colour: str,
    label: str,
) -> None:
    found = [column[1][k] for k in order]
    means = [100 * e.mean if e else math.nan for e in found]
    halves = np.array([100 * e.half if e and e.half and e.n >= ENOUGH else 0.0 for e in found])
    axes.bar(places, means, width, color=colour, label=label)
    low = np.minimum(halves, np.nan_to_num(means))  # no share lies below 0
    high = np.minimum(halves, 100 - np.nan_to_num(means))
    if halves.any():
        axes.errorbar(places, means, yerr=[low, high], fmt="none", ecolor="#7F7F7F", elinewidth=1.0)


def confusion(report: Report) -> Look | None:
    """The last round's confusion matrix of the best configuration, over its seeds."""
    for entry in report.confirmed or report.searched[:1]:
        trials = [trial_files.confusion_matrices(report.folder / "trials" / trial) for trial in entry.trials.values()]
        matrices = [trial[max(trial)] for trial in trials if trial]
        if matrices:
            return _confusion(entry, matrices)
    return None


def _confusion(entry: Entry, matrices: Sequence[Mapping[str, Any]]) -> Look:
    table = np.sum([np.array(found["matrix"]) for found in matrices], axis=0)
    about = {**matrices[0], "matrix": table.tolist()}
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    worst = [np.unravel_index(place, shares.shape) for place in np.argsort(-shares, axis=None)[:3]]
    names = about["class_names"]
    said = "; ".join(f"{names[i]} for {names[j]} ({100 * shares[i, j]:.0f} %)" for i, j in worst if shares[i, j] > 0)
    seeds = f" Counts of {len(matrices)} seeds together." if len(matrices) > 1 else ""
    return Look(
        "confusion",
        f"Confusion matrix of {entry.label}",
        "The confusion matrix of the last round",
        f"{SPLITS[about['split']].capitalize()} images of {entry.label} after the last round: rows are true classes, "
        f"columns predictions.{seeds}" + (f" Most often mistaken: {said}." if said else ""),
        lambda: confusion_figure(about),
    )


def confusion_table(confusion: Mapping[str, Any]) -> str | None:
    """A confusion matrix of up to 20 classes as a page with a shaded table: a picture takes a thousand times as long.

    Args:
        confusion: as in `confusion_figure`.

    Returns:
        HTML; None with more classes, whose numbers would be too small to read.
    """
    names, matrix = confusion["class_names"], np.array(confusion["matrix"])
    if len(names) > MOST:
        return None
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    caption = f"{confusion['split']}: {matrix.trace():,} of {matrix.sum():,} correct; shade: share of the true class"
    head = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in names)
    body = ""
    for name, counts, row in zip(names, matrix, shares, strict=True):
        body += f"<tr><th scope=row>{html.escape(name)}</th>"
        for count, share in zip(counts, row, strict=True):
            ink = "#fff" if share > 0.5 else "#111"
            body += f"<td style='background: rgba(8, 81, 156, {share:.3f}); color: {ink}'>{count}</td>"
        body += "</tr>\n"
    return (
        f"<!doctype html>\n<meta charset=utf-8>\n<title>Confusion matrix</title>\n<style>{TABLE_STYLE}</style>\n"
        f"<table><caption>{html.escape(caption)}</caption>\n"
        f"<tr><th>true \\ predicted</th>{head}</tr>\n{body}</table>\n"
    )


def confusion_figure(confusion: Mapping[str, Any]) -> Figure:
    """A confusion matrix as a picture: shade = share of the true class, numbers = images (up to 20 classes).

    Args:
        confusion: `class_names`, `matrix` (rows = true class) and `split`, as in `confusion_matrix_<labels>.json`.
    """
    names, matrix = confusion["class_names"], confusion["matrix"]
    num_classes = len(names)
    shares = np.array([[cell / max(sum(row), 1) for cell in row] for row in matrix])
    side = 2.2 + 0.42 * min(num_classes, 20)
    figure = canvas(side + 0.6, side)
    axes = figure.subplots()
    shades = axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, rasterized=num_classes > 20)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    every = math.ceil(num_classes / 25)
    places = np.arange(0, num_classes, every) + 0.5
    axes.set_xticks(places, names[::every], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, names[::every])
    if num_classes <= 20:
        for row, column in itertools.product(range(num_classes), repeat=2):
            colour = "#FFFFFF" if shares[row][column] > 0.55 else "#111111"
            text = matrix[row][column]
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=7)
    total = sum(map(sum, matrix))
    correct = sum(matrix[k][k] for k in range(num_classes))
    axes.set_title(f"{confusion['split']}: {correct:,} of {total:,} correct", fontsize=10)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    figure.colorbar(shades, ax=axes, label="share of the true class", shrink=0.8)
    return figure

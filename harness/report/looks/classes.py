"""Accuracy class by class, in the first and the last round, and what is taken for what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from harness.records.trial_files import Confusion
from harness.report.cells import Cell, Count, Empty, Number, Text
from harness.report.compare import Estimate, estimate_of_shares
from harness.report.entry import Entry
from harness.report.looks.look import Look
from harness.report.model import Report
from harness.report.pictures.matrix import confusion_svg
from harness.report.pictures.style import canvas, clean, short, tell

SPLITS = {"test": "test", "val": "validation"}
MOST_CLASSES = 20
"""With more classes the ten best and the ten worst are drawn."""

SEEDS_FOR_INTERVALS = 3
"""Seeds from which on intervals are drawn: with two a class's would reach from nothing to all."""


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


def by_class(entry: Entry) -> ClassAccuracy | None:
    """What the confusion matrices of a configuration's trials say; None where none was recorded."""
    trials = [files.confusions for files in entry.files.values() if files.confusions]
    steps = sorted(set.intersection(*map(set, trials))) if trials else []
    if not steps:
        return None

    def recalls(step: int) -> tuple[int, list[Estimate | None]]:
        matrices = [trial[step].matrix for trial in trials]
        by_class = [[(m[k, k], m[k].sum()) for m in matrices if m[k].sum()] for k in range(len(matrices[0]))]
        return step, [
            estimate_of_shares([right / count for right, count in of], min(count for _, count in of)) if of else None
            for of in by_class
        ]

    last = trials[0][steps[-1]]
    first = recalls(steps[0]) if len(steps) > 1 else None
    return ClassAccuracy(last.class_names, last.split, first, recalls(steps[-1]))


def class_accuracy(report: Report) -> Look | None:
    """Bars of the best configuration, the reference's beside them, and the worst and best class of each."""
    entries = report.confirmed or report.searched[:1]
    by_entry = [(entry, item) for entry in entries if (item := by_class(entry))]
    if not by_entry:
        return None
    best, shown = by_entry[0]
    beside = next(((e, item) for e, item in by_entry[1:] if e is report.reference_on(best.block)), None)
    seeds = len(best.seeds)
    spread = f"Lines: 95 % interval over {seeds} seeds and the class's images."
    if seeds < SEEDS_FOR_INTERVALS:
        spread = f"Mean over {seeds} seeds, too few for an interval." if seeds > 1 else "One seed, so no intervals."
    if shown.first:
        what = f"pale after the first round ({shown.first[0]:,} labels), dark after the last ({shown.last[0]:,})"
    else:
        what = f"with {shown.last[0]:,} labels" if shown.last[0] else "in the last round"
    mark = f" Diamonds: {beside[0].label}, the reference, after its last round." if beside else ""
    fewer = (
        f" The {MOST_CLASSES // 2} best and the {MOST_CLASSES // 2} worst classes."
        if len(shown.class_names) > MOST_CLASSES
        else ""
    )
    header = ["configuration", *(["first: worst class"] if shown.first else []), "last: worst class", "best class", "n"]
    return Look(
        "classes",
        f"Accuracy by class, {SPLITS[shown.split]} images",
        "Bars of the accuracy of each class, before and after the rounds",
        f"{best.label}: the share of each class's {SPLITS[shown.split]} images that is classified correctly, {what}. "
        f"{spread}{mark}{fewer}",
        lambda: _bars(shown, beside[1] if beside else None, short(beside[0].label) if beside else ""),
        header=header,
        rows=[_row(entry, item, first=bool(shown.first)) for entry, item in by_entry],
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
    means = {k: recall.mean for k, recall in enumerate(shown.last[1]) if recall}
    order = sorted(means, key=lambda k: -means[k])
    if len(order) > MOST_CLASSES:
        order = [*order[: MOST_CLASSES // 2], *order[-MOST_CLASSES // 2 :]]
    places = np.arange(len(order))
    figure = canvas(max(6.4, 0.62 * len(order) + 1.6), 4.0)
    axes = figure.subplots()
    width = 0.4 if shown.first else 0.6
    if shown.first:
        _bar(axes, places - width / 2, shown.first, order, width, FIRST, f"{shown.first[0]:,} labels",
             shown.class_names)  # fmt: skip
    shift = width / 2 if shown.first else 0.0
    name = f"{shown.last[0]:,} labels" if shown.last[0] else "last round"
    _bar(axes, places + shift, shown.last, order, width, LAST, name, shown.class_names)
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
    names: Sequence[str],
) -> None:
    recalls = [column[1][k] for k in order]
    means = [100 * e.mean if e else math.nan for e in recalls]
    shown = [e if e and e.n >= SEEDS_FOR_INTERVALS else None for e in recalls]
    low = [100 * (e.mean - e.low) if e else 0.0 for e in shown]
    high = [100 * (e.high - e.mean) if e else 0.0 for e in shown]
    axes.bar(places, means, width, color=colour, label=label)
    for place, value, k in zip(places.tolist(), means, order, strict=True):
        tell(axes, names[k], [place], [value], [f"{value:.1f} % correct, {label}"])
    if any(low + high):
        axes.errorbar(places, means, yerr=[low, high], fmt="none", ecolor="#7F7F7F", elinewidth=1.0)


def confusion(report: Report) -> Look | None:
    """The last round's confusion matrix of the best configuration, over its seeds."""
    for entry in report.confirmed or report.searched[:1]:
        last = [confusion for files in entry.files.values() if (confusion := files.last_confusion)]
        if last:
            return _confusion(entry, last)
    return None


def _confusion(entry: Entry, of_seeds: Sequence[Confusion]) -> Look:
    together = replace(of_seeds[0], matrix=np.sum([confusion.matrix for confusion in of_seeds], axis=0))
    shares = together.matrix / np.maximum(together.matrix.sum(1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    worst = [np.unravel_index(place, shares.shape) for place in np.argsort(-shares, axis=None)[:3]]
    names = together.class_names
    said = "; ".join(f"{names[i]} for {names[j]} ({100 * shares[i, j]:.0f} %)" for i, j in worst if shares[i, j] > 0)
    seeds = f" Counts of {len(of_seeds)} seeds together." if len(of_seeds) > 1 else ""
    return Look(
        "confusion",
        f"Confusion matrix of {entry.label}",
        "The confusion matrix of the last round",
        f"{SPLITS[together.split].capitalize()} images of {entry.label} after the last round: rows are true classes, "
        f"columns predictions.{seeds}" + (f" Most often mistaken: {said}." if said else ""),
        lambda: confusion_svg(together),
    )

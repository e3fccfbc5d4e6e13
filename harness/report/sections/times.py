"""Accuracy against time: what each stage costs, where the time went, what nothing beats, and what minutes buy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.report import words
from harness.report.cells import Cell, Empty, Mean, Number, Text
from harness.report.compare import estimate
from harness.report.entry import Entry, by_ground
from harness.report.model import Report
from harness.report.pictures import style
from harness.report.section import Column, Heading, Picture, Section, Table, of_ground
from harness.report.sections.shares import where_the_time_went

TOTAL = "time/total_seconds"
STAGES = {
    "pretrain": "#0072B2",
    "encode": "#CC79A7",
    "selection_encoder": "#56B4E9",
    "teacher": "#D55E00",
    "select": "#E69F00",
    "train": "#009E73",
    "evaluate": "#7F7F7F",
}
"""Stage -> colour, in the order in which they run."""

ROWS = 30
"""How many configurations have bars and rows."""

GAINS = "What minutes buy"

DOTS = 300
"""How many have a dot, the best ones, beside those that nothing beats."""


def times(report: Report) -> Section | None:
    """None where fewer than two configurations have both a time and the measure."""
    entries, measure = (report.confirmed, report.measure) if report.confirmed else (report.searched, report.goal)
    entries = [entry for entry in entries if entry.mean(TOTAL) and entry.mean(measure) is not None]
    if len(entries) < 2 or measure.startswith("time/"):
        return None
    section = Section("Accuracy against time" if "accuracy" in measure else f"{measure} against time", "time")
    for number, (ground, of) in enumerate(by_ground(entries).items()):
        heading = [Heading("What nothing beats")] if ground else []
        placed = [entry for entry in of if report.level(entry, measure) is not None]
        section.parts += of_ground([*heading, _pareto(report, placed, measure)], ground, number) if placed else []
    if any(entry.mean(f"time/{stage}_seconds") for entry in entries[:ROWS] for stage in STAGES):
        section.parts += [*([Heading("Seconds per stage")] if entries[0].block else []), _stages(entries[:ROWS])]
    shares = where_the_time_went(report, sorted(entries[:ROWS], key=lambda entry: entry.mean(TOTAL) or 0))
    section.parts += [Heading(shares.name), shares] if shares else []
    if words.scale(measure)[1] == "%" and report.maximize:
        gains = _gains(report, entries[:ROWS], measure)
        section.parts += [Heading(GAINS), gains] if gains else []
    return section


def front(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """The positions that nothing beats in both (less cost, higher score), by cost."""
    best: list[int] = []
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i])):
        if not best or scores[index] > scores[best[-1]]:
            best.append(index)
    return best


def _pareto(report: Report, entries: Sequence[Entry], measure: str) -> Picture:
    """Of one ground, of configurations that have a level."""
    means = [level for entry in entries if (level := report.level(entry, measure)) is not None]
    own = all(math.isclose(entry.mean(measure) or 0.0, level) for entry, level in zip(entries, means, strict=True))
    mean = "mean" if own else "mean, set beside all seeds of the reference by the difference to it"
    whole = [k for k, entry in enumerate(entries) if not entry.lacking] or list(range(len(entries)))
    scores = [means[k] if report.maximize else -means[k] for k in whole]
    best = [whole[k] for k in front([entries[k].mean(TOTAL) or 0.0 for k in whole], scores)]
    few = " Configurations that lack a seed are never on the front." if len(whole) < len(entries) else ""
    if len(entries) > DOTS:
        few += f" Of {len(entries):,} configurations the front and the {DOTS} best."
        kept = sorted({*best, *range(DOTS), *(k for k, entry in enumerate(entries) if report.is_reference(entry))})
        entries, best = [entries[k] for k in kept], [kept.index(k) for k in best]
    return Picture(
        "pareto",
        partial(_draw_pareto, report, entries, measure, best),
        f"{measure} against total seconds; nothing beats {', '.join(entries[i].name for i in best)} in both",
        f"Blue, and joined by the line: nothing is both cheaper and better by its {mean} (the Pareto front). "
        "Bars: 95 % intervals. Stages from the cache count with the seconds that they first took."
        + (" Diamond: the reference." if any(map(report.is_reference, entries)) else "")
        + few,
    )


def _draw_pareto(report: Report, entries: Sequence[Entry], measure: str, best: Sequence[int]) -> Figure:
    factor = words.scale(measure)[0]
    seconds = [entry.mean(TOTAL) or 0.0 for entry in entries]
    estimates = [estimate for entry in entries if (estimate := report.beside(entry, measure))]
    means = [factor * estimate.mean for estimate in estimates]
    bars = [style.error_bar(estimate, factor) for estimate in estimates]
    figure = style.canvas(7.6, 4.4)
    axes = figure.subplots()
    axes.plot([seconds[i] for i in best], [means[i] for i in best], color=style.BETTER, linewidth=1, alpha=0.6,
              drawstyle="steps-post", zorder=1)  # fmt: skip
    for index, entry in enumerate(entries):
        colour = style.BETTER if index in best else style.UNCLEAR
        marker = "D" if report.is_reference(entry) else "o"
        axes.errorbar(seconds[index], means[index], yerr=bars[index], fmt=marker, color=colour, markersize=5,
                      linewidth=1, alpha=0.9)  # fmt: skip
        told = f"{measure} {Mean(measure, estimates[index])}"
        took = f"{words.show_number(TOTAL, seconds[index])} s in total"
        style.tell(axes, entry.label, [seconds[index]], [means[index]], [f"{told}\n{took}"], entry.link)
    if max(seconds) > 20 * min(seconds):
        axes.set_xscale("log")
        axes.margins(x=0.12)
    else:  # from 0: six seconds of five minutes are not half of the width
        axes.set_xlim(0, 1.12 * max(seconds))
    reference = [index for index, entry in enumerate(entries) if report.is_reference(entry)]
    named = range(len(entries)) if len(entries) <= 14 else [*best, *reference]
    _label(axes, [(seconds[i], means[i], entries[i].name) for i in named])
    axes.set_xlabel("seconds in total, mean over seeds")
    axes.set_ylabel(words.axis(measure))
    style.clean(axes)
    return figure


Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in pixels."""

PLACES = ((7, 5), (7, -5), (-7, 5), (-7, -5), (7, 16), (7, -16), (-7, 16), (-7, -16))
"""Where a name may stand beside its point, in typographic points; left of it, it ends there."""


def _label(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Names beside points, each where it covers nothing before it; a name without a free place is left out."""
    figure: Any = axes.figure
    figure.draw_without_rendering()  # lays out, so that pixels are known
    pixels = figure.dpi / 72
    frame = axes.get_window_extent()
    spots = [axes.transData.transform((x, y)) for x, y, _ in points]
    taken: list[Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in spots]
    paper = {"facecolor": style.PAPER, "edgecolor": "none", "pad": 0.5, "alpha": 0.75}
    for (at_x, at_y), (x, y, name) in zip(spots, points, strict=True):
        text = style.short(name, 64)
        width, height = 3.9 * len(text) * pixels, 8 * pixels
        for dx, dy in PLACES:
            left, middle = at_x + dx * pixels - (width if dx < 0 else 0), at_y + dy * pixels
            box = (left, middle - height / 2, left + width, middle + height / 2)
            inside = frame.x0 <= box[0] and box[2] <= frame.x1 + 40 and frame.y0 <= box[1] and box[3] <= frame.y1
            if inside and not any(_overlap(box, other) for other in taken):
                side = "right" if dx < 0 else "left"
                axes.annotate(
                    text, (x, y), (dx, dy), textcoords="offset points", ha=side, va="center", fontsize=8, bbox=paper
                )
                taken.append(box)
                break


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _stages(entries: Sequence[Entry]) -> Picture:
    """Stacked bars, the quickest at the top."""
    return Picture(
        "seconds",
        partial(_draw_stages, sorted(entries, key=lambda entry: entry.mean(TOTAL) or 0)),
        f"Seconds per stage of {len(entries)} configurations",
        "The stages of a trial at its largest number of labels, all rounds together; from the cache with the seconds "
        "that they first took.",
    )


def _draw_stages(order: Sequence[Entry]) -> Figure:
    names = [style.wrapped(entry.label) for entry in order]
    figure = style.canvas(7.6, (0.36 if any("\n" in name for name in names) else 0.27) * len(order) + 1.25)
    axes = figure.subplots()
    left = np.zeros(len(order))
    for stage, colour in STAGES.items():
        seconds = np.array([entry.mean(f"time/{stage}_seconds") or 0.0 for entry in order])
        if seconds.max() > 0:
            axes.barh(range(len(order)), seconds, left=left, color=colour, height=0.6, label=stage)
            for place in np.flatnonzero(seconds).tolist():
                told = f"{stage}: {words.show_number(TOTAL, seconds[place])} s"
                middle = left[place] + seconds[place] / 2
                style.tell(axes, order[place].label, [middle], [place], [told], order[place].link)
            left += seconds
    for place, total in enumerate(left):
        axes.text(total, place, f" {words.show_number(TOTAL, total)}", va="center", fontsize=8)
    axes.set_yticks(range(len(order)), names, fontsize=9)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlim(0, 1.1 * left.max())
    axes.set_xlabel("seconds, mean over seeds")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=len(STAGES), frameon=False, fontsize=9, handlelength=1)
    return figure


def _gains(report: Report, entries: Sequence[Entry], measure: str) -> Table | None:
    """What more a minute bought than the reference's; None where no gain in time and in accuracy is beyond doubt."""
    gains = Column("points more per minute more", [_gain(entry, report.reference_on(entry.block)) for entry in entries])
    if gains.says_nothing:
        return None
    columns = [
        Column("configuration", [Text(entry.label) for entry in entries]),
        Column(measure, [Mean(measure, entry.estimate(measure)) for entry in entries]),
        Column("minutes", [_three((entry.mean(TOTAL) or 0) / 60) for entry in entries]),
        gains,
    ]
    where = " on the same ground" if len(report.blocks) > 1 else ""
    note = (
        f"The gain over {report.reference_name}{where}, in percentage points, against the time beyond it, where the "
        "verdict is better and the 95 % interval of the difference in time leaves out 0."
    )
    return Table(columns, [note], GAINS)


def _three(value: float, sign: str = "") -> Number:
    """Three significant digits, or all of a larger number."""
    return Number(value, f"{sign}.3g" if abs(value) < words.WHOLE_FROM else f"{sign},.0f")


def _gain(entry: Entry, reference: Entry | None) -> Cell:
    if reference is None:
        return Empty()
    pairs = [entry.values.get(TOTAL, {}), reference.values.get(TOTAL, {})]
    beyond = [pairs[0][seed] - pairs[1][seed] for seed in sorted(pairs[0].keys() & pairs[1].keys())]
    seconds = estimate(beyond) if beyond else None
    if not (entry.kind == "better" and entry.judgement and seconds and seconds.excludes_zero and seconds.mean > 0):
        return Empty()
    return _three(100 * entry.judgement.difference.mean / (seconds.mean / 60), "+")

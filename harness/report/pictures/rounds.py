"""The pictures of a sweep's rounds: curves, differences, penalties, overlap, ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.report import curves
from harness.report.compare import Estimate
from harness.report.inference import ALPHA, FEW
from harness.report.model import RoundComparison, Setting, area_name
from harness.report.pictures.matrix import Shades, matrix_svg
from harness.report.pictures.style import (
    BETTER,
    COLOURS,
    MARKERS,
    MAX_COLOURED,
    REFERENCE,
    UNCLEAR,
    WORSE,
    Svg,
    canvas,
    clean,
    short,
    tell,
)

ATTAINABLE = "attainable (no method)"

PANELS = 24
"""How many cases have a panel of differences of their own, the best ones."""

MOST_NAMED = 60
"""How many cases have a row of a matrix or of the ranks, the best ones: more names nobody reads."""


def the_best(shown: int, count: int, where: str) -> str:
    """Says that a picture leaves out cases, and where all of them are; nothing where it shows all."""
    return f"The best {shown} of {count}; {where} has all of them." if shown < count else ""


def _points(estimates: Mapping[int, Estimate]) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """Labels, means, lower and upper ends (the mean without an interval), all but the first in per cent."""
    columns = np.array([(value.mean, value.low, value.high) for value in estimates.values()]).reshape(-1, 3)
    return list(estimates), *(100 * columns.T)


def _values(measure: str, steps: list[int], mean: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[str]:
    """What a page tells of points."""
    ends = [f" [{a:.1f}, {b:.1f}]" if a < b else "" for a, b in zip(low, high, strict=True)]
    return [f"{m:.1f}{end} %, {measure}\n{n:,} labels" for m, end, n in zip(mean, ends, steps, strict=True)]


def _curve(setting: Setting, measure: str, case: str) -> dict[int, Estimate]:
    by_step = {step: setting.estimate(measure, step, case) for step in setting.steps}
    return {step: value for step, value in by_step.items() if value}


def overview(rounds: RoundComparison, setting: Setting) -> Figure:
    """All curves beside one another, a panel per metric; of many, the best four and the worst two are coloured."""
    order = rounds.order(setting)
    styles = _styles(order, setting.reference)
    drawn = (_curve(setting, measure, case).values() for measure in rounds.measures for case in order)
    seeds = max((estimate.n for curve in drawn for estimate in curve), default=1)
    figure = canvas(4.1 * len(rounds.measures) + 2.6, 4.4)
    panels = figure.subplots(1, len(rounds.measures), squeeze=False)[0]
    for axes, measure in zip(panels, rounds.measures, strict=True):
        for case in sorted(order, key=lambda case: styles[case]["zorder"]):
            steps, mean, low, high = _points(_curve(setting, measure, case))
            axes.plot(steps, mean, **styles[case])
            tell(axes, case, steps, mean, _values(measure, steps, mean, low, high))
            if case in _banded(order, setting.reference):
                if seeds == FEW:
                    _draw_seeds(axes, setting.curves[measure], case, styles[case]["color"])
                elif (low < high).any():
                    axes.fill_between(steps, low, high, color=styles[case]["color"], alpha=0.12, linewidth=0)
        if setting.attainable:
            _draw_attainable(axes, setting.attainable.curves[measure])
        axes.set_xlabel("labels")
        axes.set_ylabel(f"{measure} (%)")
        clean(axes)
    lines = {line.get_label(): line for line in panels[0].get_lines()}
    shown = [case for case in order if styles[case]["color"] != UNCLEAR]
    handles, names = [lines[case] for case in shown], [short(case) for case in shown]
    if setting.attainable:
        handles.insert(0, lines[ATTAINABLE])
        names.insert(0, ATTAINABLE)
    if len(shown) < len(order):
        handles.append(next(lines[case] for case in order if case not in shown))
        names.append(f"{len(order) - len(shown)} others")
    figure.legend(handles, names, loc="outside right upper", frameon=False, title=f"by {area_name(rounds.measure)}")
    banded = ", ".join(map(short, _banded(order, setting.reference))) if len(order) > 4 else "all"
    spread = f"thin: each of {FEW} seeds" if seeds == FEW else "one seed" if seeds < FEW else "shaded: 95 % intervals"
    figure.suptitle(_title(f"Learning curves; {spread}, of {banded}", setting), fontsize=10)
    return figure


def _draw_seeds(axes: Axes, measured: curves.Curves, case: str, colour: str) -> None:
    """A thin line for each seed: the interval of two is mostly wider than the picture, and says less than they do."""
    for seed in sorted({seed for by_case in measured.values() for seed in by_case.get(case, {})}):
        points = {step: by_case[case][seed] for step, by_case in measured.items() if seed in by_case.get(case, {})}
        axes.plot(list(points), [100 * value for value in points.values()], color=colour, linewidth=0.7, label="_")


def _draw_attainable(axes: Axes, curve: Mapping[int, Mapping[int, float]]) -> None:
    """The upper bound's mean, dotted and without a marker, so that it is not taken for a method."""
    means = [100 * float(np.mean(list(by_seed.values()))) for by_seed in curve.values() if by_seed]
    steps = [step for step, by_seed in curve.items() if by_seed]
    axes.plot(steps, means, color="#000000", linestyle=":", linewidth=1.4, zorder=5, label=ATTAINABLE)


def _title(text: str, setting: Setting) -> str:
    return f"{text} ({setting.name})" if setting.name else text


def _coloured(order: Sequence[str], reference: str | None) -> list[str]:
    others = [case for case in order if case != reference]
    return others if len(others) <= MAX_COLOURED else others[:4] + others[-2:]


def _banded(order: Sequence[str], reference: str | None) -> list[str]:
    """The cases whose interval is shaded: more bands than this hide one another."""
    few = _coloured(order, reference) if len(order) <= 4 else _coloured(order, reference)[:1]
    return [*few, *([reference] if reference else [])]


def _styles(order: Sequence[str], reference: str | None) -> dict[str, dict[str, Any]]:
    styles: dict[str, dict[str, Any]] = {
        case: {"color": UNCLEAR, "linewidth": 0.8, "alpha": 0.45, "zorder": 1, "label": case} for case in order
    }
    for number, case in enumerate(_coloured(order, reference)):
        look = {"color": COLOURS[number], "marker": MARKERS[number], "markersize": 4, "linewidth": 1.6}
        styles[case] = {**look, "zorder": 3 + number / 100, "label": case}
    if reference:
        look = {"color": REFERENCE, "linestyle": (0, (5, 2)), "linewidth": 2.0}
        styles[reference] = {**look, "zorder": 4, "label": reference}
    return styles


def draw_differences(rounds: RoundComparison, setting: Setting) -> Figure:
    """A small panel per case: its paired difference to the reference over the labels, with the 95 % band."""
    order = [case for case in rounds.order(setting) if case != setting.reference][:PANELS]
    columns = min((4, 5, 6), key=lambda count: -len(order) % count) if len(order) > 6 else min(3, len(order))
    rows = math.ceil(len(order) / columns)
    figure = canvas(max(2.45 * columns, 5.5) + 0.5, 1.75 * rows + (2.2 if rows == 1 else 1.3))
    grid = figure.subplots(rows, columns, squeeze=False)  # with limits in common, not shared: that costs their square
    for axes, case in zip(grid.flat, order, strict=False):
        _difference_panel(axes, rounds, setting, case)
    panels = grid.flat[: len(order)]
    x, y = (_around([limit for axes in panels for limit in getattr(axes.dataLim, ends)]) for ends in ENDS)
    for place, axes in enumerate(panels):
        axes.set(xlim=x, ylim=y)
        axes.tick_params(labelleft=place % columns == 0, labelbottom=place + columns >= len(order))
    for axes in grid.flat[len(order) :]:
        axes.set_axis_off()
    tested = any(d.p_holm is not None for d in setting.by_area[rounds.measure].values())
    intervals = "95 % intervals" if tested else "one seed, so no intervals"
    colours = "blue: better, orange: worse after Holm's correction, grey: neither can be said" if tested else "no tests"
    figure.supxlabel("labels", fontsize=10)
    figure.supylabel(f"{rounds.measure} - {setting.reference} (points)", fontsize=10)
    figure.suptitle(
        _title(f"Paired differences to {setting.reference}, {intervals}", setting)
        + f"\n{colours},"
        + f"\nall by {area_name(rounds.measure)}, whose difference stands above each panel",
        fontsize=10 if columns > 2 else 8,
    )
    return figure


ENDS = ("intervalx", "intervaly")


def _around(ends: Sequence[float]) -> tuple[float, float]:
    """Limits with a margin of a twentieth on either side."""
    ends = [end for end in ends if math.isfinite(end)] or [0.0, 1.0]  # a panel without a seed in common has none
    margin = 0.05 * (max(ends) - min(ends)) or 0.05
    return min(ends) - margin, max(ends) + margin


def _difference_panel(axes: Axes, rounds: RoundComparison, setting: Setting, case: str) -> None:
    differences = {step: column[case].difference for step, column in setting.by_round.items() if case in column}
    area = setting.by_area[rounds.measure].get(case)
    colour = {"better": BETTER, "worse": WORSE}.get(area.kind if area else "", UNCLEAR)
    axes.axhline(0, color=REFERENCE, linewidth=1.0, linestyle=(0, (5, 2)))
    steps, mean, low, high = _points(differences)
    axes.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(steps, mean, color=colour, marker="o", markersize=3, linewidth=1.4)
    tell(axes, case, steps, mean, _values(f"points against {setting.reference}", steps, mean, low, high))
    axes.set_title(short(case, 22), fontsize=9, fontweight="bold", loc="left", pad=3)
    if area:
        difference = area.difference
        half_width = "" if difference.half is None else f" ± {100 * difference.half:.1f}"
        axes.set_title(f"{100 * difference.mean:+.1f}{half_width}", fontsize=8, loc="right", pad=3)
    axes.tick_params(labelsize=8)
    axes.locator_params(axis="x", nbins=4)
    clean(axes)


def draw_penalties(rounds: RoundComparison) -> Svg:
    """The penalty matrix of the best cases; below it the means of its columns over all."""
    cases = rounds.cases[:MOST_NAMED]
    below = curves.overall_penalty(rounds.penalty)[: len(cases)]
    table = np.vstack([rounds.penalty[: len(cases), : len(cases)], below])
    title = "How often the row beats the column (share of rounds, 95 %)"
    if len(rounds.settings) > 1:
        title = f"How often the row beats the column (shares of rounds over {len(rounds.settings)} settings, 95 %)"
    table = np.where(table == 0, np.nan, table)
    rows, settings = [*cases, "mean: penalty"], len(rounds.settings)
    return _matrix(table, rows, cases, title, high=settings, chance=curves.PENALTY_BY_CHANCE * settings)


def draw_overlap(rounds: RoundComparison) -> Svg:
    """The overlap matrix, without its diagonal of ones."""
    assert rounds.overlap is not None
    cases = rounds.cases[:MOST_NAMED]
    table = rounds.overlap[: len(cases), : len(cases)].copy()
    np.fill_diagonal(table, np.nan)
    chance = "" if rounds.chance is None else f"; by chance {rounds.chance:.2f}"
    title = f"Overlap of the picks under the same seed (Jaccard{chance})"
    largest = max([float(value) for value in table[np.isfinite(table)]], default=1.0)
    high = max(largest, 0.2, min(1.0, 4 * (rounds.chance or 0.25)))  # so that what is mere chance looks pale
    return _matrix(table, cases, cases, title, high=high, chance=rounds.chance)


def _matrix(
    table: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str, *, high: float, chance: float | None
) -> Svg:
    """A matrix whose cells are empty where it is NaN, and darkest at `high`."""
    numbers = [["" if math.isnan(value) else f"{value:.2f}" for value in row] for row in table.tolist()]
    if len(columns) > 10:
        numbers = [[number.removeprefix("0") for number in row] for row in numbers]
    rows, names = [[short(name) for name in side] for side in (rows, columns)]
    cell, parted = 34.0 if len(columns) <= 10 else 26.0, len(columns) if len(rows) > len(columns) else 0
    key = Shades(high, chance, ".2f")
    return matrix_svg(table / high, rows, names, title, key=key, numbers=numbers, cell=cell, parted=parted)


def critical_difference(rounds: RoundComparison) -> Figure:
    """Demšar's (2006) critical-difference diagram, upright so that many names fit; bars join what is not told apart."""
    ranks = rounds.ranks
    assert ranks is not None
    names = list(ranks.mean)[:MOST_NAMED]
    joined = [[name for name in group if name in names] for group in ranks.groups]
    groups = [group for group in joined if len(group) > 1]
    blocks = "seeds" if len(rounds.settings) == 1 else "blocks"
    reference = {setting.reference for setting in rounds.settings}
    figure = canvas(7.2, 0.25 * len(names) + 0.16 * (len(groups) > 0) + 1.7)
    axes = figure.subplots()
    for place, name in enumerate(names):
        colour = REFERENCE if name in reference else BETTER
        axes.plot([1, ranks.mean[name]], [place, place], color="#DDDDDD", linewidth=1, zorder=1)
        axes.plot(ranks.mean[name], place, "D" if name in reference else "o", color=colour, markersize=6, zorder=3)
        tell(
            axes, name, [ranks.mean[name]], [place], [f"mean rank {ranks.mean[name]:.2f} over {ranks.blocks} {blocks}"]
        )
    right = len(names) + 0.35
    step = max(0.35, len(names) / 45)
    for number, group in enumerate(groups):
        x = right + number * step
        ends = [names.index(group[0]) - 0.2, names.index(group[-1]) + 0.2]
        axes.plot([x, x], ends, color="#333333", linewidth=3, label="_" if number else "ranks that are not told apart")
    rejected = ranks.p <= ALPHA
    axes.errorbar(1 + ranks.critical / 2, -1.1, xerr=ranks.critical / 2, color="#333333", capsize=4, linewidth=1.2)
    axes.text(
        1 + ranks.critical + 0.01 * len(names),
        -1.1,
        f"  critical difference {ranks.critical:.1f}",
        va="center",
        fontsize=8,
    )
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -1.8)
    axes.set_xlim(0.9, max(right + len(groups) * step, 1 + ranks.critical))
    axes.set_xlabel(f"mean rank by {area_name(rounds.measure)} over {ranks.blocks} {blocks} (1 is best)")
    axes.spines[["top", "right"]].set_visible(False)
    if groups:
        figure.legend(loc="outside lower right", frameon=False, fontsize=8)
    verdict = "bars join what is not told apart" if rejected else "no evidence that the cases rank differently"
    p = "< .001" if ranks.p < 0.001 else f"= {ranks.p:.3f}"
    figure.suptitle(f"Friedman's test p {p}: {verdict}", fontsize=10)
    return figure

"""Which hyper-parameters matter: their importance, parallel coordinates, and each numeric one against the measure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.records.names import short_names, show_value
from harness.report import words
from harness.report.entry import Entry, by_ground
from harness.report.importance import importances
from harness.report.model import Report
from harness.report.pictures import style
from harness.report.section import Heading, Part, Picture, Section, of_ground

CONFIGURATIONS_FOR_IMPORTANCES = 10
"""Fewer configurations than this have no importances worth showing."""

FOREST = 300
"""Of how many configurations at most the importances are computed: their cost grows faster than these do."""

_PAPER = {"facecolor": style.PAPER, "edgecolor": "none", "pad": 0.8}
BEST = 3
"""How many of the best are coloured."""

PIXELS = 1000
"""Of more configurations than these, lines and dots are pixels: a browser draws them at once."""

TOLD = 200
"""Of how many configurations, the best ones, the page tells the values."""

Means = Sequence[tuple[Entry, float]]
"""Configurations with their mean of the measure."""


def hyperparameters(report: Report) -> Section | None:
    """Of each ground; None where nothing or only cases were varied."""
    entries, measure = (report.searched, report.goal) if report.searched else (report.confirmed, report.measure)
    section = Section("Hyper-parameters", "hyperparameters")
    for number, (ground, of) in enumerate(by_ground(entries).items()):
        section.parts += of_ground(_of_ground(report, of, measure), ground, number)
    return section if section.parts else None


def _of_ground(report: Report, entries: Sequence[Entry], measure: str) -> list[Part]:
    means = [(entry, mean) for entry in entries if (mean := report.level(entry, measure)) is not None]
    varied = _varied(report, [entry for entry, _ in means])
    if len(means) < 3 or not varied:
        return []
    parts: list[Part] = []
    numeric = {path: values for path, values in varied.items() if _is_numeric(values)}
    matters = _importance(report, measure, means, varied)
    if matters:
        parts += [Heading("Importance"), matters]
    if len(varied) > 1:
        parts += [Heading("All of them at once"), _parallel(report, measure, means, varied)]
    if numeric:
        stopped = [entry for entry in entries if entry.ending != "finished"]
        parts += [Heading("One by one"), _scatter(report, measure, means, stopped, numeric)]
    return parts


def _domains(report: Report) -> dict[str, Mapping[str, Any]]:
    given = (report.space.get("parameters") or {}).items()
    return {path.removesuffix(".name"): domain for path, domain in given if isinstance(domain, Mapping)}


def _varied(report: Report, entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """Searched parameter -> its value in each configuration, where all have it and some differ."""
    varied = {}
    for path in _domains(report):
        if all(path in entry.parameters for entry in entries):
            values = [entry.parameters[path] for entry in entries]
            if len({show_value(value) for value in values}) > 1:
                varied[path] = values
    return varied


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _is_log(report: Report, path: str, values: Sequence[float]) -> bool:
    """Where it was searched so, or where the values span more than a factor of 20."""
    if "log" in str(_domains(report)[path].get("distribution", "")):
        return True
    return min(values) > 0 and max(values) / min(values) > 20


def _importance(report: Report, measure: str, means: Means, varied: Mapping[str, Sequence[Any]]) -> Picture | None:
    if len(means) < CONFIGURATIONS_FOR_IMPORTANCES:
        return None
    used = [means[k] for k in np.unique(np.linspace(0, len(means) - 1, FOREST).round().astype(int))]
    parameters = [{path: entry.parameters[path] for path in varied} for entry, _ in used]
    shares = importances(parameters, [mean for _, mean in used], _domains(report))
    if not shares:
        return None
    first, share = next(iter(shares.items()))
    of_all = f" of {len(means):,}" if len(used) < len(means) else ""
    spread = ", spread evenly from the best to the worst" if of_all else ""
    return Picture(
        "importance",
        partial(_draw_importance, measure, shares),
        f"Importance of each hyper-parameter; {short_names(shares)[first]} comes first with {100 * share:.0f} %",
        f"Functional ANOVA (Hutter et al. 2014) as Optuna computes it, over {len(used)}{of_all} configurations that "
        f"finished{spread}: how much of what a random forest predicts varies with each parameter, within the ranges "
        "that were searched. So few points give an indication, no proof.",
    )


def _draw_importance(measure: str, shares: Mapping[str, float]) -> Figure:
    figure = style.canvas(6.4, 0.32 * len(shares) + 0.75)
    axes = figure.subplots()
    axes.barh(range(len(shares)), [100 * share for share in shares.values()], color=style.BETTER, height=0.55)
    for place, share in enumerate(shares.values()):
        axes.text(100 * share + 1, place, f"{100 * share:.0f} %", va="center", fontsize=9)
    names = short_names(shares)
    axes.set_yticks(range(len(shares)), [names[path] for path in shares])
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_xlim(0, 100 * max(shares.values()) * 1.12 + 2)
    axes.set_xlabel(f"share of the variance of {measure} (%)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def _parallel(report: Report, measure: str, means: Means, varied: Mapping[str, Sequence[Any]]) -> Picture:
    """An axis per parameter and the measure as the last; the best are coloured."""
    titles = [*short_names(varied).values(), words.axis(measure)]
    return Picture(
        "parallel",
        partial(_draw_parallel, report, measure, means, varied),
        f"Parallel coordinates of {len(means)} configurations over {', '.join(titles)}",
        f"Every line is one of the {len(means)} configurations that finished; blue: the best {min(BEST, len(means))}.",
    )


def _draw_parallel(report: Report, measure: str, entries: Means, varied: Mapping[str, Sequence[Any]]) -> Figure:
    values = [mean for _, mean in entries]
    figure = style.canvas(max(6.4, 1.75 * (len(varied) + 1)), 4.2)
    axes = figure.subplots()
    columns = [_heights(axes, x, report, path, values) for x, (path, values) in enumerate(varied.items())]
    means = words.scale(measure)[0] * np.array(values)
    low, high = means.min(), means.max()
    columns.append((means - low) / ((high - low) or 1))
    for height, value in ((0, low), (1, high)):
        axes.text(len(varied) + 0.06, height, format(value, words.three_digits(value)), va="center", fontsize=8)
    order = np.argsort(means)[:: -1 if report.maximize else 1]
    for rank, index in reversed(list(enumerate(order))):
        look: dict[str, Any] = {"color": style.UNCLEAR, "linewidth": 0.8, "alpha": 0.55, "zorder": 2}
        if rank < BEST:
            look = {"color": style.BETTER, "linewidth": 1.8, "zorder": 3}
        line = [float(column[index]) for column in columns]
        axes.plot(range(len(columns)), line, **look)
        if rank < TOLD:
            entry, mean = entries[index]
            told = "\n".join([_said(measure, mean), *(f"{name} {value}" for name, value in _shown(entry, varied))])
            style.tell(axes, entry.label, range(len(columns)), line, [told] * len(columns), entry.link)
    if len(values) > PIXELS:
        axes.set_rasterization_zorder(2.5)
    for x in range(len(columns)):
        axes.axvline(x, color="#333333", linewidth=0.8, zorder=1)
    axes.set_xticks(range(len(columns)), [*short_names(varied).values(), words.axis(measure)], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=8)
    axes.set_yticks([])
    axes.set_xlim(-0.35, len(columns) - 0.65)
    axes.set_ylim(-0.06, 1.06)
    axes.spines[:].set_visible(False)
    return figure


def _said(measure: str, value: float) -> str:
    return f"{measure} {words.show_number(measure, value)}"


def _shown(entry: Entry, varied: Iterable[str]) -> list[tuple[str, str]]:
    """Name and value of each parameter that varies, for people."""
    names = short_names(list(varied))
    return [(names[path], show_value(entry.parameters[path])) for path in names if path in entry.parameters]


def _heights(axes: Axes, x: int, report: Report, path: str, values: Sequence[Any]) -> np.ndarray:
    """Where each value lies on a parameter's axis, 0 to 1; writes the axis' labels."""
    if _is_numeric(values):
        log = _is_log(report, path, values)
        numbers = np.log(values) if log else np.array(values, dtype=float)
        low, high = numbers.min(), numbers.max()
        heights = (numbers - low) / ((high - low) or 1)
        known = sorted(set(values))
        shown = known if len(known) <= 5 else [known[0], known[-1]]
        marks = {show_value(value): float(heights[values.index(value)]) for value in shown}
    else:
        texts = [show_value(value) for value in values]
        asked = [show_value(value) for value in _domains(report)[path].get("values", [])]
        known = [text for text in dict.fromkeys([*asked, *texts]) if text in texts]
        place = {text: number / max(1, len(known) - 1) for number, text in enumerate(known)}
        heights = np.array([place[text] for text in texts])
        marks = {style.short(text, 16): height for text, height in place.items()}
    for text, height in marks.items():
        axes.text(x + 0.05, height, text, va="center", fontsize=8, zorder=4, bbox=_PAPER)
    return heights


def _scatter(
    report: Report, measure: str, means: Means, stopped: Sequence[Entry], numeric: Mapping[str, Sequence[float]]
) -> Picture:
    """A panel per numeric parameter; configurations that were stopped early are marked at its foot."""
    crosses = f"; crosses: the {len(stopped)} that were stopped early, without a figure" if stopped else ""
    return Picture(
        "scatter",
        partial(_draw_scatter, report, measure, means, stopped, numeric),
        f"{measure} against {', '.join(short_names(numeric).values())}",
        f"Every dot is a configuration that finished{crosses}. The other parameters vary, too, so a slope here is no "
        "more than a hint.",
    )


def _draw_scatter(
    report: Report,
    measure: str,
    measured: Means,
    stopped: Sequence[Entry],
    numeric: Mapping[str, Sequence[float]],
) -> Figure:
    names = short_names(numeric)
    columns = min(3, len(numeric))
    rows = -(-len(numeric) // columns)
    figure = style.canvas(max(5.2, 3.1 * columns), 2.7 * rows + 0.2)
    means = [words.scale(measure)[0] * mean for _, mean in measured]
    margin = 0.08 * ((max(means) - min(means)) or 1)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (path, values) in zip(grid.flat, numeric.items(), strict=False):
        many = len(values) > PIXELS
        axes.plot(values, means, "o", color=style.BETTER, markersize=5, alpha=0.75, markeredgewidth=0, rasterized=many)
        for (entry, mean), value, height in list(zip(measured, values, means, strict=True))[:TOLD]:
            told = f"{_said(measure, mean)}\n{names[path]} {show_value(value)}"
            style.tell(axes, entry.label, [value], [height], [told], entry.link)
        early = [entry.parameters[path] for entry in stopped if path in entry.parameters]
        heights = [min(means) - margin] * len(early)
        axes.plot(early, heights, "x", color=style.UNCLEAR, markersize=4, rasterized=len(early) > PIXELS)
        if _is_log(report, path, values):
            axes.set_xscale("log")
        known = sorted({*values, *early})
        if len(known) <= 6 and "values" in _domains(report)[path]:
            axes.set_xticks(known, [show_value(value) for value in known])
            axes.minorticks_off()
        elif axes.get_xscale() == "log":
            _plain_log_ticks(axes, known)
        axes.set_xlabel(names[path])
        axes.margins(x=0.08)
        style.clean(axes)
    for axes in grid.flat[len(numeric) :]:
        axes.set_axis_off()
    for row in grid:
        row[0].set_ylabel(words.axis(measure))
    return figure


def _plain_log_ticks(axes: Axes, values: Sequence[float]) -> None:
    """`0.1` instead of ten to the minus one."""
    from matplotlib.ticker import FixedLocator, NullLocator

    steps = [digit * 10.0**power for power in range(-12, 13) for digit in (1, 2, 5)]
    ticks = [step for step in steps if values[0] * 0.95 <= step <= values[-1] * 1.05] or [values[0], values[-1]]
    ticks = ticks if len(ticks) <= 5 else [tick for tick in ticks if f"{tick:.0e}"[0] == "1"] or ticks[::2]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])

"""Performance profiles of methods over several grounds."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from harness.report import words
from harness.report.aggregates import Across
from harness.report.pictures.style import COLOURS, MAX_COLOURED, REFERENCE, UNCLEAR, canvas, clean, short, tell


def draw_profiles(across: Across) -> Figure:
    """A line a method: the share of runs that lie at least so far above the reference; the best are coloured."""
    factor, unit = words.scale(across.measure)
    methods = [one for one in across.methods if one.profile]
    figure = canvas(7.4, 4.2)
    axes = figure.subplots()
    x = factor * across.thresholds
    for number, one in enumerate(methods):
        coloured = number < MAX_COLOURED
        colour = COLOURS[number] if coloured else UNCLEAR
        share = [point.value for point in one.profile]
        told = [
            f"{value:.0%} of runs lie {at:+.2g}{unit and ' points'} or more above"
            for at, value in zip(x, share, strict=True)
        ]
        tell(axes, one.method, x.tolist(), share, told)
        axes.plot(x, share, color=colour, linewidth=1.6 if coloured else 0.8, label=short(one.method))
        ends = np.array([(point.low, point.high) for point in one.profile], float)  # NaN without an interval
        if coloured:
            axes.fill_between(x, *ends.T, color=colour, alpha=0.10, linewidth=0)
    axes.axvline(0, color=REFERENCE, linewidth=1.0, linestyle=(0, (5, 2)))
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(f"at least so much above {short(across.reference)}" + (" (points)" if unit == "%" else ""))
    axes.set_ylabel("share of runs")
    clean(axes)
    figure.legend(loc="outside right upper", frameon=False, title="by mean rank")
    return figure

"""Matrices as pictures: cells in shades of one blue, with their numbers.

These are written as SVG by hand. Matplotlib takes half a second for a matrix, a thousand times as long, and MLflow
shows a confusion matrix of every trial; it also takes ten times the space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from harness.records.trial_files import Confusion
from harness.report.pictures.style import Svg, Told, canvas, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERED = 20
"""Up to so many classes, a confusion matrix has its numbers."""

MAX_NAMED = 25
"""Of more classes every second, third, ... is named, so that so many names stand along a side."""

MAX_CELLS = 10_000
"""Of more than these the darkest are drawn, which keeps the file small."""

KEY = 150.0
"""Width of the key in points."""

MAX_TOLD = 900
"""Of more cells than these the page tells no values: each costs some fifty bytes."""

SHADE = "#08519c"  # unlike the colours that the page changes, it bears white numbers on a dark page too
LETTER = 5.8  # width of one, in points, in a wide typeface of 10 points


@dataclass(frozen=True)
class Shades:
    """What the shades of a matrix mean.

    Attributes:
        high: the value of the darkest; the palest is 0.
        chance: the value that chance alone would give; None where it is not known.
        form: of the values, as of `format`.
    """

    high: float
    chance: float | None
    form: str


def confusion_svg(confusion: Confusion) -> Svg:
    """A confusion matrix: rows are true classes; shade: share of the true class; numbers: images."""
    matrix = confusion.matrix
    count = len(matrix)
    every = math.ceil(count / MAX_NAMED)
    names = [short(name, 18) if k % every == 0 else "" for k, name in enumerate(confusion.class_names)]
    return matrix_svg(
        matrix / np.maximum(matrix.sum(1, keepdims=True), 1),
        names,
        names,
        f"{confusion.split}: {matrix.trace():,} of {matrix.sum():,} correct; shade: share of the true class",
        key=Shades(1.0, 1 / count, ".0%"),
        numbers=[list(map(str, row)) for row in matrix.tolist()] if count <= NUMBERED else (),
        cell=24.0 if count <= NUMBERED else max(4.0, 480 / count),
        sides=("true class", "predicted class"),
    )


def matrix_svg(
    shades: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    *,
    key: Shades,
    numbers: Sequence[Sequence[str]] = (),
    cell: float,
    sides: tuple[str, str] = ("", ""),
    parted: int = 0,
) -> Svg:
    """A matrix of R rows and C columns as SVG, without a background.

    Args:
        shades: f64 [R, C] in 0 ... 1, the least to the greatest; NaN as 0.
        rows: R names, at its left.
        columns: C names, below it.
        title: above it.
        key: of the shades, drawn below the title with a mark at chance.
        numbers: R x C texts in the cells; none, and no grid, if left out.
        cell: side of a cell in points.
        sides: what stands beside the rows' and below the columns' names.
        parted: before this row there is a line, unless it is 0.
    """
    wide, high = cell * len(columns), cell * len(rows)
    left = 12 + LETTER * max(map(len, rows)) + (18 if sides[0] else 0)
    names = 0.7 * LETTER * max(map(len, columns)) + 14  # height of what is written below, at 45 degrees
    width = max(left + wide, LETTER * len(title), left + KEY) + 12
    top = 62
    height = top + high + names + (22 if sides[1] else 8)
    middle = cell / 2 + 3.5  # of a line of text
    at_rows = [
        f'<text x="-6" y="{k * cell + middle:.1f}">{escape(name)}</text>\n' for k, name in enumerate(rows) if name
    ]
    at_columns = [
        f'<text transform="translate({k * cell + middle:.1f} {high + 10:.1f}) rotate(-45)">{escape(name)}</text>\n'
        for k, name in enumerate(columns)
        if name
    ]
    lines = f"M0 {parted * cell:g}H{wide:g}" if parted else ""
    picture = Svg(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.1f}pt" height="{height:.1f}pt" '
        f'viewBox="0 0 {width:.1f} {height:.1f}">\n'
        '<g style="font-size: 10px; font-family: sans-serif">\n'
        f'<text x="10" y="16">{escape(title)}</text>\n'
        f'<g transform="translate({left:.1f} {top})">\n'
        f"{_grid(len(rows), len(columns), cell) if numbers else ''}"
        f'<g transform="scale({cell:g})" fill="{SHADE}">\n{_shades(np.nan_to_num(shades))}</g>\n'
        f'<path d="M0 0h{wide:g}v{high:g}h-{wide:g}z{lines}" fill="none" stroke="#7f7f7f"/>\n'
        f"{_numbers(numbers, shades, cell)}"
        f'<g text-anchor="end">\n{"".join(at_rows)}{"".join(at_columns)}</g>\n'
        '<g text-anchor="middle">\n'
        f'<text transform="translate({14 - left:.1f} {high / 2:.1f}) rotate(-90)">{escape(sides[0])}</text>\n'
        f'<text x="{wide / 2:.1f}" y="{high + names + 12:.1f}">{escape(sides[1])}</text>\n'
        f'</g>\n</g>\n<g transform="translate({min(left, width - KEY - 12):.1f} 28)">\n{_key(key)}</g>\n</g>\n</svg>\n'
    )
    picture.told = _told(shades, rows, columns, key, (left, top), cell)
    picture.figure = partial(_figure, shades, rows, columns, title, key, numbers, sides, parted)
    return picture


def _figure(
    shades: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    key: Shades,
    numbers: Sequence[Sequence[str]],
    sides: tuple[str, str],
    parted: int,
) -> Figure:
    """The same matrix by matplotlib, for other formats than SVG."""
    from matplotlib.colors import LinearSegmentedColormap

    cell = 0.36 if numbers else max(0.06, 7 / max(shades.shape))
    figure = canvas(cell * len(columns) + 2.8, cell * len(rows) + 2.2)
    axes = figure.subplots()
    shade = LinearSegmentedColormap.from_list("shade", ["#ffffff", SHADE])
    drawn = axes.pcolormesh(np.nan_to_num(shades), cmap=shade, vmin=0, vmax=1, edgecolor="#dddddd", linewidth=0.3)
    for i, line in enumerate(numbers):
        for j, text in enumerate(line):
            ink = "#ffffff" if shades[i, j] > 0.5 else "#000000"
            axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=7, color=ink)
    axes.set_aspect("equal")
    axes.set_ylim(len(rows), 0)
    axes.set_xticks([j + 0.5 for j, name in enumerate(columns) if name], list(filter(None, columns)), rotation=90)
    axes.set_yticks([i + 0.5 for i, name in enumerate(rows) if name], list(filter(None, rows)))
    axes.tick_params(length=0, labelsize=8)
    axes.set_ylabel(sides[0])
    axes.set_xlabel(sides[1])
    axes.set_title(title, fontsize=9)
    if parted:
        axes.axhline(parted, color="#7f7f7f", linewidth=1)
    marks = {0.0: "0", 1.0: f"{key.high:{key.form}}"}
    if key.chance is not None and key.chance <= key.high:
        marks = {share: text for share, text in marks.items() if abs(share - key.chance / key.high) > 0.1}
        marks[key.chance / key.high] = f"chance {key.chance:{key.form}}"
    figure.colorbar(drawn, ax=axes, shrink=0.6).set_ticks(list(marks), labels=list(marks.values()))
    return figure


def _told(
    shades: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    key: Shades,
    corner: tuple[float, float],
    cell: float,
) -> list[Told]:
    """The value of each cell; of very many none."""
    if shades.size > MAX_TOLD:
        return []
    left, top = corner
    return [
        Told(f"{rows[i]} · {columns[j]}", [(left + (j + 0.5) * cell, top + (i + 0.5) * cell, _said(key, value))])
        for (i, j), value in np.ndenumerate(shades)
        if np.isfinite(value) and rows[i] and columns[j]
    ]


def _said(key: Shades, share: float) -> str:
    chance = "" if key.chance is None else f"\nby chance {key.chance:{key.form}}"
    return f"{share * key.high:{key.form}}{chance}"


def _key(key: Shades) -> str:
    """A strip of the shades from 0 to the darkest, with a mark at chance."""
    wide = KEY / 20
    steps = "".join(
        f'<rect fill="{SHADE}" fill-opacity="{(k + 0.5) / 20:g}" x="{k * wide:g}" width="{wide:g}" height="8"/>\n'
        for k in range(20)
    )
    marks = [(0.0, "0", "start"), (KEY, f"{key.high:{key.form}}", "end")]
    if key.chance is not None and key.chance <= key.high:
        at = KEY * key.chance / key.high
        steps += f'<path d="M{at:.1f} -3v14" stroke="#000000" stroke-width="1.4" fill="none"/>\n'
        marks = [mark for mark in marks if abs(mark[0] - at) > 50]
        marks.append(
            (at, f"chance {key.chance:{key.form}}", "start" if at < 40 else "end" if at > KEY - 40 else "middle")
        )
    return steps + "".join(f'<text x="{x:.1f}" y="20" text-anchor="{side}">{text}</text>\n' for x, text, side in marks)


def _grid(rows: int, columns: int, cell: float) -> str:
    """Thin lines between the cells."""
    wide, high = cell * columns, cell * rows
    lines = [f"M0 {k * cell:g}h{wide:g}" for k in range(1, rows)] + [
        f"M{k * cell:g} 0v{high:g}" for k in range(1, columns)
    ]
    return f'<path d="{"".join(lines)}" fill="none" stroke="#dddddd" stroke-width="0.6"/>\n'


def _shades(shades: np.ndarray) -> str:
    """The cells as one path for each whole per cent; a cell is a unit square."""
    cents = np.rint(100 * shades).astype(int)
    darkest = np.argsort(-cents, axis=None, kind="stable")[:MAX_CELLS]
    paths: dict[int, str] = {}
    for row, column in zip(*np.unravel_index(darkest, cents.shape), strict=True):
        if cent := int(cents[row, column]):
            paths[cent] = paths.get(cent, "") + f"M{column} {row}h1v1h-1z"
    return "".join(f'<path fill-opacity="{cent / 100:g}" d="{path}"/>\n' for cent, path in paths.items())


def _numbers(numbers: Sequence[Sequence[str]], shades: np.ndarray, cell: float) -> str:
    """The cells' texts, white on dark cells."""
    texts = []
    for row, line in enumerate(numbers):
        for column, text in enumerate(line):
            ink = ' fill="#ffffff"' if shades[row, column] > 0.5 else ""
            x, y = (column + 0.5) * cell, (row + 0.5) * cell + 2.5
            texts.append(f'<text x="{x:g}" y="{y:g}"{ink}>{escape(text)}</text>\n' if text else "")
    return f'<g text-anchor="middle" style="font-size: {min(9.0, 0.3 * cell):g}px">\n{"".join(texts)}</g>\n'

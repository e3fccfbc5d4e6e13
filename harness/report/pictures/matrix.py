"""Matrices as pictures: cells in shades of one blue, with their numbers.

These are written as SVG by hand. Matplotlib takes half a second for a matrix, a thousand times as long, and MLflow
shows a confusion matrix of every trial; it also takes ten times the space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from harness.records.trial_files import Confusion
from harness.report.pictures.style import Svg, short

NUMBERED = 20
"""Up to so many classes, a confusion matrix has its numbers."""

MAX_NAMED = 25
"""Of more classes every second, third, ... is named, so that so many names stand along a side."""

MAX_CELLS = 10_000
"""Of more than these the darkest are drawn, which keeps the file small."""

SHADE = "#08519c"  # unlike the colours that the page changes, it bears white numbers on a dark page too
LETTER = 5.8  # width of one, in points, in a wide typeface of 10 points


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
        numbers: R x C texts in the cells; none, and no grid, if left out.
        cell: side of a cell in points.
        sides: what stands beside the rows' and below the columns' names.
        parted: before this row there is a line, unless it is 0.
    """
    wide, high = cell * len(columns), cell * len(rows)
    left = 12 + LETTER * max(map(len, rows)) + (18 if sides[0] else 0)
    names = 0.7 * LETTER * max(map(len, columns)) + 14  # height of what is written below, at 45 degrees
    width = max(left + wide, LETTER * len(title)) + 12
    height = 28 + high + names + (22 if sides[1] else 8)
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
    return Svg(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.1f}pt" height="{height:.1f}pt" '
        f'viewBox="0 0 {width:.1f} {height:.1f}">\n'
        '<g style="font-size: 10px; font-family: sans-serif">\n'
        f'<text x="10" y="16">{escape(title)}</text>\n'
        f'<g transform="translate({left:.1f} 28)">\n'
        f"{_grid(len(rows), len(columns), cell) if numbers else ''}"
        f'<g transform="scale({cell:g})" fill="{SHADE}">\n{_shades(np.nan_to_num(shades))}</g>\n'
        f'<path d="M0 0h{wide:g}v{high:g}h-{wide:g}z{lines}" fill="none" stroke="#7f7f7f"/>\n'
        f"{_numbers(numbers, shades, cell)}"
        f'<g text-anchor="end">\n{"".join(at_rows)}{"".join(at_columns)}</g>\n'
        '<g text-anchor="middle">\n'
        f'<text transform="translate({14 - left:.1f} {high / 2:.1f}) rotate(-90)">{escape(sides[0])}</text>\n'
        f'<text x="{wide / 2:.1f}" y="{high + names + 12:.1f}">{escape(sides[1])}</text>\n'
        "</g>\n</g>\n</g>\n</svg>\n"
    )


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

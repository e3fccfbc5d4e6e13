"""Sample images and those that their encoder finds most like them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.records.portrait import Portrait
from harness.report.looks.look import Look, colours, portraits, whose
from harness.report.model import Report
from harness.report.pictures.style import canvas, short

SAME, OTHER = "#009E73", "#D55E00"
COLUMNS = 2

SQUARE = 32
"""Pixels of a side."""


def neighbors(report: Report) -> Look | None:
    """The neighbours under the best configuration's encoder."""
    portrait = next((p for _, p in portraits(report) if p.neighbor_images.shape[1] > 1), None)
    if not portrait:
        return None
    same = portrait.neighbor_classes[:, 1:] == portrait.neighbor_classes[:, :1]
    images = "validation images" if portrait.class_names else "images"
    caption = (
        f"{len(same)} {images} and, to the right of each, the {same.shape[1]} most similar ones (cosine, in feature "
        "space)."
    )
    if portrait.class_names:
        caption += (
            f" Green: of the same class, orange: of another, whose name stands below; {same.sum()} of {same.size} "
            f"here, {100 * portrait.same_class:.0f} % over all mapped images."
        )
    if not portrait.neighbor_images.size:
        caption += " There are no pictures of them: each is a square in the colour of its class."
    return Look(
        "neighbors",
        f"Nearest neighbours in the feature space{whose(report)}",
        f"Sample {images}, each with its nearest neighbours",
        caption,
        lambda: _figure(portrait),
    )


def _squares(portrait: Portrait) -> np.ndarray:
    """u8 [Q, 1 + k, h, w, 3]: a square for each image, in the colour of its class."""
    palette = colours(max(1, len(portrait.class_names)))
    pixels = np.array([[int(colour[place : place + 2], 16) for place in (1, 3, 5)] for colour in palette], np.uint8)
    of_images = pixels[np.maximum(portrait.neighbor_classes, 0)]
    return np.tile(of_images[:, :, None, None], (1, 1, SQUARE, SQUARE, 1))


def _figure(portrait: Portrait) -> Figure:
    if not portrait.neighbor_images.size:
        portrait = replace(portrait, neighbor_images=_squares(portrait))
    queries, count, height, width, _ = portrait.neighbor_images.shape
    rows = math.ceil(queries / COLUMNS)
    figure = canvas(9.4, rows * (0.42 + 4.9 / (count + 0.6) * height / width) + 0.1)
    figure.suppressComposite = True  # or the images of a row, with what is between them, would be one in an SVG
    figure.get_layout_engine().set(wspace=0.08)  # type: ignore[union-attr, call-arg]
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes, query in zip(grid.flat, range(queries), strict=False):
        _row(axes, portrait, query)
    for axes in grid.flat[queries:]:
        axes.set_axis_off()
    return figure


def _row(axes: Axes, portrait: Portrait, query: int) -> None:
    """The query, a space, and its neighbours."""
    from matplotlib.patches import Rectangle

    images, classes = portrait.neighbor_images[query], portrait.neighbor_classes[query]
    _, height, width, _ = images.shape
    gap = max(2, width // 8)
    for place, label in enumerate(classes):
        left = place * (width + gap) + (2 * gap if place else 0)
        extent = (left - 0.5, left + width - 0.5, height - 0.5, -0.5)
        axes.imshow(images[place], interpolation="none", extent=extent)
        name = short(portrait.class_names[label], 12) if portrait.class_names else ""
        if place and name:
            colour = SAME if label == classes[0] else OTHER
            axes.add_patch(
                Rectangle((left - 0.5, -0.5), width, height, fill=False, edgecolor=colour, linewidth=2.2, clip_on=False)
            )
            name, weight = "" if label == classes[0] else name, "normal"
        else:
            colour, weight = "#000000", "bold"
        axes.annotate(
            name,
            (left + width / 2, height),
            xytext=(0, -3),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8,
            color=colour,
            fontweight=weight,
            annotation_clip=False,
        )
    axes.set_xlim(-0.5, len(classes) * (width + gap) + gap - 0.5)
    axes.set_axis_off()

"""What the augmentation of pre-training does to real images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from harness.report.looks.look import Look, mosaic, portraits, whose
from harness.report.model import Report
from harness.report.pictures.style import canvas


def views(report: Report) -> Look | None:
    """The augmentation of the best configuration that was trained with one."""
    trained = next(((entry, portrait) for entry, portrait in portraits(report) if len(portrait.views)), None)
    if not trained:
        return None
    entry, portrait = trained
    of_which = f" of {entry.label}" if whose(report) else ""
    several = len(portrait.operations) > 1
    parts = ", ".join(portrait.operations[:-1])
    each = f" under each part of the augmentation alone ({parts}), then under all of it" if several else ""
    return Look(
        "views",
        f"What the augmentation{of_which} does",
        "Training images under each operation of the augmentation",
        f"{len(portrait.views)} training images{each or ' under the augmentation'}: two draws each. An operation that "
        "is applied with a probability leaves some images as they are.",
        lambda: draw_sheet(portrait.operations, portrait.views),
    )


def draw_sheet(operations: Sequence[str], views: np.ndarray) -> Figure:
    """Images in rows, under operations in columns.

    Args:
        operations: their names.
        views: u8 [N, 1 + 2 operations, h, w, 3], the image first, then two draws of each operation.
    """
    columns, height, width = views.shape[1:4]
    gap = max(1, width // 16)
    apart = 3 * gap
    blocks = [views[:, :1], *(views[:, k : k + 2] for k in range(1, columns, 2))]
    pictures = [mosaic(block, gap) for block in blocks]
    space = np.full((pictures[0].shape[0], apart, 3), 255, np.uint8)
    joined = [pictures[0]] + [part for picture in pictures[1:] for part in (space, picture)]
    sheet = np.concatenate(joined, axis=1)
    side = 0.62 if columns <= 9 else 0.5
    figure = canvas(side * sheet.shape[1] / width + 0.2, side * sheet.shape[0] / height + 0.45)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="none", aspect=height / width if height != width else "equal")
    left = 0
    for name, picture in zip(("image", *operations), pictures, strict=True):
        axes.text(
            left + picture.shape[1] / 2 - 0.5,
            -gap - 0.5,
            name,
            ha="center",
            va="bottom",
            fontsize=9 if len(name) <= 13 else 7,
            fontweight="bold" if name == "views" else "normal",
        )
        left += picture.shape[1] + apart
    axes.set_axis_off()
    return figure

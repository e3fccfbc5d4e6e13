"""Maps of encoders: validation images by class and by cluster, and the picks among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.records.portrait import Portrait
from harness.report.cells import Number, Text
from harness.report.entry import Entry
from harness.report.looks.look import NAMED, Look, colours, marker, portraits, some, whose
from harness.report.model import Report
from harness.report.pictures.style import canvas, short

MOST_MAPS = 8
"""Maps in one picture."""


PALE, THIN = "#999999", 0.45
"""Of what lies behind: pale on a light page and on a dark one."""

POINT = 12_000.0
"""Area of all points of a map together, in square points, of which none has less or more than `SIZES`."""

SIZES = (2.0, 30.0)


def embedding(report: Report) -> Look | None:
    """The map of the best configuration, three times: by class, by cluster, with the picks."""
    best = next(iter(portraits(report)), None)
    if not best:
        return None
    entry, portrait = best
    if not portrait.class_names:
        return Look(
            "embedding",
            f"The embedding{whose(report)}",
            "A map of images by cluster",
            f"{_how(portrait)} of {len(portrait.points):,} images in the feature space{whose(report)}{_alone(report)}, "
            f"coloured by k-means cluster of the features; their number, {len(set(portrait.clusters))}, means "
            "nothing, for no image has a label.",
            lambda: _grid([("", "", portrait)], _by_cluster),
        )
    agreement = _agreement(portrait)
    caption = (
        f"{_how(portrait)} of {len(portrait.points):,} validation images in the feature space{whose(report)}"
        f"{_alone(report)}. Left, coloured by class. Beside it, by k-means cluster of the features, as many as there "
        "are classes, each in the colour of the class that it matches best; normalised mutual information of clusters "
        f"and classes: {agreement:.2f} (0: none, 1: the same). {_same_class(portrait)}"
    )
    if len(portrait.pick_points):
        caption += f" Right, {_shown_picks(portrait)} of {entry.label} on the same map, over the others in grey."
    return Look(
        "embedding",
        f"The embedding{whose(report)}",
        "Maps of validation images by class, by cluster and with the picks",
        caption,
        lambda: _embedding_figure(portrait, agreement),
    )


def encoders(report: Report) -> Look | None:
    """The maps of all confirmed encoders side by side, where there are several."""
    different: list[tuple[Entry, Portrait]] = []
    for entry, portrait in portraits(report):
        if not any(np.array_equal(portrait.points, other.points) for _, other in different):
            different.append((entry, portrait))
    if len(different) < 2:
        return None
    shown = some(different, report, MOST_MAPS)
    rest = f"; {len(shown)} of {len(different)} encoders" if len(shown) < len(different) else ""
    if not all(portrait.class_names for _, portrait in different):
        return Look(
            "encoders",
            "Encoders side by side",
            "A map of the same images for each encoder, by cluster",
            f"The same images as each encoder sees them, by k-means cluster of its features, best first{rest}. A "
            "colour means nothing beyond its map.",
            lambda: _grid([(short(entry.label, 34), "", portrait) for entry, portrait in shown], _by_cluster),
        )
    return Look(
        "encoders",
        "Encoders side by side",
        "A map of the same validation images for each encoder, by class",
        f"The same validation images as each encoder sees them, by class, best first{rest}. Above each: the share of "
        "an image's five nearest neighbours that are of its class.",
        lambda: _grid(
            # the share stands below the name
            [(short(entry.label, 34) + "\n", f"{100 * p.same_class:.0f} % same class", p) for entry, p in shown],
            _by_class,
        ),
        header=["encoder", "neighbours of the same class", "clusters and classes (NMI)"],
        rows=[[Text(entry.label), Number(p.same_class, ".3f"), Number(_agreement(p), ".3f")] for entry, p in different],
    )


def picks(report: Report) -> Look | None:
    """What each configuration picked, on its map, where several picked."""
    picking = [(entry, portrait) for entry, portrait in portraits(report) if len(portrait.pick_points)]
    if len(picking) < 2:
        return None
    shown = some(picking, report, MOST_MAPS)
    rest = f" ({len(shown)} of {len(picking)} configurations)" if len(shown) < len(picking) else ""
    first = shown[0][1]
    same = all(np.array_equal(first.points, portrait.points) for _, portrait in shown)
    where = "One encoder, hence one map." if same else "Each map is that of the configuration's own encoder."
    return Look(
        "picks",
        "Where the picks lie",
        "For each configuration its picks by round, on a map of validation images",
        f"Images that were labelled, by round, over validation images in grey{rest}, under one seed. {where} "
        f"Of {first.picked.sum():,} labelled images {len(first.pick_points):,} are drawn.",
        lambda: _grid([(short(entry.label, 34), "", portrait) for entry, portrait in shown], _by_round),
    )


def _how(portrait: Portrait) -> str:
    return "t-SNE map" if portrait.mapping == "t-SNE" else "The first two principal components"


def _alone(report: Report) -> str:
    return "" if report.confirmed else ", the best of the search"


def _same_class(portrait: Portrait) -> str:
    if not portrait.same_class >= 0:
        return ""
    chance = float(np.square(np.bincount(portrait.classes) / len(portrait.classes)).sum())
    return (
        f"Of an image's five nearest neighbours {100 * portrait.same_class:.0f} % are of its class "
        f"({100 * chance:.0f} % by chance)."
    )


def _shown_picks(portrait: Portrait) -> str:
    total, drawn = int(portrait.picked.sum()), len(portrait.pick_points)
    return f"the {total:,} labelled images" if drawn == total else f"{drawn:,} of the {total:,} labelled images"


def _agreement(portrait: Portrait) -> float:
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(portrait.classes, portrait.clusters))


def _embedding_figure(portrait: Portrait, agreement: float) -> Figure:
    panels = 3 if len(portrait.pick_points) else 2
    names = portrait.class_names if len(portrait.class_names) <= NAMED else ()
    rows = max(2, math.ceil(len(names) / _columns(names)))
    figure = canvas(3.9 * panels + 0.2, 0.4 + 3.9 * _height([portrait]) + 0.2 * rows)
    axes = figure.subplots(1, panels)
    _by_class(axes[0], portrait)
    axes[0].set_title("by class", fontsize=10)
    _by_number(axes[1], portrait.points, _matched(portrait))
    axes[1].set_title(f"by k-means cluster (NMI {agreement:.2f})", fontsize=10)
    if panels == 3:
        _by_round(axes[2], portrait)
        axes[2].set_title("labelled images, by round", fontsize=10)
    marks = _class_marks(axes[0], names)
    if panels == 3:
        rounds = _round_marks(axes[2], portrait)
        figure.legend(handles=rounds, loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    if marks:
        figure.legend(handles=marks, loc="outside lower left", ncols=_columns(names), frameon=False, fontsize=9)
    for panel in axes:
        _bare(panel)
    return figure


def _grid(panels: Sequence[tuple[str, str, Portrait]], draw: Callable[[Axes, Portrait], None]) -> Figure:
    """Small maps: name, what stands beside it, portrait."""
    columns = min(4, len(panels)) if len(panels) != 6 else 3
    rows = math.ceil(len(panels) / columns)
    first = panels[0][2]
    names = first.class_names if draw is _by_class and len(first.class_names) <= NAMED else ()
    width = max(3.0 * columns, 6.0)
    panel = width / columns * _height([portrait for *_, portrait in panels]) + 0.2
    figure = canvas(width, panel * rows + 0.4 + 0.2 * math.ceil(len(names) / _columns(names)))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (name, beside, portrait) in zip(grid.flat, panels, strict=False):
        draw(axes, portrait)
        axes.set_title(name, fontsize=9, fontweight="bold", loc="left", pad=3)
        axes.set_title(beside, fontsize=8, loc="right", pad=3)
        _bare(axes)
    if names:
        marks = _class_marks(grid[0, 0], names)
        figure.legend(handles=marks, loc="outside lower center", ncols=_columns(names), frameon=False, fontsize=9)
    if draw is _by_round:
        most = max((portrait for *_, portrait in panels), key=lambda portrait: len(portrait.picked))
        figure.legend(
            handles=_round_marks(grid[0, 0], most), loc="outside lower center", ncols=6, frameon=False, fontsize=9
        )
    return figure


def _height(portraits: Sequence[Portrait]) -> float:
    """Of a panel, by its width: that of the tallest map."""
    places = [np.concatenate([portrait.points, portrait.pick_points]) for portrait in portraits]
    spans = [np.ptp(points, axis=0) for points in places]
    return min(1.1, max(0.55, *(float(span[1] / max(span[0], 1e-9)) for span in spans)))


def _by_class(axes: Axes, portrait: Portrait) -> None:
    _by_number(axes, portrait.points, portrait.classes)


def _by_cluster(axes: Axes, portrait: Portrait) -> None:
    _by_number(axes, portrait.points, portrait.clusters)


def _by_number(axes: Axes, points: np.ndarray, numbers: np.ndarray) -> None:
    """Points in the colour and of the form of their class or cluster, i64 [n]."""
    palette = colours(int(numbers.max()) + 1)
    for form in dict.fromkeys(map(marker, range(len(palette)))):
        chosen = [place for place, k in enumerate(numbers.tolist()) if marker(k) == form]
        if chosen:
            size = min(max(POINT / len(points), SIZES[0]), SIZES[1])
            _scatter(axes, points[chosen], [palette[numbers[place]] for place in chosen], s=size, marker=form)


def _by_round(axes: Axes, portrait: Portrait) -> None:
    _scatter(axes, portrait.points, PALE, alpha=THIN)
    palette = _round_colours(portrait)
    start = portrait.pick_rounds == 0
    _scatter(axes, portrait.pick_points[start], "#FFFFFF", s=16, alpha=1.0, edgecolors="#333333", linewidths=0.7)
    order = np.flatnonzero(~start)
    order = order[np.argsort(portrait.pick_points[order, 0], kind="stable")]  # so that no round lies on top
    colour = [palette[k] for k in portrait.pick_rounds[order]]
    _scatter(axes, portrait.pick_points[order], colour, s=16, alpha=1.0, edgecolors="#FFFFFF", linewidths=0.4)


def _scatter(axes: Axes, points: np.ndarray, colour: str | list[str], **look: Any) -> None:
    """Points f32 [n, 2]; as pixels in an SVG too, which a thousand points would make large."""
    look = {"s": min(max(POINT / max(1, len(points)), SIZES[0]), SIZES[1]), "linewidths": 0, "alpha": 0.85, **look}
    axes.scatter(points[:, 0], points[:, 1], c=colour, rasterized=True, **look)


def _round_colours(portrait: Portrait) -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    last = max(len(portrait.picked) - 1, 1)
    steps = np.linspace(0.1, 0.75, last)  # neither end is lost on a light or a dark page
    return ["#FFFFFF", *(to_hex(colormaps["plasma_r"](step)) for step in steps)]


def _round_marks(axes: Axes, portrait: Portrait) -> list[Any]:
    palette, last = _round_colours(portrait), len(portrait.picked) - 1
    shown = range(1, last + 1) if last <= 8 else sorted({1, *range(last // 5, last, max(last // 5, 1)), last})
    start = [axes.scatter([], [], s=28, c="#FFFFFF", edgecolors="#333333", linewidths=0.9, label="start pool")]
    return [*(start if portrait.picked[0] else []), *(_mark(axes, palette[k], f"round {k}") for k in shown)]


def _mark(axes: Axes, colour: str, name: str, form: str = "o") -> Any:
    return axes.scatter([], [], s=28, c=colour, marker=form, linewidths=0, label=name)


def _class_marks(axes: Axes, names: Sequence[str]) -> list[Any]:
    palette = colours(len(names))
    return [_mark(axes, palette[k], short(name, 18), marker(k)) for k, name in enumerate(names)]


def _columns(names: Sequence[str]) -> int:
    """Of a legend."""
    return 5 if len(names) <= 20 else 8


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[:].set_color("#DDDDDD")


def _matched(portrait: Portrait) -> np.ndarray:
    """i64 [n]: for each image the class that its cluster matches best, one class for each cluster."""
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((len(portrait.class_names),) * 2, np.int64)
    np.add.at(table, (portrait.clusters, portrait.classes), 1)
    clusters, matched = linear_sum_assignment(table, maximize=True)
    return matched[np.argsort(clusters)][portrait.clusters]

"""The images themselves: a map to point at, first picks, confident errors, doubtful labels, classes mixed up."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from markupsafe import Markup

from harness.records.album import SHEET_COLUMNS, Album, sheet_of
from harness.records.portrait import Portrait
from harness.report.entry import Entry
from harness.report.looks.look import some
from harness.report.model import Report
from harness.report.page.document import data
from harness.report.section import Heading, Part, Section

IN_A_ROW = 12
"""Images in a row of examples."""

MOST_SELECTORS = 8
"""Configurations of which the first picks are shown, and whose picks are on the map."""

ENOUGH = 0.5
"""A model that gets less of the validation images right than this suspects nearly every label."""

PAIRS, OF_PAIR = 4, 6
"""Pairs of classes that are mixed up, and examples of each."""


@dataclass(frozen=True, eq=False)
class Pictured:
    """A configuration with the images of its encoder's portrait."""

    entry: Entry
    portrait: Portrait
    album: Album

    @property
    def counts(self) -> tuple[int, int, int]:
        """Validation images (without labels: of the pool), picks, others."""
        return len(self.portrait.points), len(self.portrait.pick_points), len(self.album.other_points)

    def name(self, place: int) -> str:
        """Of an image; empty without one."""
        return self.album.names[place] if self.album.names else ""

    def label(self, number: int) -> str:
        """Of a class."""
        return self.portrait.class_names[number] if number >= 0 else "unknown"


def images(report: Report) -> Section | None:
    """None where no trial left an album."""
    shown = [
        (entry, Pictured(entry, files.portrait, files.album))
        for entry in report.confirmed or report.searched
        for files in list(entry.files.values())
        if files.portrait and files.album
    ]
    if not shown:
        return None
    shown = list({entry.id: (entry, one) for entry, one in reversed(shown)}.values())[::-1]
    best = shown[0][1]
    section = Section("Images", "images", [_map(best, [one for _, one in shown])])
    section.parts += _first_picks([one for _, one in some(shown, report, MOST_SELECTORS)])
    if best.portrait.class_names:
        section.parts += [*_errors(best), *_suspects(best), *_mixed_up(best)]
    return section


def _first_picks(shown: Sequence[Pictured]) -> list[Part]:
    """Of each configuration that picked, the first images of its first selection."""
    rows: list[Part] = []
    for one in shown:
        mapped = one.counts[0]
        places = np.flatnonzero(one.portrait.pick_rounds == 1)
        places = places[np.argsort(one.album.ranks[places], kind="stable")][:IN_A_ROW]
        if len(places):
            said = [[one.label(int(k))] for k in one.portrait.pick_classes[places]]
            rows += [Markup("<h4>{}</h4>").format(one.entry.label), _row(one, mapped + places, said)]
    if not rows:
        return []
    how = "In the selector's own order, under one seed; the files of all picks stand in trials/*/selected_*.csv."
    return [Heading("What was picked first"), how, *rows]


def _errors(one: Pictured) -> list[Part]:
    wrong = _wrong(one)
    places = wrong[np.argsort(-_sure(one)[wrong], kind="stable")][:IN_A_ROW]
    if not len(places):
        return []
    said = [
        [f"is {one.label(int(one.portrait.classes[k]))}", f"taken for {_told(one, int(k))}"] for k in places.tolist()
    ]
    how = f"Validation images that {one.entry.label} got wrong after its last round, the surest first."
    return [Heading("The most confident errors"), how, _row(one, places, said)]


def _suspects(one: Pictured) -> list[Part]:
    """What confident learning suspects; nothing where the classifier gives no probabilities."""
    places = np.flatnonzero(one.album.suspected >= 0)
    places = places[np.argsort(-_sure(one)[places], kind="stable")]
    if np.isnan(one.album.confidence).all():
        return []
    count, total = len(places), one.counts[0]
    right = 1 - len(_wrong(one)) / total
    if right < ENOUGH:
        weak = f"{one.entry.label} gets {100 * right:.0f} % of the validation images right, too few to doubt a label."
        return [Heading("Labels to check"), weak]
    how = (
        f"{count:,} of {total:,} validation images seem to be of another class than their label says, by confident "
        f"learning (Northcutt et al. 2021) on what {one.entry.label} tells of them after its last round. Most are hard "
        "images, not wrong labels: look before you relabel."
    )
    if not count:
        return [Heading("Labels to check"), f"Confident learning suspects none of {total:,} validation images."]
    said = [
        [f"labelled {one.label(int(one.portrait.classes[k]))}", f"seems {one.label(int(one.album.suspected[k]))}"]
        for k in places[:IN_A_ROW].tolist()
    ]
    return [Heading("Labels to check"), how, _row(one, places[:IN_A_ROW], said)]


def _mixed_up(one: Pictured) -> list[Part]:
    """The pairs of classes that are mixed up most often, with examples."""
    wrong = _wrong(one)
    classes, predicted = one.portrait.classes, one.album.predicted
    pairs: dict[tuple[int, int], list[int]] = {}
    for k in wrong[np.argsort(-_sure(one)[wrong], kind="stable")].tolist():
        pairs.setdefault((int(classes[k]), int(predicted[k])), []).append(k)
    parts: list[Part] = []
    for (truth, told), places in sorted(pairs.items(), key=lambda item: -len(item[1]))[:PAIRS]:
        of_class = int((classes == truth).sum())
        title = f"{one.label(truth)} taken for {one.label(told)}: {len(places)} of {of_class}"
        shown = np.array(places[:OF_PAIR])
        parts += [Markup("<h4>{}</h4>").format(title), _row(one, shown, [[] for _ in shown])]
    return [Heading("What is mixed up most"), *parts] if parts else []


def _wrong(one: Pictured) -> np.ndarray:
    predicted = one.album.predicted[: one.counts[0]]
    return np.flatnonzero((predicted >= 0) & (predicted != one.portrait.classes))


def _sure(one: Pictured) -> np.ndarray:
    return np.nan_to_num(one.album.confidence)


def _told(one: Pictured, place: int) -> str:
    sure = one.album.confidence[place]
    return one.label(int(one.album.predicted[place])) + ("" if np.isnan(sure) else f" ({100 * sure:.0f}\u00a0%)")


def _row(one: Pictured, places: np.ndarray, said: Sequence[Sequence[str]]) -> Markup:
    """Thumbnails with their file's name and more lines below each."""
    items = []
    for place, pixels, lines in zip(places.tolist(), one.album.thumbnails(places), said, strict=True):
        name = one.name(place)
        picture = Markup('<img src="{}" alt="">').format(_link(pixels)) if pixels is not None else ""
        texts = Markup("").join(Markup("<span>{}</span>").format(line) for line in lines)
        base = Markup('<span class="file" title="{}">{}</span>').format(name, os.path.basename(name)) if name else ""
        items.append(Markup("<li>{}{}{}</li>").format(picture, texts, base))
    return Markup('<ul class="thumbs">{}</ul>').format(Markup("\n").join(items))


def _link(pixels: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=88, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


# The map --------------------------------------------------------------------------------------------------------------

COLOUR_BY = {"class": "class", "cluster": "k-means cluster", "pick": "labelled in round", "error": "right or wrong"}
"""What the map may be coloured by -> what it is called."""


def _map(best: Pictured, all_shown: Sequence[Pictured]) -> Markup:
    same = [one for one in all_shown if np.array_equal(one.portrait.points, best.portrait.points)]
    layers = [one for one in same if one.counts[1]][:MOST_SELECTORS]
    modes = {
        "class": bool(best.portrait.class_names),
        "cluster": True,
        "pick": bool(layers),
        "error": bool((best.album.predicted >= 0).any()),
    }
    mapped, _, others = best.counts
    what = "validation images" if best.portrait.class_names else "images of the pool"
    more = f", {others:,} other images of the pool" if others else ""
    how = (
        f"{best.portrait.mapping} map of {mapped:,} {what}{more}, and of labelled images, in the feature space of "
        f"{best.entry.label}. Point at one to see it; draw around some to list them; shift and drag moves the map, "
        "ctrl and the wheel zoom."
    )
    options = Markup("").join(
        Markup('<option value="{}">{}</option>').format(mode, COLOUR_BY[mode])
        for mode, is_there in modes.items()
        if is_there
    )
    of_layers = Markup("").join(
        Markup('<option value="{}">{}</option>').format(number, one.entry.label) for number, one in enumerate(layers)
    )
    hidden = "" if len(layers) > 1 else Markup(" hidden")
    return Markup(
        '<div class="map"><h3>Map</h3><p>{}</p><div class="tools"><label>colour <select name="by">{}</select></label>'
        '<label{}>picks of <select name="layer">{}</select></label>'
        '<button type="button" class="in" aria-label="closer">+</button>'
        '<button type="button" class="out" aria-label="farther">–</button>'
        '<button type="button" class="lasso" aria-pressed="false">lasso</button></div>'
        '<canvas role="img" aria-label="map of images"></canvas><div class="legend"></div>'
        '<div class="chosen" hidden><p></p><ul></ul><textarea readonly rows="5" aria-label="files"></textarea></div>'
        "<noscript><p>This map needs a script; as a picture it stands in “What was learnt and picked”.</p></noscript>"
        '<script type="application/json">{}</script></div>'
    ).format(how, options, hidden, of_layers, data(_content(best, layers)))


def _content(best: Pictured, layers: Sequence[Pictured]) -> dict[str, Any]:
    """What `map.js` reads: points in a square of 65,535, and facts as arrays in base64."""
    mapped, picks, others = best.counts
    everything = [best.portrait.points, best.album.other_points, *(one.portrait.pick_points for one in layers)]
    points = np.concatenate(everything)
    low = points.min(0)
    middle, span = (low + points.max(0)) / 2, max(float(np.ptp(points, axis=0).max()), 1e-9)
    sheets = [best.album.sheet]

    def group(one: Pictured, places: np.ndarray, xy: np.ndarray, about: dict[str, Any]) -> dict[str, Any]:
        album, portrait = one.album, one.portrait
        unknown = np.full(len(album.other_points), -1)
        classes = np.concatenate([portrait.classes, portrait.pick_classes, unknown])[places]
        clusters = np.concatenate([portrait.clusters, album.clusters])[places]
        sure = np.where(np.isnan(album.confidence), 255, np.rint(254 * np.nan_to_num(album.confidence)))[places]
        tiles, sheet = album.tiles[places], 0
        if one is not best:
            pictures = [pixels for pixels in album.thumbnails(places) if pixels is not None]
            tiles = np.where(tiles >= 0, np.cumsum(tiles >= 0) - 1, -1)
            sheets.append(sheet_of(np.stack(pictures)) if pictures else b"")
            sheet = len(sheets) - 1
        names = [album.names[place] for place in places.tolist()] if album.names else []
        prefix = _common(names)
        placed = np.clip(65535 * ((xy - middle) / span + 0.5), 0, 65535)
        return about | {
            "count": len(places),
            "points": _packed(placed, np.uint16),
            "classes": _packed(classes, np.int16),
            "clusters": _packed(clusters, np.int16),
            "predicted": _packed(album.predicted[places], np.int16),
            "confidence": _packed(sure, np.uint8),
            "tiles": _packed(tiles, np.int32),
            "sheet": sheet,
            "width": album.width,
            "height": album.height,
            "prefix": prefix,
            "names": [name[len(prefix) :] for name in names] or None,
        }

    of_base = np.concatenate([np.arange(mapped), mapped + picks + np.arange(others)])
    base = group(best, of_base, np.concatenate(everything[:2]), {"label": ""})
    of_layers = [
        group(one, one.counts[0] + np.arange(one.counts[1]), one.portrait.pick_points, {
            "label": one.entry.label, "rounds": _packed(one.portrait.pick_rounds, np.int16)
        })
        for one in layers
    ]  # fmt: skip
    return {
        "classes": best.portrait.class_names,
        "columns": SHEET_COLUMNS,
        "sheets": [f"data:image/jpeg;base64,{base64.b64encode(sheet).decode()}" for sheet in sheets],
        "base": base,
        "layers": of_layers,
    }


def _common(names: Sequence[str]) -> str:
    """What all names begin with: as a rule the folder."""
    if len(names) < 2:
        return ""
    pairs = zip(min(names), max(names), strict=False)
    return "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _packed(values: np.ndarray, kind: type) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode()

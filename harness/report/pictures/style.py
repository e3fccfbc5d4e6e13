"""How pictures look, and how they become SVG, which pages, Markdown and MLflow show alike."""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO, StringIO
from pathlib import Path
from textwrap import shorten, wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.messages import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.report.compare import Estimate

MAX_IMAGES_BYTES = 100_000
"""Of all images in one picture, where lower quality can keep them below it."""

MAX_COLOURED = 7
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D00")
MARKERS = "osD^vPX"
BETTER, WORSE, UNCLEAR, REFERENCE = "#0072B2", "#D55E00", "#7F7F7F", "#000000"
PAPER, DARK, LIGHT = "#FEFEFE", "#111111", "#FFFFFF"
"""The background, and numbers on a dark or pale cell. These are not black: what is, takes the report page's colour."""


@dataclass(frozen=True)
class Told:
    """What a page tells of some points of a picture when they are pointed at.

    Attributes:
        name: of what they show together, such as a configuration; all points of one name are marked as one.
        places: x, y in points of the picture, from its upper left corner, and what is told there.
        link: where a click leads, such as `#trial`; empty: nowhere.
    """

    name: str
    places: Sequence[tuple[float, float, str]]
    link: str = ""


@dataclass
class _Noted:
    axes: Axes
    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    texts: Sequence[str]
    link: str


class Svg(str):
    """A picture as SVG, without a background; a notebook shows it.

    Attributes:
        told: what a page tells of its points.
        figure: draws the same by matplotlib.
    """

    told: Sequence[Told] = ()
    figure: Callable[[], Figure]

    def _repr_svg_(self) -> str:
        return on_paper(self)


def save_picture(figure: Figure | Svg, path: Path) -> Svg:
    """Writes a picture as `<path>.svg`; the same data gives the same bytes.

    Args:
        figure: is drawn by this, once.
        path: without an ending.

    Returns:
        The SVG, without a background; the file has a white one.
    """
    drawn = figure if isinstance(figure, Svg) else svg(figure)
    path.with_suffix(".svg").write_text(printable(on_paper(drawn)), encoding="utf-8")
    return drawn


def save_figure(figure: Figure | Svg, path: Path) -> None:
    """Writes a picture for a paper, as its ending says: text stays text, photographs have 300 dpi."""
    import matplotlib

    drawn = figure.figure() if isinstance(figure, Svg) else figure
    _take_dollars_for_dollars(drawn)
    families = show_every_sign(drawn)
    dates = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    kept = {"svg.hashsalt": "selbench", "svg.fonttype": "none", "pdf.fonttype": 42, "font.family": families}
    with matplotlib.rc_context(kept):
        drawn.savefig(path, dpi=300, metadata=dates.get(path.suffix))


def show_every_sign(figure: Figure) -> list[str]:
    """Lets names be told apart where they are drawn and not kept as text: by fonts of this machine that have their
    signs, and what none has is written as its code point, such as `U+5B66`.

    Returns:
        The families of these fonts, for text that appears only as it is drawn.
    """
    from matplotlib import font_manager
    from matplotlib.text import Text

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        figure.draw_without_rendering()  # before, labels of axes have no text
    texts = figure.findobj(Text)
    lacking = {sign for text in texts for sign in text.get_text() if not sign.isspace()}
    lacking -= _signs_of(font_manager.findfont(font_manager.FontProperties()))
    families = ["sans-serif"]
    if not lacking:
        return families
    known = {str(font.fname) for font in font_manager.fontManager.ttflist}
    for file in set(font_manager.findSystemFonts()) - known:  # it remembers those that there were at its first use
        with suppress(OSError, RuntimeError):
            font_manager.fontManager.addfont(file)
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: ("Sans" not in font.name, font.name)):
        is_plain = font.weight == 400 and font.style == "normal" and not re.search("Last ?Resort|Color", font.name)
        if is_plain and font.name not in families:
            there = lacking & _signs_of(font.fname)
            if there:
                families.append(font.name)
                lacking -= there
        if not lacking:
            break

    def spelt(text: str) -> str:
        return "".join(f"U+{ord(sign):04X} " if sign in lacking else sign for sign in text)

    def spelling(formatter: Callable[[float, int], str]) -> Callable[[float, float], str]:
        return lambda value, place: spelt(formatter(value, int(place)))

    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if lacking & set("".join(label.get_text() for label in axis.get_ticklabels())):
            axis.set_major_formatter(spelling(axis.get_major_formatter()))
    for text in texts:
        text.set_fontfamily(families)
        text.set_text(spelt(text.get_text()))
    return families


@cache
def _signs_of(font: str) -> frozenset[str]:
    """What a font file has."""
    from matplotlib import font_manager

    try:
        return frozenset(map(chr, font_manager.get_font(font).get_charmap()))
    except (OSError, RuntimeError):  # one that cannot be read
        return frozenset()


def svg(figure: Figure) -> Svg:
    """A figure as SVG without a background, its text as text and its images small."""
    import matplotlib

    _take_dollars_for_dollars(figure)
    text = StringIO()
    with (
        matplotlib.rc_context({"svg.hashsalt": "selbench", "svg.fonttype": "none"}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph")  # which fonts there are is for the reader's machine to say
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return Svg(light(text.getvalue()))


def _take_dollars_for_dollars(figure: Figure) -> None:
    """Names of classes and files are no formulas, whatever is in them; powers of ten on logarithmic axes are."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if "$" in text.get_text():  # powers have no text yet: they get it as they are drawn
            text.set_parse_math(False)


def on_paper(svg: str) -> str:
    """An SVG with a white background, to be looked at by itself on a dark screen too."""
    return re.sub(r"<svg\b[^>]*>", r'\g<0>\n<rect width="100%" height="100%" fill="#ffffff"/>', svg, count=1)


def light(svg: str) -> str:
    """An SVG whose images are small: photographs as JPEG, clouds of points with a palette."""
    pattern = r"data:image/png;base64,\s*([^\"]+)"
    images = [base64.b64decode(image) for image in re.findall(pattern, svg)]
    for quality in (92, 80, 60, 30):
        lighter = [_lighter(image, quality) for image in images]
        if sum(map(len, lighter)) <= MAX_IMAGES_BYTES:
            break
    replacements = iter(lighter)
    return re.sub(pattern, lambda _: next(replacements), svg)


def _lighter(png: bytes, quality: int) -> str:
    """The image as a link that holds it: JPEG where it is opaque and that is smaller."""
    from PIL import Image

    image, buffer = Image.open(BytesIO(png)).convert("RGBA"), BytesIO()
    opaque = image.getchannel("A").getextrema()[0] == 255
    if opaque:
        image.convert("RGB").save(buffer, "JPEG", quality=quality, subsampling=0)
    else:
        palette = image.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette.save(buffer, "PNG", optimize=True)
    kind, content = ("jpeg" if opaque else "png"), buffer.getvalue()
    if len(content) >= len(png):
        kind, content = "png", png
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def canvas(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


Values = Sequence[float] | np.ndarray


def tell(axes: Axes, name: str, x: Values, y: Values, texts: Sequence[str], link: str = "") -> None:
    """Says what a page tells of points, given where they are in the data; see `Told`."""
    figure: Any = axes.get_figure(root=True)
    figure.noted = getattr(figure, "noted", [])
    figure.noted.append(_Noted(axes, name, x, y, texts, link))


def told_of(figure: Figure | Svg) -> Sequence[Told]:
    """What was said of the points of a figure that has been drawn."""
    if isinstance(figure, Svg):
        return figure.told
    share, height = 72 / figure.dpi, 72 * figure.get_figheight()
    told = []
    for one in getattr(figure, "noted", []):
        places = share * one.axes.transData.transform(np.column_stack([one.x, one.y]).astype(float))
        shown = [(x, height - y, text) for (x, y), text in zip(places.tolist(), one.texts, strict=True)]
        told.append(Told(one.name, [place for place in shown if np.isfinite(place[:2]).all()], one.link))
    return told


def short(name: str, width: int = 26) -> str:
    """The name, cut off where it is longer."""
    if " " in name:
        return shorten(name, width, placeholder="…")
    return name if len(name) <= width else name[: width - 1] + "…"


def wrapped(name: str, width: int = 36) -> str:
    """The name on two lines where it is longer, and cut off where these do not hold it."""
    if len(name) <= width:
        return name
    return "\n".join(wrap(name, width, max_lines=2, placeholder=" …", break_long_words=False))


def clean(axes: Axes) -> None:
    """Takes away what carries no data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.7)
    axes.set_axisbelow(True)


def error_bar(value: Estimate, factor: float) -> list[list[float]] | None:
    """The lengths of an interval below and above its mean, times the factor; None without an interval."""
    if value.half is None:
        return None
    return [[factor * (value.mean - value.low)], [factor * (value.high - value.mean)]]

"""How pictures look, and how they become SVG, which pages, Markdown and MLflow show alike."""

from __future__ import annotations

import base64
import re
from io import BytesIO, StringIO
from pathlib import Path
from textwrap import shorten, wrap
from typing import TYPE_CHECKING

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


class Svg(str):
    """A picture as SVG, without a background; a notebook shows it."""

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
    path.with_suffix(".svg").write_text(on_paper(drawn), encoding="utf-8")
    return drawn


def svg(figure: Figure) -> Svg:
    """A figure as SVG without a background, its text as text and its images small."""
    import matplotlib

    _take_dollars_for_dollars(figure)
    text = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "selbench", "svg.fonttype": "none"}):
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

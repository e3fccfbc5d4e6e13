"""How pictures look and are saved."""

from __future__ import annotations

import base64
import re
from io import BytesIO, StringIO
from pathlib import Path
from textwrap import shorten, wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 110
MAX_BYTES = 180_000
MAX_COLOURED = 7
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D00")
MARKERS = "osD^vPX"
BETTER, WORSE, UNCLEAR, REFERENCE = "#0072B2", "#D55E00", "#7F7F7F", "#000000"
PAPER, DARK, LIGHT = "#FEFEFE", "#111111", "#FFFFFF"
"""The background, and numbers on a dark or pale cell. These are not black: what is, takes the report page's colour."""


def save(figure: Figure, path: Path, *, photographs: bool = False) -> str:
    """Both formats; the same data gives the same bytes. The PNG has a palette, which makes it a third as large.

    Args:
        figure: is laid out by this.
        path: without an ending.
        photographs: whether the picture holds some; they keep all their colours, unless that makes the file large.

    Returns:
        The SVG, without a background of its own; the file has a white one.
    """
    import matplotlib
    from PIL import Image

    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    figure.set_layout_engine("none")  # laid out once is enough for both
    image = Image.open(buffer).convert("RGB")
    if not photographs:
        image = image.quantize(128, dither=Image.Dither.NONE)
    image.save(path.with_suffix(".png"), optimize=True)
    if path.with_suffix(".png").stat().st_size > MAX_BYTES:
        image.quantize(256).save(path.with_suffix(".png"), optimize=True)
    text = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "selbench", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = light(text.getvalue())
    white = '<rect width="100%" height="100%" fill="#ffffff"/>\n <defs>'
    path.with_suffix(".svg").write_text(svg.replace("<defs>", white, 1), encoding="utf-8")
    return svg


def light(svg: str) -> str:
    """An SVG whose images are small: photographs as JPEG, clouds of points with a palette."""
    return re.sub(r"data:image/png;base64,\s*([^\"]+)", lambda found: _lighter(base64.b64decode(found[1])), svg)


def _lighter(png: bytes) -> str:
    from PIL import Image

    image, buffer = Image.open(BytesIO(png)).convert("RGBA"), BytesIO()
    opaque = image.getchannel("A").getextrema()[0] == 255
    if opaque:
        image.convert("RGB").save(buffer, "JPEG", quality=92, subsampling=0)
    else:
        image.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
            buffer, "PNG", optimize=True
        )
    kind, content = ("jpeg", buffer.getvalue()) if opaque else ("png", buffer.getvalue())
    kind, content = (kind, content) if len(content) < len(png) else ("png", png)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def canvas(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def short(name: str, width: int = 26) -> str:
    """The name, cut off where it is longer."""
    return (
        shorten(name, width, placeholder="…")
        if " " in name
        else name
        if len(name) <= width
        else name[: width - 1] + "…"
    )


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

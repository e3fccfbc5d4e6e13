"""The contact sheet of a batch: one page with its images, their names and why they were chosen."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image, ImageOps

from harness.files import replace_text
from harness.pick.candidates import Candidates
from harness.pick.choice import Pick

SIDE = 320
"""Pixels of a thumbnail's longer side: a tile of a page at the density of most screens."""

SMALL = 96
"""Pixels of the longer side under which an image is enlarged without smoothing."""


@dataclass(frozen=True)
class Tile:
    """One image of the sheet.

    Attributes:
        folder: of its file, with the `/` at its end; may be empty.
        file: its name there.
        why: it was chosen.
        source: its thumbnail as a data URL; None where there is no file that can be read.
        small: whether it is shown larger than it is.
    """

    folder: str
    file: str
    why: str
    source: str | None
    small: bool = False


def write_sheet(file: Path, title: str, about: Sequence[str], picks: Sequence[Pick], candidates: Candidates) -> int:
    """Writes the page; returns how many of its images have a picture."""
    tiles = [_tile(candidates.names[pick.position], pick.why, candidates.file(pick.position)) for pick in picks]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    page = environment.get_template("sheet.html.j2").render(title=title, about=about, tiles=tiles)
    replace_text(file, page)
    return sum(tile.source is not None for tile in tiles)


def _tile(name: str, why: str, file: Path) -> Tile:
    above, slash, base = name.rpartition("/")
    folder = above + slash
    try:
        with Image.open(file) as image:
            picture = ImageOps.exif_transpose(image).convert("RGB")
    except Exception:  # Pillow's readers raise many types; a sheet without one picture is still a sheet
        return Tile(folder, base, why, None)
    small = max(picture.size) < SMALL
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, "PNG" if small else "JPEG", quality=82)
    kind = "png" if small else "jpeg"
    return Tile(folder, base, why, f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}", small)

"""From sections to HTML: `report.html.j2` with its style sheet and scripts in it, and nothing from outside."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from harness.messages import CODE, cause_of, printable
from harness.report.page.svg import inline
from harness.report.pictures import style
from harness.report.section import Heading, Picture, Section, Table

HERE = Path(__file__).parent


@dataclass
class PageHead:
    """What stands above the sections.

    Attributes:
        title: of the page.
        kicker: a few words above it.
        question: what was asked; may be empty.
        about: more of what the question's file says of it, a paragraph each.
        answer: one or several sentences, a paragraph each.
        notes: what a reader must know, a sentence each.
        more: what may be known, too, and is folded.
        facts: how it was made: names and what is to be said of each.
    """

    title: str
    kicker: str
    question: str = ""
    about: Sequence[str] = ()
    answer: Sequence[str] = ()
    notes: Sequence[str] = ()
    more: Sequence[str] = ()
    facts: Sequence[tuple[str, Sequence[str]]] = field(default_factory=list)


def render(head: PageHead, sections: Sequence[Section], folder: Path) -> str:
    """The page; its pictures are also written into the folder, as SVG."""
    anchors = {anchor for section in sections for table in section.tables for anchor in table.anchors}
    anchors |= {section.anchor for section in sections}

    def target(link: str) -> str:
        """A link, unless what it leads to is not on the page: of very many trials some are."""
        return link if not link.startswith("#") or link[1:] in anchors else ""

    return _template().render(
        head=head, sections=sections, draw=lambda picture: _draw(picture, folder, target), target=target
    )


def _draw(picture: Picture, folder: Path, target: Callable[[str], str]) -> Markup:
    """The picture, and behind it what the page tells of its points.

    Instead of one that cannot be drawn, why: it costs neither the others nor the page.
    """
    try:
        drawn = picture.draw()
        svg = inline(style.save_picture(drawn, folder / picture.stem), picture.stem, picture.alt)
    except Exception as error:
        cause = f"{picture.stem} could not be drawn: {cause_of(error, 300)}"
        print(printable(f"{folder}: the picture {cause}"), file=sys.stderr)
        return Markup("<p>The picture {} ({})</p>").format(cause, picture.alt)
    told = [
        {
            "name": one.name,
            "link": target(one.link),
            "at": [(round(x, 1), round(y, 1), text) for x, y, text in one.places],
        }
        for one in style.told_of(drawn)
    ]
    behind = Markup('<script type="application/json" class="told">{}</script>').format(data(told)) if told else ""
    return Markup(svg) + behind


def data(value: Any) -> Markup:
    """JSON that may stand in a script element, whatever is in its texts."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def quoted(text: str) -> Markup:
    """A string of a style sheet, whatever is in it."""
    return Markup("".join(one if one.isalnum() and one.isascii() else f"\\{ord(one):x} " for one in text))


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"prose": prose, "breakable": _breakable, "label": _label, "quoted": quoted}
    environment.tests |= {
        "heading": lambda part: isinstance(part, Heading),
        "picture": lambda part: isinstance(part, Picture),
        "table": lambda part: isinstance(part, Table),
        "markup": lambda part: isinstance(part, Markup),
    }
    return environment.get_template("report.html.j2")


def prose(text: str) -> Markup:
    """Plain text with `code` and links set as such."""
    parts = re.split(f"({CODE})", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(_breakable(part[1:-1])) if at % 2 else _linked(part)
        for at, part in enumerate(parts)
    )


def _linked(text: str) -> Markup:
    parts = re.split(r"(https?://[^\s,;)<>\"']*[^\s,;)<>\"'.])", re.sub(r"(?<=\d) %", "\u00a0%", text))
    return Markup("").join(
        Markup('<a href="{0}">{0}</a>').format(part) if at % 2 else escape(part) for at, part in enumerate(parts)
    )


def _label(text: str) -> str:
    """A configuration's name, to be broken between its parameters and not within them."""
    parts = (part.replace(" ", "\u00a0") if len(part) < 25 else part for part in text.split(" · "))
    return "\u00a0· ".join(parts)


def _breakable(text: str) -> Markup:
    """May be broken after a slash or an underscore."""
    return Markup(re.sub(r"([/_])", r"\1<wbr>", str(escape(text))))

"""A figure as part of a page: its SVG takes the page's colours, light or dark, and its text the page's typeface."""

from __future__ import annotations

import re
from html import escape

THEME = {
    "#000000": "currentColor",
    "#333333": "currentColor",
    "#fefefe": "var(--paper)",
    "#e5e5e5": "var(--rule)",
    "#dddddd": "var(--rule)",
    "#7f7f7f": "var(--muted)",
    "#0072b2": "var(--blue)",
    "#56b4e9": "var(--sky)",
    "#d55e00": "var(--orange)",
    "#009e73": "var(--green)",
    "#8c6d00": "var(--brown)",
}
"""Colours of `harness.report.pictures` -> what stands for them on the page; every other colour stays as it is."""

_FONT = re.compile(r"(font-family: |font: [^\"';]*?px )[^;\"]+")  # matplotlib writes the one or, before 3.10, the other
_ID = re.compile(r'\bid="([^"]+)"')
_SIZE = re.compile(r'width="([\d.]+)pt"')


def inline(svg: str, prefix: str, alt: str) -> str:
    """An SVG of matplotlib as an element of an HTML page.

    Args:
        svg: with text as text and without a background.
        prefix: of every id, so that the ids of several pictures differ.
        alt: what the picture shows.
    """
    body = svg[svg.index("<svg") :]
    for tag in ("metadata", "style"):  # the style is every element's, which the page's style sheet repeats for pictures
        body = re.sub(rf"<{tag}\b.*?</{tag}>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    width = float(size[1]) if (size := _SIZE.search(body)) else 480.0
    body = body[body.index(">") + 1 :]
    viewbox = re.search(r'viewBox="[^"]+"', svg)
    assert viewbox is not None
    body = re.sub(r"#[0-9a-fA-F]{6}\b(?!\w)", lambda match: THEME.get(match[0].lower(), match[0]), body)
    body = _FONT.sub(r"\1var(--sans)", body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    body = _own_ids(body, prefix)
    title = escape(alt)
    return f'<svg {viewbox[0]} style="--width: {width / 0.75:.0f}px" role="img" aria-label="{title}">{body}'


def _own_ids(body: str, prefix: str) -> str:
    """Keeps the ids that something refers to, under names of their own; matplotlib gives every group one."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = _ID.sub(lambda match: f'id="{prefix}-{match[1]}"' if match[1] in used else "", body)
    return re.sub(r'(url\(#|xlink:href="#|(?<!:)href="#)', rf"\g<1>{prefix}-", body)

"""Names, causes and comments of users are shown as they are, wherever a report has them, and are never obeyed."""

from __future__ import annotations

import json
import random
import time
import warnings
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from markdown_it import MarkdownIt
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from sweep_folder import SweepFolder, selection_sweep

from harness.messages import as_markdown, printable
from harness.report.page.document import prose
from harness.report.page.write import write_figures
from harness.report.pictures import style
from harness.report.read import read_report
from harness.report.section import Picture, Section
from harness.report.summary import markdown
from harness.report.write import write_report
from harness.tracking.description import SweepDescription

NAME = (
    "\\`<img src=x>` $1_bill$ _x_ *a* `rm` [a](javascript:b) <script>alert(1)</script> a|b ~~s~~ &lt; \x1b[31m\u202e 学"
)
CLASSES = [f"$1_bill$ <b> {NAME}", "$5_$10", "学习", "学问"]


class Text(HTMLParser):
    """What a reader sees of HTML, and its tags."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.tags, self.links = "", set(), set()
        self.feed(html)

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links |= {value for key, value in attributes if key in ("href", "src")}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> SweepFolder:
    """A sweep in which every text of a user is an attack."""
    sweep = selection_sweep(
        tmp_path_factory.mktemp("hostile") / "sweep", {"random": 0, NAME: 0.2}, seeds=(1, 2), rounds=2,
        failed=[(NAME, 2)], name=printable(NAME).replace("/", ""), description=NAME,
    )  # fmt: skip
    for file in sweep.path.glob("trials/*/confusion_matrix_*.json"):
        matrix = (np.eye(4, dtype=int) * 10 + 1).tolist()
        file.write_text(json.dumps({"class_names": CLASSES, "matrix": matrix, "split": "test"}))
    for file in sweep.path.glob("trials/*/class_counts_*.json"):
        file.write_text(json.dumps([10, 20, 30, 40]))
    sweep.environment["datasets"][0]["classes"] = CLASSES
    sweep.environment["command"] = f"python -m harness.sweep '{NAME}'"
    sweep.write_environment()
    write_report(sweep.path)
    return sweep


def seen_in_markdown(text: str) -> Text:
    """What GitHub and MLflow make of Markdown, in which HTML may stand."""
    return Text(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


def test_summary_shows_names_as_they_are(hostile):
    text = (hostile.path / "summary.md").read_text()
    assert printable(text) == text
    seen = seen_in_markdown(text)
    own = {"h1", "h2", "h3", "p", "strong", "ul", "li", "code", "img", "table", "thead", "tbody", "tr", "th", "td"}
    assert seen.tags <= own
    assert all(link.endswith(".svg") for link in seen.links)
    assert printable(NAME) in seen.text


def test_page_shows_names_as_they_are(hostile):
    html = (hostile.path / "report.html").read_text()
    assert printable(html) == html
    assert "<script>alert" not in html
    seen = Text(html)
    assert not [link for link in seen.links if not link.startswith(("#", "http", "data:", "trials/"))]
    assert "<script>alert(1)</script> a|b" in seen.text
    assert "学问" in seen.text


def test_pictures_show_names_as_they_are(hostile):
    pictures = {file.stem: ElementTree.parse(file).getroot() for file in hostile.path.glob("*.svg")}
    assert {"confusion", "curves"} <= set(pictures)
    for picture in pictures.values():
        assert not {"b", "script"} & {element.tag.rpartition("}")[2] for element in picture.iter()}
    texts = {name: "".join(picture.itertext()) for name, picture in pictures.items()}
    for name in ("$5_$10", "学习", "学问"):
        assert name in texts["confusion"]
    assert "$1_bill$" in texts["confusion"]
    assert "$1_bill$" in texts["curves"]


def test_mlflow_shows_a_comment_as_it_is(hostile):
    note = SweepDescription(hostile.path, hostile.environment).note(f"{NAME} is better")["mlflow.note.content"]
    seen = seen_in_markdown(note)
    assert seen.tags == {"p", "strong", "code"}
    assert seen.text.count(printable(NAME).replace("`", "")) == 2


@pytest.mark.parametrize("text", [NAME, "a_b", "_a_", "1 * 2 * 3", "\\*", "&amp; <!-- --> <?x", "[a][b] [c]: d", "~~~"])
def test_markdown_gives_back_every_text(text):
    assert seen_in_markdown(f"x {as_markdown(text)}").text.strip() == f"x {printable(text)}"


def in_places(text: str) -> dict[str, str]:
    """Markdown in every place in which a text of a user can stand."""
    return {"p": text, "h2": f"## {text}", "li": f"- {text}", "strong": f"**x {text}**"}


def test_markdown_gives_back_thousands_of_texts():
    rng = random.Random(1)
    alphabet = "ab \\`*_~<>[]()!#&;|$-+=:/\"'1.\n"
    for _ in range(4000):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 14))).strip()
        if not text:
            continue
        plain = in_places(as_markdown(text))
        for place in ("p", "h2", "li"):
            seen = seen_in_markdown(plain[place])
            assert seen.tags <= {place, "ul"}, text
            assert seen.text.split() == text.split(), text
        for place, shown in in_places(as_markdown(text, code=True)).items():
            assert seen_in_markdown(shown).tags <= {"p", "code", "ul", place}, (place, text)
        picture = markdown(Section("x", "x", parts=[Picture("x", Figure, text)]))[-1]
        assert seen_in_markdown(picture).tags == {"p", "img"}, text


@pytest.mark.parametrize("text", ["<b>", "x & y", "--set 'seeds=[0, 1]'", 'a "b" &amp; 5 % <', "a/b_c"])
def test_page_gives_back_code_to_be_pasted(text):
    seen = Text(str(prose(f"it was `{text}`, 5 %")))
    assert seen.text == f"it was {text}, 5\u00a0%"
    assert seen.tags <= {"code", "wbr"}


@pytest.mark.parametrize(
    "address", ["https://e.org/?a=1&b=2", "http://127.0.0.1:5000/#/experiments/1", "https://e.org/a.b"]
)
@pytest.mark.parametrize("around", ["see {}", "({}).", "'{}'", '"{}", <{}>', "{}; {}, x"])
def test_page_links_the_whole_address(address, around):
    seen = Text(str(prose(around.replace("{}", address))))
    assert seen.links == {address}
    assert seen.text == around.replace("{}", address)


def test_a_picture_that_cannot_be_drawn_costs_that_picture(hostile, monkeypatch, capsys):
    draw = style.save_picture

    def failing(figure, path):
        if path.name == "curves":
            raise RuntimeError("no such glyph")
        return draw(figure, path)

    monkeypatch.setattr(style, "save_picture", failing)
    (hostile.path / "report.html").unlink()
    write_report(hostile.path)
    line = f"{hostile.path}: the picture curves could not be drawn: RuntimeError: no such glyph"
    assert capsys.readouterr().err.splitlines() == [line]
    html = (hostile.path / "report.html").read_text()
    assert "The picture curves could not be drawn: RuntimeError: no such glyph" in html
    assert "学问" in Text(html).text


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_a_figure_that_cannot_be_drawn_costs_that_figure(hostile, monkeypatch, capsys, kind):
    save = style.save_figure

    def failing(figure, path):
        if path.stem == "curves":
            raise RuntimeError("no such glyph")
        save(figure, path)

    monkeypatch.setattr(style, "save_figure", failing)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Glyph")
        folder = write_figures(read_report(hostile.path), kind)
    assert capsys.readouterr().err.splitlines() == [
        f"{folder}: the picture curves could not be drawn: RuntimeError: no such glyph"
    ]
    assert (folder / f"confusion.{kind}").stat().st_size > 1000


def drawn_name(name: str, path: Path) -> bytes:
    """The pixels of a figure for a paper with this name on an axis and in a legend."""
    figure = style.canvas(3, 2)
    axes = figure.subplots()
    axes.plot([0, 1], label=name)
    axes.set_xticks([0], labels=[name])
    axes.legend()
    style.save_figure(figure, path)
    return path.read_bytes()


@pytest.mark.parametrize("has_fonts", [True, False])
def test_names_in_any_script_can_be_told_apart_in_figures(tmp_path, monkeypatch, has_fonts):
    if not has_fonts:
        fonts = [font for font in fontManager.ttflist if font.name.startswith("DejaVu")]
        monkeypatch.setattr(fontManager, "ttflist", fonts)
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Glyph")
        pictures = {
            drawn_name(name, tmp_path / "x.png") for name in ("学习", "学问", "정보", "\U0001f980", "\U0001f981")
        }
    assert len(pictures) == 5


@pytest.mark.slow
def test_a_thousand_classes_take_seconds(tmp_path):
    sweep = selection_sweep(tmp_path / "sweep", {"random": 0, "coreset": 0.02}, seeds=(1, 2, 3), rounds=3)
    names = [f"class {number}" for number in range(1000)]
    rng = np.random.default_rng(0)
    for file in sweep.path.glob("trials/*/confusion_matrix_*.json"):
        matrix = (rng.integers(0, 2, (1000, 1000)) + 5 * np.eye(1000, dtype=int)).tolist()
        file.write_text(json.dumps({"class_names": names, "matrix": matrix, "split": "test"}))
    for file in sweep.path.glob("trials/*/class_counts_*.json"):
        file.write_text(json.dumps(rng.integers(0, 30, 1000).tolist()))
    sweep.environment["datasets"][0]["classes"] = names
    sweep.write_environment()
    began = time.process_time()
    write_report(sweep.path)
    print(f"{time.process_time() - began:.1f} s, {(sweep.path / 'report.html').stat().st_size / 1e6:.1f} MB")
    assert time.process_time() - began < 30
    assert (sweep.path / "report.html").stat().st_size < 10e6

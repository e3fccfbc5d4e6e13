"""The report page: what stands on it, and that it stands alone."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
import yaml
from sweep_folder import SweepFolder, augmentation_sweep, selection_sweep

from harness.api import Dataset, Source, Split
from harness.config import plan
from harness.data import decode
from harness.data.splits import Splitting, divide
from harness.records.folder import open_folder
from harness.report import __main__, comparability, versus, words
from harness.report.cells import Empty, Mean, Probability, Text, Verdict
from harness.report.compare import NO_EVIDENCE, Estimate
from harness.report.importance import importances
from harness.report.page.document import data, quoted
from harness.report.page.svg import inline
from harness.report.page.write import about, write_figures
from harness.report.pictures import style
from harness.report.read import read_report
from harness.report.section import Table
from harness.report.sections import deviations, hyperparameters, pairs, times, trials
from harness.report.sections.deviations import description
from harness.report.write import write_report

VOID = {"input", "meta", "wbr", "br", "rect", "path", "use", "link", "img", "image"}


class Outline(HTMLParser):
    """Collects ids, anchors, section titles and everything that would be loaded; checks that tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded, self.titles, self._open, self._title = [], [], [], [], [], False
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        if tag == "a":
            self.links.append(given["href"])
        self.loaded += [
            value
            for key, value in given.items()
            if key in ("src", "srcset", "href", "xlink:href", "poster") and tag != "a" and not value.startswith("#")
        ]
        self._title = tag == "h2"
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        if self._title:
            self.titles.append(data)
            self._title = False


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    sweep = augmentation_sweep(tmp_path_factory.mktemp("page") / "pairs")
    return write_report(sweep.path), (sweep.path / "report.html").read_text()


def test_sections_in_order_and_only_where_there_is_data(searched, tmp_path):
    titles = Outline(searched[1]).titles
    assert titles == [
        "Answer", "Leaderboard", "Search", "Augmentation pairs", "Hyper-parameters", "What was learnt and picked",
        "Trials", "Accuracy against time", "What ran when", "Failed trials", "Methods and their papers",
        "How this was made",
    ]  # fmt: skip
    sweep = SweepFolder(tmp_path / "s", trial={"dataset": {"name": "digits"}})
    sweep.trial("r", 1, {"selector.name": "random"}, {200: 0.7})
    write_report(sweep.path)
    assert Outline((sweep.path / "report.html").read_text()).titles == [
        "Answer", "Leaderboard", "What was learnt and picked", "Trials", "How this was made",
    ]  # fmt: skip


def test_the_page_stands_alone_and_is_small(searched):
    found, text = searched
    outline = Outline(text)
    assert [url for url in outline.loaded if not url.startswith("data:")] == []
    assert "url(http" not in text
    assert "@import" not in text
    assert len(outline.ids) == len(set(outline.ids))
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    assert set(re.findall(r'(?:url\(#|xlink:href="#)([^)"]+)', text)) <= set(outline.ids)
    assert len(text) < 700_000
    for file in found.folder.glob("*.svg"):
        assert file.stat().st_size < 200_000
    assert {file.stem for file in found.folder.glob("*.svg")} == {
        "leaderboard", "pairs", "importance", "parallel", "scatter", "pareto", "seconds", "timeline",
        "classes", "confusion", "balance", "training",
    }  # fmt: skip


def test_what_a_trial_says_is_not_markup(searched):
    assert "ValueError: &lt;script&gt;alert(1)&lt;/script&gt;" in searched[1]
    assert "<script>alert" not in searched[1]


def test_the_question_and_what_its_file_says_beside_it(searched):
    found, text = searched
    assert about(found.folder / "space.yaml") == [
        "Run: this and that",
        "Data: digits",
        "The rest is prose on two lines.",
    ]
    assert '<p class="question">Which two augmentations, at which temperature?</p>' in text
    assert "<p>The rest is prose on two lines.</p>" in text


def test_the_opening_comment_is_kept_in_the_folder(tmp_path):
    file = tmp_path / "question.yaml"
    file.write_text("# Question: does it?\n#\n# Data: digits\nname: q\ntrial: {dataset: digits}\n")
    made = plan.load_plan(file, {})
    for resume in (False, True):
        open_folder(tmp_path / "q", made, resume=resume).release()
        kept = (tmp_path / "q" / "space.yaml").read_text()
        assert kept.startswith("# Question: does it?\n#\n# Data: digits\nname: q\n")
        assert yaml.safe_load(kept)["description"] == "Does it?"
    assert about(tmp_path / "q" / "space.yaml") == ["Data: digits"]


def test_the_leaderboard_says_what_is_no_more_than_luck(tmp_path):
    sweep = SweepFolder(tmp_path / "s")
    for name, accuracies in (("random", [0.7, 0.76, 0.71]), ("coreset", [0.75, 0.71, 0.76])):
        for seed, accuracy in enumerate(accuracies):
            sweep.trial(name, seed, {"selector.name": name}, {200: accuracy})
    write_report(sweep.path)
    text = (sweep.path / "report.html").read_text()
    assert "<td>no evidence</td>" in text
    assert '<td class="better">' not in text


def test_numbers_are_told_from_words():
    rows = [
        [Text("x"), Mean("val/accuracy", Estimate(0.5, 0.1, 3)), Verdict("better", "better")],
        [Text("y"), Mean("val/accuracy", None), Verdict(NO_EVIDENCE)],
        [Text("z"), Probability(0.0001), Empty()],
    ]
    table = Table.of_rows(["a", "b", "c"], rows)
    assert [[str(cell) for cell in row] for row in table.rows][2] == ["z", "<.001", "–"]
    assert [column.is_numeric for column in table.columns] == [False, True, False]


# Pictures ------------------------------------------------------------------------------------------------------------


def test_a_picture_follows_the_page(tmp_path):
    figure = style.canvas(3, 2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "o-", color="#000000")
    axes.text(0.5, 0.5, "on a cell", color=style.DARK)
    axes.set_title("title")
    svg = style.save_picture(figure, tmp_path / "picture")
    assert '<rect width="100%" height="100%" fill="#ffffff"/>' in (tmp_path / "picture.svg").read_text()
    html = inline(svg, "picture", 'what it "shows"')
    assert html.startswith("<svg viewBox=")
    assert 'aria-label="what it &quot;shows&quot;"' in html
    assert "#000000" not in html
    assert "#ffffff" not in html
    assert style.DARK in html  # stays as it is on its cell, light or dark
    assert "stroke: currentColor" in html
    assert ">title</text>" in html
    assert "DejaVu" not in html
    assert "<style" not in html  # it would be the whole page's
    assert set(re.findall(r'\bid="([^"]+)"', html)) == set(re.findall(r'(?:url\(#|href="#)([^)"]+)', html))


def test_the_pairs_are_the_best_and_the_mean_of_the_rows(tmp_path):
    sweep = SweepFolder(tmp_path / "s", parameters={"augmentation.first": {"values": ["crop", "flip"]}})
    for name, first, second, accuracy in (
        ("a", "crop", "blur", 0.5), ("b", "crop", "blur", 0.7), ("c", "flip", "blur", 0.4), ("d", "flip", "crop", 0.45),
    ):  # fmt: skip
        chosen = {"augmentation.first": first, "augmentation.second": second, "ssl_method.temperature": ord(name)}
        sweep.trial(name, 0, chosen, {200: accuracy}, phase="search")
    chosen = {"augmentation.first": "crop", "augmentation.second": "crop"}
    sweep.trial("e", 0, chosen, {}, phase="search", status="stopped")
    (picture,) = pairs.pairs(read_report(sweep.path)).parts
    best, mean = picture.draw().axes
    assert sorted(text.get_text() for text in best.texts) == ["40.0", "45.0", "70.0"]
    assert sorted(text.get_text() for text in mean.texts) == ["40.0", "45.0", "60.0"]
    assert [label.get_text() for label in best.get_yticklabels()] == ["crop", "flip"]
    assert picture.alt.endswith("the best pair is crop, then blur")
    assert [line.get_xydata().tolist() for line in best.lines] == [[[1.5, 0.5]]]  # column crop, row crop
    assert best.get_ylim()[0] > best.get_ylim()[1]


def test_one_half_of_a_pair_alone_is_no_pair(tmp_path):
    sweep = SweepFolder(tmp_path / "s")
    for name in ("crop", "flip"):
        chosen = {"augmentation.first": name, "augmentation.second": "blur"}
        sweep.trial(name, 0, chosen, {200: 0.5}, phase="search")
    assert pairs.pairs(read_report(sweep.path)) is None


def test_importance_finds_what_matters():
    rng = np.random.default_rng(0)
    tried = [{"op": str(rng.choice(["a", "b", "c"])), "t": float(rng.uniform(0.1, 1)), "same": 1} for _ in range(40)]
    values = [(one["op"] == "a") + 0.1 * one["t"] for one in tried]
    shares = importances(tried, values, {"t": {"min": 0.1, "max": 1.0, "distribution": "log_uniform_values"}})
    assert list(shares) == ["op", "t"]
    assert shares["op"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(tried, [1.0] * 40, {}) == {}
    assert importances([{"op": "a"}, {"op": "b"}], [0.0, 1.0], {}) == {}


def test_few_configurations_have_no_importance(tmp_path):
    sweep = SweepFolder(tmp_path / "s", parameters={"ssl_method.temperature": {"values": [0.1, 0.2, 0.3, 0.4]}})
    for number in range(4):
        sweep.trial(str(number), 0, {"ssl_method.temperature": 0.1 * number}, {200: 0.5}, phase="search")
    section = hyperparameters.hyperparameters(read_report(sweep.path))
    assert [part.stem for part in section.parts if hasattr(part, "stem")] == ["scatter"]


def test_nothing_beats_the_front():
    costs, scores = [1, 2, 3, 3, 4, 0.5], [5, 4, 6, 7, 7, 1]
    assert times.front(costs, scores) == [5, 0, 3]
    for index in set(range(6)) - {5, 0, 3}:
        assert any(costs[i] <= costs[index] and scores[i] >= scores[index] for i in (5, 0, 3))


def minutes_and_points(path, seconds):
    """The table of a sweep whose second selector is ten points better and takes so many seconds under each seed."""
    sweep = SweepFolder(path)
    for name, accuracy, took in (("random", 0.61, [60] * len(seconds)), ("coreset", 0.71, seconds)):
        for seed, one in enumerate(took):
            shift = 0.001 * (seed - (len(took) - 1) / 2) * (name == "coreset")
            sweep.trial(name, seed, {"selector.name": name}, {200: accuracy + shift}, seconds=one)
    tables = [part for part in times.times(read_report(sweep.path)).parts if isinstance(part, Table)]
    return [[str(row[0]), *map(str, row[2:])] for table in tables for row in table.rows]


def test_what_minutes_buy(tmp_path):
    assert minutes_and_points(tmp_path / "s", [178, 180, 182]) == [
        ["coreset", "3", "+5"],  # (71 - 61) / (3 - 1)
        ["random", "1", "–"],
    ]


@pytest.mark.parametrize("seconds", [[66], [90, 60, 48]])
def test_minutes_within_what_seeds_vary_buy_nothing(tmp_path, seconds):
    """Six seconds of one seed, or of seeds that differ by more, would be "+100 points a minute"."""
    assert minutes_and_points(tmp_path / "s", seconds) == []


def test_the_axis_of_time_begins_at_nothing(tmp_path):
    sweep = SweepFolder(tmp_path / "s")
    for name, seconds in (("random", 247), ("coreset", 257)):
        sweep.trial(name, 1, {"selector.name": name}, {200: 0.7}, seconds=seconds)
    pareto = times.times(read_report(sweep.path)).pictures[0].draw()
    assert pareto.axes[0].get_xlim()[0] == 0


def test_a_training_that_several_share_is_named_after_all_of_them(tmp_path):
    sweep = SweepFolder(tmp_path / "s")
    for name, gain in (("random", 0.0), ("coreset", 0.02), ("margin", 0.01)):
        rows = sweep.records(name, 1, {"selector.name": name}, {200: 0.7 + gain}, epochs=3)
        for row in rows:
            if name == "margin" and row["step_kind"] == "epoch":
                row["metrics"]["pretrain/loss"] += 1
        sweep.append(rows)
    drawn = trials.trials(read_report(sweep.path)).pictures[0].draw()
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["coreset and 1 more", "margin"]
    assert all(tick == int(tick) for axes in drawn.axes for tick in axes.get_xticks())


def test_seconds_have_three_digits():
    shown = {0.00149: "0.00149", 0.223: "0.223", 9.2345: "9.23", 10.02: "10.0", 93: "93.0", 142.1: "142", 2116: "2116"}
    assert {value: words.show_number("time/total_seconds", value) for value in shown} == shown
    assert words.show_number("time/total_seconds", 0) == "0"


@pytest.mark.parametrize("metric", ["time/wall_seconds", "pretrain/loss", "somebody/own"])
@pytest.mark.parametrize("sign", [1, -1])
def test_no_number_of_a_thousand_has_an_exponent(metric, sign):
    shown = {999.4: "999", 999.5: "1000", 999.7: "1000", 999.999: "1000", 1000: "1000", 1234.5: "1234"}
    assert {value: words.show_number(metric, sign * value).removeprefix("-") for value in shown} == shown


def test_how_data_were_read_is_folded_and_what_questions_the_figures_is_not(tmp_path):
    sweep = selection_sweep(tmp_path / "s", {"random": 0.0, "coreset": 0.1}, rounds=2, reference={"selector": "random"})
    sweep.environment["datasets"][0] |= {"notes": ["photos: valid/ is val", "photos: 2 files are left out"]}
    sweep.write_environment()
    with (sweep.path / "rows.jsonl").open("a") as file:
        file.write("torn\n")
    write_report(sweep.path)
    above, _, folded = (sweep.path / "report.html").read_text().partition("2 more to know")
    assert "1 line of rows.jsonl" in above
    assert "photos: valid/" not in above
    assert "photos: valid/" in folded


def test_images_that_are_in_two_parts_are_not_folded_away(tmp_path):
    """The note is one of a real data set, whose test images are training images."""

    class Leaky(Dataset):
        def identity(self):
            return "leaky"

        def open(self):
            images = torch.arange(40 * 48).reshape(40, 3, 4, 4).to(torch.uint8)
            parts = {"train": images, "test": images[:10]}
            every = {
                name: Split(len(part), lambda a, b, part=part: part[a:b], torch.arange(len(part)) % 2)
                for name, part in parts.items()
            }
            return Source((3, 4, 4), ("even", "odd"), every)

    prepared = decode.prepare(Leaky(), "leaky", tmp_path / "data")
    leaky, _ = divide(prepared, "leaky", Splitting(val=4), with_test=True, device="cpu")
    sweep = selection_sweep(tmp_path / "s", {"random": 0.0, "coreset": 0.1}, rounds=2, reference={"selector": "random"})
    sweep.environment["datasets"][0] |= {"notes": ["photos: valid/ is val", *leaky.notes]}
    sweep.write_environment()
    with (sweep.path / "rows.jsonl").open("a") as file:
        file.write("torn\n")
    write_report(sweep.path)
    above, _, folded = (sweep.path / "report.html").read_text().partition("1 more to know")
    assert "10 of 10 test images are" in above
    assert "1 line of rows.jsonl" in above
    assert "photos: valid/" in folded
    assert "test images are" not in folded.partition("</details>")[0]


def test_a_page_tells_the_values_of_points_where_they_are(tmp_path):
    figure = style.canvas(4, 3)
    one, other = figure.subplots(1, 2)
    one.plot([0, 10], [0, 1], "o-")
    other.scatter([5], [0.5], c="#ff0000")
    style.tell(one, "line", [0, 10], [0, 1], ["begins", "ends"], "#there")
    style.tell(other, "dot", [5], [0.5], ["alone"])
    svg = style.save_picture(figure, tmp_path / "picture")
    line, dot = style.told_of(figure)
    assert (line.name, line.link, [text for *_, text in line.places]) == ("line", "#there", ["begins", "ends"])
    drawn = [[float(value) for value in place] for place in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', svg)]
    for x, y, _ in [*line.places, *dot.places]:
        assert min(abs(x - a) + abs(y - b) for a, b in drawn) < 0.01


def test_what_is_told_is_no_markup_and_its_links_lead_somewhere(searched):
    _, text = searched
    told = [json.loads(one) for one in re.findall(r'class="told">(.*?)</script>', text)]
    assert len(told) > 4
    links = {one["link"] for picture in told for one in picture if one["link"]}
    assert len(links) > 15
    assert {link[1:] for link in links} <= set(Outline(text).ids)
    parallel = next(picture for picture in told if any("\n" in one["at"][0][2] for one in picture))
    assert all(len(at) == 3 for one in parallel for at in one["at"])
    assert str(data({"a": "</script><b>&"})) == '{"a":"\\u003c/script\\u003e\\u003cb\\u003e\\u0026"}'
    assert quoted('a"}</style>') == "a\\22 \\7d \\3c \\2f style\\3e "


@pytest.mark.parametrize("kind", ["pdf", *(pytest.param(one, marks=pytest.mark.slow) for one in ("svg", "png"))])
def test_pictures_for_papers(searched, kind):
    found, _ = searched
    folder = write_figures(found, kind)
    assert {file.stem for file in folder.glob(f"*.{kind}")} == {file.stem for file in found.folder.glob("*.svg")}
    begins = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}[kind]
    assert all(file.read_bytes().startswith(begins) for file in folder.glob(f"*.{kind}"))


# Methods -------------------------------------------------------------------------------------------------------------


def test_deviations_of_recipe_and_methods(searched):
    text = searched[1]
    assert "Recipe moco_<wbr>v2" in text
    assert "Both views ask and are asked, which the paper" in text
    assert "Chen, Fan, Girshick" in text


def test_methods_are_described_in_their_own_words():
    paragraphs = description("selectors", "badge")
    assert paragraphs[0] == "BADGE, Ash et al. 2020, https://arxiv.org/abs/1906.03671."
    assert "where the authors' code takes the longest gradient" in paragraphs[1]
    assert not any("Args:" in paragraph for paragraph in description("ssl_methods", "simclr"))
    assert description("ssl_methods", "none") == []
    assert description("selectors", "not_installed") == []
    assert description("selectors", "no.such.module:Class") == []


def test_what_a_strangers_folder_names_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "__init__.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "strange" / "method.py").write_text('class Method:\n    """Of http://nowhere."""\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert description("selectors", "strange.method:Method") == []
    point = EntryPoint("strange", "strange.method:Method", "selbench.selectors")
    monkeypatch.setattr(deviations, "entry_points", lambda group: [point] if group == point.group else [])
    (tmp_path / "strange" / "__init__.py").write_text("")
    assert description("selectors", "strange") == ["Of http://nowhere."]


# Several sweeps ------------------------------------------------------------------------------------------------------


def pair_of_sweeps(tmp_path, **environment):
    """Two sweeps of the same configurations, the second a point better, in an environment that differs as given."""
    for name, gain in (("a", 0.0), ("b", 0.01)):
        sweep = SweepFolder(tmp_path / name, name=name)
        for selector, accuracy in (("random", 0.7), ("coreset", 0.75)):
            for seed in (1, 2, 3):
                sweep.trial(
                    selector, seed, {"selector.name": selector}, {200: accuracy + gain + seed / 100 + gain * seed / 10}
                )
        if name == "b":
            (sweep.path / "environment.json").write_text(json.dumps(sweep.environment | environment))
    return [read_report(tmp_path / name) for name in "ab"]


def test_sweeps_that_share_everything_are_compared(tmp_path):
    reports = pair_of_sweeps(tmp_path)
    assert comparability.settings_that_differ(reports, "ab") == []
    versus.write_comparison(reports, tmp_path / "compare.html")
    text = (tmp_path / "compare.html").read_text()
    assert "The best of a, coreset, against the best of b, coreset: test/accuracy -0.0120 [" in text
    assert "paired over 3 seeds): worse." in text
    outline = Outline(text)
    assert outline.titles == ["Answer", "Their answers", "The best of each", "What they share", "How this was made"]
    shared = text.split('id="shared"')[1]
    assert shared.count("<tr>") == 3  # the header and both configurations
    assert "+0.0120" in shared
    assert (tmp_path / "compare.svg").exists()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"commit": "f" * 40}, "the code differs (commits 399b5c3c59c6, ffffffffffff)"),
        ({"cpu": "Other"}, "the machines or their load differ"),
        ({"precision": "bfloat16"}, "the precision differs (None, bfloat16)"),
        ({"dirty": True}, "code was changed"),
    ],
)
def test_what_differs_is_said(tmp_path, environment, said):
    reports = pair_of_sweeps(tmp_path, **environment)
    assert comparability.obstacles(*reports) == []
    assert any(said in sentence for sentence in comparability.settings_that_differ(reports, "ab"))


def test_settings_that_differ_are_named(tmp_path):
    trials = [{"backbone": {"name": "dcnn3", "width": width}, "selector": {"name": name}}
              for width, name in ((8, "random"), (32, "margin"))]  # fmt: skip
    reports = []
    for name, trial in zip("ab", trials, strict=True):
        sweep = SweepFolder(tmp_path / name, trial=trial)
        for seed in (1, 2):
            sweep.trial("c", seed, {"selector.name": "coreset"}, {200: 0.7})
        reports.append(read_report(sweep.path))
    (said,) = comparability.cautions(*reports)
    assert said == "the settings that neither sweep varies differ: backbone.width 8 and 32"


def test_other_data_is_not_compared(tmp_path):
    data = {"name": "digits", "fingerprint": "1b" * 32, "train": 1200, "val": 150, "test": 300, "classes": 10}
    reports = pair_of_sweeps(tmp_path, datasets=[data])
    versus.write_comparison(reports, tmp_path / "compare.html")
    text = (tmp_path / "compare.html").read_text()
    assert "a and b are not comparable: the images or their split differ." in text
    assert "No two of these sweeps are comparable" in text
    assert "against the best of" not in text
    assert text.split('id="shared"')[1].count("not comparable") == 2
    assert not (tmp_path / "compare.svg").exists()  # a picture of both would invite to compare


def test_other_measures_labels_and_searches_are_not_compared(tmp_path):
    rounds = selection_sweep(tmp_path / "r", {"random": 0.0, "good": 0.1}, seeds=[1, 2], rounds=2)
    search = SweepFolder(tmp_path / "s")
    search.trial("a", 0, {"selector.name": "random"}, {200: 0.5}, phase="search")
    timed = SweepFolder(tmp_path / "t", metric=[{"name": "time/total_seconds", "goal": "minimize"}])
    plain = SweepFolder(tmp_path / "p")
    for sweep in (timed, plain):
        sweep.trial("a", 1, {"selector.name": "random"}, {200: 0.5})
    reports = {sweep.path.name: read_report(sweep.path) for sweep in (rounds, search, timed, plain)}
    assert "fresh seeds" in comparability.obstacles(reports["s"], reports["p"])[0]
    assert "test/accuracy, the other time/total_seconds" in comparability.obstacles(reports["p"], reports["t"])[0]
    assert "they used different numbers of labels" in comparability.obstacles(reports["r"], reports["p"])


def test_the_command_compares_several_folders(tmp_path, monkeypatch, capsys):
    pair_of_sweeps(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert __main__.main(["a", "b"]) == 0
    assert (tmp_path / "compare.html").exists()
    assert "compared: compare.html" in capsys.readouterr().out
    assert __main__.main(["a", "b", "--output", "both.html"]) == 0
    assert (tmp_path / "both.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "--output", "x.html"], "--output x.html is for several folders"),
        (["a", "b", "--output", "x.pdf"], "does not end in .html"),
        (["a", "b", "--output", "no/x.html"], "there is no folder no"),
        (["a", "none"], "none is not a sweep's folder"),
        (["a", "b", "--serve"], "--serve takes one folder"),
        (["a", "--port", "1"], "--port 1 is of --serve"),
        (["none", "--serve"], "none is no folder"),
        (["a", "--serve", "--port", "70000"], "--port 70000 is none"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_2(tmp_path, monkeypatch, capsys, arguments, words):
    pair_of_sweeps(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert __main__.main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1

"""Tables of typed cells: what is added to one reaches every reader, and sorts as what it is."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from sweep_folder import SweepFolder, selection_sweep

from harness import metrics
from harness.report import tables
from harness.report.cells import Count, Difference, Empty, Mean, Number, Probability, Seconds, SeedCount, Text, Verdict
from harness.report.compare import NO_EVIDENCE, Estimate, Judgement
from harness.report.page.document import PageHead, render
from harness.report.section import Column, Section, Table
from harness.report.summary import markdown
from harness.report.terminal import print_report
from harness.report.write import write_report

ACCURACY = "val/accuracy"
WORSE = Judgement(Estimate(-0.5, 0.25, 3), 0.01, 0.01, 0.1, "worse", "worse", False, (-0.4, -0.5, -0.6))


def everywhere(sweep, capsys, monkeypatch):
    """What each reader gets: summary, page, terminal of 200 columns, leaderboard."""
    monkeypatch.setenv("COLUMNS", "200")
    print_report(write_report(sweep.path))
    texts = {name: (sweep.path / name).read_text() for name in ("summary.md", "report.html", "leaderboard.csv")}
    return {**texts, "terminal": capsys.readouterr().out}


def two_selectors(path):
    sweep = SweepFolder(path)
    for name, accuracies in (("random", [0.70, 0.72, 0.71]), ("coreset", [0.75, 0.78, 0.76])):
        for seed, accuracy in enumerate(accuracies):
            rows = sweep.records(name, seed, {"selector.name": name}, {200: accuracy})
            rows[-2]["metrics"]["val/ece"] = accuracy / 10
            sweep.append(rows)
    return sweep


def test_a_statistic_is_added_in_one_place(tmp_path, monkeypatch, capsys):
    judged = tables.judged_columns

    def with_effect(metric, judgements, verdicts):
        effects = [Number(one.difference.mean * 1000 if one else None, ".1f") for one in judgements]
        return [*judged(metric, judgements, verdicts), Column("effect", effects)]

    monkeypatch.setattr(tables, "judged_columns", with_effect)
    found = everywhere(two_selectors(tmp_path / "s"), capsys, monkeypatch)
    assert "| effect |" in found["summary.md"]
    assert "| 53.3 |" in found["summary.md"]
    assert ">effect</th>" in found["report.html"]
    assert re.search(r'data-sort="53\.3\d+">53\.3</td>', found["report.html"])
    assert "effect" in found["terminal"]
    assert "53.3" in found["terminal"]
    frame = pd.read_csv(tmp_path / "s" / "leaderboard.csv").set_index("label")
    assert frame.loc["coreset", "effect"] == pytest.approx(160 / 3)

    sweep = selection_sweep(tmp_path / "r", {"random": 0.0, "good": 0.06}, seeds=[1, 2], rounds=2)
    write_report(sweep.path)
    assert "effect" in pd.read_csv(sweep.path / "curves.csv")


def test_a_metric_is_declared_in_one_place(tmp_path, monkeypatch, capsys):
    sweep = two_selectors(tmp_path / "s")
    found = everywhere(sweep, capsys, monkeypatch)
    assert "val/ece" in found.pop("leaderboard.csv")  # every metric is for programs
    assert not any("0.0763" in text for text in found.values())
    declared = metrics.Metric("val/ece", "fraction", 0, 1, "minimize", "expected calibration error", shown=True)
    monkeypatch.setitem(metrics.METRICS, "val/ece", declared)
    for reader, text in everywhere(sweep, capsys, monkeypatch).items():
        assert "0.0763" in text, reader


@pytest.mark.parametrize(
    ("cell", "text", "value", "fields"),
    [
        (Empty(), "–", None, {"k": None}),
        (Text("a"), "a", "a", {"k": "a"}),
        (Count(200.0, 150.0), "200 (+ 150)", 200.0, {"k": 200.0}),
        (Number(12.34, ".1f", "cat"), "12.3 (cat)", 12.34, {"k": 12.34}),
        (Number(float("nan")), "–", None, {"k": None}),
        (Mean(ACCURACY, None), "–", None, {}),
        (Mean(ACCURACY, Estimate(0.5, None, 1)), "0.5000", 0.5, {"k": 0.5, "k half-width 95 %": None}),
        (Mean(ACCURACY, Estimate(0.5, 0.25, 3)), "0.5000 ± 0.2500", 0.5, {"k": 0.5, "k half-width 95 %": 0.25}),
        (Seconds(12.5, cached=True), "12.5*", 12.5, {"k": 12.5}),
        (Probability(0.0001, 0.00005), "<.001", 0.0001, {"k": 0.00005, "k_holm": 0.0001}),
        (Verdict(f"{NO_EVIDENCE} after Holm's correction"), f"{NO_EVIDENCE} after Holm's correction",
         f"{NO_EVIDENCE} after Holm's correction", {"k": f"{NO_EVIDENCE} after Holm's correction"}),
        (Mean(ACCURACY, Estimate(0.9, 0.25, 3, (0, 1))), "0.9000 [0.6500, 1.0000]", 0.9,
         {"k": 0.9, "k half-width 95 %": 0.25}),
        (SeedCount(2, "1 of 3 failed"), "2, 1 of 3 failed", 2, {"k": 2}),
        (Difference(ACCURACY, WORSE), "-0.5000 [-0.7500, -0.2500]", -0.5,
         {"k": -0.5, "k half-width 95 %": 0.25, "k n_seeds": 3}),
    ],
)  # fmt: skip
def test_a_cell_has_a_text_a_value_and_fields(cell, text, value, fields):
    assert (str(cell), cell.show().value, cell.fields("k")) == (text, value, fields)


def test_every_renderer_takes_the_same_section(tmp_path):
    rows = [[Text("a|b", strong=True), Mean(ACCURACY, Estimate(0.5, 0.25, 3))], [Text("<c>"), Empty()]]
    section = Section("Title", "title", ["Some `code`.", Table.of_rows(["name", "score"], rows, ["A note."])], "Why.")
    assert markdown(section) == [
        "## Title",
        "Why.",
        "Some `code`.",
        "| name | score |\n| --- | --- |\n| **a\\|b** | 0.5000 ± 0.2500 |\n| \\<c> | – |",
        "- A note.",
    ]
    page = render(PageHead("t", "k"), [section], tmp_path)
    assert '<th scope="row" class="strong">a|b</th>' in page
    assert '<td class="number" data-sort="0.5">0.5000<span class="spread"> ± 0.2500</span></td>' in page
    assert '<th scope="row">&lt;c&gt;</th>' in page
    assert '<td class="number" data-sort="">–</td>' in page

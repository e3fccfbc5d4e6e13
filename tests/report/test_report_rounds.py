"""The report of a sweep with several selectors and rounds: what is compared, what is said, what is drawn."""

from __future__ import annotations

import json
import math
import os
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sweep_folder import SweepFolder, replace_rows, selection_sweep

from harness.records.rows import read_rows
from harness.report import frames, round_tables
from harness.report.pictures import rounds as pictures
from harness.report.pictures import style
from harness.report.read import read_report
from harness.report.summary import summary
from harness.report.write import write_report

GAINS = {"random": 0.0, "good": 0.06, "bad": -0.06, "same": 0.0}
RANDOM = {"selector": "random"}


def accuracies(sweep, selector, step, metric="test/accuracy"):
    """Seed -> accuracy, straight from the lines of rows.jsonl."""
    lines = [json.loads(line) for line in (sweep.path / "rows.jsonl").read_text().splitlines()]
    return {
        line["seed"]: line["metrics"][metric]
        for line in lines
        if line["parameters"]["selector.name"] == selector and line["step"] == step and metric in line["metrics"]
    }


@pytest.fixture
def sweep(tmp_path):
    return selection_sweep(tmp_path / "s", GAINS, rounds=4, reference=RANDOM)


def test_differences_are_those_of_the_rows(sweep):
    rounds = read_report(sweep.path).rounds
    (setting,) = rounds.settings
    assert (rounds.measures, setting.steps) == (["test/accuracy", "val/accuracy"], [200, 400, 600, 800, 1000])
    assert setting.selected == [400, 600, 800, 1000]  # the start pool tells nothing apart
    assert (rounds.cases[0], rounds.cases[-1], setting.reference) == ("good", "bad", "random")
    good, random = (list(accuracies(sweep, name, 800).values()) for name in ("good", "random"))
    found = setting.by_round[800]["good"]
    assert found.difference.mean == pytest.approx(np.mean(good) - np.mean(random))
    assert found.p >= 2 * stats.norm.sf(
        abs(found.difference.mean) / (np.std(np.subtract(good, random), ddof=1) / 5**0.5)
    )
    assert found.p_holm >= found.p


def test_the_words(sweep):
    report = read_report(sweep.path)
    answer = round_tables.answer_over_rounds(report.rounds)
    assert report.answer == answer
    assert answer.startswith(
        "Better than random beyond doubt by test/aubc, 200 to 1000 labels (paired over seeds, 95 %, Holm's correction "
        "for 3 comparisons), in points: good (+"
    )
    assert "Highest mean of 4: good, " in answer
    assert "Worse than random beyond doubt: bad (-" in answer
    assert "Equivalent to random for what is worth a difference: same (" in answer
    text = summary(report)
    assert "- same: equivalent within 0.01; " in text
    assert "- good: better; +" in text
    for title in (
        "Over all rounds",
        "Learning curves",
        "val/accuracy by number of labels",
        "Who beats whom",
        "Ranks",
        "Overlap of the picks",
    ):
        assert f"## {title}" in text
    assert text.index("**Answer.**") < text.index("Data: digits (") < text.index("## Confirmed")


def test_of_many_cases_pictures_show_the_best_and_say_so(sweep, monkeypatch):
    monkeypatch.setattr(pictures, "PANELS", 2)
    monkeypatch.setattr(pictures, "MOST_NAMED", 3)
    report = read_report(sweep.path)
    shown = {one.stem: one for section in round_tables.detailed_sections(report.rounds) for one in section.pictures}
    assert shown["differences"].caption == "The best 2 of 3; the table has all of them."
    left, right = (axes for axes in shown["differences"].draw().axes if axes.axison)
    assert left.get_ylim() == right.get_ylim()
    lines = [line for axes in (left, right) for line in axes.get_lines() if len(line.get_xdata()) == 4]
    heights = np.concatenate([line.get_ydata() for line in lines])
    assert left.get_ylim()[0] < heights.min() < heights.max() < left.get_ylim()[1]
    for stem, file in (("penalty", "penalty.csv"), ("overlap", "overlap.csv")):
        assert shown[stem].caption == f"The best 3 of 4; {file} has all of them."
        assert "bad" not in shown[stem].draw()
    penalty = report.rounds.penalty[:, 0].sum() / 3  # over all cases, whatever is drawn
    assert f">{penalty:.2f}<" in shown["penalty"].draw() or penalty == 0
    assert shown["ranks"].caption == "The best 3 of 4; the first table has all of them."
    assert len(shown["ranks"].draw().axes[0].get_yticks()) == 3


def test_where_random_wins_it_says_so(tmp_path):
    sweep = selection_sweep(tmp_path / "s", {"random": 0.0, "bad": -0.1, "worse": -0.2}, rounds=3, reference=RANDOM)
    answer = round_tables.answer_over_rounds(read_report(sweep.path).rounds)
    assert answer.startswith("No selector is better than random beyond doubt by test/aubc")
    assert "Highest mean of 3: random, the reference, " in answer
    assert "Worse than random beyond doubt: bad" in answer


def test_without_a_verdict_it_says_what_the_seeds_could_have_told(tmp_path):
    sweep = selection_sweep(
        tmp_path / "s", {"random": 0.0, "some": 0.001}, seeds=[1, 2, 3], reference=RANDOM, worth=0.001
    )
    report = read_report(sweep.path)
    smallest = report.rounds.settings[0].by_area["test/accuracy"]["some"].smallest
    assert f"; 3 seeds can resolve {100 * smallest:.1f} points. Highest mean of 2: " in report.answer
    assert report.answer.endswith("No evidence of a difference to random: some.")


def test_a_failed_trial_is_left_out_of_its_pairs_and_named(tmp_path):
    sweep = selection_sweep(tmp_path / "s", GAINS, rounds=4, failed=[("good", 2)], reference=RANDOM)
    rounds = read_report(sweep.path).rounds
    (setting,) = rounds.settings
    by_case = {case: found.difference.n for case, found in setting.by_area["test/accuracy"].items()}
    assert by_case == {"good": 4, "bad": 5, "same": 5}
    assert rounds.ranks.blocks == 5
    assert sorted(rounds.ranks.mean) == ["bad", "random", "same"]
    assert rounds.cases[-1] == "good"
    assert rounds.notes == [
        "Without a complete curve: good under seed 2; they stand below the others, and only seeds that both sides have "
        "are compared."
    ]
    assert "- good: indication: better; +" in summary(read_report(sweep.path))


def test_a_round_without_a_number_is_left_out_of_its_pairs(sweep):
    lines, _ = read_rows(sweep.path)
    for line in lines:
        if line["trial"] == "confirm-good-s3" and line["step"] == 600:
            line["metrics"].pop("test/accuracy", None)
    replace_rows(sweep.path / "rows.jsonl", lines)
    (setting,) = read_report(sweep.path).rounds.settings
    assert [setting.by_round[step]["good"].difference.n for step in setting.selected] == [5, 4, 5, 5]
    assert setting.by_area["test/accuracy"]["good"].difference.n == 4
    assert setting.by_area["val/accuracy"]["good"].difference.n == 5


def test_one_seed_says_nothing_and_draws_no_interval(tmp_path):
    sweep = selection_sweep(tmp_path / "s", GAINS, seeds=[1], rounds=2, reference=RANDOM)
    report = write_report(sweep.path)
    assert "nothing can be said of: good, same, bad" in round_tables.answer_over_rounds(report.rounds)
    text = summary(report)
    assert "beyond doubt" not in text
    assert "Who beats whom" not in text
    assert "## Ranks" not in text
    assert not (sweep.path / "penalty.svg").exists()
    assert "Holm" not in text
    assert "p (Holm)" not in text


def test_where_nobody_wins_a_sentence_stands_for_the_matrix(tmp_path):
    sweep = selection_sweep(tmp_path / "s", {"random": 0.0, "same": 0.0}, seeds=[1, 2], noise=0.03, reference=RANDOM)
    rounds = read_report(sweep.path).rounds
    assert not rounds.penalty.any()
    section = next(one for one in round_tables.detailed_sections(rounds) if one.title == "Who beats whom")
    assert section.parts == ["No case beat another after any selection (two-sided, 95 %, uncorrected)."]
    (table,) = round_tables.leading_sections(rounds)[0].tables
    assert "penalty" not in table.titles


@pytest.mark.parametrize(("count", "seeds"), [(2, 2), (25, 3)])
def test_pictures_of_few_and_many(tmp_path, count, seeds):
    gains = {"random": 0.0} | {f"selector_number_{k}": 0.01 * k - 0.1 for k in range(1, count)}
    sweep = selection_sweep(tmp_path / "s", gains, seeds=range(seeds), rounds=3, reference=RANDOM)
    write_report(sweep.path)
    stems = ["curves", "differences", "overlap", "penalty"] + (["ranks"] if count > 2 else [])
    drawn = {path.stem for path in sweep.path.glob("*.svg")}
    assert set(stems) <= drawn
    assert ("ranks" in drawn) == (count > 2)
    for stem in stems:
        assert (sweep.path / f"{stem}.svg").stat().st_size < 200_000
        svg = ElementTree.parse(sweep.path / f"{stem}.svg").getroot()
        width, height = (float(svg.attrib[side].removesuffix("pt")) for side in ("width", "height"))
        assert 328 < width < 1047
        assert 164 < height < 1047
        assert f"({stem}.svg)" in (sweep.path / "summary.md").read_text()
    tables = (sweep.path / "summary.md").read_text().split("## Over all rounds")[1].split("## How")[0]
    assert max(len(line) for line in tables.splitlines() if line.startswith("|")) < 140


def test_the_same_data_draws_the_same_bytes(tmp_path):
    sweep = selection_sweep(tmp_path / "s", GAINS, rounds=2, reference=RANDOM)
    rounds = read_report(sweep.path).rounds
    drawn = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for picture in (picture for section in round_tables.round_sections(rounds) for picture in section.pictures):
            style.save_picture(picture.draw(), tmp_path / name / picture.stem)
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert len(drawn[0]) == 5
    assert drawn[0] == drawn[1]


def test_tables_for_programs(sweep):
    write_report(sweep.path)
    table = pd.read_csv(sweep.path / "curves.csv")
    row = table[(table.metric == "val/accuracy") & (table.labels == 600) & (table.case == "good")].iloc[0]
    assert row["mean"] == pytest.approx(np.mean(list(accuracies(sweep, "good", 600, "val/accuracy").values())))
    area = table[(table.metric == "test/aubc") & (table.case == "good")].iloc[0]
    assert np.isnan(area.labels)
    assert (area.n_seeds, area.verdict) == (5, "better")
    assert area.smallest_resolvable_difference > 0
    penalty = pd.read_csv(sweep.path / "penalty.csv", index_col=0)
    assert list(penalty.index) == list(penalty.columns)
    assert penalty.loc["good", "bad"] > penalty.loc["bad", "good"] == 0


def test_overlap_is_that_of_the_files_and_chance_that_of_the_pool(tmp_path):
    sweep = selection_sweep(tmp_path / "s", {"random": 0.0, "other": 0.0}, seeds=[1, 2], rounds=2, reference=RANDOM)
    for seed, shift in ((1, 0), (2, 100)):  # the same picks; half of them
        for case, first in (("random", 0), ("other", shift)):
            folder = sweep.path / "trials" / f"confirm-{case}-s{seed}"
            (folder / "selected_400.json").write_text(json.dumps(list(range(first, first + 200))))
            (folder / "selected_600.json").write_text(json.dumps(list(range(1000 + first, 1200 + first))))
    rounds = read_report(sweep.path).rounds
    assert rounds.overlap[0, 1] == pytest.approx((1 + 200 / 600) / 2)
    assert rounds.chance == pytest.approx(400 / (2 * 9800 - 400), rel=0.01)  # 400 of the 9,800 beside the start pool
    (sweep.path / "trials" / "confirm-other-s1" / "selected_600.json").unlink()
    assert read_report(sweep.path).rounds.overlap[0, 1] == pytest.approx(200 / 600)


def test_settings_are_compared_within_and_counted_together(tmp_path):
    sweep = selection_sweep(tmp_path / "s", GAINS, rounds=3, settings=("simclr", "none"), reference=RANDOM)
    report = write_report(sweep.path)
    rounds = report.rounds
    assert sorted(setting.name for setting in rounds.settings) == ["no pre-training", "simclr"]
    assert rounds.cases[0] == "good"
    assert len(rounds.cases) == 4
    assert {setting.reference for setting in rounds.settings} == {"random"}
    assert rounds.ranks.blocks == 10
    assert 1 < rounds.penalty[0, rounds.cases.index("bad")] <= 2
    assert (sweep.path / "curves_2.svg").exists()
    assert "simclr: Better than random beyond doubt by test/aubc" in round_tables.answer_over_rounds(rounds)


def test_a_case_with_one_measurement_is_left_out_and_named(tmp_path):
    sweep = selection_sweep(tmp_path / "s", GAINS, rounds=3, reference=RANDOM)
    for seed in range(1, 6):
        sweep.trial("all", seed, {"selector.name": "every_label"}, {9000: 0.95})
    rounds = read_report(sweep.path).rounds
    assert "every_label" not in rounds.cases
    assert rounds.notes == ["Left out, for they were measured at one number of labels only: every_label."]


def test_without_rounds_there_is_nothing_to_compare(tmp_path):
    sweep = SweepFolder(tmp_path / "s")
    for name in ("random", "coreset"):
        for seed in (1, 2):
            sweep.trial(name, seed, {"selector.name": name}, {200: 0.7})
    assert write_report(sweep.path).rounds is None
    assert not {"curves", "penalty", "overlap"} & {path.stem for path in sweep.path.glob("*.svg")}


def test_a_case_that_shares_no_seed_with_the_reference_spoils_no_picture(tmp_path):
    sweep = selection_sweep(tmp_path / "s", {"random": 0.0, "good": 0.03, "alone": 0.01}, seeds=[1, 2, 3], rounds=2)
    path = sweep.path / "rows.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [line for line in lines if (line["configuration"] == "alone") == (line["seed"] == 3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))
    rounds = read_report(sweep.path).rounds
    assert rounds
    figure = pictures.draw_differences(rounds, rounds.settings[0])
    assert all(math.isfinite(limit) for axes in figure.axes for limit in (*axes.get_xlim(), *axes.get_ylim()))


def test_picks_are_listed_in_the_selectors_order_with_what_is_known_of_them(tmp_path):
    sweep = selection_sweep(tmp_path / "s", {"random": 0.0, "coreset": 0.1}, seeds=(1, 2), rounds=2)
    folder = sweep.path / "trials" / "confirm-coreset-s2"
    odd = os.fsdecode(b"caf\xe9.jpg")  # a name of a file need not be UTF-8
    table = f"position,file,class\n7,a/NA.jpg,NA\n3,b.jpg,null\n5,{odd},1\n"
    (folder / "selected_400.csv").write_bytes(table.encode(errors="surrogateescape"))
    (folder / "selected_600.json").write_text("[1,")
    picks = frames.picked_images(read_report(sweep.path))
    named = picks[(picks.label == "coreset") & (picks.seed == 2)]
    columns = ["labels", "rank", "position", "file", "class"]
    assert named[columns].values.tolist() == [
        [400, 1, 7, "a/NA.jpg", "NA"],
        [400, 2, 3, "b.jpg", "null"],
        [400, 3, 5, odd, "1"],
    ]
    others = picks.drop(named.index)
    assert len(others) == 3 * 2 * 200
    listed = json.loads((sweep.path / "trials" / "confirm-random-s1" / "selected_600.json").read_text())
    assert others[(others.label == "random") & (others.seed == 1) & (others.labels == 600)].position.tolist() == listed

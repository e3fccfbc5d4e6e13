import io
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sweep_folder import OPERATIONS, SweepFolder

from harness.report import __main__
from harness.report.compare import NO_EVIDENCE
from harness.report.page.write import page_sections
from harness.report.read import read_report
from harness.report.words import data_set
from harness.report.write import write_report

RANDOM, CORESET, BADGE = ({"selector.name": name} for name in ("random", "coreset", "badge"))


def confirm(sweep, configuration, parameters, accuracies, **options):
    """One finished trial per seed 1, 2, ...; the accuracies are those on test data."""
    for seed, accuracy in enumerate(accuracies, 1):
        sweep.trial(configuration, seed, parameters, {200: accuracy + 0.01}, **options)


@pytest.fixture
def sweep(tmp_path):
    return SweepFolder(tmp_path / "selectors")


# The report ----------------------------------------------------------------------------------------------------------


def test_leaderboard_has_the_right_numbers(sweep):
    confirm(sweep, "r", RANDOM, [0.70, 0.72, 0.71], seconds=20)
    confirm(sweep, "c", CORESET, [0.75, 0.78, 0.76], seconds=40)
    result = write_report(sweep.path)
    table = pd.read_csv(sweep.path / "leaderboard.csv").set_index("selector")
    expected = stats.ttest_rel([0.75, 0.78, 0.76], [0.70, 0.72, 0.71])
    row = table.loc["coreset"]
    assert row["test/accuracy"] == pytest.approx(np.mean([0.75, 0.78, 0.76]))
    assert row["test/accuracy half-width 95 %"] == pytest.approx(
        4.302653 * np.std([75, 78, 76], ddof=1) / 300**0.5 / 10
    )
    assert row["val/accuracy"] == pytest.approx(row["test/accuracy"] + 0.01)
    assert row["difference"] == pytest.approx(0.16 / 3)
    assert row["p"] == row["p_holm"] == pytest.approx(expected.pvalue)  # of two alone it is Student's
    assert row["p_sign_flip"] == 0.25
    assert (row["labels/used"], row["labels/val"], row["n_seeds"]) == (200, 150, 3)
    assert (row["time/total_seconds"], row["time/pretrain_seconds"]) == (40, 24)
    assert row["verdict"] == "better"
    assert table.loc["random", "verdict"] == "reference"
    assert math.isnan(table.loc["random", "difference"])
    assert list(table.index) == ["coreset", "random"]
    assert result.measure == "test/accuracy"
    assert "coreset was the best of 2 by val/accuracy with test/accuracy 0.7633 [" in result.answer
    low, high = expected.confidence_interval(0.95)
    assert f"+0.0533 [{low:+.4f}, {high:+.4f}] (95 %, paired over 3 seeds): better." in result.answer


def test_no_evidence_where_the_interval_holds_zero(sweep):
    confirm(sweep, "r", RANDOM, [0.70, 0.76, 0.71])
    confirm(sweep, "c", CORESET, [0.75, 0.71, 0.76])
    result = write_report(sweep.path)
    assert result.confirmed[0].verdict == NO_EVIDENCE
    smallest = result.confirmed[0].judgement.smallest
    assert (
        f"no evidence of a difference; so many seeds and images can resolve differences of {smallest:.4f}"
        in result.answer
    )


def test_a_claim_that_holm_does_not_support_is_not_made(sweep):
    rng = np.random.default_rng(0)
    confirm(sweep, "r", RANDOM, [0.70, 0.70, 0.70])
    confirm(sweep, "c", CORESET, [0.755, 0.735, 0.750])
    for k in range(10):
        confirm(sweep, f"o{k}", {"selector.name": f"other{k}"}, 0.70 + rng.normal(0, 0.03, 3))
    entry = next(entry for entry in read_report(sweep.path).confirmed if entry.id == "c")
    assert entry.judgement.difference.excludes_zero
    assert entry.judgement.p < 0.05 < entry.p_holm
    assert entry.verdict == f"{NO_EVIDENCE} after Holm's correction"


def test_less_is_better_where_the_sweep_minimises(tmp_path):
    sweep = SweepFolder(tmp_path / "s", metric=[{"name": "time/total_seconds", "goal": "minimize"}])
    for seed, (slow, fast) in enumerate([(20, 10), (22, 11), (24, 12.5)], 1):
        sweep.trial("r", seed, RANDOM, {200: 0.7}, seconds=slow)
        sweep.trial("c", seed, CORESET, {200: 0.7}, seconds=fast)
    result = read_report(sweep.path)
    assert result.measure == "time/total_seconds"
    assert [(entry.label, entry.verdict) for entry in result.confirmed] == [
        ("coreset", "better"),
        ("random", "reference"),
    ]


def test_classifiers_beside_the_first_have_a_table_of_their_own(sweep):
    for name, parameters, accuracies in (("r", RANDOM, [0.5, 0.52, 0.51]), ("c", CORESET, [0.6, 0.63, 0.61])):
        for seed, accuracy in enumerate(accuracies, 1):
            rows = sweep.records(name, seed, parameters, {200: 0.7 + seed / 100})
            for row in rows:
                if "test/accuracy" in row["metrics"]:
                    row["metrics"]["test/accuracy/knn"] = accuracy
            sweep.append(rows)
    write_report(sweep.path)
    table = (sweep.path / "summary.md").read_text().split("## The same under knn")[1].split("##")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert lines[2].startswith("| coreset | 0.6133 ± ")
    assert "| +0.1033 [" in lines[2]
    assert "] | better | .001 | 0.250 | 0." in lines[2]
    assert lines[3].startswith("| random | 0.5100 ± ")
    assert lines[3].endswith("| – | reference | – | – | – | 3 |")


def test_one_seed_gives_no_interval_and_says_so(sweep):
    confirm(sweep, "r", RANDOM, [0.70])
    confirm(sweep, "c", CORESET, [0.75])
    result = write_report(sweep.path)
    text = (sweep.path / "summary.md").read_text()
    assert "±" not in text.split("## How")[0].replace("Mean ± half-width", "")
    assert "n = 1 seed, so no interval" in result.answer
    assert "may be luck" in result.answer
    assert result.confirmed[0].verdict == "one seed in common: no interval"


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({}, "random"),
        ({"reference": {"selector": "coreset"}}, "coreset"),
        ({"reference": {"selector": {"name": "coreset"}}}, "coreset"),
        ({"confirm": {"top": 1, "seeds": [1], "references": [{"selector.name": "margin"}]}}, "margin"),
        ({"reference": {"selector.name": "nonsense"}}, "random"),
    ],
)
def test_reference(tmp_path, space, expected):
    sweep = SweepFolder(tmp_path / "s", **space)
    confirm(sweep, "r", RANDOM, [0.70, 0.71])
    confirm(sweep, "c", CORESET, [0.75, 0.77])
    confirm(sweep, "m", {"selector.name": "margin"}, [0.73, 0.71])
    result = read_report(sweep.path)
    assert result.reference.label == expected
    assert any("nonsense" in note for note in result.notes) == ("nonsense" in str(space))


def test_search_is_validation_only_and_says_what_stopped_and_failed(tmp_path):
    sweep = SweepFolder(tmp_path / "s", confirm={"top": 1, "seeds": [1, 2]})
    sweep.trial("a", 0, {"ssl_method.temperature": 0.1}, {200: 0.8}, phase="search")
    sweep.trial("b", 0, {"ssl_method.temperature": 0.2}, {200: 0.9}, phase="search")
    sweep.trial("c", 0, {"ssl_method.temperature": 0.3}, {}, phase="search", status="stopped", epochs=3)
    sweep.trial("d", 0, {"ssl_method.temperature": 0.4}, {}, phase="search", status="failed", error="A: b|c\nd")
    sweep.trial("e", 0, {"ssl_method.temperature": 0.5}, {}, phase="search", status="running")
    result = write_report(sweep.path)
    assert [(entry.label, entry.ending) for entry in result.searched] == [
        ("temperature 0.2", "finished"),
        ("temperature 0.1", "finished"),
        ("temperature 0.3", "early-stopped at epoch 3"),
    ]
    assert result.failures == {"search-d-s0": "A: b|c d"}
    assert "not confirmed" in result.answer
    text = (sweep.path / "summary.md").read_text()
    assert "test/accuracy" not in text
    assert "| search-d-s0 | A: b\\|c d |" in text
    assert "1 trial did not finish" in text


def test_what_was_stopped_early_has_no_value_of_the_goal_anywhere(tmp_path):
    """By a score without labels an early epoch looks far better than the end of the others."""
    pair = {"augmentation.first": {"values": ["crop", "flip"]}, "augmentation.second": {"values": ["crop", "flip"]}}
    rate = {"ssl_method.temperature": {"min": 0.1, "max": 1.0}}
    goals = [{"name": "pretrain/rankme", "goal": "maximize"}, {"name": "pretrain/alignment", "goal": "minimize"}]
    sweep = SweepFolder(tmp_path / "s", method="random", seeds=[0], metric=goals, parameters=pair | rate)
    for number in range(24):
        first, second, stopped = OPERATIONS[number % 2], OPERATIONS[number // 2 % 2], number % 3 == 0
        chosen = {
            "augmentation.first": first,
            "augmentation.second": second,
            "ssl_method.temperature": 0.1 + number / 30,
        }
        rows = sweep.records(f"c{number}", 0, chosen, {} if stopped else {100: 0.5}, phase="search",
                             status="stopped" if stopped else "finished", seconds=1 if stopped else 10)  # fmt: skip
        for row in rows:
            row["metrics"] |= {"pretrain/rankme": 70 + number if stopped else 40 + number / 10}
            row["metrics"] |= {"pretrain/alignment": 0.1 if stopped else 0.9}
        sweep.append(rows)
    report = write_report(sweep.path)
    stopped = [entry for entry in report.searched if entry.ending != "finished"]
    assert len(stopped) == 8
    assert not any(one.values.keys() & {"pretrain/rankme", "pretrain/alignment"} for one in stopped)
    table = pd.read_csv(sweep.path / "leaderboard.csv")
    assert table[table.ending != "finished"][["pretrain/rankme", "pretrain/alignment"]].isna().all(axis=None)
    shown = {picture.stem: picture for section in page_sections(report) for picture in section.pictures}
    assert "16 configurations that finished" in shown["importance"].caption
    assert "one of the 16 configurations" in shown["parallel"].caption
    assert "crosses: the 8 that were stopped early" in shown["scatter"].caption
    drawn = shown["pairs"].draw.args[0]
    assert max(value for panel in drawn.panels.values() for value in panel.values()) < 43
    assert "temperature 0.1" not in shown["pareto"].alt.split(";")[1], "the first was stopped"
    assert "Learning curves" not in (sweep.path / "summary.md").read_text()


def test_summary_says_where_and_how(sweep):
    confirm(sweep, "r", RANDOM, [0.70, 0.72])
    confirm(sweep, "c", CORESET, [0.75, 0.78])
    write_report(sweep.path)
    text = (sweep.path / "summary.md").read_text()
    for words in (
        "Which selector finds the better 200 labels?",
        "one of random, coreset",
        "seeds 1, 2",
        "Some CPU, 2 cores, no GPU; times with up to 2 trials at once",
        "`399b5c3c59c6`",
        "torch 2.15.0",
        "digits (1,200 train, 150 val, 300 test images, 10 classes)",
        "python -m harness.sweep search_spaces/selectors.yaml",
    ):
        assert words in text
    assert text.index("**Answer.**") < text.index("**Question.**") < text.index("## Confirmed")


def test_learning_curves_and_values_at_the_most_labels(sweep):
    sweep.trial("r", 1, RANDOM, {100: 0.51, 200: 0.71})
    sweep.trial("r", 2, RANDOM, {100: 0.53, 200: 0.71})
    result = write_report(sweep.path)
    assert result.confirmed[0].mean("test/accuracy") == pytest.approx(0.70)
    assert result.confirmed[0].curves["test/accuracy"] == {
        100: pytest.approx({1: 0.5, 2: 0.52}),
        200: pytest.approx({1: 0.7, 2: 0.7}),
    }
    assert "| 0.5100 ± 0.1271 | 0.7000 |" in (sweep.path / "summary.md").read_text()


def test_seconds_from_the_cache_are_marked(sweep):
    rows = sweep.records("r", 1, RANDOM, {200: 0.7})
    rows[-1]["metrics"] |= {"stage/pretrain_cached": 1, "time/saved_seconds": 6}
    sweep.append(rows)
    sweep.trial("c", 1, CORESET, {200: 0.7})
    result = write_report(sweep.path)
    lines = (sweep.path / "summary.md").read_text().split("\n## ")[1].splitlines()  # the first table
    (cached,) = [line for line in lines if line.startswith("| random")]
    (computed,) = [line for line in lines if line.startswith("| coreset")]
    assert cached.endswith(r"| 6.00\* | 0.500 | 3.00 | 10.0\* |")
    assert computed.endswith("| 6.00 | 0.500 | 3.00 | 10.0 |")
    assert (result.seconds, result.saved) == (20, 6)


def test_a_resumed_trial_counts_once_with_its_later_values(sweep):
    confirm(sweep, "r", RANDOM, [0.1, 0.2], status="running")
    confirm(sweep, "r", RANDOM, [0.7, 0.8])
    (entry,) = read_report(sweep.path).confirmed
    assert entry.values["test/accuracy"] == pytest.approx({1: 0.7, 2: 0.8})


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_last_value_that_is_no_number_is_not_an_earlier_rounds(sweep, value):
    for name, parameters, level, without in (
        ("r", RANDOM, 0.5, ()),
        ("c", CORESET, 0.6, (2,)),
        ("b", BADGE, 0.7, (1, 2, 3)),
    ):
        for seed in (1, 2, 3):
            rows = sweep.records(name, seed, parameters, {100: 0.9, 200: level + 0.01 * seed})
            for metric in ("test/accuracy", "test/loss") if seed in without else ():
                rows[0]["metrics"] |= {metric: 0.5}
                rows[-3]["metrics"] |= {metric: 0.5}
                rows[-2]["metrics"][metric] = value
            sweep.append(rows)
    report = read_report(sweep.path)
    found = {entry.label: entry for entry in report.confirmed}
    assert [entry.label for entry in report.confirmed] == ["random", "coreset", "badge"], "they lack a seed"
    assert {label: list(one.values.get("test/accuracy", {})) for label, one in found.items()} == {
        "random": [1, 2, 3], "coreset": [1, 3], "badge": []}  # fmt: skip
    assert {label: one.seeds for label, one in found.items()} == {"random": [1, 2, 3], "coreset": [1, 3], "badge": []}
    assert found["coreset"].kind != "better"
    assert not found["badge"].judgement
    assert "test/loss" not in found["badge"].values
    assert report.best is found["random"]
    assert "Without a result: coreset (seed 2), badge (seeds 1, 2, 3)." in " ".join(report.notes)


def test_half_a_line_is_noted(sweep):
    confirm(sweep, "r", RANDOM, [0.7, 0.8])
    with (sweep.path / "rows.jsonl").open("a") as file:
        file.write('{"trial": "conf')
    assert read_report(sweep.path).notes == ["1 line of rows.jsonl could not be read and was skipped."]


@pytest.mark.parametrize("stratified", [True, False])
def test_a_start_pool_that_read_hidden_labels_is_told(tmp_path, stratified):
    sweep = SweepFolder(tmp_path / "s", trial={"labels": {"start": 100, "stratified": stratified}})
    sweep.trial("r", 1, RANDOM, {200: 0.7})
    said = [note for note in read_report(sweep.path).notes if "read hidden labels" in note]
    assert len(said) == stratified


@pytest.mark.parametrize("missing", ["space.yaml", "environment.json", "rows.jsonl"])
def test_wrong_folder_is_one_line_and_exit_2(sweep, missing, capsys):
    confirm(sweep, "r", RANDOM, [0.7])
    (sweep.path / missing).unlink()
    assert __main__.main([str(sweep.path)]) == 2
    captured = capsys.readouterr()
    assert missing in captured.err
    assert captured.err.count("\n") == 1


def test_command_line_fits_80_columns(tmp_path):
    sweep = SweepFolder(tmp_path / "s", metric=[{"name": "val/accuracy", "goal": "maximize"}])
    rng = np.random.default_rng(0)
    for k in range(3):
        parameters = {"augmentation.first": "color_jitter", "augmentation.second": f"grayscale_{k}"}
        confirm(sweep, f"c{k}", parameters, 0.7 + rng.normal(0, 0.02, 5), seconds=12345)
        sweep.trial(f"s{k}", 0, parameters, {200: 0.7}, phase="search", seconds=12345)
    command = [sys.executable, "-m", "harness.report", str(sweep.path)]
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if str(sweep.path) not in line]
    assert max(map(len, lines)) <= 80
    assert done.stdout.count("12345") == 6  # no column is cut off
    assert "reference" in done.stdout


def test_the_data_are_stated_with_what_became_of_their_images():
    data = {"name": "mine", "train": 10, "val": 2, "test": 3, "classes": ["a", "b"], "fingerprint": "0123456789abcdef"}
    said = data_set(data | {"tally": {"scaled": 3, "left_out": 1200}})
    assert (
        said == "mine (10 train, 2 val, 3 test images, 2 classes, 3 scaled, 1,200 left out), fingerprint `0123456789ab`"
    )


def test_an_ascii_terminal_gets_the_report_too(sweep, monkeypatch):
    confirm(sweep, "r", RANDOM, [0.70, 0.72, 0.71])
    confirm(sweep, "c", CORESET, [0.75, 0.78, 0.76])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert __main__.main([str(sweep.path)]) == 0


# More rounds ---------------------------------------------------------------------------------------------------------


def growing(path, rounds, grown):
    """Random and coreset alike, 200 labels a round; (selector, seed) of those that have all rounds, the others two."""
    sweep, rng = (
        SweepFolder(path, trial={"labels": {"start": 200, "budget": 200, "rounds": rounds}}),
        np.random.default_rng(0),
    )
    for name, parameters in (("random", RANDOM), ("coreset", CORESET)):
        for seed in (1, 2, 3, 4):
            steps = range(200, 200 * ((rounds if (name, seed) in grown else 2) + 1) + 1, 200)
            sweep.trial(name, seed, parameters, {step: 0.5 + step / 2000 + rng.normal(0, 0.003) for step in steps})
    return read_report(sweep.path)


def test_a_trial_that_has_not_the_rounds_of_the_others_yet_is_not_finished(tmp_path):
    report = growing(tmp_path / "q", 4, {("random", 1), ("random", 2), ("coreset", 2), ("coreset", 3)})
    assert {entry.label: entry.seeds for entry in report.confirmed} == {"random": [1, 2], "coreset": [2, 3]}
    assert {entry.label: set(entry.lacking) for entry in report.confirmed} == {"random": {3}, "coreset": {1}}
    assert {n for entry in report.confirmed for n in entry.values["labels/used"].values()} == {1000}
    assert "4 trials did not finish" in " ".join(report.notes)
    assert report.seconds == 80, "what they took is counted"


def test_where_no_trial_has_the_rounds_that_are_asked_those_that_all_have_are_compared(tmp_path):
    report = growing(tmp_path / "q", 4, set())
    assert [entry.lacking for entry in report.confirmed] == [{}, {}]
    assert not any("equally many labels" in note for note in report.notes)


def test_a_seed_with_other_labels_is_named_though_the_means_agree(sweep):
    for name, parameters, steps in (("r", RANDOM, (200, 400)), ("c", CORESET, (400, 200))):
        for seed, labels in enumerate(steps):
            sweep.trial(name, seed, parameters, {labels: 0.7})
    assert any("equally many labels" in note for note in read_report(sweep.path).notes)

"""The order of configurations: nobody gains by a seed that it lacks; and which seeds are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sweep_folder import SweepFolder, selection_sweep

from harness.records.standing import standing
from harness.report import round_tables, tables
from harness.report.astray import astray
from harness.report.read import read_report
from harness.report.sections.times import times


def test_the_order_by_hand():
    values = {"a": {1: 0.5, 2: 0.6}, "b": {1: 0.7, 2: 0.6}, "c": {1: 0.9}, "d": {2: 0.1}, "e": {}}
    assert standing(values, {"c": 1, "d": 1, "e": 2}) == ["b", "a", "c", "d", "e"]
    assert standing(values, {"c": 1, "d": 1, "e": 2}, maximize=False) == ["a", "b", "d", "c", "e"]


def test_what_lacks_a_seed_is_measured_by_what_the_others_reach_there():
    values = {"a": {1: 0.5, 2: 0.9}, "easy": {2: 0.8}, "hard": {1: 0.6}}
    assert standing(values, {"easy": 1, "hard": 1}) == ["a", "hard", "easy"]


@pytest.mark.parametrize("seed", range(20))
def test_a_seed_that_is_deleted_never_raises_its_case(seed):
    rng = np.random.default_rng(seed)
    values = {f"c{k}": dict(enumerate(rng.normal(size=4))) for k in range(5)}
    missing = dict.fromkeys(values, 0)
    for _ in range(8):
        case = f"c{rng.integers(5)}"
        if not values[case]:
            continue
        before = standing(values, missing).index(case)
        at = (max if rng.random() < 0.5 else min)(values[case], key=values[case].__getitem__)
        values[case] = {s: value for s, value in values[case].items() if s != at}
        missing[case] += 1
        assert standing(values, missing).index(case) >= before


def test_of_two_seeds_too_a_collapsed_one_is_named():
    rng = np.random.default_rng(0)
    values = {f"c{k}": {s: 0.7 + 0.02 * k + 0.01 * rng.normal() for s in (1, 2)} for k in range(8)}
    assert astray(values) == []
    values["c5"][2] = 0.1
    assert astray(values) == [("c5", 2)]


def rows_of_every_table(folder: Path) -> dict[str, list[str]]:
    """Title -> the names of the rows, in their order."""
    report = read_report(folder)
    sections = [*tables.comparison_tables(report), *tables.tables_of_other_classifiers(report)]
    sections += [*tables.search_tables(report, 100), *tables.curve_tables(report)]
    sections += round_tables.round_sections(report.rounds) if report.rounds else []
    return {
        f"{section.title}/{number}": [str(cell) for cell in table.columns[0].cells]
        for section in sections
        for number, table in enumerate(section.tables)
        if table.columns[0].title in ("configuration", "case")
    }


@pytest.mark.parametrize("how", ["failed", "deleted"])
@pytest.mark.parametrize("extreme", [min, max])
@pytest.mark.parametrize("rounds", [0, 3])
def test_in_no_table_a_row_rises_when_its_worst_or_best_seed_is_lost(tmp_path, how, extreme, rounds):
    gains = {"random": 0.0, "good": 0.03, "same": 0.0, "bad": -0.03}
    if rounds:
        sweep = selection_sweep(tmp_path / "s", gains, seeds=[1, 2, 3], rounds=rounds, noise=0.02)
    else:
        sweep, rng = SweepFolder(tmp_path / "s"), np.random.default_rng(0)
        for name, gain in gains.items():
            for seed in (1, 2, 3):
                rows = sweep.records(name, seed, {"selector.name": name}, {200: 0.7 + gain + rng.normal(0, 0.03)})
                rows[-2]["metrics"]["test/accuracy/knn"] = rows[-2]["metrics"]["test/accuracy"] - 0.1
                sweep.append(rows)
                sweep.trial(name, seed, {"selector.name": name}, {200: 0.7 + gain}, phase="search")
    before, path = rows_of_every_table(sweep.path), sweep.path / "rows.jsonl"
    assert len(before) >= (3 if not rounds else 5)
    lines = path.read_text().splitlines()
    for name in gains:
        report = read_report(sweep.path)
        (entry,) = [one for one in report.confirmed if one.id == name]
        values = entry.values["test/accuracy"]
        lost = extreme(values, key=values.__getitem__)
        kept = []
        for line in map(json.loads, lines):
            if line["configuration"] == name and line["seed"] == lost:
                if how == "deleted":
                    continue
                line["status"] = line["status"].replace("finished", "failed")
            kept.append(line)
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        for title, rows in rows_of_every_table(sweep.path).items():
            if name in rows:
                assert rows.index(name) >= before[title].index(name), title
        report = read_report(sweep.path)
        assert report.best.id != name or len(report.confirmed) == 1
        path.write_text("\n".join(lines) + "\n")


def test_what_lacks_its_worst_seed_is_no_bargain(tmp_path):
    """It is on no front, its gain a minute is not told, and it needs the fewest labels of nobody."""
    gains = {"random": 0.0, "good": 0.03, "bad": -0.03}
    sweep = selection_sweep(tmp_path / "s", gains, seeds=[1, 2, 3], rounds=3, noise=0.02)

    def bargains() -> str:
        report = read_report(sweep.path)
        assert report.rounds
        sections = [section for section in round_tables.round_sections(report.rounds) if "Labels for" in section.title]
        cells = sections[0].tables[0].columns
        needed = dict(zip(map(str, cells[0].cells), map(str, cells[1].cells), strict=True))
        said = [part for part in sections[0].parts if isinstance(part, str)]
        return f"{needed} {said} {times(report).pictures[0].alt}"

    assert bargains().count("good") == 3
    path = sweep.path / "rows.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    worst = min((line["metrics"]["test/accuracy"], line["seed"]) for line in lines
                if line["configuration"] == "good" and "test/accuracy" in line["metrics"])[1]  # fmt: skip
    kept = [line for line in lines if (line["configuration"], line["seed"]) != ("good", worst)]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))
    assert "'good': '–'" in bargains()
    assert bargains().count("good") == 1


def test_a_failed_seed_is_marked_and_takes_the_word_better(tmp_path):
    sweep = SweepFolder(tmp_path / "s")
    for name, accuracies in (("random", [0.70, 0.71, 0.72, 0.71]), ("coreset", [0.80, 0.83, 0.82, 0.80])):
        for seed, accuracy in enumerate(accuracies):
            sweep.trial(name, seed, {"selector.name": name}, {200: accuracy})
    assert [entry.verdict for entry in read_report(sweep.path).confirmed] == ["better", "reference"]
    sweep.trial("coreset", 4, {"selector.name": "coreset"}, {}, status="failed", error="DivergedError: NaN")
    sweep.trial("random", 4, {"selector.name": "random"}, {200: 0.7})
    report = read_report(sweep.path)
    assert [entry.label for entry in report.confirmed] == ["random", "coreset"]
    assert report.confirmed[1].verdict == "indication: better"
    assert "Without a result: coreset (seed 4)." in " ".join(report.notes)
    (section,) = tables.comparison_tables(report)
    (seeds,) = [column for column in section.tables[0].columns if column.title == "n"]
    assert [str(cell) for cell in seeds.cells] == ["5", "4, 1 of 5 failed"]


def test_a_reference_that_failed_is_said(tmp_path):
    sweep = SweepFolder(tmp_path / "s")
    for seed in (1, 2, 3):
        sweep.trial("coreset", seed, {"selector.name": "coreset"}, {200: 0.5 + seed / 100})
        status = "failed" if seed == 2 else "finished"
        sweep.trial("random", seed, {"selector.name": "random"}, {200: 0.7 + seed / 50}, status=status)
    sweep.space["reference"] = {"selector": "random"}
    (sweep.path / "space.yaml").write_text(json.dumps(sweep.space))
    report = read_report(sweep.path)
    assert "The reference, random, has no result under seed 2; nothing is compared with it there." in report.notes
    assert report.confirmed[0].label == "coreset"


def test_a_collapsed_seed_is_named(tmp_path):
    sweep, rng = SweepFolder(tmp_path / "s"), np.random.default_rng(0)
    for name in ("random", "coreset", "margin"):
        for seed in range(1, 6):
            accuracy = 0.11 if (name, seed) == ("margin", 3) else 0.7 + rng.normal(0, 0.01)
            sweep.trial(name, seed, {"selector.name": name}, {200: accuracy})
    (note,) = [note for note in read_report(sweep.path).notes if "Far from" in note]
    assert "margin under seed 3 (0.1000)" in note


def test_normal_seeds_are_not_named():
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(200):
        luck = rng.normal(0, 0.03, 5)
        values = {f"c{k}": dict(enumerate(0.7 + luck + rng.normal(0, 0.01, 5))) for k in range(6)}
        named += len(astray(values))
    assert named < 0.002 * 200 * 30

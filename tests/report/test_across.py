"""A question on several data sets: compared within each, corrected for all, and aggregated over them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import yaml
from scipy import stats
from sweep_folder import SweepFolder, replace_rows

from harness.records.rows import read_rows
from harness.report import across_tables, curves, frames, round_tables, tables, words
from harness.report.across import interquartile_mean, mean_ranks, profile
from harness.report.blocks import places
from harness.report.page.write import page_sections
from harness.report.read import read_report
from harness.report.resampling import bootstrap
from harness.report.unresolved import unresolved
from harness.report.write import write_report

SEEDS = range(1, 6)
GAINS = {"random": 0.0, "coreset": 0.05, "margin": -0.04}
LEVELS = {"cifar10": 0.5, "digits": 0.9, "fashion_mnist": 0.8}


def sweep(path, gains=GAINS, levels=LEVELS, **space) -> SweepFolder:
    """Selectors on data sets of very different level, with curves of three points."""
    folder = SweepFolder(path, seeds=list(SEEDS), reference={"selector": "random"}, **space)
    rng = np.random.default_rng(0)
    for data, level in levels.items():
        for name, gain in gains.items():
            for seed in SEEDS:
                luck = rng.normal(0, 0.004)
                curve = {labels: level + gain + luck + 0.01 * place for place, labels in enumerate((100, 200, 300))}
                parameters = {"dataset": data, "selector.name": name}
                folder.trial(f"{data[0]}{name[0]}", seed, parameters, curve)
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_report(sweep(tmp_path_factory.mktemp("across") / "q").path)


def test_configurations_are_compared_within_their_data_set_and_corrected_for_all(report):
    assert list(report.blocks) == ["cifar10", "digits", "fashion_mnist"]
    assert [entry.method for entry in report.confirmed] == ["coreset", "random", "margin"] * 3
    by_place = {(entry.block, entry.method): entry for entry in report.confirmed}
    assert {entry.verdict for entry in report.confirmed if entry.method == "random"} == {"reference"}
    for (_, method), entry in by_place.items():
        assert entry.kind == {"random": "", "coreset": "better", "margin": "worse"}[method]
    alone = {(b, m): e.judgement.p for (b, m), e in by_place.items() if e.judgement}
    assert len(alone) == 6
    smallest = min(alone, key=alone.get)
    assert by_place[smallest].p_holm == pytest.approx(6 * alone[smallest]), "Holm's correction is for all six"
    assert by_place["cifar10", "coreset"].judgement.difference.mean == pytest.approx(0.05, abs=0.01)


def test_the_same_selectors_on_one_data_set_are_one_ground(tmp_path):
    report = read_report(sweep(tmp_path / "q", levels={"digits": 0.9}).path)
    assert list(report.blocks) == [""]
    assert report.across is None
    assert across_tables.across_sections(report) == []


def test_what_the_reference_names_is_compared_and_makes_no_ground(tmp_path):
    folder = sweep(tmp_path / "q")
    folder.space["reference"] = {"dataset": "digits", "selector": "random"}
    (tmp_path / "q/space.yaml").write_text(yaml.safe_dump(folder.space))
    assert list(read_report(folder.path).blocks) == [""]


def test_a_case_may_be_a_ground_and_a_method_may_be_missing_on_one(tmp_path):
    cases = {"easy": {"dataset": "digits"}, "hard": {"dataset": "cifar10", "labels.start": 50}}
    folder = SweepFolder(tmp_path / "q", seeds=[1, 2, 3], cases=cases, reference={"selector": "random"})
    for case, name in (("easy", "random"), ("easy", "ual"), ("easy", "margin"), ("hard", "ual"), ("hard", "random")):
        for seed in (1, 2, 3):
            folder.trial(f"{case}{name}", seed, {"case": case, "selector.name": name}, {200: 0.5 + seed / 100})
    report = read_report(folder.path)
    assert {block: len(entries) for block, entries in report.blocks.items()} == {"case easy": 3, "case hard": 2}
    ranks = {one.method: one.rank for one in report.across.methods}
    assert ranks["margin"] is None, "it has no run on the hard case"


def test_a_reference_may_be_missing_on_a_ground(tmp_path):
    cases = {"easy": {"dataset": "digits"}, "hard": {"dataset": "cifar10", "labels.start": 50}}
    folder = SweepFolder(tmp_path / "q", seeds=[1, 2, 3], cases=cases, reference={"selector": "random"})
    for case, name in (("easy", "random"), ("easy", "ual"), ("easy", "margin"), ("hard", "ual"), ("hard", "margin")):
        for seed in (1, 2, 3):
            folder.trial(f"{case}{name}", seed, {"case": case, "selector.name": name}, {200: 0.5 + seed / 100})
    report = read_report(folder.path)
    assert report.reference.method == "random"
    assert {one.method: one.runs for one in report.across.methods if one.method != "random"} == {"ual": 3, "margin": 3}


METHODS = {"none": 0.0, "simclr": 0.03, "byol": 0.0}


def methods_on(path, levels=LEVELS, steps=(300,), failed=(), **space) -> SweepFolder:
    """Pre-trainings on data sets of very different level; of `failed`, (data set, method), no seed has a result."""
    parameters = {"dataset": {"values": list(levels)}, "ssl_method": {"values": list(METHODS)}}
    space = {"seeds": list(SEEDS), "reference": {"ssl_method": "none"}, "parameters": parameters, **space}
    folder = SweepFolder(path, **space)
    rng = np.random.default_rng(0)
    for data, level in levels.items():
        for name, gain in METHODS.items():
            for seed in SEEDS:
                curve = {n: level + gain + rng.normal(0, 0.004) + 0.01 * place for place, n in enumerate(steps)}
                curve, status = ({}, "failed") if (data, name) in failed else (curve, "finished")
                folder.trial(f"{data[0]}{name}", seed, {"dataset": data, "ssl_method": name}, curve, status=status)
    return folder


TWO = {"cifar10": 0.5, "digits": 0.9}


def test_a_ground_without_its_reference_is_compared_with_no_other(tmp_path):
    report = read_report(methods_on(tmp_path / "q", TWO, failed=[("cifar10", "none")]).path)
    assert {(entry.block, entry.verdict) for entry in report.confirmed if entry.method == "simclr"} == {
        ("cifar10", "not compared"), ("digits", "better"),
    }  # fmt: skip
    assert report.notes == [
        "Compared within digits.",
        "Not compared on cifar10: the reference, no pre-training, has no result there.",
        "Without any result, and so in no table: cifar10 · no pre-training (5 of 5 failed).",
    ]
    assert report.answer.endswith("simclr is better on 1 and worse on 0. Not compared on cifar10.")


def test_a_ground_with_nothing_but_its_reference_is_compared_with_no_other(tmp_path):
    failed = [("cifar10", "simclr"), ("cifar10", "byol")]
    report = read_report(methods_on(tmp_path / "q", TWO, failed=failed).path)
    assert [entry.verdict for entry in report.confirmed if entry.method == "no pre-training"] == ["reference"] * 2
    assert "Not compared on cifar10: nothing but the reference, no pre-training, has a result there." in report.notes


def test_the_reference_is_the_first_of_the_question_whatever_failed_or_ran_first(tmp_path):
    folder = methods_on(tmp_path / "q", TWO, failed=[("digits", "none")], reference=None)
    rows, _ = read_rows(folder.path)
    replace_rows(folder.path / "rows.jsonl", sorted(rows, key=lambda row: row["trial"], reverse=True))
    report = read_report(folder.path)
    assert (report.reference.block, report.reference.method) == ("cifar10", "no pre-training")
    assert {entry.verdict for entry in report.confirmed if entry.block == "digits"} == {"not compared"}


def test_a_reference_that_fits_several_configurations_is_said_to(tmp_path):
    folder = SweepFolder(
        tmp_path / "q",
        seeds=[1, 2],
        reference={"ssl_method": "none"},
        parameters={"ssl_method": {"values": ["none", "simclr"]}, "pretrain.lr": {"values": [0.3, 0.1]}},
    )
    for number, (method, lr) in enumerate([("simclr", 0.1), ("none", 0.1), ("simclr", 0.3), ("none", 0.3)]):
        for seed in (1, 2):
            folder.trial(str(number), seed, {"ssl_method": method, "pretrain.lr": lr}, {200: 0.5 + seed / 100})
    report = read_report(folder.path)
    assert report.reference.label == "no pre-training · lr 0.3"
    assert report.notes == [
        "The reference {'ssl_method': 'none'} fits 2 configurations; no pre-training · lr 0.3 is taken."
    ]


@pytest.mark.parametrize(
    ("cases", "grounds"),
    [
        ({"easy": {"dataset": "digits", "pretrain.epochs": 10}, "hard": {"dataset": "cifar10"}}, ["easy", "hard"]),
        ({"simclr": {"ssl_method": "simclr"}, "byol": {"ssl_method": "byol"}}, []),
    ],
)
def test_a_case_that_sets_a_data_set_is_a_ground_whatever_else_it_sets(cases, grounds):
    selectors = ["random", "margin"]
    space = {"cases": cases, "parameters": {"selector": {"values": selectors}}, "reference": {"selector": "random"}}
    asked = {f"{case}{name}": {"case": case, "selector": name} for case in cases for name in selectors}
    assert {ground for ground, _ in places(asked, space).values()} == {f"case {case}" for case in grounds}


def test_what_a_search_chose_from_is_compared_with_its_reference():
    lr, width = ({"values": [1, 2]}, {"values": [8, 16]})
    space = {
        "parameters": {"pretrain.lr": lr, "backbone.width": width},
        "confirm": {"references": [{"pretrain.lr": 1}]},
    }
    asked = {"a": {"pretrain.lr": 2, "backbone.width": 16}, "b": {"pretrain.lr": 1}}
    assert places(asked, space) == {}


def test_rounds_are_compared_within_their_data_set_whatever_varies(tmp_path):
    report = read_report(methods_on(tmp_path / "q", steps=(100, 200, 300)).path)
    rounds = report.rounds
    assert {setting.name: setting.reference for setting in rounds.settings} == dict.fromkeys(LEVELS, "no pre-training")
    assert sorted(rounds.cases) == ["byol", "no pre-training", "simclr"]
    for setting in rounds.settings:
        simclr = setting.by_area[rounds.measure]["simclr"]
        assert (simclr.kind, simclr.difference.mean) == ("better", pytest.approx(0.03, abs=0.01))
    assert (rounds.ranks.blocks, rounds.penalty.shape) == (len(LEVELS) * len(SEEDS), (3, 3))
    for name, said in zip(LEVELS, report.about, strict=False):  # a paragraph each
        assert said.startswith(f"{name}: Better than no pre-training beyond doubt")


def test_over_several_rounds_the_area_is_aggregated_as_it_is_answered_by(tmp_path):
    """Margin ends as random does, and is better on the way there."""
    folder = SweepFolder(tmp_path / "q", reference={"selector": "random"})
    for data in TWO:
        for name, lead in (("random", 0.0), ("margin", 0.1)):
            for seed in range(8):
                luck = 0.004 * (seed * (3 if lead else 5) % 7)
                curve = {100: 0.5 + 0.003 * seed, 200: 0.6 + lead + luck, 300: 0.7 + 0.001 * seed}
                folder.trial(f"{data}-{name}", seed, {"dataset": data, "selector.name": name}, curve)
    report = read_report(folder.path)
    assert report.across.measure == "test/aubc"
    best = report.across.methods[0]
    assert (best.method, best.wins, best.ties, best.middle.value) == ("margin", 2, 0, pytest.approx(0.05, abs=0.01))
    assert report.answer.startswith("By test/aubc on 2 grounds")


def test_an_area_without_a_name_of_its_own_is_shown_in_points_too():
    assert words.scale("area under test/balanced_accuracy") == words.scale("test/balanced_accuracy") == (100.0, "%")


def test_aggregates_over_data_sets(report):
    across = report.across
    assert [one.method for one in across.methods] == ["coreset", "random", "margin"]
    best, reference, worst = across.methods
    assert (best.wins, best.ties, best.losses, best.runs) == (3, 0, 0, 15)
    assert (worst.wins, worst.ties, worst.losses) == (0, 0, 3)
    assert reference.middle is None
    assert best.rank.value == 1.0
    assert best.middle.value == pytest.approx(0.05, abs=0.005)
    assert best.middle.low is None, "five seeds of each"
    at_zero = int(np.abs(across.thresholds).argmin())
    assert best.profile[at_zero].value == 1.0
    assert worst.profile[at_zero].value == 0.0
    assert "coreset has the best mean rank, 1.0. Against random, beyond doubt: coreset is better on 3" in report.answer


def test_a_method_gains_nothing_by_the_ground_that_it_lacks(tmp_path):
    report = read_report(methods_on(tmp_path / "q", TWO, failed=[("cifar10", "simclr")]).path)
    assert [one.method for one in report.across.methods if one.middle or one.profile] == ["byol"]
    assert "Without any result, and so in no table: cifar10 · simclr (5 of 5 failed)." in report.notes
    assert "the best mean rank of those that lack no run" in report.answer


def test_methods_that_share_no_seed_on_a_ground_have_no_ranks(tmp_path):
    folder = SweepFolder(tmp_path / "q", seeds={"max": 9, "until": "resolved", "block": 3, "split": "same"})
    for data in TWO:
        for name, seeds in (("random", (0, 1)), ("margin", (2,) if data == "digits" else (0, 1, 2))):
            for seed in seeds:
                folder.trial(data + name, seed, {"dataset": data, "selector.name": name}, {300: 0.5 + seed / 100})
    report = read_report(folder.path)
    assert [one.rank for one in report.across.methods] == [None, None]
    assert unresolved(report, 3)


def test_the_report_shows_each_data_set_and_all_of_them(report):
    titles = [section.title for section in tables.comparison_tables(report)]
    assert titles == ["Confirmed (cifar10)", "Confirmed (digits)", "Confirmed (fashion_mnist)"]
    (over_all,) = across_tables.across_sections(report)
    (table,) = over_all.tables
    assert table.titles == ["method", "mean rank", "IQM of differences (points)", "wins", "ties", "losses", "runs"]
    frame = frames.leaderboard(report)
    assert frame[["ground", "method"]].drop_duplicates().shape == (9, 2)
    for name in ("profiles", "leaderboard", "leaderboard_2", "leaderboard_3"):
        assert (report.folder / f"{name}.svg").exists(), name
    assert "Over 3 grounds" in (report.folder / "summary.md").read_text()
    assert any("Over 3 grounds" in str(part) for one in page_sections(report) for part in one.parts)
    rounds = report.rounds
    assert rounds.tests(rounds.measure) == 6
    assert "for 6 comparisons" in round_tables.answer_over_rounds(rounds)


def test_the_interquartile_mean_and_its_interval_are_those_of_scipy():
    rng = np.random.default_rng(1)
    strata = [rng.normal(place, 1, 12) for place in range(3)]
    ours = interquartile_mean(strata)
    pooled = np.sort(np.concatenate(strata))
    assert ours.value == pytest.approx(pooled[9:27].mean())
    level = 1 - 2 * stats.norm.cdf(-math.sqrt(12 / 11) * stats.t.ppf(0.975, 11))
    theirs = stats.bootstrap(
        strata,
        lambda *drawn, axis: stats.trim_mean(np.concatenate(drawn, axis=axis), 0.25, axis=axis),
        n_resamples=20_000, method="percentile", confidence_level=level, vectorized=True, rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    assert ours.low == pytest.approx(theirs.low, abs=0.06)
    assert ours.high == pytest.approx(theirs.high, abs=0.06)
    assert interquartile_mean([np.array([1.0])]).low is None
    assert interquartile_mean([strata[0], strata[1][:7]]).low is None, "seven runs"


@pytest.mark.parametrize("sizes", [[8], [10], [8, 8, 8]])
def test_an_interval_by_the_bootstrap_covers_a_mean(sizes):
    rng, held = np.random.default_rng(0), 0
    for _ in range(500):
        strata = [rng.normal(size=size) for size in sizes]
        (one,) = bootstrap(strata, lambda drawn: np.mean([runs.mean(1) for runs in drawn], axis=0)[:, None])
        held += one.low <= 0 <= one.high
    assert held / 500 >= 0.925  # .937 of eight runs in 1,500; .905 by plain percentiles


def test_profiles_and_ranks_by_hand():
    shares = profile([np.array([0.0, 1.0]), np.array([2.0, 2.0, -1.0])], np.array([0.5, 3.0]))
    assert [one.value for one in shares] == pytest.approx([(1 / 2 + 2 / 3) / 2, 0])
    values = {"x": {"a": {0: 3.0, 1: 1.0}, "b": {0: 2.0, 1: 2.0}, "c": {0: 9.0}}, "y": {"a": {0: 1.0}, "b": {0: 1.0}}}
    ranks = mean_ranks(values)
    assert {name: one.value for name, one in ranks.items()} == {"a": 1.5, "b": 1.5}


def test_labels_to_a_target():
    steps = (100, 200, 400)

    def curve(*rows):
        return {step: {"a": {seed: row[place] for seed, row in enumerate(rows)}} for place, step in enumerate(steps)}

    good, bad = [0.2, 0.4, 0.8], [0.2, 0.2, 0.4]
    sure = curves.labels_to(curve(*[good] * 10), "a", 0.5)
    assert (sure.value, sure.low, sure.high) == pytest.approx((250, 250, 250))
    assert curves.labels_to(curve([0.6, 0.7, 0.8]), "a", 0.5).value == -np.inf, "with how few nobody has seen"
    assert curves.labels_to(curve(*[good] * 7), "a", 0.5).low is None, "too few seeds"
    assert curves.labels_to(curve([0.1, 0.2, 0.3]), "a", 0.5).value == np.inf
    early = curves.labels_to(curve(*[good, [0.7, 0.7, 0.7]] * 5), "a", 0.5)
    assert early.low == -np.inf < early.value < early.high < 250, "of some draws the curve starts above"
    doubtful = curves.labels_to(curve(*[good, bad] * 5), "a", 0.5)
    assert 249 < doubtful.low < doubtful.value < doubtful.high == np.inf
    assert doubtful.value == pytest.approx(200 + 200 * 2 / 3)
    assert curves.labels_to({100: {"a": {0: 1.0}}, 200: {"a": {}}}, "a", 0.5) is None
    assert curves.target_of(curve([0.2, 0.4, 0.817]), "a") == 0.81
    assert curves.target_of(curve([0.9, 0.4, 0.817]), "a") is None


@pytest.mark.parametrize("seeds", [[0.29], [0.57], [0.58], [0.28, 0.3], [0.56, 0.57, 0.58], [0.1, 0.7]])
def test_a_target_of_whole_per_cent_is_what_was_reached(seeds):
    values = {100: {"a": dict.fromkeys(range(len(seeds)), 0.1)}, 200: {"a": dict(enumerate(seeds))}}
    target = curves.target_of(values, "a")
    assert target == round(np.mean(seeds), 2)
    assert curves.labels_to(values, "a", target).value == pytest.approx(200)
    values[100]["a"] = values[200]["a"]
    assert curves.target_of(values, "a") is None


def test_labels_that_a_selector_saves_are_said(tmp_path):
    report = read_report(sweep(tmp_path / "q", levels={"digits": 0.8}).path)
    sections = {section.title: section for section in round_tables.round_sections(report.rounds)}
    sentence, table = sections["Labels for what random reaches at the end"].parts
    assert table.titles == ["case", "labels for 81 %", "of random's"]
    assert sentence.startswith("random needs ")
    assert sentence.endswith(", coreset 100 or fewer."), "five seeds"
    shown = {str(row[0]): [str(cell) for cell in row[1:]] for row in table.rows}
    assert shown["coreset"] == ["100 or fewer", "–"]
    assert shown["margin"] == ["never", "–"]
    assert shown["random"][1] == "100%"
    assert [row[1].show().value for row in table.rows if str(row[0]) == "coreset"] == [100], "it is sorted by that"

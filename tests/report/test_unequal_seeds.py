"""Configurations of different seeds: what was resolved early, what failed, and what a verdict is then of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sweep_folder import SweepFolder, append_rows

from harness.report import answers, round_tables
from harness.report.across import interquartile_mean
from harness.report.comparability import sides_of
from harness.report.compare import NO_EVIDENCE, Scores, judge
from harness.report.inference import ALPHA
from harness.report.model import Report
from harness.report.read import read_report
from harness.report.sections.times import times
from harness.report.sequential import Looks
from harness.report.tables import comparison_tables
from harness.report.unresolved import unresolved
from harness.report.versus import judge_bests
from harness.tracking.delivery import figures_of

UNTIL = {"max": 30, "until": "resolved", "block": 5, "split": "same"}
LEVELS = {"random": 0.6, "b": 0.603, "m": 0.58, "w1": 0.45, "w2": 0.45, "w3": 0.45, "w4": 0.45}


def until_resolved(path: Path, levels: Mapping[str, float], noise: Mapping[str, float], rng, start: bool) -> Report:
    """Seeds are added as a sweep adds them; with a start pool that all share the answer is by the area."""
    sweep = SweepFolder(path, seeds=UNTIL, reference={"selector.name": "random"}, worth=0.001)
    luck = rng.normal(0, 0.004, 30)
    reached = {name: level + luck + rng.normal(0, noise.get(name, 0.004), 30) for name, level in levels.items()}
    left, size = set(levels), 0
    while left and size < UNTIL["max"]:
        for name in sorted(left):
            for seed in range(size, size + UNTIL["block"]):
                curve = {50: 0.4 + luck[seed]} if start else {}
                sweep.trial(name, seed, {"selector.name": name}, curve | {100: reached[name][seed]})
        size += UNTIL["block"]
        report = read_report(path)
        left = unresolved(report, size)
    return report


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("draw", range(3))
def test_nobody_stands_above_the_reference_that_is_worse_or_below_it_that_is_better(tmp_path, start, draw):
    """What is far off stops early; the reference goes on beside its last rivals, under seeds of its own."""
    report = until_resolved(tmp_path / "q", LEVELS, {"b": 0.02}, np.random.default_rng(draw), start)
    sizes = {entry.label: len(entry.seeds) for entry in report.confirmed}
    assert sizes["b"] > sizes["w1"] == 5
    for metric in (report.measure, report.chosen_by):
        order, judged = [entry.id for entry in report.ordered(metric)], report.judgements(metric)
        place = order.index("random")
        assert not {name for name in order[:place] if judged[name].kind == "worse"}
        assert not {name for name in order[place:] if name in judged and judged[name].kind == "better"}
        leads = [judged[name].difference.mean if name in judged else 0.0 for name in order]
        assert leads == sorted(leads, reverse=True)
    assert [entry.id for entry in report.confirmed] == [entry.id for entry in report.ordered(report.measure)]
    assert report.best.id != "m"
    if start:
        (setting,) = report.rounds.settings
        judged = setting.by_area["test/accuracy"]
        leads = [judged[case].difference.mean if case in judged else 0.0 for case in report.rounds.cases]
        assert leads == sorted(leads, reverse=True)
        assert report.rounds.best(setting) != "m"
        assert "Highest by the differences to random, of 7: " in report.answer


def hard_first(path: Path, goal: str, seeds: object) -> Report:
    """Far stops after five hard seeds, and stands two points below the reference's mean, by which it is not judged."""
    metric = [{"name": f"val/{goal}", "goal": "minimize" if goal == "loss" else "maximize"}]
    sweep = SweepFolder(path, seeds=seeds, metric=metric, reference={"selector.name": "random"}, worth=0.001)
    rng = np.random.default_rng(1)
    luck = np.r_[np.full(5, -0.03), np.full(20, 0.03)] + rng.normal(0, 0.002, 25)
    for name, lead, under, seconds in (
        ("random", 0.0, range(20), 10.0),
        ("far", 0.03, range(5), 20.0),
        ("near", 0.004, range(20), 30.0),
        ("stray", 0.1, range(20, 25), 5.0),
    ):
        for seed in under:
            top = 0.6 + luck[seed] + lead + rng.normal(0, 0.003)
            rows = sweep.records(name, seed, {"selector.name": name}, {50: 0.4 + luck[seed], 100: top}, seconds=seconds)
            for row in rows:
                for split in ("val", "test"):
                    if goal == "loss" and f"{split}/accuracy" in row["metrics"]:
                        row["metrics"][f"{split}/loss"] = 1 - row["metrics"][f"{split}/accuracy"]
            append_rows(path / "rows.jsonl", rows)
    return read_report(path)


@pytest.mark.parametrize("goal", ["accuracy", "loss"])
def test_picture_headline_and_figures_are_of_one_scale_with_the_order(tmp_path, goal):
    report = hard_first(tmp_path / "q", goal, UNTIL)
    measure, sign = f"test/{goal}", 1 if goal == "accuracy" else -1
    far, random = report.best, report.reference
    assert (far.id, far.kind) == ("far", "better")
    assert sign * (far.mean(measure) - random.mean(measure)) < 0, "by its own seeds it looks worse"
    figures = figures_of(report)
    assert report.headline.mean == figures[f"best/{measure}"] == report.level(far, measure)
    lead = figures[f"best/{measure}"] - figures[f"reference/{measure}"]
    assert lead == pytest.approx(figures[f"difference/{measure}"])
    assert report.headline.half > far.judgement.difference.half
    (picture,) = [one for one in times(report).pictures if one.stem == "pareto"]
    assert picture.alt.endswith("nothing beats random, far in both")
    assert "set beside all seeds of the reference" in picture.caption
    axes = picture.draw().axes[0]
    line = [sign * y for y in axes.lines[0].get_ydata()]
    assert line == sorted(line), "what is dearer on the front is better"
    assert len(axes.containers) == 3, "without a seed of the reference's there is no place beside it"
    if goal == "accuracy":
        assert f"{report.level(far, measure):.4f}" in answer_at_the_end(report)
        assert "n = 5 seeds, set beside all 20 of random" in answer_at_the_end(report)
        (setting,) = report.rounds.settings
        area, of_reference = (setting.beside(measure, case).mean for case in ("far", "random"))
        assert area - of_reference == pytest.approx(setting.by_area[measure]["far"].difference.mean)
        assert f"far, {100 * area:.2f} ± " in report.answer
        assert "set beside all seeds of random" in report.answer


def answer_at_the_end(report: Report) -> str:
    """By the last round, whatever is to be said over all of them."""
    return answers.answer_of(replace(report, rounds=None))


def test_with_seeds_that_were_fixed_a_mean_is_that_of_its_own_seeds(tmp_path):
    report = hard_first(tmp_path / "q", "accuracy", list(range(25)))
    measure = report.measure
    assert all(report.beside(one, measure) == one.estimate(measure) for one in report.confirmed)
    assert report.headline.mean == figures_of(report)[f"best/{measure}"] == report.best.mean(measure)
    assert "beside" not in answer_at_the_end(report) + report.answer
    (picture,) = [one for one in times(report).pictures if one.stem == "pareto"]
    assert "better by its mean (the Pareto front)" in picture.caption


def test_labels_for_a_target_are_those_of_the_seeds_that_all_have(tmp_path):
    """Five easy seeds of one that is as good as the reference, which has had five hard ones since."""
    sweep = SweepFolder(tmp_path / "q", seeds=UNTIL, reference={"selector.name": "random"})
    for name, seeds, lead in (("random", 10, 0), ("same", 5, 0), ("open", 10, 0.001)):
        for seed in range(seeds):
            low = 0.2 * (seed > 4) + 0.0001 * (seed % 3) * (name == "open")
            curve = {100: 0.4 - low, 200: 0.6 - low + lead, 300: 0.8 - low + lead}
            sweep.trial(name, seed, {"selector.name": name}, curve)
    report = read_report(sweep.path)
    (section,) = [one for one in round_tables.round_sections(report.rounds) if one.title.startswith("Labels for what")]
    (table,) = section.tables
    needed = dict(zip(map(str, table.columns[0].cells), map(str, table.columns[1].cells), strict=True))
    assert needed["same"] == needed["random"]
    assert "Under the 5 seeds that all have." in table.notes[0]


def failing(path: Path, grounds: int, gain: float) -> Report:
    """Coreset is the best wherever it does not fail; under one seed it does."""
    sweep = SweepFolder(path, seeds=UNTIL, reference={"selector.name": "random"})
    rng = np.random.default_rng(0)
    for data in ["digits", "cifar10"][:grounds]:
        for name, lead in (("random", 0.0), ("coreset", gain), ("margin", 0.03), ("same", 0.0)):
            for seed in range(5):
                bad = (data, name, seed) == ("digits", "coreset", 4)
                curve = {100: 0.5} if bad else {100: 0.5 + rng.normal(0, 5e-4), 200: 0.6 + lead + rng.normal(0, 5e-4)}
                parameters = {"dataset.name": data, "selector.name": name}
                status = "failed" if bad else "finished"
                sweep.trial(f"{data}-{name}", seed, parameters, curve, status=status, error="NaN" if bad else None)
    return read_report(path)


def test_what_lacks_a_seed_has_no_rank_and_takes_that_seed_from_nobody(tmp_path):
    ranks = failing(tmp_path / "one", 1, 0.031).rounds.ranks
    assert (set(ranks.mean), ranks.blocks) == ({"random", "margin", "same"}, 5)
    report = failing(tmp_path / "two", 2, 0.031)
    across = {one.method: one for one in report.across.methods}
    assert (across["coreset"].rank, across["coreset"].middle) == (None, None)
    assert across["margin"].rank.value == 1.0
    assert "margin has the best mean rank of those that lack no run, 1.0." in report.answer
    ranks = report.rounds.ranks
    assert (set(ranks.mean), ranks.blocks) == ({"random", "margin", "same"}, 10)


def test_every_ground_weighs_the_same_however_many_runs_it_took():
    few, many = np.full(5, 0.1), np.full(30, 0.004)
    assert interquartile_mean([few, many]).value == pytest.approx(0.052, abs=0.004)
    assert interquartile_mean([few, np.full(5, 0.004)]).value == pytest.approx(0.052, abs=0.004)
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=12), rng.normal(1, 1, 12)
    twice = interquartile_mean([one, np.repeat(other, 2)]).value
    assert twice == pytest.approx(interquartile_mean([one, other]).value)


def test_nobody_leads_by_the_ground_on_which_it_took_most_seeds(tmp_path):
    """Coreset is ten points better where it stopped early, and margin three points on either ground."""
    sweep = SweepFolder(tmp_path / "q", seeds=UNTIL, reference={"selector.name": "random"})
    rng = np.random.default_rng(0)
    sizes = {("digits", "random"): 5, ("digits", "coreset"): 5, ("digits", "margin"): 5}
    sizes |= {("cifar10", "random"): 30, ("cifar10", "coreset"): 30, ("cifar10", "margin"): 5}
    gains = {"random": (0, 0), "coreset": (0.1, 0.004), "margin": (0.03, 0.03)}
    for (data, name), size in sizes.items():
        for seed in range(size):
            top = 0.6 + gains[name][data == "cifar10"] + rng.normal(0, 0.003)
            sweep.trial(data + name, seed, {"dataset.name": data, "selector.name": name}, {100: 0.5, 200: top})
    report = read_report(sweep.path)
    middle = {one.method: one.middle.value for one in report.across.methods if one.middle}
    assert middle["coreset"] > middle["margin"]
    assert report.rounds.cases == ["coreset", "margin", "random"]


@pytest.mark.parametrize("others", [(), ("kmeans",)])
@pytest.mark.parametrize("seeds", [[0, 1, 2, 3], {**UNTIL, "max": 4, "block": 4}])
def test_a_seed_under_which_both_failed_takes_the_word_better_whoever_else_is_there(tmp_path, others, seeds):
    sweep, rng = (
        SweepFolder(tmp_path / "q", seeds=seeds, reference={"selector.name": "random"}),
        np.random.default_rng(0),
    )
    for seed in range(4):
        for name in ("random", "coreset", *others):
            bad = seed == 3 and name not in others
            curve = {100: 0.6} if bad else {100: 0.6, 200: 0.6 + 0.05 * (name == "coreset") + rng.normal(0, 0.002)}
            status = "failed" if bad else "finished"
            sweep.trial(name, seed, {"selector.name": name}, curve, status=status, error="NaN" if bad else None)
    report = read_report(sweep.path)
    verdicts = {entry.id: entry.verdict for entry in report.confirmed}
    assert verdicts["coreset"] == "indication: better"
    (setting,) = report.rounds.settings
    assert setting.by_area["test/accuracy"]["coreset"].kind == "indication"
    assert setting.lacking["coreset"] == [3]


LEADS = {"random": 0.0, "coreset": 0.03, "badge": -0.03}


def begun(path: Path, statuses: Mapping[tuple[str, str], str], varied: str = "dataset.name") -> Report:
    """Three selectors twice over, each under the same six seeds; under a seventh these trials have got so far."""
    sweep = SweepFolder(path, seeds=list(range(7)), reference={"selector.name": "random"})
    rng = np.random.default_rng(0)
    for place in ("digits", "cifar10") if varied == "dataset.name" else (0.1, 0.01):
        for seed in range(7):
            luck = rng.normal(0, 0.01)
            for name, lead in LEADS.items():
                status = "finished" if seed < 6 else statuses.get((str(place), name))
                low, top = 0.5 + luck + lead / 2, 0.7 + luck + lead + rng.normal(0, 0.003)
                curve = {100: low, 200: top} if status == "finished" else {}
                parameters = {varied: place, "selector.name": name}
                if status:
                    sweep.trial(f"{place}-{name}", seed, parameters, curve, status=status, error="x")
    return read_report(path)


def kinds(report: Report) -> dict[str, set[str]]:
    """Selector -> the kinds of its verdicts: at the end, and by the area in every setting."""
    said = {name: {one.kind for one in report.confirmed if one.id.endswith(name)} for name in ("coreset", "badge")}
    for setting in report.rounds.settings:
        for case, judgement in setting.by_area["test/accuracy"].items():
            said[case].add(judgement.kind)
    return said


RUNNING = {("digits", name): "running" for name in LEADS}


@pytest.mark.parametrize(
    "statuses",
    [
        {("digits", "random"): "running"},
        {("digits", "coreset"): "running", ("cifar10", "badge"): "running"},
        RUNNING,
        {("digits", name): "finished" for name in LEADS},
        {("digits", name): "finished" for name in LEADS} | {("cifar10", "random"): "running"},
    ],
)
def test_a_seed_that_nobody_has_yet_takes_no_verdict_and_no_rank_away(tmp_path, statuses):
    """The first trials of a seventh seed run, or it is done on the one data set and begins on the other."""
    report = begun(tmp_path / "q", statuses)
    assert kinds(report) == {"coreset": {"better"}, "badge": {"worse"}}
    assert set(report.rounds.ranks.mean) == set(LEADS)
    assert all(one.rank and (one.middle or one.method == "random") for one in report.across.methods)
    assert not any("Without a" in note or "no result" in note for note in report.all_notes)


def test_nor_does_one_that_another_setting_has(tmp_path):
    """Of a grid of learning rates and selectors one rate has the seventh seed, and the other is yet to get it."""
    report = begun(tmp_path / "q", {("0.1", name): "finished" for name in LEADS}, "pretrain.lr")
    settings = [one for one in report.rounds.settings if one.reference]
    assert [len(one.asked["random"]) for one in report.rounds.settings] == [7, 6]
    for setting in settings:
        assert {case: one.kind for case, one in setting.by_area["test/accuracy"].items()} == {
            "coreset": "better",
            "badge": "worse",
        }
    assert set(report.rounds.ranks.mean) == set(LEADS)


@pytest.mark.parametrize(
    ("statuses", "coreset", "badge"),
    [
        ({("digits", "random"): "failed"}, "better", "indication"),
        ({("digits", "coreset"): "stopped"}, "indication", "worse"),
        ({("digits", "badge"): "finished"}, "indication", "indication"),
        (RUNNING | {("digits", "random"): "finished"}, "indication", "worse"),
    ],
)
def test_one_that_failed_or_that_another_has_does(tmp_path, statuses, coreset, badge):
    report = begun(tmp_path / "q", statuses)
    said = {one.id: one.kind for one in report.confirmed}
    assert (said["digits-coreset"], said["digits-badge"]) == (coreset, badge)
    assert (said["cifar10-coreset"], said["cifar10-badge"]) == ("better", "worse")


def test_a_value_that_is_not_finite_is_lacking_as_a_failed_seed_is(tmp_path):
    sweep, rng = (
        SweepFolder(tmp_path / "q", seeds=[0, 1, 2, 3], reference={"selector.name": "random"}),
        np.random.default_rng(0),
    )
    for seed in range(4):
        for name in ("random", "coreset"):
            value = np.nan if seed == 3 else 0.6 + 0.05 * (name == "coreset") + rng.normal(0, 0.002)
            sweep.trial(name, seed, {"selector.name": name}, {200: value})
    assert {one.kind for one in read_report(sweep.path).confirmed} == {"", "indication"}


WAVE = np.array([1, -1, 0.5, -0.5, 0.0]) * 0.011
OTHER = np.array([0.5, 1, -1, 0, -0.5]) * 0.011


def turned(first: float, then: float) -> dict[str, Mapping[int, float]]:
    """Case a lies so much above the reference under the first five seeds and under the next; b is better throughout."""
    base = 0.6 + 0.001 * (np.arange(10) % 3)
    leads = {
        "r": np.zeros(10),
        "a": np.r_[first + WAVE, then + OTHER],
        "b": np.r_[0.015 + OTHER[::-1], 0.034 + WAVE[::-1]],
    }
    return {case: dict(enumerate((base + lead).tolist())) for case, lead in leads.items()}


TEN = Looks(tuple(range(10)), 5)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_verdict_is_of_the_data_that_its_difference_and_interval_are_of(sign):
    """At the first look neither is resolved, by Holm's factor; at the second b is, which takes the factor from a."""
    values = turned(0.014, -0.0145)
    scores = Scores({case: {seed: sign * value for seed, value in of.items()} for case, of in values.items()})
    first = judge({0: scores.under(set(range(5)))}, "r", looks=TEN)[0]
    assert {one.kind for one in first.values()} == {"none"}
    judged = judge({0: scores}, "r", looks=TEN)[0]
    assert judged["b"].kind == ("better" if sign > 0 else "worse")
    assert judged["a"].p_holm <= ALPHA
    assert (judged["a"].kind, judged["a"].settled) == ("none", False)
    assert judged["a"].verdict.startswith(f"{NO_EVIDENCE}: an earlier look found one, more seeds do not")


def test_what_an_earlier_look_called_equivalent_must_be_so_at_the_last():
    values = {"r": dict.fromkeys(range(10), 0.6)}
    values["a"] = {seed: 0.6 + 0.0001 * (seed % 2) + 0.012 * (seed > 4) for seed in range(10)}
    for size, kind in ((5, "equivalent"), (10, "none")):
        scores = Scores(values).under(set(range(size)))
        judged = judge({0: scores, 1: scores}, "r", worth=0.01, looks=TEN)[0]["a"]
        assert judged.kind == kind, size


@pytest.mark.parametrize("draw", range(40))
def test_no_claim_without_an_interval_that_says_so(draw):
    """Whatever the looks were: better lies above 0, worse below it, equivalent within what is worth a difference."""
    rng, worth = np.random.default_rng(draw), 0.01
    luck = rng.normal(0, 0.01, 30)
    values = {
        str(case): dict(enumerate((0.6 + gain + luck + rng.normal(0, 0.01, 30)).tolist()))
        for case, gain in enumerate(rng.choice([0, 0.006, 0.01, -0.006], 5))
    }
    plan = Looks(tuple(range(30)), 5)
    for size in plan.sizes:
        for one in judge({0: Scores(values).under(set(range(size)))}, "0", worth=worth, looks=plan)[0].values():
            if one.kind in ("better", "worse"):
                assert one.difference.excludes_zero
                assert (one.difference.mean > 0) == (one.kind == "better")
            if one.kind == "equivalent":
                assert abs(one.difference.mean) < worth


def test_two_sweeps_are_compared_at_the_looks_of_the_one_that_grew(tmp_path):
    """+1.25 points that one look would believe: a sweep that was asked at each block may have stopped at them."""
    reports = []
    for name, lead in (("one", 0.0125), ("other", 0.0)):
        sweep = SweepFolder(tmp_path / name, name=name, seeds=UNTIL if lead else list(range(5)))
        for seed in range(5):
            sweep.trial("r", seed, {"selector.name": "random"}, {100: 0.6 + lead + (lead > 0) * WAVE[seed]})
        reports.append(read_report(sweep.path))
    a, b = (sides_of(report)[0] for report in reports)
    assert judge_bests(a, b).kind == judge_bests(b, a).kind == "none"


def test_the_notes_name_what_seeds_were_added_by(tmp_path):
    report = failing(tmp_path / "q", 1, 0.031)
    (section,) = comparison_tables(report)
    assert any("counts as long as the last look finds it, too" in note for note in section.tables[0].notes)

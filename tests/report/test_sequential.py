"""Levels of looks: against published boundaries and a simulated random walk."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sweep_folder import SweepFolder

from harness.report.compare import NO_EVIDENCE, Scores, judge
from harness.report.inference import NO_IMAGES, Averages, chance_of_verdict
from harness.report.read import read_report
from harness.report.sequential import Looks, boundaries, spent
from harness.report.tables import comparison_tables
from harness.report.unresolved import unresolved


def test_one_look_is_the_ordinary_test():
    assert boundaries((1.0,), 0.05) == pytest.approx([stats.norm.isf(0.025)], abs=1e-6)
    looks = Looks((0, 1, 2), 3)
    assert looks.sizes == [3]
    assert looks.level(0, 0.05) == pytest.approx(0.05, rel=1e-3)
    assert looks.overall(0, 0.0123) == pytest.approx(0.0123, rel=1e-3)


def test_boundaries_are_those_of_the_literature():
    # Pocock-type spending, two-sided 5 %, five equal looks: nominal levels near Pocock's constant .0158 (z 2.413).
    assert boundaries((0.2, 0.4, 0.6, 0.8, 1.0), 0.05) == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=2e-3)


def test_a_random_walk_crosses_as_often_as_it_may():
    rng = np.random.default_rng(0)
    shares = (1 / 6, 1 / 2, 1.0)
    steps = rng.standard_normal((400_000, 3)) * np.sqrt(np.diff([0.0, *shares]))
    z = np.abs(steps.cumsum(1) / np.sqrt(shares))
    for alpha in (0.01, 0.05, 0.3):
        crossed = (z >= boundaries(shares, alpha)).cumsum(1) > 0
        error = 4 * np.sqrt(alpha / len(z))
        assert crossed.mean(0) == pytest.approx(spent(np.array(shares), alpha), abs=error)


def test_what_a_look_says_overall_is_the_inverse_of_its_level():
    looks = Looks(tuple(range(30)), 7)
    assert looks.sizes == [7, 14, 21, 28, 30]
    for look in range(5):
        for alpha in (1e-8, 1e-4, 0.003, 0.05, 0.4):
            assert looks.overall(look, looks.level(look, alpha)) == pytest.approx(alpha, rel=1e-6)
        assert looks.overall(look, 0.9) == 1.0
        assert looks.overall(look, 0.0) == 0.0
    assert max(looks.level(look, 0.05) for look in range(5)) < 0.05


def scores(gains, sizes, seed=0, noise=0.01):
    """Cases that differ by so much from "0", of so many seeds."""
    rng = np.random.default_rng(seed)
    luck = rng.normal(0, 0.01, 30)
    values = {str(case): 0.8 + gain + luck + rng.normal(0, noise, 30) for case, gain in enumerate([0.0, *gains])}
    return {c: dict(enumerate(v[:size])) for (c, v), size in zip(values.items(), sizes, strict=True)}


LOOKS = Looks(tuple(range(30)), 5)


def test_a_clear_difference_is_settled_at_the_first_look_and_a_narrow_one_is_not():
    values = scores([0.05, 0.012], [5, 5, 5])
    judged = judge({0: Scores(values)}, "0", worth=0.01, looks=LOOKS)[0]
    clear, narrow = judged["1"], judged["2"]
    assert (clear.kind, clear.settled, clear.looks) == ("better", True, 1)
    assert (narrow.kind, narrow.settled, narrow.looks) == ("none", False, 1)
    once = judge({0: Scores(values)}, "0", worth=0.01)[0]
    assert clear.p == once["1"].p
    assert clear.p_holm > once["1"].p_holm, "what is looked at again pays for it"
    assert clear.difference.half > once["1"].difference.half
    assert clear.smallest > once["1"].smallest


def test_a_verdict_stays_when_others_get_more_seeds_and_its_p_is_that_of_its_best_look():
    few = judge({0: Scores(scores([0.05, 0.012], [5, 5, 5]))}, "0", looks=LOOKS)[0]
    more = judge({0: Scores(scores([0.05, 0.012], [15, 5, 15]))}, "0", looks=LOOKS)[0]
    assert (more["1"].kind, more["1"].looks, more["1"].difference.n) == ("better", 1, 5)
    assert more["2"].looks == 3
    assert more["1"].p_holm <= few["1"].p_holm, "the first look stands; only the family around it moves"
    p = []
    for look, size in enumerate((5, 10, 15)):
        one = judge({0: Scores(scores([0.05, 0.012], [size, 5, size]))}, "0")[0]["2"]
        p.append(LOOKS.overall(look, one.p))
    assert more["2"].p_holm == pytest.approx(min(p)), "alone after the other, so times 1"


def test_seeds_that_were_not_asked_for_are_not_lacking_and_failed_ones_are():
    values = scores([0.05, 0.0], [15, 5, 15])
    assert judge({0: Scores(values)}, "0", looks=LOOKS)[0]["1"].kind == "better"
    assert judge({0: Scores(values, lacking={"1"})}, "0", looks=LOOKS)[0]["1"].kind == "indication"


def test_what_all_seeds_would_not_resolve_is_hopeless():
    a = {seed: 0.8 + seed / 1000 for seed in range(20)}
    values = {"a": a, "b": {seed: value + 0.001 + (-1) ** seed * 0.05 for seed, value in a.items()}}
    judged = judge({0: Scores(values)}, "a", worth=0.001, looks=LOOKS)[0]["b"]
    assert judged.settled
    assert judged.verdict == f"{NO_EVIDENCE}; 30 seeds would hardly bring one"


def test_the_chance_of_a_verdict_is_that_of_simulated_seeds():
    rng = np.random.default_rng(0)
    n, planned, deviation, worth, level = 10, 30, 0.02, 0.01, 0.02
    for mean in (0.0, 0.004, 0.012):
        spread = np.array([deviation**2 / n])
        known = Averages(np.array([mean]), spread, np.array([1e9]), np.array([n]), NO_IMAGES)
        truth = mean + deviation / np.sqrt(n) * rng.standard_normal(200_000)
        rest = truth + deviation / np.sqrt(planned - n) * rng.standard_normal(200_000)
        final, error = (n * mean + (planned - n) * rest) / planned, deviation / np.sqrt(planned)
        verdict = np.abs(final) > stats.norm.isf(level / 2) * error
        assert chance_of_verdict(known, planned, level, None)[0] == pytest.approx(verdict.mean(), abs=0.01)
        verdict |= np.abs(final) < worth - stats.norm.isf(level) * error
        assert chance_of_verdict(known, planned, level, worth)[0] == pytest.approx(verdict.mean(), abs=0.01)


def test_a_report_says_who_needs_more_seeds_and_how_often_it_looked(tmp_path):
    folder = SweepFolder(tmp_path / "q", seeds={"max": 30, "until": "resolved", "block": 5, "split": "same"})
    rng = np.random.default_rng(1)
    for name, gain, seeds in (("random", 0.0, 10), ("coreset", 0.1, 5), ("margin", 0.015, 10)):
        for seed in range(seeds):
            noise = rng.normal(0, 0.02)
            curve = {100: 0.4 + noise, 200: 0.6 + gain + noise}
            folder.trial(name[0], seed, {"selector.name": name}, curve)
    folder.trial("m", 9, {"selector.name": "margin"}, {}, status="failed", error="x")
    report = read_report(folder.path)
    by_name = {entry.label: entry for entry in report.confirmed}
    assert by_name["coreset"].kind == "better"
    assert by_name["coreset"].lacking == {}
    assert by_name["margin"].lacking == {9: "failed"}
    assert unresolved(report, 5) == unresolved(report, 10) == {"m", "r"}
    (section,) = comparison_tables(report)
    assert any("looked at 2 times" in note for note in section.tables[0].notes)
    assert report.rounds.settings[0].by_area["test/accuracy"]["coreset"].looks == 1


@pytest.mark.parametrize(("middle", "last"), [(-0.015, 0.06), (0.06, 0.007)])
def test_seeds_are_added_until_the_last_round_and_the_area_are_resolved(tmp_path, middle, last):
    folder = SweepFolder(tmp_path / "q", seeds={"max": 30, "until": "resolved", "block": 5, "split": "same"})
    rng = np.random.default_rng(0)
    for name, better in (("random", 0), ("margin", 1)):
        for seed in range(5):
            means = {100: 0.5, 200: 0.6 + middle * better, 300: 0.7 + last * better}
            curve = {labels: mean + rng.normal(0, 0.008) for labels, mean in means.items()}
            folder.trial(name[0], seed, {"selector.name": name}, curve)
    report = read_report(folder.path)
    by_area = report.rounds.settings[0].by_area["test/accuracy"]["margin"]
    (by_last,) = (entry.judgement for entry in report.confirmed if entry.id == "m")
    assert by_area.settled != by_last.settled, "one of them is open"
    assert unresolved(report, 5) == {"m", "r"}

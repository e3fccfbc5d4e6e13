"""Configurations against a reference: what is said of them, and on what grounds."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats
from sweep_folder import SweepFolder

from benchmarks.statistics import Cell, Families, Headline, covers, differences
from harness.encoders import export
from harness.records.hits import Hits, pack_hits
from harness.report import compare, inference
from harness.report.compare import NO_EVIDENCE, Outcomes, Scores, estimate, judge
from harness.report.read import read_report
from harness.report.summary import summary

SEEDS = (1, 2, 3, 4, 5)


def family(k: int = 4, m: int = 300, seed: int = 0, deviations: str = "equal") -> tuple[Scores, np.ndarray, np.ndarray]:
    """Scores of one simulated family, and its arrays."""
    cell = Cell(k, len(SEEDS), m, 0.1, 0.5, deviations)
    values, hits = (one[0] for one in Families(cell, 1, np.random.default_rng(seed)).draw())
    outcomes = {f"c{c}": {s: Outcomes("images", hits[c, i] > 0) for i, s in enumerate(SEEDS)} for c in range(k + 1)}
    by_case = {f"c{c}": dict(zip(SEEDS, row.tolist(), strict=True)) for c, row in enumerate(values)}
    return Scores(by_case, outcomes.__getitem__), values[None], hits[None]


@pytest.mark.parametrize("cases", [2, 3])
@pytest.mark.parametrize("accuracy", [0.6, 0.87, 0.9, 0.96, 0.99, 1.0])
def test_where_nothing_varies_there_is_no_verdict_whatever_the_rounding(accuracy, cases):
    values = {f"c{case}": {seed: accuracy + 0.07 * seed for seed in SEEDS} for case in range(cases)}
    for column in (values, {case: dict.fromkeys(SEEDS, accuracy) for case in values}):
        (one, *_) = judge({0: Scores(column)}, "c0", worth=0.01)[0].values()
        assert (one.kind, one.p, one.difference.half) == ("untested", None, None)


@pytest.mark.parametrize("seed", range(5))
def test_a_report_judges_as_the_simulation_does(seed):
    """What `benchmarks.statistics` measures are the verdicts of this module."""
    scores, values, hits = family(seed=seed)
    found = differences(values, hits)
    decisions = inference.decide(found, 0.05)
    for place, (case, one) in enumerate(judge({0: scores}, "c0", worth=0.05)[0].items()):
        assert case == f"c{place + 1}"
        assert one.by_images
        assert one.difference.mean == pytest.approx(found.mean[0, place])
        assert one.difference.half == pytest.approx(found.half[0, place])
        assert one.p_holm == pytest.approx(decisions.p_holm[0, place])
        assert one.smallest == pytest.approx(decisions.smallest[0, place])
        assert (one.kind in ("better", "worse")) == decisions.differs[0, place]
        assert ("equivalent" in one.kind) == (decisions.equivalent[0, place] and not decisions.differs[0, place])


def test_other_images_are_not_compared_image_by_image():
    scores, *_ = family()

    def elsewhere(case):
        kept = scores.outcomes(case)
        return {s: replace(one, images="others") for s, one in kept.items()} if case == "c1" else kept

    found = judge({0: Scores(scores.values, elsewhere)}, "c0")[0]
    assert [one.by_images for one in found.values()] == [False, True, True, True]
    assert found["c1"].difference.half == pytest.approx(
        judge({0: Scores(scores.values)}, "c0")[0]["c1"].difference.half
    )


def kept_of(scores, *seeds):
    """The scores with the hits of some seeds alone."""
    return Scores(scores.values, lambda case: {seed: scores.outcomes(case)[seed] for seed in seeds})


def test_hits_of_one_seed_alone_do_not_count():
    scores, *_ = family()
    found = judge({0: kept_of(scores, 1)}, "c0")[0]
    assert not any(one.by_images for one in found.values())


@pytest.mark.parametrize("seeds", list(combinations(SEEDS, 2)) + list(combinations(SEEDS, 4)))
def test_hits_of_some_seeds_say_what_the_images_do_to_all(seeds):
    """A lost file costs hardly any of an interval, which seeds alone would make far too narrow."""
    halves = {"all": 0.0, "some": 0.0, "none": 0.0}
    for draw in range(10):
        scores, *_ = family(seed=draw)
        for name, kept in (("all", SEEDS), ("some", seeds), ("none", ())):
            one = kept_of(scores, *kept)
            halves[name] += sum(judged.difference.half for judged in judge({0: one}, "c0")[0].values())
            halves[name] += estimate(list(one.values["c0"].values()), list(one.outcomes("c0").values())).half
    assert halves["some"] == pytest.approx(halves["all"], rel=0.1)
    assert halves["none"] < 0.8 * halves["all"]


def test_seeds_of_which_most_have_the_same_images_have_not_images_of_their_own():
    scores, *_ = family()

    def renamed(case):
        return {s: replace(one, images="other" if s == 3 else one.images) for s, one in scores.outcomes(case).items()}

    mixed, others = Scores(scores.values, renamed), kept_of(scores, *(s for s in SEEDS if s != 3))
    for case, one in judge({0: mixed}, "c0")[0].items():
        assert one.difference.half == judge({0: others}, "c0")[0][case].difference.half


@pytest.mark.parametrize("draw", range(20))
def test_a_pair_is_the_same_alone_and_among_many_whatever_images_its_seeds_share(draw):
    rng = np.random.default_rng(draw)
    scores, *_ = family(seed=draw)
    named = dict(zip(SEEDS, rng.integers(0, rng.integers(1, 2 * len(SEEDS)), len(SEEDS)).tolist(), strict=True))
    whole = Scores(
        scores.values,
        lambda case: {s: replace(one, images=f"of {named[s]}") for s, one in scores.outcomes(case).items()},
    )
    pairs = list(combinations(scores.values, 2))
    many = compare.differences(whole, pairs).means
    for place, pair in enumerate(pairs):
        alone = compare.differences(whole, [pair]).means
        assert alone.half[0] == pytest.approx(many.half[place], rel=1e-9)
        for part in ("floor", "images", "square", "count"):
            one, among = (np.broadcast_to(getattr(of.moments, part), of.mean.shape) for of in (alone, many))
            assert one[0] == pytest.approx(among[place], rel=1e-9, abs=1e-15), (part, named)


def test_a_small_difference_beyond_doubt_is_both():
    values = {"a": {s: 0.5 + s / 100 for s in SEEDS}, "b": {s: 0.504 + s / 100 + 0.0001 * (s % 2) for s in SEEDS}}
    (one,) = judge({0: Scores(values)}, "a", worth=0.01)[0].values()
    assert (one.kind, one.verdict) == ("better", "better, by less than 0.01")
    (one,) = judge({0: Scores(values)}, "a", worth=0.01, maximize=False)[0].values()
    assert one.verdict == "worse, by less than 0.01"
    (one,) = judge({0: Scores(values)}, "a", worth=0.001)[0].values()
    assert one.verdict == "better"


@pytest.mark.parametrize(
    ("lacks", "better", "worse"), [("other", "indication", "worse"), ("a", "better", "indication")]
)
def test_seeds_that_failed_flatter_and_take_words_away(lacks, better, worse):
    values = {
        "a": {s: 0.5 + s / 100 for s in SEEDS},
        "other": {s: 0.6 + s / 100 + 0.001 * (s % 2) for s in SEEDS},
        "third": {s: 0.5 + s / 100 - 0.001 * (s % 3) for s in SEEDS},
    }
    values[lacks] = {s: value for s, value in values[lacks].items() if s != 3}
    scores = Scores(values, lacking={lacks})
    assert judge({0: scores}, "a")[0]["other"].kind == better
    assert judge({0: scores}, "a", maximize=False)[0]["other"].kind == worse


@pytest.mark.parametrize("n", [2, 5, 9])
def test_the_sign_flip_test_is_exact(n):
    rng = np.random.default_rng(n)
    values = {"a": dict.fromkeys(range(n), 0.0), "b": dict(enumerate(rng.normal(0.3, 1, n)))}
    (one,) = judge({0: Scores(values)}, "a")[0].values()
    sums = [abs(np.dot(signs, list(values["b"].values()))) for signs in product((-1, 1), repeat=n)]
    assert one.sign_flip == pytest.approx(np.mean(np.array(sums) >= abs(sum(values["b"].values())) - 1e-12))
    assert one.sign_flip >= 2.0 ** (1 - n)


@pytest.mark.parametrize("seed", [5, 24, 35])
def test_the_sign_flip_test_counts_sums_that_are_equal_but_for_rounding(seed):
    right = np.random.default_rng(seed + 100).integers(1300, 1500, 10)  # of 2,000 images
    images = np.random.default_rng(seed).integers(-40, 40, 10)  # by which another model differs
    values = {"a": dict(enumerate(right / 2000)), "b": dict(enumerate((right + images) / 2000))}
    (one,) = judge({0: Scores(values)}, "a")[0].values()
    sums = [abs(np.dot(signs, images)) for signs in product((-1, 1), repeat=10)]
    assert one.sign_flip == np.mean(np.array(sums) >= abs(images.sum()))


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.8])
def test_of_many_seeds_the_sign_flip_test_is_drawn_and_scipys(shift):
    differences = np.random.default_rng(1).normal(shift, 1, 40)
    values = {"a": dict.fromkeys(range(40), 0.0), "b": dict(enumerate(differences))}
    (one,) = judge({0: Scores(values)}, "a")[0].values()
    peer = stats.permutation_test((differences,), np.mean, permutation_type="samples", rng=np.random.default_rng(3))
    assert one.sign_flip == pytest.approx(peer.pvalue, abs=0.015)
    assert one.sign_flip >= 1e-4


def test_an_interval_ends_where_the_metric_does():
    found = estimate([0.99, 0.7], limits=(0, 1))
    assert (found.high, found.is_symmetric) == (1, False)
    assert found.low == 0
    assert estimate([0.9, 0.9]).half is None


def test_images_bound_the_interval_of_a_mean_from_below():
    hits = np.random.default_rng(0).random(400) < 0.8
    found = estimate([hits.mean()] * 3, [Outcomes("i", hits)] * 3)
    assert found.half == pytest.approx(1.96 * hits.std() / 20, rel=0.01)


def keep_hits(sweep, m=1000, images="0a"):
    """Adds to every trial the hits that its test accuracies count, and rounds these to what m images can show.

    Without `images` each seed has a name of its own.
    """
    report = read_report(sweep.path)
    rng = np.random.default_rng(0)
    difficulty = rng.normal(size=m)
    for entry in report.confirmed:
        for seed, trial in entry.trials.items():
            bits = {}
            for step, values in entry.curves["test/accuracy"].items():
                order = np.argsort(difficulty + 0.3 * rng.normal(size=m))
                right = np.zeros(m, bool)
                right[order[: round(values[seed] * m)]] = True
                bits[step] = np.packbits(right)
            (sweep.path / "trials" / trial / "hits.npz").write_bytes(
                pack_hits({"test/accuracy": Hits(images or f"of {seed}", m, bits)})
            )


def exact(accuracy: float) -> float:
    return round(accuracy, 3)


def test_a_report_reads_hits_and_says_what_they_cover(tmp_path):
    sweep, rng = SweepFolder(tmp_path / "s"), np.random.default_rng(0)
    for name, gain in (("random", 0.0), ("coreset", 0.004)):
        for seed in SEEDS:
            sweep.trial(name, seed, {"selector.name": name}, {200: exact(0.7 + gain + rng.normal(0, 0.002)) + 0.01})
    alone = read_report(sweep.path)
    assert not alone.has_hits
    assert "cover other seeds on these very images" in summary(alone)
    keep_hits(sweep)
    report = read_report(sweep.path)
    assert report.has_hits
    assert "cover other seeds and other test images of the same kind" in summary(report)
    (known,), (seeds,) = ([e.judgement for e in one.confirmed if e.judgement] for one in (report, alone))
    assert known.by_images
    assert not seeds.by_images
    assert known.difference.half > 2 * seeds.difference.half
    for name in ("random", "coreset"):
        (sweep.path / "trials" / f"confirm-{name}-s5" / "hits.npz").unlink()
    report = read_report(sweep.path)
    assert report.has_hits
    (some,) = (e.judgement for e in report.confirmed if e.judgement)
    assert some.by_images
    assert some.difference.half == pytest.approx(known.difference.half, rel=0.1)
    keep_hits(sweep, m=900)  # hits of another run: they do not add up to the accuracies
    assert not read_report(sweep.path).has_hits


@pytest.mark.parametrize(
    ("carved", "names", "said"),
    [
        ([], "one", "other seeds with other splits of the training images and other test images of the same kind."),
        ([], "many", "other seeds with other splits of the training images on these very images, for the images' part"),
        ([], "none", "other seeds with other splits of the training images on these very images, for the images' part"),
        (["val", "test"], "many", "other seeds and, since each seed draws its own, other splits of these images."),
        (["val", "test"], "none", "other seeds and, since each seed draws its own, other splits of these images."),
    ],
)
def test_a_report_of_fresh_splits_says_whose_test_images_its_intervals_cover(tmp_path, carved, names, said):
    """A data set's own test images are the same for all seeds: names that differ all the same say nothing of others."""
    sweep, rng = SweepFolder(tmp_path / "s", seeds={"values": [1, 2, 3], "split": "fresh"}), np.random.default_rng(0)
    sweep.environment["datasets"][0]["carved"] = carved
    sweep.write_environment()
    for name, seed in product(("random", "coreset"), (1, 2, 3)):
        sweep.trial(name, seed, {"selector.name": name}, {200: exact(0.7 + rng.normal(0, 0.01)) + 0.01})
    if names != "none":
        keep_hits(sweep, images="0a" if names == "one" else None)
    assert f"Intervals cover {said}" in summary(read_report(sweep.path))


def test_areas_are_judged_by_images_too(tmp_path):
    sweep, rng = SweepFolder(tmp_path / "s", reference={"selector": "random"}), np.random.default_rng(0)
    for name, seed in product(("random", "good"), SEEDS):
        curve = {
            step: exact(height + rng.normal(0, 0.01)) + 0.01 for step, height in ((100, 0.6), (200, 0.7), (400, 0.8))
        }
        sweep.trial(name, seed, {"selector.name": name}, curve)
    keep_hits(sweep)
    (setting,) = read_report(sweep.path).rounds.settings
    assert setting.by_area["test/accuracy"]["good"].by_images
    assert not setting.by_area["val/accuracy"]["good"].by_images
    assert all(column["good"].by_images for column in setting.by_round.values())


def test_the_best_is_chosen_by_validation_and_quoted_by_test(tmp_path):
    sweep = SweepFolder(tmp_path / "s")
    for name, validation, test in (("random", 0.5, 0.8), ("coreset", 0.6, 0.7), ("margin", 0.55, 0.75)):
        for seed in (1, 2, 3):
            rows = sweep.records(name, seed, {"selector.name": name}, {200: validation + seed**2 / 1000})
            rows[-2]["metrics"]["test/accuracy"] = test + (seed * len(name) % 5) / 1000
            sweep.append(rows)
    report = read_report(sweep.path)
    assert [entry.label for entry in report.confirmed] == ["random", "margin", "coreset"]
    assert report.answer.startswith("coreset was the best of 3 by val/accuracy with test/accuracy 0.70")
    assert export.chosen(report, "best")[0].startswith("confirm-coreset-")


def test_without_validation_data_the_page_says_by_how_much_the_best_flatters(tmp_path):
    sweep, rng = SweepFolder(tmp_path / "s"), np.random.default_rng(0)
    for name in ("random", "coreset", "margin", "badge"):
        for seed in (1, 2, 3):
            rows = sweep.records(name, seed, {"selector.name": name}, {200: 0.7 + rng.normal(0, 0.02)})
            for row in rows:
                row["metrics"].pop("val/accuracy", None)
            sweep.append(rows)
    report = read_report(sweep.path)
    assert report.chosen_by == "test/accuracy"
    assert report.flattery > 0
    assert f"To be the best of 4 flatters, by {report.flattery:.4f} if all were equal" in report.answer
    assert report.headline.low == pytest.approx(report.headline.mean - report.headline.half - report.flattery)


@pytest.mark.parametrize("by_validation", [True, False])
def test_the_headline_of_a_grid_of_equals_holds_the_truth(by_validation):
    """K = 20 and three seeds: without the allowance .81 to .9."""
    held, plain = covers(Headline(20, 3, by_validation), 300, 0)
    assert plain < 0.93 <= held


def test_two_seeds_between_the_two_levels_are_told_why():
    rng = np.random.default_rng(0)
    told = set()
    for _ in range(200):
        values = {"reference": dict(enumerate(rng.normal(0, 1, 2))), "a": dict(enumerate(rng.normal(40, 1, 2)))}
        one = judge({0: Scores(values)}, "reference")[0]["a"]
        if one.p_holm is not None and inference.ALPHA_OF_FEW < one.p_holm <= inference.ALPHA:
            told.add(one.verdict)
    assert told == {f"{NO_EVIDENCE}: of two seeds p must be at most 0.02"}

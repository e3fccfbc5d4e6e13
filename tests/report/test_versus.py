"""Sweeps set side by side: like is compared with like alone, and to be chosen as the best of many is no gain."""

import numpy as np
import pytest
from sweep_folder import SweepFolder

from harness.report import comparability, versus
from harness.report.read import read_report

FINGERPRINTS = {"digits": "0a" * 32, "cifar10": "0b" * 32, "svhn": "0c" * 32}
FRESH = {"values": [1, 2, 3, 4, 5], "split": "fresh"}
MARGIN, BADGE = {"random": 0.0, "margin": 0.02}, {"random": 0.0, "badge": 0.05}


def sweep_over(path, parameter, levels, gains, *, recorded=True, fresh=False, **space):
    """A sweep of selectors at each value of a parameter, read.

    Args:
        levels: value of the parameter -> accuracy of `random`.
        gains: selector -> what it adds to that.
        recorded: whether trials say what their data are.
        fresh: whether each seed after the first has a split of its own.
    """
    space |= {"seeds": FRESH} if fresh else {}
    sweep = SweepFolder(path, name=path.name, reference={"selector": "random"}, **space)
    of_set, rng = sweep.environment["datasets"][0], np.random.default_rng(sum(path.name.encode()))
    sets = levels if parameter == "dataset" else ["digits"]
    sweep.environment["datasets"] = [{**of_set, "name": one, "fingerprint": FINGERPRINTS[one]} for one in sets]
    sweep.write_environment()
    for value, level in levels.items():
        labels = value if parameter == "labels.start" else 200
        for selector, gain in gains.items():
            for seed in FRESH["values"]:
                curve = {labels: level + gain + rng.normal(0, 0.004)}
                rows = sweep.records(f"{value}{selector}", seed, {parameter: value, "selector.name": selector}, curve)
                digits = f"{seed:012}" if fresh and seed > 1 else FINGERPRINTS.get(value, "0a" * 32)[:12]
                sweep.append([row | {"data": digits} for row in rows] if recorded else rows)
    return read_report(sweep.path)


def page_of(folder, *reports):
    """The text of the page that compares some sweeps."""
    versus.write_comparison(reports, folder / "compare.html")
    return " ".join((folder / "compare.html").read_text().replace("<wbr>", "").split())


GROUNDS = [
    ("dataset", {"digits": 0.9, "cifar10": 0.5}, "cifar10", "svhn", "the images or their split differ"),
    ("labels.start", {200: 0.2, 800: 0.8}, 200, 400, "they used different numbers of labels"),
    ("backbone", {"dcnn3": 0.2, "vit": 0.8}, "dcnn3", "resnet18", "their grounds differ, by backbone"),
]


@pytest.mark.parametrize(("parameter", "levels", "shared", "other", "obstacle"), GROUNDS)
def test_bests_are_compared_on_the_ground_that_both_sweeps_have(tmp_path, parameter, levels, shared, other, obstacle):
    a = sweep_over(tmp_path / "a", parameter, levels, MARGIN)
    b = sweep_over(tmp_path / "b", parameter, {shared: levels[shared]}, BADGE)
    assert comparability.obstacles(a, b) == []
    said = "Of the same images, split, labels and ground, and so compared, are 2 of the 4 of a and 2 of the 2 of b."
    assert comparability.settings_that_differ([a, b], "ab") == [said]
    text = page_of(tmp_path, a, b)
    assert f"{shared}, margin, against the best of b, badge: test/accuracy -0.0" in text
    assert text.count(", against the best of") == 1
    assert obstacle in comparability.obstacles(a, sweep_over(tmp_path / "c", parameter, {other: 0.4}, BADGE))


def test_encoders_are_compared_with_all_their_settings_however_a_question_writes_them(tmp_path):
    a = sweep_over(tmp_path / "a", "backbone", {"dcnn3": 0.2, "resnet18": 0.8}, MARGIN)
    given = {
        "narrow": {"trial": {"backbone": {"name": "dcnn3", "width": 8}}},
        "recipe": {"recipes": {"mine": {"backbone": "dcnn3"}}, "trial": {"recipe": "mine"}},
        "default": {"trial": {}},
    }
    for name, space in given.items():
        b = sweep_over(tmp_path / name, "labels.start", {200: 0.2}, BADGE, **space)
        expected = ["their grounds differ, by backbone.width"] if name == "narrow" else []
        assert comparability.obstacles(a, b) == expected, name


def test_trials_of_data_that_nobody_recorded_are_not_compared(tmp_path):
    a = sweep_over(tmp_path / "a", "dataset", {"digits": 0.9, "cifar10": 0.5}, MARGIN, recorded=False)
    b = sweep_over(tmp_path / "b", "dataset", {"cifar10": 0.5}, BADGE, recorded=False)
    assert comparability.obstacles(a, b) == ["it was not recorded which trials have which images"]


def test_labels_are_compared_seed_by_seed(tmp_path):
    reports = []
    for name, labels in (("a", (300, 300)), ("b", (200, 400))):
        sweep = SweepFolder(tmp_path / name, name=name)
        for seed, number in enumerate(labels):
            sweep.trial("c", seed, {"selector.name": "badge"}, {number: 0.5})
        reports.append(read_report(sweep.path))
    assert comparability.obstacles(*reports) == ["they used different numbers of labels"]


@pytest.mark.parametrize("recorded", [True, False])
def test_figures_of_one_split_and_of_fresh_ones_are_not_compared(tmp_path, recorded):
    same = sweep_over(tmp_path / "same", "dataset", {"digits": 0.5}, MARGIN, recorded=recorded)
    fresh = sweep_over(tmp_path / "fresh", "dataset", {"digits": 0.5}, MARGIN, recorded=recorded, fresh=True)
    said = "one has a single split of the data, the other a fresh one for each seed"
    assert said in comparability.obstacles(same, fresh)
    text = page_of(tmp_path, same, fresh)
    assert f"same and fresh are not comparable: {said}" in text
    assert text.split('id="shared"')[1].count("not comparable") == 2
    again = sweep_over(tmp_path / "again", "dataset", {"digits": 0.5}, BADGE, recorded=recorded, fresh=True)
    assert comparability.obstacles(fresh, again) == []


def test_to_be_the_best_of_many_is_allowed_for(tmp_path):
    equals = {f"s{number}": 0.0 for number in range(20)}
    a = sweep_over(tmp_path / "a", "dataset", {"digits": 0.5}, equals)
    b = sweep_over(tmp_path / "b", "dataset", {"digits": 0.497}, {"random": 0.0})
    text = page_of(tmp_path, a, b)
    assert "no evidence of a difference once the choice of the bests is allowed for." in text
    assert f"To be the best flatters, of 20 by {a.flattery:.4f} if all were equal; interval and verdict allow" in text
    far = sweep_over(tmp_path / "far", "dataset", {"digits": 0.4}, {"random": 0.0})
    assert "(95 %, paired over 5 seeds): better. To be the best flatters, of 20 by" in page_of(tmp_path, a, far)


@pytest.mark.parametrize(
    ("seeds", "noise", "said"),
    [
        ((1, 2, 3), 0.0, "nothing varied: no interval"),
        ((3, 4, 5), 0.01, "one seed in common: no interval"),
        ((4, 5, 6), 0.01, "no seed in common"),
    ],
)
def test_why_nothing_can_be_said_of_two_bests(tmp_path, seeds, noise, said):
    reports = []
    for name, own, accuracy in (("a", (1, 2, 3), 0.5), ("b", seeds, 0.6)):
        sweep = SweepFolder(tmp_path / name, name=name)
        for seed in own:
            sweep.trial("c", seed, {"selector.name": "badge"}, {200: accuracy + noise * seed * accuracy})
        reports.append(read_report(sweep.path))
    assert f"; {said}." in page_of(tmp_path, *reports)

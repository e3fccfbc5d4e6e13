"""What a batch is worth: the law that is fitted, its interval on curves whose truth is known, and honest words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import curve_fit

from harness.config.trial import ClassifierConfig
from harness.pick import command
from harness.pick.worth import Curve, extrapolate, measure_curve, worth_in_words, worth_of

SIZES = np.array([60, 90, 140, 200, 280, 400])


def law(m, a, b, c):
    return a - b * np.asarray(m, dtype=float) ** -c


@pytest.mark.parametrize("truth", [(0.9, 2.0, 0.5), (0.8, 1.5, 0.4), (0.95, 3.0, 0.8)])
def test_a_curve_that_obeys_the_law_is_continued_as_it_is(truth):
    now, worth = extrapolate(SIZES, law(SIZES, *truth)[None], 500, 100)
    assert now[0] == pytest.approx(law(500, *truth), abs=2e-4)
    assert worth[0] == pytest.approx(law(600, *truth) - law(500, *truth), abs=2e-4)


def test_the_fit_is_that_of_a_general_optimiser():
    rng = np.random.default_rng(0)
    weight = np.arange(1, len(SIZES) + 1)
    for _ in range(5):
        noisy = law(SIZES, 0.85, 2.0, 0.5) + rng.normal(0, 0.004, len(SIZES))
        limits = ([0, 0, 0.05], [1, 100, 2])
        theirs, _ = curve_fit(law, SIZES, noisy, p0=(0.85, 2, 0.5), sigma=weight**-0.5, bounds=limits, max_nfev=10_000)
        _, worth = extrapolate(SIZES, noisy[None], 500, 100)
        assert worth[0] == pytest.approx(law(600, *theirs) - law(500, *theirs), abs=4e-4)


def test_accuracies_stay_below_one_and_more_labels_never_harm():
    falling, steep = np.linspace(0.9, 0.8, 6), np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.999])
    now, worth = extrapolate(SIZES, np.stack([falling, steep]), 500, 10**9)
    assert worth[0] == 0
    assert now[1] + worth[1] <= 1 + 1e-12


def simulated(seed: int, truth: tuple[float, float, float], count: int = 500) -> Curve:
    """Images of different difficulty, each recognised by models that had labels enough; two divisions."""
    rng = np.random.default_rng(seed)
    sizes = np.geomspace(0.15 * count, 0.8 * count, 6).astype(int)
    difficulty = rng.random(count)
    shaken = difficulty + rng.normal(0, 0.03, (2, len(sizes), count))
    return Curve(sizes, shaken < law(sizes, *truth)[None, :, None])


def test_intervals_cover_the_truth_of_a_simulation():
    truth = (0.9, 2.0, 0.5)
    worth = law(600, *truth) - law(500, *truth)
    covered = [
        one.low <= worth <= one.high for seed in range(40) for one in [worth_of(simulated(seed, truth), 100, seed)]
    ]
    assert np.mean(covered) >= 0.85


def test_words_say_where_they_cannot_tell():
    narrow = worth_of(simulated(0, (0.9, 2.0, 0.5), 4000), 100, 0)
    flat = Curve(SIZES, np.broadcast_to(np.arange(500) < 450, (2, 6, 500)))
    words = worth_in_words(worth_of(flat, 100, 0), flat, 100, "ridge")
    assert words[0] == "the next 100 labels are worth 0.0 to 0.0 points of accuracy (95 %), 0.0 most likely"
    assert words[-1] == "that it is nothing cannot be excluded"
    assert 0 < narrow.low < narrow.middle < narrow.high < 0.02
    wild = simulated(3, (0.9, 3.0, 0.5), 60)
    assert "too uncertain to stop by" in worth_in_words(worth_of(wild, 100, 0), wild, 100, "ridge")[-1]


def test_where_hardly_an_answer_is_wrong_nothing_is_told(capsys):
    """An interval of no width would tell people to stop; 3 / n is what no error in n leaves possible."""
    for wrong, most in ((0, 3.7 / 60), (4, 0.17)):
        sure = Curve(SIZES, np.broadcast_to(np.arange(60) >= wrong, (2, 6, 60)))
        words = worth_in_words(worth_of(sure, 100, 0), sure, 100, "ridge")
        assert f"cannot be told: {wrong} of the 60 labelled images are taken for another class by ridge" in words[0]
        assert not any("0.0 to 0.0" in line for line in words)
        told = float(words[1].partition("up to ")[2].partition(" points")[0])
        assert told == pytest.approx(100 * most, rel=0.06)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (["a"] * 50, "a,b", "--stop: class 'b' has no label yet, and what it would take is not known; label some"),
        (["a", "b"] * 25, "a,b,c,d", "--stop: class 'c' and 1 more has no label yet"),
        ([f"c{n}" for n in range(45)], None, "--stop: 45 labels of 45 classes are too few for a learning curve"),
    ],
)
def test_labels_that_cannot_tell_are_refused_in_a_line(tmp_path, monkeypatch, capsys, labels, classes, message):
    monkeypatch.chdir(tmp_path)
    np.save("e.npy", np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32))
    (tmp_path / "l.csv").write_text("path,label\n" + "".join(f"{n},{label}\n" for n, label in enumerate(labels)))
    said = ["e.npy", "--selector", "random", "--labels", "l.csv", "--budget", "3", "--stop"]
    assert command.main([*said, *(["--classes", classes] if classes else [])]) == 2
    told = capsys.readouterr()
    assert told.err.startswith(message)
    assert (told.out, told.err.count("\n")) == ("", 1)


def test_a_curve_holds_out_what_it_asks_about():
    """On random labels nothing can be learnt; a head that saw the images it is asked about would know them."""
    rng = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(120, 200, generator=rng), torch.randint(4, (120,), generator=rng)
    curve = measure_curve(inputs, labels, 4, ClassifierConfig(name="ridge"), 0)
    assert curve.right.shape == (2, len(curve.sizes), 120)
    assert curve.sizes[-1] == 96
    assert 0.1 < curve.right.mean() < 0.4


def test_the_command_tells_it_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    names = [f"{number}.jpg" for number in range(200)]
    embeddings = (labels[:, None] + rng.normal(0, 1.5, (200, 8))).astype(np.float32)
    np.savez("photos.npz", files=np.array(names), embeddings=embeddings)
    said = [
        "photos.npz",
        "--selector",
        "margin",
        "--classifier",
        "ridge",
        "--budget",
        "50",
        "--stop",
        "--labels",
        "l.csv",
    ]
    for count, status in ((120, 0), (39, 2)):
        rows = "".join(f"{name},{['cat', 'dog'][label]}\n" for name, label in zip(names[:count], labels, strict=False))
        (tmp_path / "l.csv").write_text("path,label\n" + rows)
        assert command.main(said) == status
    told = capsys.readouterr()
    assert told.out.startswith("the next 50 labels are worth ")
    assert "inverse power law through the accuracies of ridge with 18 .. 96 of the 120 labels" in told.out
    assert told.err.splitlines()[-1] == "39 labels are too few for a learning curve; 40 or more are needed"
    assert not (tmp_path / "picks").exists()

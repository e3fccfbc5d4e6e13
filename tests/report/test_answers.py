"""The answer in words: what a configuration is called, what the data give for nothing, how long was trained."""

import io
import json

import numpy as np
import pytest
import rich.console
from sweep_folder import SweepFolder, selection_sweep

from harness.report import terminal
from harness.report.pictures.rounds import overview
from harness.report.read import read_report


def alone(path, parameters, **space):
    sweep = SweepFolder(path, **space)
    for seed in (1, 2, 3):
        sweep.trial("41bf4cdf", seed, parameters, {200: 0.7 + seed / 100})
    return sweep


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"classifier.lr": 0.01, "classifier.weight_decay": 0}, "lr 0.01 · weight_decay 0"),
        ({"ssl_method": "none"}, "no pre-training"),
        ({}, "simclr"),
    ],
)
def test_the_only_configuration_is_named_by_what_it_is(tmp_path, parameters, name):
    answer = read_report(alone(tmp_path / "s", parameters).path).answer
    assert answer.startswith(f"{name} reached test/accuracy 0.71")
    assert "41bf4cdf" not in answer


def test_no_pre_training_is_called_so_beside_a_method(tmp_path):
    sweep = SweepFolder(tmp_path / "s", reference={"ssl_method": "none"})
    for name, gain in (("none", 0.0), ("simclr", 0.1)):
        for seed in (1, 2, 3):
            sweep.trial(name, seed, {"ssl_method.name": name}, {200: 0.7 + gain + seed / 1000})
    answer = read_report(sweep.path).answer
    assert answer.startswith("simclr was the best of 2")
    assert "the reference, no pre-training, " in answer


@pytest.mark.parametrize("worth", [None, 0.5])
def test_what_is_asked_of_a_loss_is_answered_by_the_loss_and_worth_is_in_its_unit(tmp_path, worth):
    loss = [{"name": "val/loss", "goal": "minimize"}]
    sweep = SweepFolder(tmp_path / "s", metric=loss, worth=worth, reference={"selector": "random"})
    rng = np.random.default_rng(0)
    for name, less in (("random", 0), ("margin", 0.9), ("same", 0.0)):
        for seed in range(5):
            curve = {labels: 0.5 + rng.normal(0, 0.08) for labels in (100, 200, 300)}
            rows = sweep.records(name, seed, {"selector.name": name}, curve)
            for row in rows:
                if "test/accuracy" in row["metrics"]:
                    row["metrics"] |= dict.fromkeys(("val/loss", "test/loss"), 1 - less + rng.normal(0, 0.02))
            sweep.append(rows)
    report = read_report(sweep.path)
    assert report.answer.startswith("margin was the best of 3 by val/loss with test/loss 0.1")
    assert report.answer.endswith(": better.")
    assert "test/aubc" in report.about[0], "the area under the accuracy stands beside it"
    assert "no evidence of a difference to random: " in report.about[0].lower(), "by points, not by nats"
    assert (report.worth("test/loss"), report.worth("test/accuracy")) == (worth, 0.01)
    verdicts = {entry.label: entry.verdict for entry in report.confirmed}
    assert verdicts["same"].startswith("equivalent" if worth else "no evidence")


def with_confusion(sweep, matrix, names):
    for seed in (1, 2, 3):
        file = sweep.path / "trials" / f"confirm-41bf4cdf-s{seed}" / "confusion_matrix_200.json"
        file.write_text(json.dumps({"class_names": names, "matrix": matrix, "split": "test"}))


def test_the_data_are_named_with_chance_the_largest_class_and_what_the_images_leave_open(tmp_path):
    sweep = alone(tmp_path / "s", {"selector.name": "random"})
    sweep.environment["datasets"][0] |= {"name": "image_folder", "path": "my/photos"}
    sweep.write_environment()
    with_confusion(sweep, [[40, 20, 20], [2, 7, 1], [3, 3, 4]], ["shoes", "hats", "coats"])
    report = read_report(sweep.path)
    data, *_ = report.about
    accuracy = np.mean([0.7, 0.71, 0.72])
    half = 196 * np.sqrt(accuracy * (1 - accuracy) / 100)
    assert data.startswith("Data: image_folder my/photos (")
    assert "chance 33.3 %, always 'shoes' 80.0 %" in data
    assert "random is not above that." in data
    assert f"100 test images alone leave an accuracy uncertain by {half:.1f} points." in data
    with_confusion(sweep, [[20, 10, 4], [2, 30, 1], [3, 3, 27]], ["shoes", "hats", "coats"])
    assert "not above" not in read_report(sweep.path).about[0]
    with_confusion(sweep, [[24, 10, 0], [2, 31, 1], [3, 3, 28]], ["shoes", "hats", "coats"])
    assert "Without learning: chance, or always one class, 33.3 %." in read_report(sweep.path).about[0]


def test_test_images_that_were_taken_from_the_training_images_are_called_so(tmp_path):
    sweep = alone(tmp_path / "s", {"selector.name": "random"})
    for carved, said in (([], False), (["val"], False), (["val", "test"], True)):
        sweep.environment["datasets"][0] |= {"carved": carved}
        sweep.write_environment()
        assert (" test images, test carved from train, " in read_report(sweep.path).about[0]) == said


def test_the_interval_of_an_answer_lies_within_what_is_possible(tmp_path):
    sweep = selection_sweep(tmp_path / "s", {"random": 0.0, "coreset": 0.01}, seeds=(1, 2), rounds=2, noise=0.2,
                            reference={"selector": "random"})  # fmt: skip
    report = read_report(sweep.path)
    mean = report.rounds.settings[0].estimate("test/accuracy", None, report.rounds.best(report.rounds.settings[0]))
    assert mean.mean + mean.half > 1
    assert f"{100 * mean.mean:.2f} [{100 * mean.low:.2f}, 100.00] %." in report.answer


def test_of_two_seeds_each_is_drawn_and_no_interval(tmp_path):
    cases = (((1,), 2, 0, "one seed"), ((1, 2), 6, 0, "thin: each of 2 seeds"), ((1, 2, 3), 2, 2, "shaded: 95 %"))
    for seeds, lines, bands, said in cases:
        sweep = selection_sweep(tmp_path / f"{len(seeds)}", {"random": 0.0, "coreset": 0.1}, seeds=seeds, rounds=2,
                                reference={"selector": "random"})  # fmt: skip
        rounds = read_report(sweep.path).rounds
        figure = overview(rounds, rounds.settings[0])
        assert [len(axes.get_lines()) for axes in figure.axes] == [lines] * len(rounds.measures)
        assert [len(axes.collections) for axes in figure.axes] == [bands] * len(rounds.measures)
        assert said in figure.get_suptitle()


@pytest.mark.parametrize(("steps", "said"), [(24, "too few to say"), (500, "")])
def test_an_encoder_of_few_gradient_steps_is_called_so(tmp_path, steps, said):
    sweep = SweepFolder(tmp_path / "s")
    for name in ("random", "coreset"):
        for seed in (1, 2):
            rows = sweep.records(name, seed, {"selector.name": name}, {200: 0.7})
            for row in rows:
                if row["step_kind"] == "epoch":
                    row["metrics"]["pretrain/steps"] = steps * row["step"] / 2
            sweep.append(rows)
    (text,) = [one for one in read_report(sweep.path).about if "gradient" in one]
    assert text.startswith(f"Pre-trained for {steps} gradient steps.")
    assert (said in text) if said else text.endswith("steps.")


def test_what_was_stopped_early_is_not_called_too_short(tmp_path):
    sweep = SweepFolder(tmp_path / "s")
    for number, (steps, status) in enumerate([(1000, "finished"), (200, "stopped"), (300, "stopped")]):
        rows = sweep.records(f"c{number}", 0, {"pretrain.lr": number}, {200: 0.7}, phase="search")
        for row in rows:
            if row["step_kind"] == "epoch":
                row["metrics"]["pretrain/steps"] = steps * row["step"] / 2
        rows[-1]["status"] = status
        sweep.append(rows)
    (text,) = [one for one in read_report(sweep.path).about if "gradient" in one]
    assert text == "Pre-trained for 1,000 gradient steps."


def test_parts_of_one_data_set_are_told_apart(tmp_path):
    sweep = alone(tmp_path / "s", {"data.fraction": 0.3})
    (data,) = sweep.environment["datasets"]
    sweep.environment["datasets"] = [{**data, "train": number} for number in (13_500, 27_000, 27_000)]
    sweep.write_environment()
    said = read_report(sweep.path).about[0]
    assert "(13,500 train" in said
    assert said.count("(27,000 train") == 1


def test_the_answer_comes_last_within_80_columns_and_paths_have_lines_of_their_own(tmp_path, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **more: _console(out, **more))
    report = read_report(alone(tmp_path / "a folder with a long name", {"selector.name": "random"}).path)
    terminal.print_report(report)
    lines = out.getvalue().splitlines()
    paths = [f"  {report.folder / name}" for name in ("report.html", "summary.md", "leaderboard.csv")]
    assert set(paths) <= set(lines)
    assert max(len(line) for line in lines if line not in paths) <= 80
    text = " ".join(out.getvalue().split())
    assert text.endswith(" ".join([f"{report.space['name']}:", report.answer, *report.about]))


CONSOLE = rich.console.Console


def _console(out, **more):
    return CONSOLE(file=out, width=80, **more)

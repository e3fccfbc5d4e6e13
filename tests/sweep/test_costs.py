"""What a dry run says of the data, and of the hours from a few measured steps."""

import math
import re
import tempfile

import numpy as np
import pytest
from PIL import Image

from baselines.datasets.cifar10 import CIFAR10
from baselines.datasets.npz import Npz
from baselines.ssl_methods.simclr import SimCLR
from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.sweep import costs
from harness.sweep.command import main
from harness.sweep.costs import expected_costs
from harness.trial import pace as pace_module
from harness.trial.pace import STEPS, Pace, RoundPace, measure_pace, measure_rounds, measure_some_rounds

QUESTION = """
name: q
method: grid
seeds: [0, 1]
trial:
  dataset: {{name: npz, path: {path}}}
  data: {{val: 10}}
  backbone: {{name: dcnn3, width: 4}}
  ssl_method: simclr
  pretrain: {{epochs: 6, batch_size: 32, knn_every: 0}}
  labels: {{start: 20}}
  compute: {{device: cpu}}
parameters: {{pretrain.lr: {{values: [0.1, 0.2]}}}}
"""


@pytest.fixture
def plan(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (130, 12, 12), dtype=np.uint8)
    labels = np.arange(130) % 3
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images[:30], y_test=labels[:30])
    (tmp_path / "q.yaml").write_text(QUESTION.format(path=tmp_path / "set.npz"))
    return lambda **changed: load_plan(tmp_path / "q.yaml", changed)


@pytest.fixture
def paced(monkeypatch):
    """Nothing is measured."""
    monkeypatch.setattr(costs, "measure_pace", lambda *_: Pace(step=100.0, batch=32, steps=5, image=0.0, peak=3e8))


class Lossless(SimCLR):
    """Forgets its loss."""

    def loss(self, views):
        return {"lost": super().loss(views)["loss"]}


class Diverging(SimCLR):
    """Is not a number from its third step on, as without the warm-up that its trial has."""

    steps = 0

    def loss(self, views):
        self.steps += 1
        return {name: value * (math.nan if self.steps > 2 else 1) for name, value in super().loss(views).items()}


def test_a_trial_that_diverges_on_noise_without_its_warm_up_is_not_refused(plan, tmp_path):
    told = expected_costs(plan(**{"trial.ssl_method": f"{__name__}:Diverging"}), tmp_path / "cache")
    assert re.search(r"^time: .*measured on 1 step", told, re.MULTILINE), told


def test_a_trial_whose_first_step_fails_is_refused_and_one_without_memory_is_not(plan, tmp_path, monkeypatch):
    lossless = plan(**{"trial.ssl_method": f"{__name__}:Lossless"})
    with pytest.raises(ConfigError, match=r"the first step of training \(.*Lossless with dcnn3\) fails: KeyError"):
        expected_costs(lossless, tmp_path / "cache")

    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(SimCLR, "loss", no_memory)
    assert "time: no estimate: MemoryError" in expected_costs(plan(), tmp_path / "cache")


def test_the_data_are_told_with_where_parts_come_from_and_what_is_in_two_of_them(plan, tmp_path, paced):
    lines = expected_costs(plan(), tmp_path / "cache").splitlines()
    assert lines[:4] == [
        f"data: npz {tmp_path}/set.npz: 3 classes (0, 1, 2), images of 1x12x12, 23 kB decoded",
        "  pool: 120",
        "  validation: 10, carved from the training images",
        "  test: 30, the data set's own",
    ]
    (shared,) = [line for line in lines if "images are" in line]
    assert shared.startswith("  npz: 30 of 30 test images are training images too: such as test 0 = train 0, ")
    assert lines[-2].startswith("time: ")


def test_data_without_a_fault_are_said_to_have_none(tmp_path, plan, paced):
    digits = plan(**{"trial.dataset": "digits", "trial.data": {}})
    text = expected_costs(digits, tmp_path / "cache")
    assert "validation: 144, carved from the training images\n  test: 359, carved" in text
    assert "no image is broken, and none is in two parts" in text


def test_all_settings_of_the_data_are_told_and_each_data_set_is_opened_once(plan, tmp_path, paced, monkeypatch):
    opened = []
    theirs = Npz.open
    monkeypatch.setattr(Npz, "open", lambda self: opened.append(1) or theirs(self))
    varied = {"data.fraction": {"values": [0.5, 1.0]}, "pretrain.lr": {"values": [0.1, 0.2]}}
    text = expected_costs(plan(parameters=varied), tmp_path / "cache")
    assert (text.count("data: npz "), len(opened)) == (2, 1)
    assert "pool: 60\n" in text
    assert "pool: 120\n" in text


def test_a_split_of_each_seed_costs_as_much_as_another(plan, tmp_path, paced):
    fresh = plan(seeds={"values": [0, 1], "split": "fresh"})
    assert "time: about" in expected_costs(fresh, tmp_path / "cache")


@pytest.mark.parametrize("words", [(), ("--set", "trial.data.on_broken=skip")])
def test_a_dry_run_refuses_what_a_sweep_would(plan, tmp_path, capsys, words):
    place = ["--cache", str(tmp_path / "cache"), "--results", str(tmp_path / "runs"), *words, "--dry-run"]
    missing = ["--set", f"trial.dataset.path={tmp_path}/nowhere.npz"]
    assert main([str(tmp_path / "q.yaml"), *missing, *place]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"no file {tmp_path}/nowhere.npz" in line
    assert main([str(tmp_path / "q.yaml"), "--set", "trial.pretrain.batch_size=999", *place]) == 2
    assert "batch_size: 999 is more than the pool has" in capsys.readouterr().err
    assert main([str(tmp_path / "q.yaml"), *missing, *place, "--quiet"]) == 0
    assert not (tmp_path / "runs").exists()


def test_a_pace_is_of_the_trials_own_training(plan):
    pace = measure_pace(plan().candidates[0].trial, (1, 12, 12), 3, seconds=60)
    assert (pace.steps, pace.batch) == (STEPS, 32)
    assert pace.step > pace.image > 0
    untrained = plan(**{"trial.ssl_method": "none", "parameters": {}}).candidates[0].trial
    assert measure_pace(untrained, (1, 12, 12), 3, seconds=60).step is None


@pytest.mark.parametrize("change", [{"trial.ssl_method": "none"}, {"trial.mode": "joint"}])
def test_other_trainings_of_the_encoder_are_measured_too(plan, change):
    tuned = plan(**{"trial.classifier": "finetune", "parameters": {}} | change)
    pace = measure_pace(tuned.candidates[0].trial, (1, 12, 12), 3, seconds=60)
    assert pace.steps == STEPS
    assert pace.step > 0


def test_little_time_measures_one_step(plan):
    assert measure_pace(plan().candidates[0].trial, (1, 12, 12), 3, seconds=0).steps == 1


def test_the_hours_are_steps_times_their_seconds_and_shared_pre_trainings_count_once(plan, tmp_path, paced):
    text = expected_costs(plan(**{"resources.max_concurrent": 1}), tmp_path / "cache")
    # 120 images are 4 steps of 32; 6 epochs, 2 rates, 2 seeds: 4 x 6 x 4 x 100 s = 160 min
    assert "time: about 2 h 40 min on this machine, measured on 5 steps; without selection, heads on a fixed " in text
    assert "encoder, portraits; what is in the cache of stages is saved" in text
    assert "memory: about 300 MB a trial" in text
    shared = plan(**{"resources.max_concurrent": 1, "parameters": {"labels.start": {"values": [10, 20]}}})
    assert "time: about 80 min" in expected_costs(shared, tmp_path / "cache")


SLOW = """
import time
from baselines.selectors.random import Random


class Slow(Random):
    def select(self, pool, budget, *, rng):
        time.sleep(60)
        return super().select(pool, budget, rng=rng)
"""


def on_features_question(folder):
    rng = np.random.default_rng(0)
    np.savez(folder / "set.npz", embeddings=rng.standard_normal((150, 8)).astype(np.float32), labels=np.arange(150) % 3)
    return {
        "name": "q",
        "method": "grid",
        "seeds": [0, 1],
        "trial": {
            "dataset": {"name": "embeddings", "path": str(folder / "set.npz")},
            "backbone": "given",
            "labels": {"start": 10, "budget": [5, 10, 15]},
            "classifier": "ridge",
        },
        "parameters": {"selector": {"values": ["random", "margin", "coreset"]}},
        "portrait": False,
        "resources": {"max_concurrent": 1},
    }


@pytest.fixture
def on_features(tmp_path):
    return load_plan(on_features_question(tmp_path), {})


def test_trials_on_features_are_estimated_by_a_round_of_each_kind(on_features, tmp_path, monkeypatch):
    hours = {"random": 600.0, "margin": 1200.0}

    def paces(configs, seed, cache, seconds):
        known = {kind: config.selector.name for kind, config in configs.items()}
        return {kind: RoundPace(hours[name], 3e8) for kind, name in known.items() if name in hours}, {}

    monkeypatch.setattr(costs, "measure_some_rounds", paces)  # coreset takes their mean
    *_, time, memory = expected_costs(on_features, tmp_path / "cache").splitlines()
    # two seeds each, of 10, 20 and 15 minutes
    assert time.startswith("time: about 90 min on this machine, measured on a round on features of 2 of 3 kinds of")
    assert "without" not in time
    assert memory == "memory: about 300 MB a trial"


def test_a_round_on_features_is_the_middle_one_of_the_trial_itself(on_features, tmp_path, monkeypatch):
    asked = []
    theirs = pace_module.run

    def timed(config, seed, folders, listener, **more):
        asked.append((config.labels.start, config.labels.budgets, config.selector.name))
        spent = {"time/round_select_seconds": 1.0, "time/round_train_seconds": 2.0, "time/round_evaluate_seconds": 4.0}
        listen = lambda kind, step, told, *rest: listener(kind, step, told | spent, *rest)  # noqa: E731
        return theirs(config, seed, folders, listen, **more)

    monkeypatch.setattr(pace_module, "run", timed)
    measured = measure_rounds(on_features.candidates[1].trial, 0, tmp_path / "cache", tmp_path / "stages")
    assert asked == [(15, (10,), "margin")]
    assert measured.seconds == 3 * (1 + 2 + 4) + 2 + 4  # three rounds, and the training on the start pool
    assert measured.peak > 0


def test_rounds_of_all_kinds_are_measured_in_a_process_that_leaves_nothing(on_features, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    expected_costs(on_features, tmp_path / "cache")  # decodes
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    trials = {one.trial.selector.name: one.trial for one in on_features.candidates}
    paces, problems = measure_some_rounds(trials, 0, tmp_path / "cache", seconds=240)
    assert paces.keys() == trials.keys()
    assert not problems
    assert not any(pace.is_least for pace in paces.values())
    ended, _ = measure_some_rounds(trials, 0, tmp_path / "cache", seconds=0)
    assert ended == {"random": RoundPace(0.0, 0.0, is_least=True)}
    assert not list((tmp_path / "temporary").glob("**/train"))  # the stages of the round that was ended


@pytest.mark.slow
def test_a_slow_selector_is_named_and_counts_as_what_it_takes_at_least(on_features, tmp_path, monkeypatch):
    (tmp_path / "slow_selector.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    slow = {"parameters.selector.values": ["slow_selector:Slow", "random"]}
    plan = load_plan(on_features_question(tmp_path), slow)
    *_, time, _ = expected_costs(plan, tmp_path / "cache").splitlines()
    # a round has 5 s; of the slow one there are three, under two seeds
    assert time.startswith("time: at least 30 s (a round takes more than 5 s: slow_selector:Slow) on this machine")
    assert "measured on a round on features;" in time


def test_nothing_is_downloaded(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "open", lambda self: pytest.fail("it was opened"))
    text = expected_costs(plan(**{"trial.dataset": "cifar10"}), tmp_path)
    assert text.splitlines() == [
        "data: cifar10: not decoded yet, and to open it may download it; so it is not looked at",
        "time: no estimate without these data",
    ]


def test_the_gradient_steps_of_pre_trainings_are_told(plan, tmp_path, paced):
    few = "; under 500 say little about a method"
    told = [
        line for line in expected_costs(plan(), tmp_path / "cache").splitlines() if line.startswith("pre-training: ")
    ]
    assert told == [f"pre-training: 24 gradient steps (6 epochs, at most 32 of 120 images each){few}"]
    varied = plan(**{"trial.pretrain": {}, "parameters": {"pretrain.epochs": {"values": [5, "auto"]}}})
    told = [
        line for line in expected_costs(varied, tmp_path / "cache").splitlines() if line.startswith("pre-training: ")
    ]
    assert told == [f"pre-training: 75 to 1,005 gradient steps{few}"]
    untrained = plan(**{"trial.ssl_method": "none", "trial.pretrain": {}, "parameters": {"data.val": {"values": [9]}}})
    assert not steps_in(expected_costs(untrained, tmp_path / "cache"))


def steps_in(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("pre-training: ")]


def test_show_writes_what_augmentations_do_and_trains_nothing(plan, tmp_path, capsys):
    plan()
    place = ["--results", str(tmp_path / "runs"), "--cache", str(tmp_path / "cache")]
    file = tmp_path / "views.png"
    assert main([str(tmp_path / "q.yaml"), *place, "--show", str(file)]) == 0
    assert capsys.readouterr().out == f"views: {file}: npz under pair (crop, color_jitter)\n"
    assert image_size(file) > (100, 100)
    assert not (tmp_path / "runs").exists()
    two = ["--set", "parameters={augmentation: {values: [crop, flip]}}"]
    assert main([str(tmp_path / "q.yaml"), *place, *two, "--show", str(file)]) == 0
    assert image_size(tmp_path / "views_2.png") > (100, 100)
    untrained = ["--set", "trial.ssl_method=none", "--set", "parameters={labels.start: {values: [10, 20]}}"]
    assert main([str(tmp_path / "q.yaml"), *place, *untrained, "--show", str(file)]) == 2
    assert "no trial trains an encoder with an augmentation" in capsys.readouterr().err


def image_size(file):
    with Image.open(file) as image:
        return image.size

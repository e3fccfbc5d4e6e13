"""What a sweep will cost: sizes from what is known before decoding, and hours from a few measured steps."""

import numpy as np
import pytest

from baselines.datasets.cifar10 import CIFAR10
from harness.config.plan import load_plan
from harness.data.splits import open_data
from harness.plugins import registry
from harness.sweep import costs
from harness.sweep.costs import expected_costs, sizes_of
from harness.trial.pace import STEPS, Pace, measure_pace

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


def test_sizes_are_those_that_decoding_finds_and_nothing_is_decoded_for_them(plan, tmp_path):
    config = plan().candidates[0].trial
    before = sizes_of(config, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    assert not before.decoded
    dataset = registry.build(config.dataset)
    data, _ = open_data(dataset, "npz", config.data, cache=tmp_path / "cache", with_test=False, device="cpu")
    assert (before.pool, before.val, before.test) == tuple(data.counts[part] for part in ("pool", "val", "test"))
    assert before.image_shape == data.image_shape
    assert before.num_bytes == 160 * 12 * 12


def test_a_pace_is_of_the_trials_own_training(plan):
    pace = measure_pace(plan().candidates[0].trial, (1, 12, 12), 3, seconds=60)
    assert (pace.steps, pace.batch) == (STEPS, 32)
    assert pace.step > pace.image > 0
    untrained = plan(**{"trial.ssl_method": "none"}).candidates[0].trial
    assert measure_pace(untrained, (1, 12, 12), 3, seconds=60).step is None


@pytest.mark.parametrize("change", [{"trial.ssl_method": "none"}, {"trial.mode": "joint"}])
def test_other_trainings_of_the_encoder_are_measured_too(plan, change):
    tuned = plan(**{"trial.classifier": "finetune"} | change)
    pace = measure_pace(tuned.candidates[0].trial, (1, 12, 12), 3, seconds=60)
    assert pace.steps == STEPS
    assert pace.step > 0


def test_little_time_measures_one_step(plan):
    assert measure_pace(plan().candidates[0].trial, (1, 12, 12), 3, seconds=0).steps == 1


def test_the_hours_are_steps_times_their_seconds_and_shared_pre_trainings_count_once(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "measure_pace", lambda *_: Pace(step=100.0, batch=32, steps=5, image=0.0, peak=3e8))
    text = expected_costs(plan(**{"resources.max_concurrent": 1}), tmp_path / "cache")
    # 120 images are 4 steps of 32; 6 epochs, 2 rates, 2 seeds: 4 x 6 x 4 x 100 s = 160 min
    assert "time: about 2 h 40 min on this machine, measured on 5 steps; without" in text
    assert "memory: about 300 MB a trial" in text
    shared = plan(**{"resources.max_concurrent": 1, "parameters": {"labels.start": {"values": [10, 20]}}})
    assert "time: about 80 min" in expected_costs(shared, tmp_path / "cache")


def test_what_is_not_known_is_said(plan, tmp_path, monkeypatch):
    missing = plan(**{"trial.dataset.path": str(tmp_path / "nowhere.npz")})
    assert "nowhere.npz" in expected_costs(missing, tmp_path)
    assert "so no estimate of time" in expected_costs(missing, tmp_path)
    monkeypatch.setattr(CIFAR10, "open", lambda self: pytest.fail("it was opened"))
    assert "may download it; so no estimate" in expected_costs(plan(**{"trial.dataset": "cifar10"}), tmp_path)

"""The epochs of a training: where a killed one goes on, whose time counts, what is told of them and when."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from harness.records.details import Details, Training
from harness.trial import epochs as module
from harness.trial import stages
from harness.trial.epochs import Epochs, Metrics, Reporter, Watch
from harness.trial.stages import Checkpoint


class Clock:
    """In place of the time: it stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for place in (module, stages):
        monkeypatch.setattr(place, "time", clock)
    return clock


class AlwaysDue(Checkpoint):
    """Saves after every epoch."""

    due = True


class Training3:
    """Adds 1 to a weight in each of three epochs of 5 seconds and 10 images."""

    def __init__(self, checkpoint: Checkpoint, clock: Clock, **watched: Any):
        self.module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.module.weight)
        self.told: list[tuple[int, Metrics]] = []
        self.clock = clock
        self.watch = Watch(checkpoint, self.tell, self.measure)

    def tell(self, number: int, metrics: Metrics) -> None:
        self.clock.now += 1000
        self.told.append((number, dict(metrics)))

    def measure(self) -> Metrics:
        self.clock.now += 100
        return {"weight": float(self.module.weight.detach())}

    def run(self, last: int = 3) -> list[Metrics]:
        """Until the epoch after `last` would begin."""
        epochs = Epochs(3, {"module": self.module}, self.watch, rate="rate", validates=lambda number: number == 2)
        for epoch in epochs:
            if epoch.number > last:
                break
            with torch.no_grad():
                self.module.weight += 1
            self.clock.now += 5
            epoch.metrics, epoch.images = {"loss": 1 / epoch.number}, 10
        return epochs.history


def test_the_time_of_reports_and_measurements_is_not_the_trainings(tmp_path, clock):
    checkpoint = Checkpoint(tmp_path / "c.pt")
    history = Training3(checkpoint, clock).run()
    assert [row["rate"] for row in history] == [2.0] * 3
    assert checkpoint.seconds == 15
    assert clock.now == 100 + 3 * 5 + 3 * 1000 + 100


@pytest.mark.parametrize("last", [1, 2])
def test_a_killed_training_goes_on_where_it_was_with_its_seconds(tmp_path, clock, last):
    whole = Training3(Checkpoint(tmp_path / "whole.pt"), clock)
    history = whole.run()
    killed = Training3(AlwaysDue(tmp_path / "c.pt"), clock)
    killed.run(last)
    assert [number for number, _ in killed.told] == list(range(1, last + 1))
    checkpoint = Checkpoint(tmp_path / "c.pt")
    resumed = Training3(checkpoint, clock)
    assert resumed.run() == history
    assert history[1]["weight"] == 2
    assert float(resumed.module.weight.detach()) == 3
    assert resumed.told == whole.told, "all epochs are told, also those of the process that was killed"
    assert checkpoint.seconds == 15


def test_a_training_that_begins_anew_counts_its_own_seconds_alone(tmp_path, clock):
    Training3(AlwaysDue(tmp_path / "c.pt"), clock).run(last=1)
    checkpoint = Checkpoint(tmp_path / "c.pt")
    training = Training3(checkpoint, clock)
    asked = {"rate": "rate", "is_complete": lambda history: all("accuracy" in row for row in history)}
    numbers = []
    for epoch in Epochs(3, {"module": training.module}, training.watch, **asked):
        numbers.append(epoch.number)
        clock.now += 5
    assert numbers == [1, 2, 3]
    assert checkpoint.seconds == 15


def test_a_training_that_keeps_nothing_needs_no_checkpoint(clock):
    training = Training3(Checkpoint, clock)  # type: ignore[arg-type]
    training.watch = Watch(on_epoch=training.tell)
    assert [row.keys() for row in training.run()] == [{"loss", "rate"}] * 3
    assert len(training.told) == 3


def test_the_epochs_of_all_trainings_of_a_trial_are_numbered_in_a_row():
    heard: list[Any] = []
    reporter = Reporter(lambda *record: heard.append(record))
    first = reporter.training("pretrain", 2)
    first.epoch(1, {"a": 1.0})
    first.rest([{"a": 1.0}, {"a": 2.0}])
    reporter.round(20, {"b": 3.0}, Details(selected=[4]))
    second = reporter.training("finetune", 5, every=2)
    second.rest([{"a": float(number)} for number in range(5)])  # of a stage that was found
    assert heard == [
        ("epoch", 1, {"a": 1.0}, Details(training=Training("pretrain", 1, 2))),
        ("epoch", 2, {"a": 2.0}, Details(training=Training("pretrain", 2, 2))),
        ("labels", 20, {"b": 3.0}, Details(selected=[4])),
        ("epoch", 4, {"a": 1.0}, Details(training=Training("finetune", 2, 5))),
        ("epoch", 6, {"a": 3.0}, Details(training=Training("finetune", 4, 5))),
        ("epoch", 7, {"a": 4.0}, Details(training=Training("finetune", 5, 5))),
    ]

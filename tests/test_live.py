"""The live view: counts, best, time left, and a picture that stays small."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from harness import live
from harness.live import Progress, clock, label

PARAMETERS = {"augmentation.first": "crop", "augmentation.second": {"name": "noise", "std": 0.2}}


def record(trial: str, status: str = "running", value: float | None = None, **more: Any) -> dict[str, Any]:
    metrics = {"time/total_seconds": 3.0} | ({} if value is None else {"val/accuracy": value})
    return {
        "trial": trial,
        "status": status,
        "step_kind": "labels",
        "step": 20,
        "seed": 1,
        "parameters": PARAMETERS,
        "metrics": metrics,
        **more,
    }


@pytest.fixture
def now(monkeypatch):
    """A clock that the test sets."""

    class Clock:
        seconds = 100.0

        def monotonic(self) -> float:
            return self.seconds

    found = Clock()
    monkeypatch.setattr(live, "time", found)
    return found


def picture(progress: Progress, width: int = 80) -> list[str]:
    console = Console(width=width, record=True, force_terminal=False, file=io.StringIO())
    console.print(progress.render())
    return console.export_text().splitlines()


def test_counts_follow_the_records():
    progress = Progress("val/accuracy", maximize=True)
    progress.begin("search", 5, found=1)
    assert progress.add(record("a")) is None
    assert progress.add(record("b")) is None
    assert (len(progress.running), progress.done) == (2, 1)
    assert progress.add(record("a", "finished", 0.5)) == (
        "[2/5] val/accuracy 0.5000  first crop, second noise std 0.2 seed 1  (3.0 s)"
    )
    failed = progress.add(record("b", "failed", error="ValueError: no"))
    assert failed == "[3/5] failed: first crop, second noise std 0.2 seed 1: ValueError: no"
    stopped = record("c", "stopped")
    stopped["metrics"]["pretrain/knn_accuracy"] = 0.25
    assert str(progress.add(stopped)).startswith("[4/5] stopped early: ")
    assert "k-NN 0.2500" in progress.recent[-1]
    assert dict(progress.counts) == {"finished": 1, "failed": 1, "stopped": 1}
    assert not progress.running


@pytest.mark.parametrize(("maximize", "best"), [(True, "b"), (False, "c")])
def test_the_best_is_the_first_of_the_finished_with_the_best_value(maximize, best):
    progress = Progress("val/accuracy", maximize)
    progress.begin("search", 9, 0)
    values = {"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.9, "e": 0.1}
    for trial, value in values.items():
        progress.add(record(trial, "finished", value))
    progress.add(record("f", "stopped", 1.0 if maximize else 0.0))
    progress.add(record("g", "finished"))
    assert progress.best is not None
    assert progress.best[0] == values[best]
    assert progress.best[1]["trial"] == best


def test_the_time_left_is_the_pace_of_this_run(now):
    progress = Progress("val/accuracy", maximize=True)
    progress.begin("search", 12, found=4)
    assert progress.eta() is None
    now.seconds += 30
    for trial in "ab":
        progress.add(record(trial, "finished", 0.5))
    # 2 trials in 30 seconds, and 12 - 4 - 2 = 6 to go; those of the earlier run say nothing of the pace
    assert progress.eta() == pytest.approx(90)
    progress.begin("confirm", 3, found=0)
    assert progress.eta() is None
    assert progress.best is None


def test_the_picture_names_what_a_person_wants_to_know(now):
    progress = Progress("val/accuracy", maximize=True)
    progress.begin("search", 10, found=0)
    progress.add(record("a", "finished", 0.5))
    progress.add(record("b", "failed", error="ValueError: no"))
    progress.add(record("c", step_kind="epoch", step=7))
    now.seconds += 60
    text = "\n".join(picture(progress))
    for words in ("search", "2/10 done", "1 running", "1 failed", "4:00 left", "0.5000", "epoch 7", "ValueError: no"):
        assert words in text, words


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_stays_small(width, now):
    progress = Progress("val/accuracy", maximize=True)
    progress.begin("confirm", 1000, found=800)
    long = {f"some.rather.long.path_{number}": "x" * 40 for number in range(12)}
    for number in range(120):
        progress.add(record(f"t{number}", "failed", error="E" * 500 + "\n" + "F" * 500, parameters=long))
        progress.add(record(f"u{number}", "finished", 0.5, parameters=long))
    for number in range(64):
        progress.add(record(f"r{number}", parameters=long))
    now.seconds += 3 * 3600
    lines = picture(progress, width)
    assert len(lines) <= 12
    assert max(len(line) for line in lines) <= width
    assert any("… and 60 more" in line for line in lines)
    assert "64 running" in lines[0]
    assert "left" in lines[0], "the head fits on one line"


def test_an_empty_sweep_has_a_picture():
    assert "0/0 done" in picture(Progress("val/accuracy", maximize=True))[0]


def test_square_brackets_of_a_user_are_no_markup():
    progress = Progress("val/accuracy", maximize=True)
    progress.begin("search", 3, 0)
    progress.add(record("a", "failed", error="[/bold] [red]x"))
    assert "[/bold] [red]x" in "\n".join(picture(progress, 120))


def test_labels():
    assert label(PARAMETERS) == "first crop, second noise std 0.2"
    assert label({}) == "(no parameters)"
    assert label({"ssl_method.name": "simclr", "selector.name": "ual"}) == "ssl_method simclr, selector ual"
    assert label({"pretrain.epochs": 5, "classifier.epochs": 7}) == "pretrain.epochs 5, classifier.epochs 7"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (185, "3:05"), (3599.7, "1:00:00"), (8049, "2:14:09")],
)
def test_clocks(seconds, text):
    assert clock(seconds) == text

"""The live view: counts, best, time left, and a picture that stays small."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from harness.records.details import Training
from harness.records.names import label
from harness.sweep import screen
from harness.sweep.screen import Standing, clock

PARAMETERS = {"augmentation.first": "crop", "augmentation.second": {"name": "noise", "std": 0.2}}


def record(trial: str, status: str = "running", value: float | None = None, **more: Any) -> dict[str, Any]:
    metrics = {"time/wall_seconds": 3.0} | ({} if value is None else {"val/accuracy": value})
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

    clock = Clock()
    monkeypatch.setattr(screen, "time", clock)
    return clock


def picture(standing: Standing, width: int = 80) -> list[str]:
    console = Console(width=width, record=True, force_terminal=False, file=io.StringIO())
    console.print(standing.render(width))
    return console.export_text().splitlines()


def test_counts_follow_the_records():
    standing = Standing("val/accuracy", maximize=True)
    standing.begin("search", 5, before=1)
    assert standing.add(record("a")) is None
    assert standing.add(record("b")) is None
    assert (len(standing.running), standing.done) == (2, 1)
    assert standing.add(record("a", "finished", 0.5)) == (
        "[2/5] val/accuracy 0.5000  first crop, second noise std 0.2 seed 1  (3.0 s)"
    )
    failed = standing.add(record("b", "failed", error="ValueError: no"))
    assert failed == "[3/5] failed: first crop, second noise std 0.2 seed 1: ValueError: no"
    stopped = record("c", "stopped")
    stopped["metrics"]["pretrain/knn_accuracy"] = 0.25
    assert str(standing.add(stopped)).startswith("[4/5] stopped early: ")
    assert "pretrain/knn_accuracy 0.2500" in standing.recent[-1]
    assert dict(standing.counts) == {"finished": 1, "failed": 1, "stopped": 1}
    assert not standing.running


@pytest.mark.parametrize(("maximize", "best"), [(True, "b"), (False, "c")])
def test_the_best_is_the_first_of_the_finished_with_the_best_value(maximize, best):
    standing = Standing("val/accuracy", maximize)
    standing.begin("search", 9, 0)
    values = {"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.9, "e": 0.1}
    for trial, value in values.items():
        standing.add(record(trial, "finished", value))
    standing.add(record("f", "stopped", 1.0 if maximize else 0.0))
    standing.add(record("g", "finished"))
    assert standing.best is not None
    assert standing.best[0] == values[best]
    assert standing.best[1]["trial"] == best


def test_the_time_left_is_the_pace_of_this_run(now):
    standing = Standing("val/accuracy", maximize=True)
    standing.begin("search", 12, before=4)
    assert standing.eta() is None
    now.seconds += 30
    for trial in "ab":
        standing.add(record(trial, "finished", 0.5))
    # 2 trials in 30 seconds, and 12 - 4 - 2 = 6 to go; those of the earlier run say nothing of the pace
    assert standing.eta() == pytest.approx(90)
    standing.begin("confirm", 3, before=0)
    assert standing.eta() is None
    assert standing.best is None


def test_after_the_first_epoch_the_pre_trainings_of_all_trials_are_told(now):
    standing = Standing("val/accuracy", maximize=True)
    standing.begin("search", 12, before=0, trainings=6)
    for trial in "ab":
        standing.add(record(trial, time=0))
        assert standing.training_left() is None
    for trial in "ab":
        standing.add(record(trial, step_kind="epoch", step=1, time=30_000), Training("pretrain", 1, 10))
    # 6 trainings of 10 x 30 s, of which 2 x 30 s are done, two at a time
    assert standing.training_left() == pytest.approx((6 * 300 - 60) / 2)
    assert "about 14:30 of pre-training left in all" in standing.status()
    standing.add(record("a", "finished", 0.5))
    assert "pre-training left" not in standing.status()
    standing.begin("confirm", 3, before=0)
    assert standing.training_left() is None


def test_the_picture_names_what_a_person_wants_to_know(now):
    standing = Standing("val/accuracy", maximize=True)
    standing.begin("search", 10, before=0)
    standing.add(record("a", "finished", 0.5))
    standing.add(record("b", "failed", error="ValueError: no"))
    standing.add(record("c", step_kind="epoch", step=7), Training("pretrain", 7, 20))
    now.seconds += 60
    text = "\n".join(picture(standing))
    for words in ("search", "2/10 done", "1 running", "1 failed", "4:00 left", "0.5000", "pretrain 7/20"):
        assert words in text, words
    assert "ValueError: no" in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_stays_small(width, now):
    standing = Standing("val/accuracy", maximize=True)
    standing.begin("confirm", 1000, before=800)
    long = {f"some.rather.long.path_{number}": "x" * 40 for number in range(12)}
    for number in range(120):
        standing.add(record(f"t{number}", "failed", error="E" * 500 + "\n" + "F" * 500, parameters=long))
        standing.add(record(f"u{number}", "finished", 0.5, parameters=long))
    for number in range(64):
        standing.add(record(f"r{number}", parameters=long))
    now.seconds += 3 * 3600
    lines = picture(standing, width)
    assert len(lines) <= 12
    assert max(len(line) for line in lines) <= width
    assert any("… and 60 more" in line for line in lines)
    assert "64 running" in lines[0]
    assert "left" in lines[0], "the head fits on one line"


def running(number: int, kinds: int = 3) -> Standing:
    """A sweep with so many running trials: in a long pre-training, between rounds, just begun, in turns."""
    standing = Standing("val/accuracy", maximize=True)
    standing.begin("search", 100, before=0)
    for trial in range(number):
        name, seed = f"r{trial}", trial + 1
        if trial % kinds == 0:
            for epoch, seconds in ((1, 0.0), (2, 9.0), (3, 13.5)):
                metrics = {"throughput/pretrain_images_per_second": 12_340.4}
                row = record(name, seed=seed, step_kind="epoch", step=epoch, time=1000 * seconds, metrics=metrics)
                standing.add(row, Training("pretrain", epoch, 200))
        else:
            standing.add(record(name, seed=seed, step=2500 if trial % kinds == 1 else 0, time=0))
    return standing


def test_two_running_trials_are_two_lines():
    lines = picture(running(2))
    assert max(map(len, lines)) <= 80
    assert lines[1].split("  ")[1:4] == ["pretrain 3/200", "12,340 img/s", "14:46 left"]  # 197 epochs of 4.5 s
    assert lines[1].rstrip().endswith("seed 1")
    assert "first crop" in lines[1]
    assert lines[2].startswith("  2500 labels ")
    assert lines[2].rstrip().endswith("seed 2")


def test_sixty_four_running_trials_are_five_lines():
    lines = picture(running(64))
    assert len(lines) == 6
    assert max(map(len, lines)) <= 80
    assert "64 running" in lines[0]
    assert [line.split()[0] for line in lines[1:5]] == ["pretrain", "2500", "starting", "pretrain"]
    assert lines[5].rstrip() == "  … and 60 more: 20 rounds, 20 starting, 20 pretrain"


def test_an_epoch_of_another_training_has_no_pace_yet():
    standing = running(1)
    row = record("r0", step_kind="epoch", step=201, time=20_000)
    standing.add(row, Training("finetune", 1, 5))
    assert (standing.running["r0"].position, standing.running["r0"].left) == ("finetune 1/5", "")
    standing.add({**row, "time": 21_000}, Training("finetune", 3, 5))  # not all are reported
    assert standing.running["r0"].left == "1 s left"


def test_the_status_of_a_log_is_one_line(now):
    standing = running(2)
    now.seconds += 30
    standing.add(record("done", "finished", 0.5))
    assert standing.status() == (
        "search: 1/100 done, 2 running; pretrain 3/200 12,340 img/s 14:46 left; 2500 labels; 49:30 left in all"
    )


@pytest.mark.parametrize("width", [20, 40])
def test_a_narrow_terminal_is_no_error(width):
    assert max(map(len, picture(running(64), width))) <= width


def test_no_color_is_honoured(monkeypatch):
    def escapes() -> str:
        terminal = io.StringIO()
        console = Console(force_terminal=True, color_system="standard", file=terminal, width=80)
        console.print(running(2).render())
        return terminal.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[36m" in escapes()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not [code for code in re.findall(r"\x1b\[([0-9;]*)m", escapes()) if re.search(r"\b[349]\d\b", code)]


def test_an_empty_sweep_has_a_picture():
    assert "0/0 done" in picture(Standing("val/accuracy", maximize=True))[0]


def test_square_brackets_of_a_user_are_no_markup():
    standing = Standing("val/accuracy", maximize=True)
    standing.begin("search", 3, 0)
    standing.add(record("a", "failed", error="[/bold] [red]x"))
    assert "[/bold] [red]x" in "\n".join(picture(standing, 120))


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


def test_a_trial_took_what_the_clock_says_and_the_cache_saved_the_rest():
    standing = Standing("val/accuracy", maximize=True)
    standing.begin("search", 1, before=0)
    times = {"time/total_seconds": 253.3, "time/saved_seconds": 238.5, "time/wall_seconds": 14.8}
    line = standing.add(record("a", "finished") | {"metrics": {"val/accuracy": 0.5, **times}})
    assert line.endswith("(14.8 s, 238.5 s cached)")


def test_what_waits_for_anothers_encoder_says_so():
    standing = Standing("val/accuracy", maximize=True)
    standing.begin("confirm", 4, before=0)
    candidate = SimpleNamespace(parameters={"selector": "random"})
    standing.waits(2, SimpleNamespace(candidate=candidate, seed=2))
    said = "2 trials wait for selector random seed 2's encoder"
    assert said in standing.status()
    assert any(said in line for line in picture(standing))
    standing.waits(0, None)
    assert "wait" not in standing.status()

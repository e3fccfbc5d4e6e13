"""The records of a trial that was tried again, and half a line."""

from __future__ import annotations

from harness.records.rows import add, by_trial, last, line, read_rows, sealed


def row(step, time, status="running", kind="epoch"):
    return {"trial": "t", "step_kind": kind, "step": step, "status": status, "time": time, "metrics": {}}


def test_a_repeated_step_voids_what_came_after_it():
    first = [row(1, 10), row(2, 20), row(3, 30), row(100, 40, kind="labels")]
    again = [row(2, 50), row(100, 60, "finished", kind="labels")]
    before = {}
    for record in first + first + again[:1]:
        add(before, record)
    again[1] = sealed(before, again[1])
    history = by_trial(first + first + again)["t"]
    assert [(record["step_kind"], record["step"], record["time"]) for record in history.values()] == [
        ("epoch", 1, 10),
        ("labels", 100, 40),
        ("epoch", 2, 50),
        ("labels", 100, 60),
    ]
    assert last(history)["status"] == "finished"


def test_an_ending_is_void_when_the_trial_goes_on():
    history = by_trial([row(1, 10), row(0, 20, "failed", kind="labels"), row(2, 30)])["t"]
    assert [record["time"] for record in history.values()] == [10, 30]
    assert last(history)["status"] == "running"


def test_half_a_line_is_skipped_and_counted(tmp_path):
    whole = line(row(1, 10))
    (tmp_path / "rows.jsonl").write_bytes(whole + whole[:30])
    assert read_rows(tmp_path) == ([row(1, 10)], 1)

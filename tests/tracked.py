"""What tests of tracking share: a sweep delivered to MLflow, and what MLflow then holds."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import Counter

from mlflow import MlflowClient
from mlflow.entities import ViewType

from harness.metrics import step_kind
from harness.tracking.tracker import Tracker

SELECTORS = {"selector.name": "coreset", "ssl_method.temperature": 0.2}


def deliver(sweep, uri, rows=(), status="finished"):
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment)
    tracker.start()
    for row in rows:
        tracker.record(row)
    assert tracker.finish(status)


def runs(uri, view=ViewType.ACTIVE_ONLY):
    """The runs by trial; the sweep's own is ''."""
    client = MlflowClient(uri)
    there = client.search_runs([client.get_experiment_by_name("selectors").experiment_id], run_view_type=view)
    trials = [run.data.tags.get("trial_id", "") for run in there]
    assert len(set(trials)) == len(trials), "a trial has two runs"
    return dict(zip(trials, there, strict=True))


def begun(uri):
    """The runs, or none while there is no sweep's run yet."""
    there = MlflowClient(uri).get_experiment_by_name("selectors")
    return shown if there and "" in (shown := runs(uri)) else {}


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_for_trackers(seconds=60):
    """Until no tracker of this process delivers any more."""
    for thread in threading.enumerate():
        if thread.name == "tracking":
            thread.join(seconds)
            assert not thread.is_alive()


def points(uri, run):
    """Every stored point (name, step, value), duplicates included."""
    client = MlflowClient(uri)
    history = [point for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name)]
    return sorted((point.key, point.step, point.value, point.timestamp) for point in history)


def held(uri, trial):
    """How many points MLflow holds of a trial."""
    run = runs(uri).get(trial) if MlflowClient(uri).get_experiment_by_name("selectors") else None
    return len(points(uri, run)) if run else 0


def dump(uri):
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        return list(database.iterdump())


def assert_shows(uri, folder):
    """Every value of the records is in MLflow exactly once, by a slow independent reading of rows.jsonl."""
    expected = {}
    for line in (folder / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name, value in row["metrics"].items():
            there = name if step_kind(name) == row["step_kind"] else f"{name}/by_{row['step_kind']}"
            expected.setdefault(row["trial"], {})[there, row["step"]] = value
    shown = runs(uri)
    assert set(shown) == {"", *expected}
    for trial, values in expected.items():
        stored = points(uri, shown[trial])
        assert max(Counter((name, step) for name, step, _, _ in stored).values()) == 1
        assert {(name, step): value for name, step, value, _ in stored} == values

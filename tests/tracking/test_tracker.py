"""Records on their way to MLflow while the sweep runs: servers that are away, drivers that are killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow import MlflowClient
from sweep_folder import SweepFolder
from tracked import SELECTORS, assert_shows, begun, deliver, dump, held, runs, wait_for_trackers, wait_until

from harness.tracking import __main__ as command
from harness.tracking.tracker import Tracker, sync

KILLED = """
import json, sys, time
from pathlib import Path
from harness.tracking.tracker import Tracker
folder = Path(sys.argv[1])
tracker = Tracker(sys.argv[2], "selectors", folder, json.loads((folder / "environment.json").read_text()))
tracker.start()
for line in (folder / "rows.jsonl").read_text().splitlines():
    tracker.record(json.loads(line))
time.sleep(60)
"""


def test_killed_in_the_middle_and_resumed(sweep, uri):
    sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    sweep.trial("c2", 1, SELECTORS, {100: 0.6, 200: 0.65}, status="running", epochs=700)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(sweep.path), uri], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        # Steps beyond 300 are epochs of the trial that is cut off.
        while not database.execute("SELECT count(*) FROM metrics WHERE step > 300").fetchone()[0]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert runs(uri)["confirm-c2-s1"].info.status == "RUNNING"
    # The trial that was cut off is run again from its first epoch, at other times and with other values.
    deliver(sweep, uri, sweep.trial("c2", 1, SELECTORS, {100: 0.61, 200: 0.66}, epochs=700))
    assert_shows(uri, sweep.path)
    assert {run.info.status for run in runs(uri).values()} == {"FINISHED"}


def test_a_trial_that_is_refused_does_not_hold_up_the_others(sweep, uri, monkeypatch, capfd):
    create = MlflowClient.create_run

    def refuse(self, experiment, start, tags, name):
        if tags.get("trial_id") == "confirm-c1-s1":
            raise ValueError("refused")
        return create(self, experiment, start, tags, name)

    monkeypatch.setattr(MlflowClient, "create_run", refuse)
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment)
    tracker.start()
    for row in [row for c in ("c1", "c2", "c3") for row in sweep.trial(c, 1, SELECTORS, {100: 0.7})]:
        tracker.record(row)
    ended = {"confirm-c2-s1": "FINISHED", "confirm-c3-s1": "FINISHED"}
    wait_until(lambda: {trial: run.info.status for trial, run in begun(uri).items()} == {"": "RUNNING", **ended})
    assert not tracker.finish("finished", timeout=4)  # it tries the one more than once
    assert {trial: run.info.status for trial, run in runs(uri).items()} == {"": "FINISHED", **ended}
    errors = capfd.readouterr().err
    assert errors.count("ValueError: refused") == 1
    assert "was deleted or changed" not in errors  # nobody but the tracker ended the sweep's run


def test_nothing_of_a_folder_that_is_another_sweep_s_now_is_delivered(sweep, uri):
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment)
    tracker.start()
    for row in sweep.trial("c1", 1, SELECTORS, {100: 0.7}):
        tracker.record(row)
    wait_until(lambda: "confirm-c1-s1" in begun(uri))
    (sweep.path / "report.html").write_text("the other's")
    tracker.stop()
    wait_for_trackers()
    client = MlflowClient(uri)
    assert not [file.path for file in client.list_artifacts(runs(uri)[""].info.run_id)]
    assert runs(uri)[""].info.status == "RUNNING"


@pytest.mark.parametrize("patient", [True, False])
def test_patience_lasts_while_trials_arrive_and_not_beyond(sweep, uri, monkeypatch, patient):
    create = MlflowClient.create_run

    def slow(self, experiment, start, tags, name):
        if tags.get("seed"):
            time.sleep(1)
        if tags.get("seed") == "9":
            raise ValueError("refused")
        return create(self, experiment, start, tags, name)

    monkeypatch.setattr(MlflowClient, "create_run", slow)
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment)
    tracker.start()
    for row in [row for seed in (9, 1, 2, 3, 4, 5, 6) for row in sweep.trial("c1", seed, SELECTORS, {100: 0.7})]:
        tracker.record(row)
    wait_until(lambda: begun(uri))  # its tables take MLflow seconds
    start = time.monotonic()
    assert not tracker.finish("finished", timeout=4, patient=patient)
    waited = time.monotonic() - start
    ended = [trial for trial, run in runs(uri).items() if trial and run.info.status == "FINISHED"]
    wait_for_trackers()  # what one says belongs to this test
    if patient:
        assert len(ended) == 6  # in more than six seconds
    else:
        assert waited < 6
        assert len(ended) < 6


def test_no_trial_waits_for_a_slow_server_and_all_arrive_after_the_end(sweep, uri, monkeypatch):
    create, answered = MlflowClient.create_run, threading.Event()

    def hang(self, *args, **kwargs):
        assert answered.wait(60)
        return create(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_run", hang)
    rows = [row for seed in range(30) for row in sweep.trial("c1", seed, SELECTORS, {100: 0.7})]
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment)
    tracker.start()
    time.sleep(0.5)
    start = time.monotonic()
    for row in rows:
        tracker.record(row)
    assert time.monotonic() - start < 1
    answered.set()
    assert tracker.finish("finished", patient=True)
    assert_shows(uri, sweep.path)


def test_a_server_that_is_away_costs_the_sweep_nothing(sweep, uri, capfd):
    rows = sweep.trial("c1", 1, SELECTORS, {100: 0.7}, epochs=5000)
    tracker = Tracker("http://user:secret@127.0.0.1:9", "selectors", sweep.path, sweep.environment)
    tracker.start()
    start = time.perf_counter()
    for row in rows:
        tracker.record(row)
    assert time.perf_counter() - start < 1
    assert not tracker.finish("finished", timeout=6)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2, lines
    assert f"python -m harness.tracking sync {sweep.path}" in lines[1]
    assert not any("secret" in line for line in lines)
    sync(sweep.path, uri)
    assert_shows(uri, sweep.path)


def test_what_was_recorded_while_the_server_was_away_is_delivered_when_it_returns(sweep, uri, monkeypatch, capfd):
    away, log_batch = [False], MlflowClient.log_batch

    def answer(self, *args, **kwargs):
        if away[0]:
            raise ConnectionError("connection refused")
        return log_batch(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", answer)
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment, retry_seconds=0.5)
    tracker.start()
    for row in sweep.trial("c1", 1, SELECTORS, {100: 0.7}, epochs=5):
        tracker.record(row)
    wait_until(lambda: held(uri, "confirm-c1-s1") > 5)
    away[0] = True
    for row in sweep.trial("c2", 1, SELECTORS, {100: 0.7}, epochs=5):  # not before: the tracker reads the folder first
        tracker.record(row)
    time.sleep(2)
    assert held(uri, "confirm-c2-s1") == 0
    away[0] = False
    wait_until(lambda: held(uri, "confirm-c2-s1") > 5)
    for row in sweep.trial("c3", 1, SELECTORS, {100: 0.7}, epochs=5):
        tracker.record(row)
    assert tracker.finish("finished")
    assert_shows(uri, sweep.path)
    assert capfd.readouterr().err.count("does not answer") == 1


@pytest.mark.slow
def test_a_server_that_is_away_at_the_start_midway_and_for_good(sweep, uri, server, capfd):
    tracker = Tracker(server.uri, "selectors", sweep.path, sweep.environment, retry_seconds=1.0)
    tracker.start()
    for row in sweep.trial("c1", 1, SELECTORS, {100: 0.7}, epochs=50):
        tracker.record(row)
    time.sleep(3)
    server.start()
    wait_until(lambda: held(uri, "confirm-c1-s1") > 50 and not tracker.failing)
    long = sweep.trial("c2", 1, SELECTORS, {100: 0.7}, epochs=3000)
    for row in long:
        tracker.record(row)
    wait_until(lambda: held(uri, "confirm-c2-s1") > 500)
    server.kill()  # in the middle of a delivery
    for row in sweep.trial("c3", 1, SELECTORS, {100: 0.7}):
        tracker.record(row)
    time.sleep(3)
    server.start()
    wait_until(lambda: held(uri, "confirm-c3-s1") > 3 and not tracker.failing)  # each failure is told once
    server.kill()
    for row in sweep.trial("c4", 1, SELECTORS, {100: 0.7}):
        tracker.record(row)
    assert not tracker.finish("finished", timeout=5)
    errors = capfd.readouterr().err
    assert errors.count("does not answer") == 3
    assert f"python -m harness.tracking sync {sweep.path} --tracking-uri {server.uri}" in errors
    assert "Traceback" not in errors
    server.start()
    assert command.main(["sync", str(sweep.path), "--tracking-uri", server.uri]) == 0
    assert_shows(uri, sweep.path)
    assert {run.info.status for run in runs(uri).values()} == {"FINISHED"}
    before = dump(uri)
    sync(sweep.path, server.uri)
    assert dump(uri) == before


def test_system_metrics_on_request(tmp_path, uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "1")
    sweep = SweepFolder(tmp_path / "selectors", system_metrics=True)
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment)
    tracker.start()
    for row in sweep.trial("c1", 1, SELECTORS, {100: 0.7}):
        tracker.record(row)
    wait_until(lambda: "system/cpu_utilization_percentage" in (begun(uri)[""].data.metrics if begun(uri) else {}))
    time.sleep(1.5)
    assert tracker.finish("finished")
    parent, trial = runs(uri)[""], runs(uri)["confirm-c1-s1"]
    assert 0 <= parent.data.metrics["system/cpu_utilization_percentage"] <= 100
    assert parent.data.metrics["system/system_memory_usage_megabytes"] > 0
    assert len(MlflowClient(uri).get_metric_history(parent.info.run_id, "system/cpu_utilization_percentage")) >= 2
    assert not [name for name in trial.data.metrics if name.startswith("system/")]
    before = dump(uri)
    sync(sweep.path, uri)  # another machine's load is none of the sweep's
    assert dump(uri) == before


def test_a_running_sweep_is_not_synced_by_a_second_process(sweep, uri, capsys):
    sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    with FileLock(sweep.path / "lock"):
        assert command.main(["sync", str(sweep.path), "--tracking-uri", uri]) == 2
    expected = f"tracking: {sweep.path}: another sweep is running in this folder, or its records are being sent\n"
    assert capsys.readouterr().err == expected
    sync(sweep.path, uri)
    assert_shows(uri, sweep.path)

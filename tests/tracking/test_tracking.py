import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from PIL import Image
from sweep_folder import SweepFolder

import harness.report.looks.classes  # noqa: F401 - a first delivery imports it for seconds, which some tests below have not
from baselines.backbones.dcnn3 import DCNN3
from harness import embed
from harness.encoders import saved
from harness.encoders.saved import SavedEncoder
from harness.records.names import run_name, varied
from harness.records.rows import by_trial, last, read
from harness.tracking import __main__ as command
from harness.tracking import delivery
from harness.tracking.delivery import Delivery
from harness.tracking.models import save_pyfunc
from harness.tracking.server import client_library, tracking_uri
from harness.tracking.tracker import Tracker, sync

SELECTORS = {"selector.name": "coreset", "ssl_method.temperature": 0.2}


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A migrated database; migrating takes seconds, so that every test gets a copy."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client_library().MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(empty_database, tmp_path):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def sweep(tmp_path):
    return SweepFolder(tmp_path / "selectors")


def deliver(sweep, uri, rows=(), status="finished"):
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment)
    tracker.start()
    for row in rows:
        tracker.record(row)
    assert tracker.finish(status)


def runs(uri, view=ViewType.ACTIVE_ONLY):
    """The runs by trial; the sweep's own is ''."""
    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("selectors").experiment_id], run_view_type=view)
    trials = [run.data.tags.get("trial_id", "") for run in found]
    assert len(set(trials)) == len(trials), "a trial has two runs"
    return dict(zip(trials, found, strict=True))


def begun(uri):
    """The runs, or none while there is no sweep's run yet."""
    there = MlflowClient(uri).get_experiment_by_name("selectors")
    return found if there and "" in (found := runs(uri)) else {}


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def points(uri, run):
    """Every stored point (name, step, value), duplicates included."""
    client = MlflowClient(uri)
    found = [point for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name)]
    return sorted((point.key, point.step, point.value, point.timestamp) for point in found)


def dump(uri):
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        return list(database.iterdump())


def assert_shows(uri, sweep):
    """Every value of the records is in MLflow exactly once, by a slow independent reading of rows.jsonl."""
    expected = {}
    for line in (sweep.path / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name, value in row["metrics"].items():
            expected.setdefault(row["trial"], {})[name, row["step"]] = value
    found = runs(uri)
    assert set(found) == {"", *expected}
    for trial, values in expected.items():
        stored = points(uri, found[trial])
        assert max(Counter((name, step) for name, step, _, _ in stored).values()) == 1
        assert {(name, step): value for name, step, value, _ in stored} == values


def test_a_trial_with_all_that_belongs_to_it(sweep, uri):
    rows = sweep.trial("c1", 1, SELECTORS, {100: 0.7, 200: 0.8})
    (sweep.path / "summary.md").write_text("coreset wins")
    (sweep.path / "curves.svg").write_text("<svg/>")
    deliver(sweep, uri, rows)
    assert_shows(uri, sweep)
    found = runs(uri)
    trial, parent = found["confirm-c1-s1"], found[""]
    assert trial.info.run_name == "coreset · seed 1"  # only the selector varies in this sweep
    assert parent.info.run_name == "selectors"
    assert trial.info.status == parent.info.status == "FINISHED"
    assert trial.info.end_time == rows[-1]["time"]
    assert trial.data.params == {
        "dataset.name": "digits",
        "ssl_method.name": "simclr",
        "ssl_method.temperature": "0.2",
        "backbone.name": "dcnn3",
        "selector.name": "coreset",
        "seed": "1",
    }
    tags = {
        "mlflow.parentRunId": parent.info.run_id,
        "sweep_id": "sweep-1",
        "method": "simclr",
        "selector": "coreset",
        "dataset": "digits",
        "backbone": "dcnn3",
        "phase": "confirm",
        "seed": "1",
        "commit": "399b5c3c59c6c23e",
        "host": "box",
        "device": "cpu",
        "version/torch": "2.15.0",
    }
    assert tags.items() <= trial.data.tags.items()
    assert "early_stopped" not in trial.data.tags
    (data,) = trial.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("digits", sweep.environment["dataset"]["fingerprint"][:36])
    client = MlflowClient(uri)
    names = {
        "config.yaml",
        "selected_100.json",
        "selected_200.json",
        "class_counts_100.json",
        "class_counts_200.json",
        "class_counts_pool.json",
        "classification_report.txt",
        "confusion_matrix_100.json",
        "confusion_matrix_200.json",
        "confusion_matrix.svg",
    }
    assert {file.path for file in client.list_artifacts(trial.info.run_id)} == names
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {
        "space.yaml",
        "environment.json",
        "summary.md",
        "curves.svg",
    }
    assert ">40</text>" in Path(client.download_artifacts(trial.info.run_id, "confusion_matrix.svg")).read_text()
    report = Path(client.download_artifacts(trial.info.run_id, "classification_report.txt")).read_text()
    assert "cat       0.89      0.80      0.84        50" in report  # 40 of 45 predicted, 40 of 50 true


@pytest.mark.parametrize(
    ("status", "shown", "tags"),
    [
        ("finished", "FINISHED", {}),
        ("stopped", "FINISHED", {"early_stopped": "true"}),
        ("failed", "FAILED", {"error": "OutOfMemoryError: 3 GiB"}),
        ("running", "KILLED", {}),
    ],
)
def test_endings(sweep, uri, status, shown, tags):
    error = "OutOfMemoryError: 3 GiB" if status == "failed" else None
    deliver(sweep, uri, sweep.trial("c1", 1, SELECTORS, {100: 0.7}, status=status, error=error), status="interrupted")
    run = runs(uri)["confirm-c1-s1"]
    assert run.info.status == shown
    assert {name: run.data.tags[name] for name in ("early_stopped", "error") if name in run.data.tags} == tags
    assert runs(uri)[""].info.status == "KILLED"


def test_a_failed_trial_that_succeeds_when_tried_again_is_no_longer_failed(sweep, uri):
    deliver(sweep, uri, sweep.trial("c1", 1, SELECTORS, {}, status="failed", error="died"), status="failed")
    assert runs(uri)["confirm-c1-s1"].info.status == "FAILED"
    deliver(sweep, uri, sweep.trial("c1", 1, SELECTORS, {100: 0.7}))
    run = runs(uri)["confirm-c1-s1"]
    assert run.info.status == "FINISHED"
    assert "error" not in run.data.tags


def test_numbers_that_are_none_are_dropped_and_named(sweep, uri):
    rows = sweep.records("c1", 1, SELECTORS, {100: 0.7})
    rows[0]["metrics"]["pretrain/loss"] = float("nan")
    rows[1]["metrics"]["pretrain/loss"] = float("inf")
    sweep.append(rows)
    deliver(sweep, uri, rows)
    run = runs(uri)["confirm-c1-s1"]
    assert "pretrain/loss" not in run.data.metrics
    assert run.data.tags["dropped_metrics"] == "pretrain/loss at epoch 1 is nan; pretrain/loss at epoch 2 is inf"
    before = dump(uri)
    sync(sweep.path, uri)
    assert dump(uri) == before


def test_a_name_uses_one_axis_only(sweep, uri):
    rows = sweep.records("c1", 1, SELECTORS, {100: 0.7})
    rows[1]["metrics"]["val/accuracy"] = 0.1
    deliver(sweep, uri, rows)
    stored = [point[:3] for point in points(uri, runs(uri)["confirm-c1-s1"]) if point[0].startswith("val/")]
    assert stored == [("val/accuracy", 100, 0.7), ("val/accuracy/by_epoch", 2, 0.1)]


def test_long_parameters_are_cut_with_a_mark_and_many_fit(sweep, uri):
    parameters = {"selector.name": "x" * 7000, **{f"selector.p{k}": k for k in range(250)}}
    deliver(sweep, uri, sweep.trial("c1", 1, parameters, {100: 0.7}))
    params = runs(uri)["confirm-c1-s1"].data.params
    assert len(params["selector.name"]) == 6000
    assert params["selector.name"].endswith("[cut]")
    assert params["selector.p249"] == "249"


def test_sync_delivers_once(sweep, uri):
    for seed in (1, 2):
        sweep.trial("c1", seed, SELECTORS, {100: 0.7, 200: 0.8}, epochs=30)
    sweep.trial("c2", 1, SELECTORS, {100: 0.7}, status="running")
    sync(sweep.path, uri)
    assert_shows(uri, sweep)
    assert runs(uri)[""].info.status == runs(uri)["confirm-c2-s1"].info.status == "KILLED"
    before = dump(uri)
    sync(sweep.path, uri)
    assert dump(uri) == before
    sweep.trial("c3", 1, SELECTORS, {100: 0.9})
    sync(sweep.path, uri)
    assert_shows(uri, sweep)


def test_sync_after_the_tracker_changes_nothing(sweep, uri):
    deliver(sweep, uri, sweep.trial("c1", 1, SELECTORS, {100: 0.7}), status="failed")
    before = dump(uri)
    sync(sweep.path, uri)
    assert dump(uri) == before


KILLED = """
import json, sys, time
from pathlib import Path
from harness.tracking import Tracker
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
    assert_shows(uri, sweep)
    assert {run.info.status for run in runs(uri).values()} == {"FINISHED"}


def test_a_lost_answer_makes_no_second_run(sweep, uri, monkeypatch):
    create, lost = MlflowClient.create_run, []

    def create_and_lose_the_answer(self, *args, **kwargs):
        run = create(self, *args, **kwargs)
        if len(lost) < 2:  # the sweep's and the first trial's
            lost.append(run)
            raise ConnectionError("connection reset")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", create_and_lose_the_answer)
    deliver(sweep, uri, sweep.trial("c1", 1, SELECTORS, {100: 0.7}))
    assert len(lost) == 2
    assert_shows(uri, sweep)


def test_a_request_whose_answer_is_lost_is_not_sent_again_unseen():
    """MLflow's client would repeat it of its own, and make a second run that nobody knows of."""
    asked: list[str] = []

    class HangsUp(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.connection.shutdown(socket.SHUT_RDWR)

    with ThreadingHTTPServer(("127.0.0.1", 0), HangsUp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = client_library().MlflowClient(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(MlflowException, match="runs/create"):
            client.create_run("0")
        server.shutdown()
    assert asked == ["/api/2.0/mlflow/runs/create"]


def test_of_two_runs_of_one_trial_one_stays(sweep, uri):
    """A server that was slow to answer may have made a run after the tracker had given it up."""
    deliver(sweep, uri, sweep.trial("c1", 1, SELECTORS, {100: 0.7}))
    client = MlflowClient(uri)
    for run in runs(uri).values():
        tags = {name: value for name, value in run.data.tags.items() if name != "delivered"}
        for start in (run.info.start_time - 1, run.info.start_time, run.info.start_time + 1):
            client.create_run(run.info.experiment_id, start, tags)
    sync(sweep.path, uri)
    assert_shows(uri, sweep)
    assert {run.info.status for run in runs(uri).values()} == {"FINISHED"}
    (trial,) = (run for name, run in runs(uri).items() if name)
    assert trial.data.tags["mlflow.parentRunId"] == runs(uri)[""].info.run_id


def test_a_run_that_may_not_be_deleted_stops_nothing(sweep, uri, monkeypatch):
    deliver(sweep, uri, sweep.trial("c1", 1, SELECTORS, {100: 0.7}))
    first = runs(uri)["confirm-c1-s1"]
    MlflowClient(uri).create_run(first.info.experiment_id, first.info.start_time + 1, first.data.tags)

    def refuse(self, run_id):
        raise MlflowException("Permission denied")

    monkeypatch.setattr(MlflowClient, "delete_run", refuse)
    sweep.trial("c2", 1, SELECTORS, {100: 0.7})
    sync(sweep.path, uri)
    monkeypatch.undo()
    sync(sweep.path, uri)
    assert_shows(uri, sweep)


def test_a_running_sweep_is_not_synced_by_a_second_process(sweep, uri, capsys):
    sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    with FileLock(sweep.path / "lock"):
        assert command.main(["sync", str(sweep.path), "--tracking-uri", uri]) == 2
    expected = f"tracking: {sweep.path}: another sweep is running in this folder, or its records are being sent\n"
    assert capsys.readouterr().err == expected
    sync(sweep.path, uri)
    assert_shows(uri, sweep)


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
    assert not tracker.finish("finished", timeout=6)
    assert {trial: run.info.status for trial, run in runs(uri).items()} == {
        "": "FINISHED",
        "confirm-c2-s1": "FINISHED",
        "confirm-c3-s1": "FINISHED",
    }
    assert capfd.readouterr().err.count("ValueError: refused") == 1


@pytest.mark.parametrize("patient", [True, False])
def test_patience_lasts_while_trials_arrive_and_not_beyond(sweep, uri, monkeypatch, patient):
    describe = Delivery._describe

    def slow(self, run, history, *rest):
        time.sleep(1)
        if next(iter(history.values()))["seed"] == 9:
            raise ValueError("refused")
        describe(self, run, history, *rest)

    monkeypatch.setattr(Delivery, "_describe", slow)
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment)
    tracker.start()
    for row in [row for seed in (9, 1, 2, 3, 4, 5, 6) for row in sweep.trial("c1", seed, SELECTORS, {100: 0.7})]:
        tracker.record(row)
    start = time.monotonic()
    assert not tracker.finish("finished", timeout=4, patient=patient)
    waited = time.monotonic() - start
    ended = [trial for trial, run in runs(uri).items() if trial and run.info.status == "FINISHED"]
    tracker._thread.join(60)  # what it says belongs to this test
    if patient:
        assert len(ended) == 6  # in more than six seconds
    else:
        assert waited < 6
        assert len(ended) < 6


def test_trials_that_end_faster_than_mlflow_takes_them_wait_for_it(sweep, uri, monkeypatch):
    monkeypatch.setattr(delivery, "MOST_BEHIND", 3)
    monkeypatch.setattr(delivery, "PACE_SECONDS", 60)
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment)
    tracker.start()
    for seed in range(12):
        for row in sweep.trial("c1", seed, SELECTORS, {100: 0.7}):
            tracker.record(row)
        closed = sum(run.info.status == "FINISHED" for trial, run in begun(uri).items() if trial)
        assert closed >= seed + 1 - 3
    assert tracker.finish("finished")
    assert_shows(uri, sweep)


def test_no_trial_waits_long_for_a_slow_server_and_none_for_one_that_refuses(sweep, uri, monkeypatch, capfd):
    monkeypatch.setattr(delivery, "MOST_BEHIND", 0)
    monkeypatch.setattr(delivery, "PACE_SECONDS", 1.0)
    answered = threading.Event()
    monkeypatch.setattr(Delivery, "_describe", lambda *_: answered.wait(60) and 1 / 0)
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment)
    tracker.start()

    def seconds(configuration):
        start = time.monotonic()
        for seed in range(4):
            for row in sweep.trial(configuration, seed, SELECTORS, {100: 0.7}):
                tracker.record(row)
        return time.monotonic() - start

    assert 4 <= seconds("c1") < 12
    answered.set()
    wait_until(lambda: "does not answer as it should" in capfd.readouterr().err)
    assert seconds("c2") < 3
    assert not tracker.finish("finished", timeout=2)
    tracker._thread.join(60)


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
    assert_shows(uri, sweep)


def held(uri, trial):
    """How many points MLflow holds of a trial."""
    found = runs(uri).get(trial) if MlflowClient(uri).get_experiment_by_name("selectors") else None
    return len(points(uri, found)) if found else 0


def test_what_was_recorded_while_the_server_was_away_is_delivered_when_it_returns(sweep, uri, monkeypatch, capfd):
    monkeypatch.setattr(delivery, "MAX_RETRY_SECONDS", 0.5)
    away, log_batch = [False], MlflowClient.log_batch

    def answer(self, *args, **kwargs):
        if away[0]:
            raise ConnectionError("connection refused")
        return log_batch(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", answer)
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment)
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
    assert_shows(uri, sweep)
    assert capfd.readouterr().err.count("does not answer") == 1


@pytest.fixture
def server(tmp_path, free_port):
    """Starts and kills a real server on this machine; its database stays."""

    class Server:
        uri = f"http://127.0.0.1:{free_port}"

        def start(self):
            command = [sys.executable, "-m", "mlflow", "server", "--port", str(free_port), "--workers", "1"]
            folders = ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
            folders += ["--artifacts-destination", f"{tmp_path}/artifacts"]
            environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            self.process = subprocess.Popen(
                [*command, *folders], env=environment, cwd=tmp_path, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            wait_until(self.answers, 120)

        def answers(self):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return True
            except OSError:
                return False

        def kill(self):
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    server = Server()
    yield server
    if server.process.poll() is None:
        server.kill()


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_a_server_that_is_away_at_the_start_midway_and_for_good(sweep, uri, server, monkeypatch, capfd):
    monkeypatch.setattr(delivery, "MAX_RETRY_SECONDS", 1.0)
    tracker = Tracker(server.uri, "selectors", sweep.path, sweep.environment)
    tracker.start()
    for row in sweep.trial("c1", 1, SELECTORS, {100: 0.7}, epochs=50):
        tracker.record(row)
    time.sleep(3)
    server.start()
    wait_until(lambda: held(uri, "confirm-c1-s1") > 50 and not tracker._complained)
    long = sweep.trial("c2", 1, SELECTORS, {100: 0.7}, epochs=3000)
    for row in long:
        tracker.record(row)
    wait_until(lambda: held(uri, "confirm-c2-s1") > 500)
    server.kill()  # in the middle of a delivery
    for row in sweep.trial("c3", 1, SELECTORS, {100: 0.7}):
        tracker.record(row)
    time.sleep(3)
    server.start()
    wait_until(lambda: held(uri, "confirm-c3-s1") > 3 and not tracker._complained)  # each failure is told once
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
    assert_shows(uri, sweep)
    assert {run.info.status for run in runs(uri).values()} == {"FINISHED"}
    before = dump(uri)
    sync(sweep.path, server.uri)
    assert dump(uri) == before


def test_damaged_files_of_a_trial_do_not_hold_up_its_delivery(sweep, uri):
    rows = sweep.trial("c1", 1, SELECTORS, {100: 0.7, 200: 0.8})
    trial = sweep.path / "trials/confirm-c1-s1"
    for name, content in [("config.yaml", "a: [1"), ("confusion_matrix.json", '{"matrix": [[1'), ("error.txt", "")]:
        (trial / name).write_text(content)
    deliver(sweep, uri, rows)
    assert_shows(uri, sweep)
    assert runs(uri)["confirm-c1-s1"].data.params["selector.name"] == "coreset"


def test_two_sweeps_share_a_database(tmp_path, uri):
    first, second = SweepFolder(tmp_path / "a"), SweepFolder(tmp_path / "b")
    second.environment["sweep_id"] = "sweep-2"
    for sweep in (first, second):
        (sweep.path / "environment.json").write_text(json.dumps(sweep.environment))
        sweep.trial("c1", 1, SELECTORS, {100: 0.7})
        Delivery(uri, "selectors", sweep.path, sweep.environment, live=False).close(None)
    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("selectors").experiment_id])
    assert Counter(run.data.tags["sweep_id"] for run in found) == {"sweep-1": 2, "sweep-2": 2}


def test_a_sweep_over_data_sets_names_each_trials_own(sweep, uri):
    other = {**sweep.environment["dataset"], "name": "svhn", "fingerprint": "0b" * 32}
    sweep.environment["datasets"] = [sweep.environment["dataset"], other]
    deliver(sweep, uri, sweep.trial("c1", 1, {"dataset.name": "svhn"}, {100: 0.7}))
    found = runs(uri)
    names = {trial: {data.dataset.name for data in run.inputs.dataset_inputs} for trial, run in found.items()}
    assert names == {"": {"digits", "svhn"}, "confirm-c1-s1": {"svhn"}}


def test_tracking_uri(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert tracking_uri(None, tmp_path) == "http://server:5000"
    assert tracking_uri("sqlite:////a/b.db", tmp_path) == "sqlite:////a/b.db"
    assert tracking_uri("postgresql+psycopg2://u:p@h/d", tmp_path) == "postgresql+psycopg2://u:p@h/d"
    with pytest.raises(ValueError, match=r"'mlruns'.*did you mean 'sqlite:///.*/mlruns/mlflow.db'"):
        tracking_uri("mlruns", tmp_path)
    with pytest.raises(ValueError, match=r"'postgres://box/db' is not one of .*; did you mean 'postgresql://box/db'\?"):
        tracking_uri("postgres://me:secret@box/db", tmp_path)


def test_command_line(sweep, uri, tmp_path, capsys):
    sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    assert command.main(["sync", str(sweep.path), "--tracking-uri", uri]) == 0
    assert_shows(uri, sweep)
    assert command.main(["sync", str(tmp_path / "nothing"), "--tracking-uri", uri]) == 2
    assert "space.yaml" in capsys.readouterr().err


def test_a_new_database_is_made_without_noise(sweep, tmp_path):
    sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    # MLflow comes first, as in a sweep, where another library imports it.
    program = (
        f"import mlflow, sys; from harness.tracking.__main__ import main; sys.exit(main(['sync', {str(sweep.path)!r}]))"
    )
    command = [sys.executable, "-c", program]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert_shows(f"sqlite:///{tmp_path}/mlflow.db", sweep)


def row(step, time, status="running", kind="epoch"):
    return {"trial": "t", "step_kind": kind, "step": step, "status": status, "time": time, "metrics": {}}


def test_a_repeated_step_voids_what_came_after_it():
    first = [row(1, 10), row(2, 20), row(3, 30), row(100, 40, kind="labels")]
    again = [row(2, 50), row(100, 60, "finished", kind="labels")]
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
    whole = json.dumps(row(1, 10))
    (tmp_path / "rows.jsonl").write_text(f"{whole}\n{whole[:30]}")
    assert read(tmp_path) == ([row(1, 10)], 1)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (
            {"pretrain.epochs": 5, "classifier.epochs": 100, "ssl_method": {"name": "moco", "k": 4}},
            "pretrain.epochs 5 · classifier.epochs 100 · moco k 4",
        ),
        ({"selector": "coreset", "ssl_method": "simclr", "ssl_method.temperature": 0.2}, "coreset · simclr tau 0.2"),
        ({"ssl_method.temperature": 0.21345, "ssl_method.name": "simclr"}, "simclr tau 0.213"),
        ({"case": "supervised", "augmentation.first": "crop"}, "supervised · first crop"),
        ({"recipe": "moco_v2"}, "moco_v2"),
        ({}, "ual"),
    ],
)
def test_names_say_what_differs(parameters, name):
    record = {"parameters": parameters, "seed": 3}
    assert run_name(record, {"selector": "ual"}) == f"{name} · seed 3"


def test_what_is_the_same_in_all_trials_is_not_in_their_names():
    space = {
        "parameters": {
            "selector": {"values": ["random"]},
            "pretrain.epochs": {"values": [5, 10]},
            "ssl_method.temperature": {"distribution": "uniform", "min": 0.1, "max": 1},
        },
        "cases": {"one": {}, "two": {}},
        "confirm": {"references": [{"ssl_method": "none"}]},
    }
    assert varied(space) == {"pretrain.epochs", "ssl_method.temperature", "case", "ssl_method"}
    assert varied({"parameters": {}, "cases": {"one": {}}, "confirm": None}) == set()
    record = {"parameters": {"selector": "random", "pretrain.epochs": 5}, "seed": 1}
    assert run_name(record, {}, varied(space)) == "epochs 5 · seed 1"


def test_the_sweeps_run_says_the_question_the_answer_and_how_to_read_it(sweep, uri):
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment)
    tracker.start()
    for seed in (1, 2, 3):
        for number, selector in enumerate(("random", "coreset")):
            parameters = {"selector.name": selector}
            for row in sweep.trial(selector, seed, parameters, {100: 0.7 + 0.1 * number + 0.001 * seed}):
                tracker.record(row)
    wait_until(lambda: begun(uri))
    note = runs(uri)[""].data.tags["mlflow.note.content"]
    assert note.startswith("**Question.** Which selector finds the better 200 labels?")
    assert tracker.finish("finished")
    note = runs(uri)[""].data.tags["mlflow.note.content"]
    assert "**Answer.** coreset was the best of 2 with test/accuracy 0.79" in note
    assert "Steps are numbers of labels" in note
    before = dump(uri)
    sync(sweep.path, uri)
    assert dump(uri) == before


def test_what_appears_in_the_folders_later_is_delivered(sweep, uri):
    sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    sync(sweep.path, uri)
    client, found = MlflowClient(uri), runs(uri)
    (sweep.path / "report.html").write_text("<p>coreset</p>")
    (sweep.path / "pictures").mkdir()
    (sweep.path / "pictures" / "map.svg").write_text("<svg/>")
    (sweep.path / "trials" / "confirm-c1-s1" / "map.png").write_bytes(b"png")
    (sweep.path / "ray").mkdir()
    (sweep.path / "ray" / "state.json").write_text("{}")
    sync(sweep.path, uri)
    assert set(runs(uri)) == set(found)
    assert {"report.html", "pictures"} <= (held := {file.path for file in client.list_artifacts(found[""].info.run_id)})
    assert not {"ray", "trials", "rows.jsonl"} & held
    assert [file.path for file in client.list_artifacts(found[""].info.run_id, "pictures")] == ["pictures/map.svg"]
    assert "map.png" in {file.path for file in client.list_artifacts(found["confirm-c1-s1"].info.run_id)}
    before = dump(uri)
    sync(sweep.path, uri)
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


# Models ------------------------------------------------------------------------------------------------------------


def save_encoder(sweep, trial, seed=0):
    """Random weights as the saved encoder of a trial."""
    torch.manual_seed(seed)
    backbone, head = DCNN3((1, 8, 8), width=2), torch.nn.Linear(8, 2)
    about = {
        "trial": trial,
        "seed": 1,
        "backbone": {"name": "dcnn3", "width": 2},
        "image_shape": [1, 8, 8],
        "mean": [0.3],
        "std": [0.2],
        "precision": "float32",
        "channels_last": False,
        "head": {"name": "linear"},
        "class_names": ["cat", "dog"],
        "packages": {"torch": "2.15.0"},
    }
    state = {"head": head.state_dict(), "mean": torch.zeros(1), "std": torch.ones(1)}
    saved.write(sweep.path / "models" / trial, about, backbone.state_dict(), state)
    return SavedEncoder.load(sweep.path / "models" / trial, "cpu")


def models(uri):
    client = MlflowClient(uri)
    return client.search_logged_models([client.get_experiment_by_name("selectors").experiment_id])


def test_a_saved_encoder_becomes_a_model_that_loads_and_says_the_same(sweep, uri, tmp_path, capsys):
    import mlflow

    for seed in (1, 2):
        sweep.trial("c1", seed, SELECTORS, {100: 0.7 + 0.01 * seed})
    sync(sweep.path, uri)
    encoder = save_encoder(sweep, "confirm-c1-s2")  # saved when the trials' runs were closed already
    sync(sweep.path, uri)
    before = dump(uri)
    sync(sweep.path, uri)
    assert dump(uri) == before
    (model,) = models(uri)
    found = runs(uri)
    run, parent = found["confirm-c1-s2"], found[""]
    assert (model.name, model.status, model.source_run_id) == ("encoder", "READY", run.info.run_id)
    assert parent.data.tags["best_model"] == f"runs:/{run.info.run_id}/encoder"

    images = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    expected = encoder.embed(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    previous = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/encoder")
        assert np.allclose(loaded.predict(images), expected.numpy(), atol=1e-6)
        logits = loaded.predict(images, params={"output": "logits"})
        assert np.allclose(logits, encoder.head(expected).numpy(), atol=1e-6)
        assert loaded.metadata.signature.inputs.inputs[0].shape == (-1, 8, 8, 1)
        assert loaded.input_example.shape == (2, 8, 8, 1)
        with pytest.raises(mlflow.exceptions.MlflowException):
            loaded.predict(images.astype(np.float32))
    finally:
        mlflow.set_tracking_uri(previous)

    Image.fromarray(images[0, :, :, 0]).save(tmp_path / "image.png")
    for name in (f"runs:/{run.info.run_id}/encoder", parent.info.run_id, model.model_uri):
        output = tmp_path / "e.npz"
        arguments = [name, str(tmp_path / "image.png"), "--tracking-uri", uri, "--output", str(output)]
        assert embed.main([*arguments, "--device", "cpu"]) == 0, capsys.readouterr().err
        assert np.allclose(np.load(output)["embeddings"], expected[:1].numpy(), atol=1e-5)
        output.unlink()
    without = found["confirm-c1-s1"].info.run_id
    mistakes = {
        without: "was the sweep run with log_model?",
        f"runs:/{without}/encoder": "no encoder was logged",
        "0" * 32: "not found",
        "models:/m-0": "not found",
        "runs:/latest": "is not a run's id, runs:/<id>",
    }
    for name, message in mistakes.items():
        assert embed.main([name, str(tmp_path / "image.png"), "--tracking-uri", uri]) == 2
        errors = capsys.readouterr().err
        assert message in errors
        assert errors.count("\n") == 1


def test_other_weights_take_the_place_of_a_model_and_a_cut_off_upload_is_sent_again(sweep, uri, monkeypatch):
    sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    save_encoder(sweep, "confirm-c1-s1")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "finalize_logged_model", lambda *_: (_ for _ in ()).throw(ConnectionError("reset")))
        with pytest.raises(ConnectionError):
            sync(sweep.path, uri)
    sync(sweep.path, uri)
    (first,) = models(uri)
    assert first.status == "READY"
    save_encoder(sweep, "confirm-c1-s1", seed=1)
    sync(sweep.path, uri)
    (second,) = models(uri)
    assert second.model_id != first.model_id


def test_a_model_takes_the_module_of_its_backbone_along(sweep, tmp_path, monkeypatch):
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "my_backbone.py").write_text(
        "from baselines.backbones.dcnn3 import DCNN3\n\n\nclass Mine(DCNN3):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "plugin"))
    save_encoder(sweep, "a")
    file = sweep.path / "models" / "a" / "model.json"
    about = json.loads(file.read_text())
    about["backbone"]["name"] = "my_backbone:Mine"
    file.write_text(json.dumps(about))
    save_pyfunc(tmp_path / "model", file.parent, "m-1", "1")
    assert sorted(path.name for path in (tmp_path / "model" / "code").iterdir()) == [
        "baselines", "harness", "my_backbone.py",
    ]  # fmt: skip
    load = f"from harness import saved_encoder as s; s._load_pyfunc({str(tmp_path / 'model' / 'data' / 'a')!r})"
    elsewhere = {**os.environ, "PYTHONPATH": str(tmp_path / "model" / "code")}
    subprocess.run([sys.executable, "-P", "-c", load], cwd=tmp_path, env=elsewhere, check=True, timeout=300)

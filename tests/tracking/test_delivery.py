"""What MLflow shows of a sweep's records, and that delivering them twice changes nothing."""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import alembic.command
import pytest
import yaml
from alembic.script import ScriptDirectory
from losses import LOSSES, database_but_for_inputs_ids, files_of_runs
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sweep_folder import SweepFolder
from tracked import SELECTORS, assert_shows, begun, deliver, dump, points, runs, wait_until

from harness.report.read import read_report
from harness.tracking.delivery import Delivery, figures_of
from harness.tracking.experiment import Experiment
from harness.tracking.tracker import Tracker, sync


def test_a_trial_with_all_that_belongs_to_it(sweep, uri):
    rows = sweep.trial("c1", 1, SELECTORS, {100: 0.7, 200: 0.8})
    (sweep.path / "summary.md").write_text("coreset wins")
    (sweep.path / "curves.svg").write_text("<svg/>")
    deliver(sweep, uri, rows)
    assert_shows(uri, sweep.path)
    shown = runs(uri)
    trial, parent = shown["confirm-c1-s1"], shown[""]
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
        "ssl_method": "simclr",
        "selector": "coreset",
        "dataset": "digits",
        "backbone": "dcnn3",
        "phase": "confirm",
        "seed": "1",
        "commit": "399b5c3c59c6c23e",
        "host": "box",
        "device": "cpu",
        "differs": "coreset",
        "versions": "python 3.11.9, torch 2.15.0, ray 2.60.0",
    }
    assert tags.items() <= trial.data.tags.items()
    assert "early_stopped" not in trial.data.tags
    (data,) = trial.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("digits", sweep.environment["datasets"][0]["fingerprint"][:36])
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
    assert_shows(uri, sweep.path)
    assert runs(uri)[""].info.status == runs(uri)["confirm-c2-s1"].info.status == "KILLED"
    before = dump(uri)
    sync(sweep.path, uri)
    assert dump(uri) == before
    sweep.trial("c3", 1, SELECTORS, {100: 0.9})
    sync(sweep.path, uri)
    assert_shows(uri, sweep.path)


def test_sync_after_the_tracker_changes_nothing(sweep, uri):
    deliver(sweep, uri, sweep.trial("c1", 1, SELECTORS, {100: 0.7}), status="failed")
    before = dump(uri)
    sync(sweep.path, uri)
    assert dump(uri) == before


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
    assert_shows(uri, sweep.path)


def test_of_two_runs_of_one_trial_one_stays(sweep, uri):
    """A server that was slow to answer may have made a run after the tracker had given it up."""
    deliver(sweep, uri, sweep.trial("c1", 1, SELECTORS, {100: 0.7}))
    client = MlflowClient(uri)
    for run in runs(uri).values():
        tags = {name: value for name, value in run.data.tags.items() if name != "delivered"}
        for start in (run.info.start_time - 1, run.info.start_time, run.info.start_time + 1):
            client.create_run(run.info.experiment_id, start, tags)
    sync(sweep.path, uri)
    assert_shows(uri, sweep.path)
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
    assert_shows(uri, sweep.path)


def test_damaged_files_of_a_trial_do_not_hold_up_its_delivery(sweep, uri):
    rows = sweep.trial("c1", 1, SELECTORS, {100: 0.7, 200: 0.8})
    trial = sweep.path / "trials/confirm-c1-s1"
    for name, content in [("config.yaml", "a: [1"), ("confusion_matrix.json", '{"matrix": [[1'), ("error.txt", "")]:
        (trial / name).write_text(content)
    deliver(sweep, uri, rows)
    assert_shows(uri, sweep.path)
    assert runs(uri)["confirm-c1-s1"].data.params["selector.name"] == "coreset"


def test_two_sweeps_share_a_database(tmp_path, uri):
    first, second = SweepFolder(tmp_path / "a"), SweepFolder(tmp_path / "b")
    second.environment["sweep_id"] = "sweep-2"
    for sweep in (first, second):
        (sweep.path / "environment.json").write_text(json.dumps(sweep.environment))
        sweep.trial("c1", 1, SELECTORS, {100: 0.7})
        Delivery(uri, "selectors", sweep.path, sweep.environment, live=False).close(None)
    client = MlflowClient(uri)
    shown = client.search_runs([client.get_experiment_by_name("selectors").experiment_id])
    assert Counter(run.data.tags["sweep_id"] for run in shown) == {"sweep-1": 2, "sweep-2": 2}


def test_a_process_that_dies_while_mlflow_makes_its_tables_leaves_no_half_made_database(sweep, tmp_path, monkeypatch):
    sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    new = f"sqlite:///{tmp_path}/new/mlflow.db"
    upgrade = alembic.command.upgrade

    def die_at_the_end_of_the_last_migration(config, revision):
        upgrade(config, revision)
        (made,) = (tmp_path / "new").glob("mlflow.db*[!k]")
        with sqlite3.connect(made) as database:
            last = ScriptDirectory.from_config(config).get_revision(revision)
            database.execute("update alembic_version set version_num = ?", [last.down_revision])
        raise SystemExit

    monkeypatch.setattr(alembic.command, "upgrade", die_at_the_end_of_the_last_migration)
    with pytest.raises(SystemExit):
        Experiment(new, "selectors", "an-id")
    monkeypatch.undo()
    deliver(sweep, new)
    assert_shows(new, sweep.path)


@pytest.mark.parametrize(
    "damage", ["replaced", *(pytest.param(d, marks=pytest.mark.slow) for d in ("deleted", "emptied"))]
)
def test_a_database_that_is_changed_while_the_sweep_runs_gets_all_anew(sweep, uri, empty_database, capfd, damage):
    file = Path(uri.removeprefix("sqlite:///"))
    live = Delivery(uri, "selectors", sweep.path, sweep.environment, live=True)
    for row in sweep.trial("c1", 1, SELECTORS, {100: 0.7}):
        live.add(row)
    live.flush()
    if damage == "emptied":
        file.write_bytes(b"")
    else:
        file.unlink()
        if damage == "replaced":
            shutil.copy(empty_database, file)
    for row in sweep.trial("c2", 1, SELECTORS, {100: 0.7}):
        live.add(row)
    live.flush()  # which notices it
    live.flush()
    assert_shows(uri, sweep.path)
    live.close("FINISHED")
    assert_shows(uri, sweep.path)
    line = f"tracking: {file} was deleted or changed while the sweep runs; written anew"
    assert [said for said in capfd.readouterr().err.splitlines() if said.startswith("tracking:")] == [line]


def test_a_backup_that_is_copied_over_the_database_while_the_sweep_runs_loses_nothing(sweep, uri, tmp_path, capfd):
    file, backup = Path(uri.removeprefix("sqlite:///")), tmp_path / "backup"
    live = Delivery(uri, "selectors", sweep.path, sweep.environment, live=True)
    first = sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    for row in first[:2]:
        live.add(row)
    live.flush()
    shutil.copyfile(file, backup)
    for row in first[2:]:
        live.add(row)
    live.flush()
    shutil.copyfile(backup, file)  # the same file, as `cp` leaves it
    for row in sweep.trial("c2", 1, SELECTORS, {100: 0.6}):
        live.add(row)
    live.flush()
    live.close("FINISHED")
    assert_shows(uri, sweep.path)
    assert {run.info.status for run in runs(uri).values()} == {"FINISHED"}
    line = f"tracking: {file} was deleted or changed while the sweep runs; written anew"
    assert [said for said in capfd.readouterr().err.splitlines() if said.startswith("tracking:")] == [line]


@pytest.mark.parametrize("loss", LOSSES)
def test_sync_brings_back_what_the_server_has_lost(sweep, uri, loss):
    for name, accuracy in (("c1", 0.7), ("c2", 0.8)):
        for seed in (1, 2, 3):
            sweep.trial(name, seed, {"selector.name": name}, {100: accuracy, 200: accuracy + 0.01 * seed})
    sweep.trial("c3", 1, {"selector.name": "c3"}, {100: 0.6}, status="failed", error="died")
    (sweep.path / "figures").mkdir()
    (sweep.path / "figures/inner.svg").write_text("<svg/>")
    sync(sweep.path, uri)
    before, files = database_but_for_inputs_ids(uri), files_of_runs(uri)
    assert any("inner.svg" in name for name in files)
    LOSSES[loss](uri)
    assert (database_but_for_inputs_ids(uri), files_of_runs(uri)) != (before, files)
    sync(sweep.path, uri)
    assert_shows(uri, sweep.path)
    assert files_of_runs(uri) == files
    assert database_but_for_inputs_ids(uri) == before
    whole = dump(uri)
    sync(sweep.path, uri)
    assert dump(uri) == whole


@pytest.mark.parametrize("empties", [False, True])
def test_a_database_that_goes_between_the_last_two_trials_gets_both(sweep, uri, empties):
    file = Path(uri.removeprefix("sqlite:///"))
    gone: list[str] = []

    def goes_once(trial: str) -> None:
        if not gone:
            gone.append(trial)
            if empties:
                file.write_bytes(b"")
            else:
                file.unlink()

    live = Delivery(uri, "selectors", sweep.path, sweep.environment, live=True, delivered=goes_once)
    for selector in ("c1", "c2"):
        for row in sweep.trial(selector, 1, SELECTORS, {100: 0.7}):
            live.add(row)
    live.close("FINISHED")
    assert_shows(uri, sweep.path)


def test_a_sweep_over_data_sets_names_each_trials_own(sweep, uri):
    other = {**sweep.environment["datasets"][0], "name": "svhn", "fingerprint": "0b" * 32}
    sweep.environment["datasets"].append(other)
    deliver(sweep, uri, sweep.trial("c1", 1, {"dataset.name": "svhn"}, {100: 0.7}))
    shown = runs(uri)
    names = {trial: {data.dataset.name for data in run.inputs.dataset_inputs} for trial, run in shown.items()}
    assert names == {"": {"digits", "svhn"}, "confirm-c1-s1": {"svhn"}}


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
    assert "**Answer.** coreset was the best of 2 by val/accuracy with test/accuracy 0.79" in note
    assert "Steps are numbers of labels" in note
    before = dump(uri)
    sync(sweep.path, uri)
    assert dump(uri) == before


def test_the_figures_of_the_answer_are_those_of_the_report_also_where_no_trial_ran_since(sweep, uri):
    for name, accuracy in (("random", 0.3), ("coreset", 0.8), ("margin", 0.6)):
        for seed in (1, 2, 3):
            sweep.trial(name, seed, {"selector.name": name}, {100: accuracy + 0.001 * seed**2})
    client = MlflowClient(uri)
    for reference in ("margin", "random", None, "margin", "random"):
        sweep.space["reference"] = reference and {"selector.name": reference}
        (sweep.path / "space.yaml").write_text(yaml.safe_dump(sweep.space))
        sync(sweep.path, uri)
        shown = runs(uri)[""]
        client.log_metric(shown.info.run_id, "mine", 1.0)
        expected = figures_of(read_report(sweep.path))
        assert {name for name in expected if name.startswith("reference/")} or reference is None
        held = {name: value for name, value in shown.data.metrics.items() if not math.isnan(value) and name != "mine"}
        assert held == expected, reference
        assert len(points(uri, shown)) == len({(name, step, when) for name, step, _, when in points(uri, shown)})
    before = dump(uri)
    sync(sweep.path, uri)
    assert dump(uri) == before
    assert runs(uri)[""].data.metrics["mine"] == 1.0


def test_what_appears_in_the_folders_later_is_delivered(sweep, uri):
    sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    sync(sweep.path, uri)
    client, shown = MlflowClient(uri), runs(uri)
    (sweep.path / "report.html").write_text("<p>coreset</p>")
    (sweep.path / "pictures").mkdir()
    (sweep.path / "pictures" / "map.svg").write_text("<svg/>")
    (sweep.path / "trials" / "confirm-c1-s1" / "map.png").write_bytes(b"png")
    (sweep.path / "ray").mkdir()
    (sweep.path / "ray" / "state.json").write_text("{}")
    sync(sweep.path, uri)
    assert set(runs(uri)) == set(shown)
    assert {"report.html", "pictures"} <= (held := {file.path for file in client.list_artifacts(shown[""].info.run_id)})
    assert not {"ray", "trials", "rows.jsonl"} & held
    assert [file.path for file in client.list_artifacts(shown[""].info.run_id, "pictures")] == ["pictures/map.svg"]
    assert "map.png" in {file.path for file in client.list_artifacts(shown["confirm-c1-s1"].info.run_id)}
    before = dump(uri)
    sync(sweep.path, uri)
    assert dump(uri) == before


def test_what_is_no_text_is_delivered_with_signs_for_its_bytes(sweep, uri):
    path = os.fsdecode(b"/data/caf\xe9")
    sweep.environment["command"] = f"python -m harness.sweep {path}.yaml"
    sweep.environment["datasets"][0] |= {"path": path, "classes": [path]}
    sweep.write_environment()
    sweep.trial("c1", 1, {**SELECTORS, "dataset.path": path}, {100: 0.7})
    sync(sweep.path, uri)
    shown = runs(uri)
    trial = shown["confirm-c1-s1"]
    assert trial.data.tags["mlflow.source.name"] == "python -m harness.sweep /data/caf\\xe9.yaml"
    assert trial.inputs.dataset_inputs[0].dataset.name == "caf\\xe9"
    assert {run.info.status for run in shown.values()} == {"FINISHED"}


NON_ASCII = r"""
import sys
from pathlib import Path
from harness.report.write import write_report
from harness.tracking.artifacts import gathered_of_trial
folder = Path(sys.argv[1])
write_report(folder)
for trial in (folder / "trials").iterdir():
    with gathered_of_trial(folder, trial.name) as gathered:
        assert "\u5b66" in (gathered / "classification_report.txt").read_text(encoding="utf-8")
"""


def test_files_are_the_same_where_the_locale_has_ascii_alone(sweep):
    sweep.environment["datasets"][0]["classes"] = ["学习", "学问"]
    sweep.write_environment()
    sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    for file in sweep.path.glob("trials/*/confusion_matrix_*.json"):
        matrix = {"class_names": ["学习", "学问"], "matrix": [[5, 1], [2, 4]], "split": "test"}
        file.write_text(json.dumps(matrix, ensure_ascii=False), encoding="utf-8")
    ascii_alone = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", NON_ASCII, sweep.path], env=ascii_alone, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()

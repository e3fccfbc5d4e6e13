"""Sweeps as a user runs them: through the command line, on the embedded digits."""

import json
import os
import shlex
import signal
import time
from collections import Counter

import pandas as pd
import psutil
import pytest
import yaml
from mlflow import MlflowClient
from small_sweep import SLOW, TRIAL, endings, rows, run, start, wait_for_endings, write

from harness.records import rows as record_rows
from harness.records import trial_files
from harness.sweep.command import farewell, resume_command
from harness.sweep.session import Outcome
from harness.tracking.server import sqlite_uri


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Three selectors on one encoder, two seeds, measured at once."""
    folder = tmp_path_factory.mktemp("compared")
    file = write(
        folder,
        name="compared",
        portrait=True,
        seeds=[0, 1],
        reference={"selector": "random"},
        log_model="best",
        parameters={
            "selector": {"values": ["random", "coreset", {"name": "ual", "num_clusters": 5, "reducer": "pca"}]}
        },
    )
    assert run(folder, file) == 0
    return folder


def test_a_grid_leaves_everything_that_programs_read(compared):
    sweep = compared / "runs" / "compared"
    for name in ("space.yaml", "rows.jsonl", "environment.json", "leaderboard.csv", "summary.md", "ray"):
        assert (sweep / name).exists(), name
    assert yaml.safe_load((sweep / "space.yaml").read_text())["description"] == "A question?"
    typed = json.loads((sweep / "environment.json").read_text())["command"]
    assert typed.startswith(f"python -m harness.sweep {compared}"), typed
    assert len(pd.read_csv(sweep / "leaderboard.csv")) == 3
    frame = pd.read_json(sweep / "rows.jsonl", lines=True)
    assert {"trial", "seed", "step_kind", "step", "parameters", "metrics", "phase", "status"} <= set(frame)
    assert set(frame.phase) == {"confirm"}
    assert endings(sweep) == {"finished": 6}
    final = [row for row in rows(sweep) if row["status"] == "finished"]
    assert all(row["step"] == 30 == row["metrics"]["labels/used"] for row in final)
    assert all("test/accuracy" in row["metrics"] for row in final)


def test_each_trial_leaves_its_configuration_picks_and_confusion_matrix(compared):
    trials = sorted((compared / "runs/compared/trials").iterdir())
    assert len(trials) == 6
    for trial in trials:
        picks = json.loads((trial / "selected_30.json").read_text())
        assert len(set(picks)) == 10
        for labels in (20, 30):
            matrix = json.loads((trial / f"confusion_matrix_{labels}.json").read_text())
            assert matrix["split"] == "test"
            assert sum(map(sum, matrix["matrix"])) > 300
        assert yaml.safe_load((trial / "config.yaml").read_text())["labels"]["budget"] == 10


def test_the_first_seed_of_each_configuration_leaves_a_portrait(compared):
    sweep = compared / "runs/compared"
    trials = sorted((sweep / "trials").iterdir())
    portraits = {trial.name: trial_files.read_trial_files(trial).portrait for trial in trials}
    assert all((picture is not None) == name.endswith("-s0") for name, picture in portraits.items())
    shown = [picture for picture in portraits.values() if picture]
    assert len(shown) == 3
    assert all(picture.picked.tolist() == [20, 10] for picture in shown)
    seconds = {
        row["trial"]: row["metrics"].get("time/portrait_seconds") for row in rows(sweep) if row["status"] == "finished"
    }
    assert all((value is not None) == name.endswith("-s0") for name, value in seconds.items())
    for name in ("embedding", "neighbors", "picks", "views", "classes", "confusion", "balance"):
        assert (sweep / f"{name}.svg").exists(), name


def test_selectors_share_start_pools_and_pretraining(compared):
    by_seed: dict[int, set] = {}
    for row in rows(compared / "runs/compared"):
        if row["step_kind"] == "labels" and row["step"] == 20 and "test/accuracy" in row["metrics"]:
            by_seed.setdefault(row["seed"], set()).add(row["metrics"]["test/accuracy"])
    assert {seed: len(values) for seed, values in by_seed.items()} == {0: 1, 1: 1}
    assert len(list((compared / "stages/pretrain").iterdir())) == 2  # one for each seed, not one for each trial


def test_mlflow_holds_the_same_numbers_nested_under_one_run(compared):
    client = MlflowClient(f"sqlite:///{compared}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("compared")
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert (len(parents), len(children)) == (1, 6)
    assert {run.info.status for run in runs} == {"FINISHED"}
    expected = sorted(
        row["metrics"]["test/accuracy"] for row in rows(compared / "runs/compared") if row["status"] == "finished"
    )
    assert sorted(run.data.metrics["test/accuracy"] for run in children) == pytest.approx(expected)
    history = client.get_metric_history(children[0].info.run_id, "val/accuracy")
    assert sorted({point.step for point in history}) == [20, 30]


def test_the_encoder_of_the_best_is_kept_and_logged(compared):
    from mlflow.tracking import MlflowClient

    sweep = compared / "runs/compared"
    (model,) = (sweep / "models").glob("*/model.json")
    best = pd.read_csv(sweep / "leaderboard.csv", dtype={"configuration": str}).configuration[0]  # best first
    assert model.parent.name.startswith(f"confirm-{best}-s")
    client = MlflowClient(f"sqlite:///{compared}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("compared").experiment_id
    (logged,) = client.search_logged_models([experiment])
    (parent,) = client.search_runs([experiment], "tags.kind = 'sweep'")
    assert parent.data.tags["best_model"] == f"runs:/{logged.source_run_id}/encoder"
    assert client.get_run(logged.source_run_id).data.tags["trial_id"] == model.parent.name
    assert "**Answer.**" in parent.data.tags["mlflow.note.content"]
    assert "summary.md" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    names = {run.info.run_name for run in client.search_runs([experiment])}
    assert {"compared", "random · seed 0", "coreset · seed 1"} <= names


def test_an_existing_sweep_is_never_overwritten(compared, capsys):
    file = compared / "compared.yaml"
    before = (compared / "runs/compared/rows.jsonl").read_bytes()
    assert run(compared, file) == 2
    assert "--resume" in capsys.readouterr().err
    assert (compared / "runs/compared/rows.jsonl").read_bytes() == before


def test_resuming_a_finished_sweep_computes_nothing(compared, capsys):
    before = (compared / "runs/compared/rows.jsonl").read_bytes()
    assert run(compared, compared / "compared.yaml", "--resume") == 0
    assert (compared / "runs/compared/rows.jsonl").read_bytes() == before
    assert "coreset" in capsys.readouterr().out  # the leaderboard is shown again


def test_resuming_another_question_is_refused(compared, capsys):
    assert run(compared, compared / "compared.yaml", "--resume", "--set", "trial.pretrain.epochs=3") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "space.yaml" in line]
    assert "space.yaml: trial.pretrain.epochs: 2 -> 3; the trials that are here would be others" in line


def test_a_comparison_without_validation_images_runs_is_reported_and_goes_on(tmp_path):
    trial = TRIAL | {"data": {"val": 0}}
    asked = {"trial": trial, "name": "tested", "parameters": {"selector": {"values": ["random", "margin"]}}}
    assert run(tmp_path, write(tmp_path, **asked)) == 0
    folder = tmp_path / "runs" / "tested"
    ended = [row for row in rows(folder) if row["status"] == "finished"]
    assert len(ended) == 2
    assert all("test/accuracy" in row["metrics"] and "val/accuracy" not in row["metrics"] for row in ended)
    assert run(tmp_path, write(tmp_path, **asked, seeds=[0, 1]), "--resume") == 0
    assert endings(folder) == {"finished": 4}
    assert "test/aubc" in (folder / "summary.md").read_text()


def test_a_search_is_confirmed_with_fresh_seeds_and_reads_the_test_set_only_then(tmp_path):
    file = write(
        tmp_path,
        name="searched",
        method="bayes",
        run_cap=6,
        early_terminate={"type": "asha", "min_iter": 1, "eta": 2},
        confirm={"top": 1, "seeds": [1, 2], "references": [{"ssl_method": "none"}]},
        parameters={
            "augmentation.first": {"values": ["crop", "flip", "blur"]},
            "ssl_method.temperature": {"distribution": "log_uniform_values", "min": 0.05, "max": 1.0},
        },
    )
    assert run(tmp_path, file) == 0
    sweep = tmp_path / "runs/searched"
    records = rows(sweep)
    assert not any(name.startswith("test/") for r in records if r["phase"] == "search" for name in r["metrics"])
    ended = [r for r in records if r["status"] in ("finished", "stopped")]
    assert sum(r["phase"] == "search" for r in ended) == 6
    confirmed = [r for r in ended if r["phase"] == "confirm"]
    assert Counter(r["seed"] for r in confirmed) == {1: 2, 2: 2}
    assert all("test/accuracy" in r["metrics"] for r in confirmed)
    searched = {r["configuration"]: r["metrics"]["val/accuracy"] for r in ended
                if r["phase"] == "search" and r["status"] == "finished"}  # fmt: skip
    winner = {r["configuration"] for r in confirmed} - {
        r["configuration"] for r in confirmed if "ssl_method" in r["parameters"]
    }
    assert searched[winner.pop()] == max(searched.values())


@pytest.mark.slow
def test_the_best_of_a_search_that_nothing_confirms_leaves_a_portrait(tmp_path):
    file = write(
        tmp_path,
        name="unconfirmed",
        portrait=True,
        method="random",
        run_cap=2,
        parameters={"ssl_method.temperature": {"min": 0.05, "max": 1.0}},
    )
    assert run(tmp_path, file) == 0
    sweep = tmp_path / "runs/unconfirmed"
    last = [row for row in rows(sweep) if row["status"] == "finished"]
    best = min(last, key=lambda row: (-row["metrics"]["val/accuracy"], row["configuration"]))
    assert [trial.name for trial in (sweep / "trials").iterdir() if trial_files.read_trial_files(trial).portrait] == [
        best["trial"]
    ]
    assert (sweep / "embedding.svg").exists()
    assert endings(sweep) == {"finished": 2}


@pytest.mark.slow
def test_an_upper_bound_runs_after_the_selectors_and_stands_in_no_comparison(tmp_path, capsys):
    labels = {"labels": {"start": 20, "budget": 20, "rounds": 2}}
    file = write(
        tmp_path,
        name="bounded",
        trial={**TRIAL, **labels, "classifier": "ridge", "ssl_method": "none"},
        seeds=[0, 1],
        headroom={"batches": 40},
        reference={"selector": "random"},
        parameters={"selector": {"values": ["random", "margin"]}},
    )
    assert run(tmp_path, file) == 0
    sweep = tmp_path / "runs/bounded"
    ended = [row for row in rows(sweep) if row["status"] == "finished"]
    assert Counter(row["phase"] for row in ended) == {"confirm": 4, "headroom": 2}
    assert all(row["parameters"] == {"headroom": "best of 40 batches"} for row in ended if row["phase"] == "headroom")
    summary = (sweep / "summary.md").read_text()
    assert "of headroom" in summary
    assert "best of 40" not in summary
    capsys.readouterr()
    assert run(tmp_path, file, "--resume") == 0  # and nothing is computed again
    assert len([row for row in rows(sweep) if row["status"] == "finished"]) == len(ended)


@pytest.mark.slow
def test_several_objectives_and_random_search_with_two_seeds(tmp_path):
    file = write(
        tmp_path,
        name="several",
        method="random",
        run_cap=3,
        seeds=[0, 1],
        metric=[{"name": "val/accuracy"}, {"name": "time/total_seconds", "goal": "minimize"}],
        confirm={"top": 1, "seeds": [2]},
        parameters={"pretrain.epochs": {"min": 1, "max": 3}},
    )
    assert run(tmp_path, file) == 0
    search = [r for r in rows(tmp_path / "runs/several") if r["phase"] == "search" and r["status"] == "finished"]
    seeds_of: dict[str, list[int]] = {}
    for row in search:
        seeds_of.setdefault(row["configuration"], []).append(row["seed"])
    assert sorted(map(sorted, seeds_of.values())) == [[0, 1]] * 3  # a configuration keeps its values over its seeds


FAILING = """
import torch
from harness.api import Selector

class Failing(Selector):
    "Fails."
    def select(self, pool, budget, *, rng):
        raise RuntimeError("the selector's own trouble")
"""


def test_a_failing_plugin_fails_its_trial_and_the_sweep_goes_on(tmp_path, capsys, monkeypatch):
    (tmp_path / "failing_plugin.py").write_text(FAILING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    file = write(tmp_path, name="failing", parameters={"selector": {"values": ["random", "failing_plugin:Failing"]}})
    assert run(tmp_path, file) == 1
    assert "the selector's own trouble" in capsys.readouterr().err
    assert endings(tmp_path / "runs/failing") == {"finished": 1, "failed": 1}
    failed = next((tmp_path / "runs/failing/trials").glob("*/error.txt"))
    assert "RuntimeError" in failed.read_text()


def without_agents(processes: list[psutil.Process]) -> list[psutil.Process]:
    """All but Ray's two agents of a node, which try for a minute to report that the node is gone before they end."""
    return [process for process in processes if "Agent" not in _name(process)]


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


@pytest.mark.parametrize(
    "blow", [signal.SIGKILL, *(pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGINT, signal.SIGTERM))]
)
def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path, blow):
    (tmp_path / "slow_plugin.py").write_text(SLOW)
    log = tmp_path / "selections.log"
    selector = {"name": "slow_plugin:Slow", "log": str(log)}
    file = write(
        tmp_path,
        name="interrupted",
        trial={**TRIAL, "selector": selector},
        seeds=[0, 1, 2, 3],
        parameters={"selector.seconds": {"values": [1.0, 1.1]}},
    )
    sweep = tmp_path / "runs/interrupted"
    process = start(tmp_path, file)
    wait_for_endings(sweep, 2, process)
    started = without_agents(psutil.Process(process.pid).children(recursive=True))
    process.send_signal(blow)
    _, errors = process.communicate(timeout=60)
    assert not psutil.wait_procs(started, timeout=60)[1], "Ray's processes outlived the driver"
    if blow != signal.SIGKILL:
        assert process.returncode == 130
        assert "--resume" in errors
    before = {r["trial"]: r for r in record_rows.read_rows(sweep)[0] if r["status"] == "finished"}
    assert 2 <= len(before) < 8
    resumed = start(tmp_path, file, "--resume")
    out, errors = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, out + errors
    finished = [r for r in record_rows.read_rows(sweep)[0] if r["status"] == "finished"]
    assert Counter(r["trial"] for r in finished) == dict.fromkeys({r["trial"] for r in finished}, 1)
    assert len(finished) == 8
    assert all(r == before[r["trial"]] for r in finished if r["trial"] in before)
    assert len(log.read_text().splitlines()) == 8  # no selection that finished was computed again
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    tracked = client.search_runs([client.get_experiment_by_name("interrupted").experiment_id])
    trials = [run.data.tags.get("trial_id", "") for run in tracked]  # the sweep's own is ""
    assert sorted(trials) == sorted(["", *(r["trial"] for r in finished)])
    assert {run.info.status for run in tracked} == {"FINISHED"}


@pytest.mark.slow
def test_a_sweep_goes_on_to_its_end_when_nobody_reads_what_it_says(tmp_path):
    file = write(tmp_path, name="unread", trial={**TRIAL, "ssl_method": "none"}, seeds=[0, 1])
    process = start(tmp_path, file)
    process.stderr.readline()
    process.stderr.close()
    out = process.stdout.read()
    assert process.wait(timeout=600) == 0
    assert "report:" in out
    assert "unread: " in out
    sweep = tmp_path / "runs/unread"
    assert endings(sweep) == {"finished": 2}
    assert not (sweep / "error.txt").exists()
    process = start(tmp_path, file, "--resume")
    process.stdout.close()
    errors = process.stderr.read()
    assert (process.wait(timeout=600), "Traceback" in errors) == (0, False), errors


def test_printed_commands_can_be_pasted(tmp_path, capsys):
    assert (
        resume_command("selbench sweep", ["--quiet", "--", "-q.yaml"]) == "selbench sweep --quiet --resume -- -q.yaml"
    )
    folder = tmp_path / "a;key=1&token=2"
    folder.mkdir()
    uri = sqlite_uri(folder / "mlflow.db")
    (folder / "mlflow.db").touch()
    farewell(Outcome(folder, uri, complete=True), "")
    printed = capsys.readouterr().out.splitlines()[-1].removeprefix("MLflow UI: ")
    assert shlex.split(printed) == ["mlflow", "ui", "--backend-store-uri", uri]


def test_the_password_of_a_server_is_not_shown(tmp_path, capsys):
    resume = resume_command(
        "python -m harness.sweep", ["a question.yaml", "--tracking-uri", "postgresql://me:secret@box/db"]
    )
    assert resume == "python -m harness.sweep 'a question.yaml' --tracking-uri postgresql://box/db --resume"
    for uri, line in {
        "https://me:secret@box": "https://box",
        "mysql://me:secret@box/db": "mlflow ui --backend-store-uri mysql://box/db",
    }.items():
        farewell(Outcome(tmp_path, uri, complete=True), resume)
        assert capsys.readouterr().out.splitlines()[-1] == f"MLflow UI: {line}"


@pytest.mark.slow
def test_a_killed_worker_costs_no_trial(tmp_path):
    (tmp_path / "slow_plugin.py").write_text(SLOW)
    log = tmp_path / "selections.log"
    file = write(
        tmp_path,
        name="worker",
        trial={**TRIAL, "selector": {"name": "slow_plugin:Slow", "log": str(log), "seconds": 3.0}},
        seeds=[0, 1, 2],
        resources={"max_concurrent": 1},
    )
    sweep = tmp_path / "runs/worker"
    process = start(tmp_path, file)
    wait_for_endings(sweep, 1, process)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "stages/pretrain").glob("*/meta.json"))) < 2:  # the second trial is selecting, then
        assert time.monotonic() < deadline
        time.sleep(0.02)
    victim = _worker_of(process.pid)
    trained = {file: file.read_bytes() for file in (tmp_path / "stages/pretrain").glob("*/meta.json")}
    os.kill(victim, signal.SIGKILL)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, out + errors
    assert endings(sweep) == {"finished": 3}
    assert len(trained) == 2
    begun = Counter(row["trial"] for row in rows(sweep) if (row["step"], row["status"]) == (0, "running"))
    assert sorted(begun.values()) == [1, 1, 2]  # the killed one began anew
    assert all(file.read_bytes() == content for file, content in trained.items()), "a stage was computed again"


def _worker_of(driver: int) -> int:
    """The process id of a busy trial of this driver."""
    for _ in range(100):
        for child in psutil.Process(driver).children(recursive=True):
            if "ray::ImplicitFunc" in " ".join(child.cmdline()):
                return child.pid
        time.sleep(0.05)
    raise AssertionError("no worker found")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": {"name": "test/accuracy"}}, "did you mean 'val/accuracy'?"),
        ({"trial": {**TRIAL, "selector": "corset"}}, "did you mean 'coreset'?"),
        ({"trial": {**TRIAL, "labels": {"start": 100000}}}, "use at most"),
        ({"resources": {"cpus": 100000}}, "asked for"),
        ({"parameters": {"pretrain.epochs": {"values": []}}}, "at least one value"),
        ({"trial": {**TRIAL, "dataset": {"name": "image_folder", "path": "no/such/folder"}}}, "no/such/folder"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(tmp_path, capsys, change, message):
    file = write(tmp_path, **{"name": "wrong", **change})
    assert run(tmp_path, file) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "runs/wrong/rows.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *((name, "is taken: ") for name in ("data", "Stages", "mlflow.db", "mlflow_artifacts", "s3")),
        *((name, "would be read as an option") for name in ("-x", "--help")),
        *((name, "cannot name a folder") for name in ("a\nb", "\x1b[31mred", "..", "a/b", "\u202eabc")),
        ("x" * 300, "at most 200 can name a folder"),
        ("学" * 67, "at most 200 can name a folder"),
    ],
)
def test_names_that_no_sweep_may_have_are_refused_before_anything_runs(tmp_path, capsys, name, message):
    file = write(tmp_path)
    for more in (["--dry-run"], []):
        assert run(tmp_path, file, "--set", f"name={json.dumps(name)}", *more) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
        assert line.isprintable()
    assert not (tmp_path / "runs").exists()


def test_a_sweep_does_not_move_into_its_caches(tmp_path, capsys):
    file = write(tmp_path, name="mine")
    for option in ("--stages", "--cache"):
        for place in ("runs/mine", "runs/mine/inside"):
            assert run(tmp_path, file, option, str(tmp_path / place), "--dry-run") == 2
            assert f"{option} {tmp_path / place} is the sweep's own folder" in capsys.readouterr().err
        for place in ("runs", "."):
            assert run(tmp_path, file, option, str(tmp_path / place), "--dry-run") == 2
            assert f"{option} {tmp_path / place} may be deleted at any time" in capsys.readouterr().err


def test_dry_run_shows_trials_and_shared_stages(tmp_path, capsys):
    file = write(tmp_path, name="dry", seeds=[0, 1], parameters={"selector": {"values": ["random", "coreset", "ual"]}})
    assert run(tmp_path, file, "--dry-run") == 0
    text = capsys.readouterr().out
    assert "2 pre-trainings for 6 trials that need one (4 shared)" in text
    assert not (tmp_path / "runs").exists()

"""What happens to sweeps when something breaks: nothing that finished is lost, and every failure has its cause."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import optuna
import psutil
import pytest
from mlflow import MlflowClient
from small_sweep import SLOW, TRIAL, endings, rows, run, start, write
from sweep_folder import replace_rows
from test_sweep import without_agents

from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.config.tasks import Task
from harness.records import rows as record_rows
from harness.records.details import Details
from harness.records.folder import Recorder
from harness.sweep.search import Study, mend_journal
from harness.sweep.worker import record_of, tasks_in
from harness.tracking.server import sqlite_uri

QUICK = {**TRIAL, "ssl_method": "none"}


pytestmark = pytest.mark.usefixtures("workers_find_the_plugins")


def mlflow_statuses(folder: Path, name: str, database: Path | None = None) -> dict[str, str]:
    """Trial -> status of its run; that of the sweep is ''. Each has one run."""
    client = MlflowClient(sqlite_uri(database or folder / "runs/mlflow.db"))
    runs = client.search_runs([client.get_experiment_by_name(name).experiment_id], max_results=1000)
    trials = [run.data.tags.get("trial_id", "") for run in runs]
    assert max(Counter(trials).values()) == 1
    return {trial: run.info.status for trial, run in zip(trials, runs, strict=True)}


def family(process: subprocess.Popen) -> list[psutil.Process]:
    """All processes that a driver has started and that live."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def assert_end_by_themselves(processes: list[psutil.Process], seconds: float = 60) -> None:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert not alive, [process.name() for process in alive]


def assert_reached_by_this_machine_alone(processes: list[psutil.Process]) -> None:
    """That what they listen on is loopback's: Ray's servers run whatever they are told."""
    ports = {
        (process.name(), port.laddr.ip)
        for process in processes
        if process.is_running()
        for port in process.net_connections("inet")
        if port.status == psutil.CONN_LISTEN
    }
    assert {"raylet", "gcs_server"} <= {name for name, _ in ports}
    assert {address for _, address in ports} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, sorted(ports)


# ---------------------------------------------------------------- trials that misbehave


@pytest.mark.slow
def test_whatever_a_plugin_does_fails_its_trial_alone_and_with_its_cause(tmp_path, capsys):
    log = tmp_path / "deaths.log"
    bad = ["Raises", "LoopsInC", "Loops", "Hoards", "Dies"]
    cases = {name: {"selector": {"name": f"bad_plugins:{name}"}} for name in bad}
    cases["Dies"]["selector"]["log"] = str(log)
    cases["NaN"] = {"ssl_method": TRIAL["ssl_method"], "pretrain.lr": 1e30}
    file = write(
        tmp_path,
        name="bad",
        trial=QUICK,
        cases={"random": {}, **cases, "margin": {"selector": "margin"}},
        resources={"time_limit": 40, "memory_gb": 1.5},
    )
    assert run(tmp_path, file) == 1
    errors = capsys.readouterr().err
    sweep = tmp_path / "runs/bad"
    assert endings(sweep) == {"finished": 2, "failed": 6}
    causes = {row["parameters"]["case"]: row["error"] for row in rows(sweep) if row["status"] == "failed"}
    assert causes["Raises"] == "ArithmeticError: the plugin's own trouble"
    for name in ("Loops", "LoopsInC"):
        assert causes[name] == "TimeoutError: the trial took longer than resources.time_limit, 40 seconds"
    held = re.match(r"MemoryError: the trial held ([\d.]+) GB; ", causes["Hoards"])
    assert held, causes["Hoards"]
    assert 1.5 <= float(held[1]) < 3  # a fast machine takes more before it is noticed
    assert causes["Hoards"].endswith("resources.memory_gb is 1.5")
    assert causes["Dies"].startswith("the worker died 3 times")
    assert len(log.read_text().splitlines()) == 3  # the first time and two more
    assert causes["NaN"].startswith("DivergedError")
    assert "pretrain.lr" in causes["NaN"]
    assert "Traceback" not in errors
    for cause in causes.values():
        assert cause in errors
    assert Counter(mlflow_statuses(tmp_path, "bad").values()) == {"FINISHED": 3, "FAILED": 6}


def test_a_secret_in_a_plugins_error_is_kept_nowhere(tmp_path, capfd):
    cases = {"random": {}, "tells": {"selector": "bad_plugins:Tells"}}
    assert run(tmp_path, write(tmp_path, name="tells", trial=QUICK, cases=cases)) == 1
    (cause,) = (row["error"] for row in rows(tmp_path / "runs/tells") if row["status"] == "failed")
    assert "'password': ***" in cause
    assert cause in capfd.readouterr().err
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert [path for path, content in kept.items() if b"bad_plugins:Tells" in content]
    assert len([path for path, content in kept.items() if b"ArithmeticError" in content]) >= 5  # also of MLflow
    assert not [path for path, content in kept.items() if b"hunter2" in content]


@pytest.mark.slow
def test_a_worker_that_dies_in_the_second_seed_leaves_the_first_one_finished(tmp_path):
    log = tmp_path / "deaths.log"
    file = write(
        tmp_path,
        name="seeds",
        method="bayes",
        run_cap=1,
        seeds=[0, 1, 2],
        trial={**QUICK, "selector": {"name": "bad_plugins:Dies", "log": str(log), "first": 2, "times": 1}},
        parameters={"classifier.epochs": {"min": 1, "max": 9}},
    )
    assert run(tmp_path, file) == 0
    sweep = tmp_path / "runs/seeds"
    statuses = Counter((row["seed"], row["status"]) for row in rows(sweep) if row["step"] == 0 or "trail" in row)
    assert statuses == {
        (0, "running"): 1,
        (1, "running"): 2,
        (2, "running"): 1,
        **{(s, "finished"): 1 for s in range(3)},
    }
    (told,) = optuna.load_study(study_name="search", storage=journal_of(sweep)).trials
    accuracies = [row["metrics"]["val/accuracy"] for row in rows(sweep) if row["status"] == "finished"]
    assert told.value == pytest.approx(sum(accuracies) / 3)
    assert set(mlflow_statuses(tmp_path, "seeds").values()) == {"FINISHED"}


@pytest.mark.slow
@pytest.mark.parametrize(("method", "damaged"), [("grid", "running"), ("bayes", "finished")])
def test_a_trial_with_a_damaged_line_is_run_again(tmp_path, method, damaged):
    asked = {
        "grid": {"parameters": {"classifier.epochs": {"values": [1, 3]}}},
        "bayes": {"parameters": {"classifier.epochs": {"min": 1, "max": 9}}, "run_cap": 2},
    }
    file = write(tmp_path, name="damaged", method=method, trial=QUICK, seeds=[0], **asked[method])
    assert run(tmp_path, file) == 0
    sweep = tmp_path / "runs/damaged"
    whole = rows(sweep)
    place = next(n for n, row in enumerate(whole) if row["status"] == damaged and row["step"] > 0)
    lines = (sweep / "rows.jsonl").read_bytes().splitlines(keepends=True)
    lines[place] = lines[place].replace(b"val/accuracy", b"val/accuracx")
    (sweep / "rows.jsonl").write_bytes(b"".join(lines))
    assert run(tmp_path, file, "--resume") == 0
    again, unreadable = record_rows.read_rows(sweep)
    assert unreadable == 1
    assert len(again) > len(whole)
    before, after = record_rows.by_trial(whole), record_rows.by_trial(again)
    assert {trial: list(history) for trial, history in after.items()} == {
        trial: list(history) for trial, history in before.items()
    }
    for trial, history in after.items():
        assert (
            record_rows.last(history)["metrics"]["val/accuracy"]
            == record_rows.last(before[trial])["metrics"]["val/accuracy"]
        )
    assert set(mlflow_statuses(tmp_path, "damaged").values()) == {"FINISHED"}
    if method == "bayes":
        assert len(optuna.load_study(study_name="search", storage=journal_of(sweep)).trials) == 2


# ---------------------------------------------------------------- the driver is killed


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [0])
def test_ten_kills_of_the_driver_lose_nothing(tmp_path, seed):
    (tmp_path / "slow_plugin.py").write_text(SLOW)
    log = tmp_path / "selections.log"
    file = write(
        tmp_path,
        name="killed",
        method="bayes",
        run_cap=20,
        trial={**TRIAL, "selector": {"name": "slow_plugin:Slow", "log": str(log)}},
        confirm={"top": 1, "seeds": [1]},
        parameters={"selector.seconds": {"min": 0.1, "max": 0.6}},
    )
    sweep = tmp_path / "runs/killed"
    rng = random.Random(seed)
    kept: dict[str, dict] = {}
    moments = []
    agents: list[psutil.Process] = []
    for _ in range(10):
        process = start(tmp_path, file, *(["--resume"] if (sweep / "space.yaml").exists() else []))
        known, more = len(_read(sweep)), rng.randint(0, 9)
        deadline = time.monotonic() + 120
        while more and len(_read(sweep)) < known + more and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.5) if more else rng.uniform(0, 15))
        processes = family(process)
        assert process.poll() is None, "nothing was left to kill"
        process.kill()
        process.communicate(timeout=30)
        assert_end_by_themselves(without_agents(processes))
        agents += processes
        now = {r["trial"]: r for r in _read(sweep) if r["status"] == "finished"}
        assert all(now[trial] == row for trial, row in kept.items()), "a finished trial was lost or run again"
        kept = now
        moments.append(len(now))
    out, errors = start(tmp_path, file, "--resume").communicate(timeout=300)
    finished = [r for r in rows(sweep) if r["status"] == "finished"]
    assert Counter(r["trial"] for r in finished) == dict.fromkeys({r["trial"] for r in finished}, 1), out + errors
    assert Counter(r["phase"] for r in finished) == {"search": 20, "confirm": 1}, out + errors
    assert all(row in finished for row in kept.values())
    assert set(mlflow_statuses(tmp_path, "killed").values()) == {"FINISHED"}
    assert len(mlflow_statuses(tmp_path, "killed")) == 22
    told = optuna.load_study(study_name="search", storage=journal_of(sweep)).trials
    assert Counter(trial.state.name for trial in told)["COMPLETE"] == 20
    searched = {round(r["metrics"]["val/accuracy"], 9) for r in finished if r["phase"] == "search"}
    assert {round(trial.value, 9) for trial in told if trial.value is not None} == searched  # the history is whole
    assert_end_by_themselves(agents, seconds=180)
    print(f"{len(moments)} kills, with so many trials finished: {moments}")


def _read(sweep: Path) -> list[dict]:
    return record_rows.read_rows(sweep)[0]


def test_ctrl_c_twice_stops_at_once(tmp_path):
    file = write(tmp_path, name="stuck", trial={**QUICK, "selector": "bad_plugins:Loops"}, seeds=[0, 1, 2])
    process = start(tmp_path, file)
    sweep = tmp_path / "runs/stuck"
    deadline = time.monotonic() + 500
    while len(_read(sweep)) < 3:  # the first labels of a trial are measured; its selector loops now or soon
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    processes = family(process)
    assert_reached_by_this_machine_alone(processes)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    pressed = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - pressed < 10
    assert process.returncode == 130
    assert "Ctrl-C again stops at once" in errors
    assert f"stopped at once; go on with: python -m harness.sweep {file}" in errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert_end_by_themselves(processes)


# ---------------------------------------------------------------- at the same time


@pytest.mark.slow
def test_two_sweeps_share_stages_and_database_and_a_folder_belongs_to_one(tmp_path):
    shared = {"parameters": {"selector": {"values": ["random", "margin"]}}, "resources": {"max_concurrent": 1}}
    files = [write(tmp_path, name=name, seeds=[0, 1], **shared) for name in ("first", "second")]
    processes = [start(tmp_path, file) for file in files]
    while not (tmp_path / "runs/first/space.yaml").exists():
        assert processes[0].poll() is None, processes[0].communicate()
        time.sleep(0.1)
    assert run(tmp_path, files[0], "--resume") == 2  # while the first one runs
    for process in processes:
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, out + errors
        assert "locked" not in errors
        assert "tracking:" not in errors
    for name in ("first", "second"):
        assert endings(tmp_path / "runs" / name) == {"finished": 4}
        assert list(mlflow_statuses(tmp_path, name).values()) == ["FINISHED"] * 5
    assert len(list((tmp_path / "stages/pretrain").iterdir())) == 2  # of two seeds, each trained once for both sweeps
    metrics = [{r["trial"]: r["metrics"]["test/accuracy"] for r in rows(tmp_path / "runs" / name)
                if r["status"] == "finished"} for name in ("first", "second")]  # fmt: skip
    assert metrics[0] == metrics[1]


# ---------------------------------------------------------------- the history of a search


def journal_of(sweep: Path) -> optuna.storages.JournalStorage:
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(sweep / "optuna.log")))


class Interrupted:
    """A search that was killed: four configurations were left open, and one had no values yet."""

    def __init__(self, folder: Path):
        file = write(folder, name="search", method="bayes", run_cap=9, seeds=[0, 1],
                     parameters={"ssl_method.temperature": {"min": 0.1, "max": 0.9}})  # fmt: skip
        self.plan = load_plan(file, {})
        self.path = folder / "sweep"
        self.path.mkdir()
        self.asked = [self.study().ask()[1] for _ in range(4)]
        optuna.load_study(study_name="search", storage=journal_of(self.path)).ask()  # and killed
        self.recorder = Recorder(self.path, lambda record: None)

    def study(self) -> Study:
        """As a new driver finds it."""
        return Study(self.plan, self.path / "optuna.log")

    def resume(self, status: str = "finished") -> list[str]:
        """In place of the driver and Tune: the trials that have no ending yet, which are brought to this one."""
        study = self.study()
        tasks = [task for task in study.open_tasks(self.recorder) if not self.recorder.ended(task.trial_id)]
        for task in tasks:
            self.end(task, status, 0.5)
        study.tell_endings(self.recorder)
        return [task.trial_id for task in tasks]

    def end(self, task: Task, status: str, accuracy: float) -> None:
        name = "val/accuracy" if status == "finished" else "pretrain/knn_accuracy"
        record = record_of(task, "labels", task.trial.labels.total or 0, {name: accuracy})
        self.recorder.write({**record, "status": status}, Details())

    def told(self) -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(study_name="search", storage=journal_of(self.path)).trials


def test_configurations_that_a_kill_left_open_are_finished_and_told(tmp_path):
    killed = Interrupted(tmp_path)
    first, second, third, fourth = killed.asked
    killed.end(first[0], "finished", 0.7)  # both seeds ended, but the study was not told
    killed.end(first[1], "finished", 0.9)
    killed.end(second[0], "finished", 0.6)  # one of two
    killed.end(third[0], "stopped", 0.3)
    killed.end(third[1], "stopped", 0.4)
    assert killed.resume() == [task.trial_id for task in [second[1], *fourth]]
    told = killed.told()
    assert [trial.state.name for trial in told] == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]
    assert [told[number].value for number in (0, 1, 3)] == pytest.approx([0.8, 0.55, 0.5])
    assert [trial.user_attrs.get("parameters") for trial in told] == [
        *(tasks[0].candidate.parameters for tasks in killed.asked),
        None,
    ]


def test_a_trial_that_was_told_and_whose_ending_is_lost_is_run_again(tmp_path):
    killed = Interrupted(tmp_path)
    stopped, never_begun, lost, _, gone, *_ = killed.resume()
    statuses = {lost: "running", stopped: "stopped"}
    kept = [row for row in _read(killed.path) if row["trial"] not in (never_begun, gone)]
    changed = [{**row, "status": statuses.get(row["trial"], row["status"])} for row in kept]
    replace_rows(killed.path / "rows.jsonl", changed)
    killed.recorder = Recorder(killed.path, lambda record: None)
    assert killed.resume() == [lost, gone]
    assert [trial.state.name for trial in killed.told()] == ["COMPLETE"] * 4 + ["PRUNED"]


def test_a_configuration_whose_trial_failed_is_told_as_failed(tmp_path):
    killed = Interrupted(tmp_path)
    killed.resume("failed")
    assert [trial.state.name for trial in killed.told()] == ["FAIL"] * 4 + ["PRUNED"]


def test_an_interrupt_while_finishing_leaves_them_open(tmp_path):
    killed = Interrupted(tmp_path)
    killed.resume("running")
    assert [trial.state.name for trial in killed.told()] == ["RUNNING"] * 4 + ["PRUNED"]
    assert killed.study().num_told == 0


def test_tune_ends_what_a_search_asked_for(tmp_path):
    study = Interrupted(tmp_path).study()
    search = study.search()
    for name in ("finished", "stopped", "failed", "died", "nan", "unbegun"):
        assert [task.seed for task in tasks_in(search.suggest(name))] == [0, 1]
    search.on_trial_complete("finished", {"objective_0": 0.7, "failed": False})
    search.on_trial_complete("stopped", {"objective_0": 0.3})
    search.on_trial_complete("failed", {"objective_0": 0.0, "failed": True})
    search.on_trial_complete("died", None, error=True)
    search.on_trial_complete("nan", {"objective_0": float("nan"), "failed": False})
    search.on_trial_complete("unbegun")
    told = optuna.load_study(study_name="search", storage=journal_of(tmp_path / "sweep")).trials[-6:]
    assert [trial.value for trial in told] == [0.7, None, None, None, None, None]
    assert [trial.state.name for trial in told] == ["COMPLETE", "PRUNED", *["FAIL"] * 3, "PRUNED"]
    assert study.num_told == 5


@pytest.mark.parametrize("damage", ["deleted", "replaced", "cut"])
def test_a_journal_that_is_changed_while_the_search_runs_is_written_anew(tmp_path, capsys, damage):
    study = Interrupted(tmp_path).study()
    file = tmp_path / "sweep/optuna.log"
    number, tasks = study.ask()
    whole = file.read_bytes()
    if damage == "deleted":
        file.unlink()
    else:
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b'{"op_code": 0}\n')
    study.tell(number, [0.25])
    assert capsys.readouterr().err == f"{file} was deleted or changed while the sweep runs; written anew\n"
    assert file.read_bytes().startswith(whole)
    told = optuna.load_study(study_name="search", storage=journal_of(tmp_path / "sweep")).trials[-1]
    assert (told.value, told.user_attrs["parameters"]) == (0.25, tasks[0].candidate.parameters)
    study.ask()
    assert capsys.readouterr().err == ""


def test_a_journal_is_read_on_from_where_it_was_read_to(tmp_path, monkeypatch):
    """Whole around each ask and tell, ten thousand of them would read hundreds of gigabytes."""
    study = Interrupted(tmp_path).study()
    file = tmp_path / "sweep/optuna.log"

    def never(path):
        raise AssertionError(f"{path} was read whole")

    monkeypatch.setattr(type(file), "read_bytes", never)
    for _ in range(3):
        number, _ = study.ask()
        study.tell(number, [0.25])
    monkeypatch.undo()
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    study.ask()
    assert file.read_bytes().startswith(whole), "what was cut off is there again"


def test_what_a_kill_leaves_of_the_journal_is_mended(tmp_path):
    killed = Interrupted(tmp_path)
    file = killed.path / "optuna.log"
    whole = file.read_bytes()
    (killed.path / "optuna.log.lock").symlink_to(file)  # else Optuna waits for half a minute
    for cut in (1, 7, 30):
        file.write_bytes(whole[:-cut])
        mend_journal(file)
        assert file.read_bytes() == whole[: whole[:-1].rindex(b"\n") + 1]
    assert not (killed.path / "optuna.log.lock").is_symlink()
    file.write_bytes(whole)
    mend_journal(file)
    assert file.read_bytes() == whole
    lines = whole.splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], lines[1][:9] + b"\n", *lines[2:]]))
    with pytest.raises(ConfigError, match=r"optuna.log: line 2 is damaged; move it away"):
        mend_journal(file)
    mend_journal(tmp_path / "none.log")

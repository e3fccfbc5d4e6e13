"""A sweep in a process that is not its own: nothing is left behind in the process, and nothing is printed."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import os
import pickle
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from ray.exceptions import RaySystemError
from small_sweep import TRIAL, endings, write

from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.config.tasks import Task
from harness.config.trial import ComputeConfig, PretrainConfig, TrialConfig
from harness.files import give_home
from harness.records.details import Details
from harness.records.folder import Recorder, TakenError, claim
from harness.sweep import callback, command, connection, servers, session, worker
from harness.sweep.command import main
from harness.sweep.interrupts import AbandonedError, Interrupts
from harness.sweep.objectives import judged_by
from harness.sweep.options import Options
from harness.sweep.placement import this_machine
from harness.sweep.screen import Display, Standing
from harness.sweep.search import early_stopping
from harness.sweep.session import Outcome, run_plan
from harness.sweep.worker import check_device, tasks_in, tune_config
from harness.trial.run import Folders

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize(
    "module", ["preflight", "costs", "command", "interrupts", "watch", "screen", "placement", "inquiry"]
)
def test_what_a_dry_run_needs_imports_no_ray(module):
    code = f"import sys, harness.sweep.{module}; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_import_sets_no_variable_and_no_handler():
    code = (
        "import os, signal, ray.tune, sklearn, torch\n"  # which set some themselves
        "def state(): return dict(os.environ), [signal.getsignal(s) for s in signal.valid_signals()]\n"
        "before = state()\n"
        "import harness.sweep.session\n"
        "assert state() == before, (before, state())"
    )
    own = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "PYTHONPATH")}
    subprocess.run([sys.executable, "-c", code], check=True, env=own)


@pytest.fixture
def hangup_heard():
    """As in a terminal; tests may be run by `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup_heard")
def test_signals_are_put_back():
    before = handlers()
    with Interrupts("again"):
        assert all(ours != theirs for ours, theirs in zip(handlers(), before, strict=True))
    assert handlers() == before
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.pressed
        with pytest.raises(KeyboardInterrupt):  # and the process goes on: it may be a notebook's
            signal.raise_signal(signal.SIGINT)
    assert handlers() == before


def test_a_hangup_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        with Interrupts("again") as interrupts:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupts.pressed
    finally:
        signal.signal(signal.SIGHUP, before)


def test_jobs_that_are_ended_twice_end_tidily():
    """Whoever ends a job may tell its processes and their group, so the second time is not another wish."""
    with Interrupts("again") as interrupts:

        def work() -> bool:
            os.kill(os.getpid(), signal.SIGTERM)
            while not interrupts.pressed:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            return True

        assert interrupts.attend(work, lambda: "")


def test_what_waits_for_the_dead_is_left(monkeypatch, capsys):
    monkeypatch.setattr("harness.sweep.interrupts.GRACE_SECONDS", 0.3)
    with Interrupts("again") as interrupts:
        with pytest.raises(AbandonedError, match="raylet was killed"):
            interrupts.attend(lambda: threading.Event().wait(10), lambda: "raylet was killed")
        (line,) = capsys.readouterr().err.splitlines()
        assert line == "stopped: raylet was killed; nothing that finished is lost; go on with: again"
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        began = time.monotonic()
        with pytest.raises(AbandonedError, match=r"^$"):
            interrupts.attend(lambda: threading.Event().wait(10), lambda: "")
        assert time.monotonic() - began < 3


def test_what_work_raises_comes_out():
    with Interrupts("again") as interrupts, pytest.raises(ZeroDivisionError):
        interrupts.attend(lambda: bool(1 // 0), lambda: "")


def in_a_thread(work):
    """What `work` returns or raises in a thread."""
    outcome = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


def test_no_signal_is_touched_in_a_thread():
    before = handlers()

    def work() -> bool:
        with Interrupts() as interrupts:
            interrupts.install()
            return handlers() == before

    assert in_a_thread(work) is True


def of_ray() -> dict[str, str]:
    mine = ("RAY_", "TUNE_", "PYTHONBREAKPOINT")
    return {name: value for name, value in os.environ.items() if name.startswith(mine) and name != "RAY_AUTH_MODE"}


@pytest.mark.slow
def test_a_plan_runs_in_a_thread_and_leaves_the_process_as_it_was(tmp_path, capfd):
    file = write(tmp_path, name="threaded", trial={**TRIAL, "ssl_method": "none"}, seeds=[0, 1])
    options = Options(str(tmp_path / "runs"), tmp_path / "stages", tmp_path / "data", quiet=True)
    variables, before = of_ray(), handlers()
    outcome = in_a_thread(lambda: run_plan(load_plan(file, {}), options))
    assert isinstance(outcome, Outcome), outcome
    assert (outcome.complete, outcome.failed, outcome.problems) == (True, {}, [])
    assert outcome.report is not None
    assert endings(outcome.folder) == {"finished": 2}
    assert json.loads((outcome.folder / "environment.json").read_text())["command"] == "harness.run_sweep"
    assert of_ray() == variables
    assert handlers() == before
    assert capfd.readouterr().out == ""
    refused = in_a_thread(lambda: run_plan(load_plan(file, {}), options))
    assert isinstance(refused, ConfigError)
    assert "--resume" in str(refused)


def test_ray_that_does_not_start_is_one_line(monkeypatch):
    def late(**_):
        raise Exception("The current node timed out during startup.\nSee the logs")

    monkeypatch.setattr(servers.ray, "init", late)
    words = "Ray cannot start on this machine: The current node timed out during startup. See the logs"
    with pytest.raises(ConfigError, match=words), connection.connected():
        pass


def test_sockets_of_ray_get_a_short_folder(tmp_path, monkeypatch):
    long = tmp_path / "slurm_job_1355700_and_so_on"
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setenv("RAY_TMPDIR", "")
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        assert servers.folder_for_ray(["/no/such", short]) == Path(short, "ray")
    with pytest.raises(ConfigError, match=r"Ray has no folder for its sockets: none of .*; let RAY_TMPDIR name one"):
        servers.folder_for_ray(["/no/such"])
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        odd = Path(short, "é")
        odd.mkdir()
        assert servers.folder_for_ray([str(odd), short]) == Path(short, "ray")
    session = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
    assert servers.LONGEST_FOLDER + len(f"/{session}") < 108  # of which the last is a zero byte


class Broken:
    """A sweep that ends with an error, after a record or before it."""

    def __init__(self, error: BaseException, records: int):
        self.error, self.records = error, records

    def __call__(self, plan, folders, placement, recorder, display, interrupts, **_):
        self._task, self._recorder = plan.first_tasks()[0], recorder
        return self

    def run(self) -> bool:
        for _ in range(self.records):
            self._recorder.write(worker.record_of(self._task, "labels", 0, {}), Details())
        raise self.error


class Undelivered:
    """In place of the way to MLflow."""

    experiment = None

    def __init__(self, *_: object):
        pass

    def start(self) -> None: ...

    def record(self, row: object) -> None: ...

    def finish(self, *_: object, **__: object) -> None:
        told.append("finish")

    def stop(self) -> None:
        told.append("stop")


told: list[str] = []
"""How what goes to MLflow was ended."""


class Overtaken(Broken):
    """In place of a sweep whose folder another one has taken by its end, and which `fails` or not."""

    fails = False

    def run(self) -> bool:
        with contextlib.suppress(StopIteration):
            super().run()
        shutil.rmtree(self._recorder.folder)
        self._recorder.folder.mkdir()
        self.other = claim(self._recorder.folder)
        if self.fails:
            raise FileNotFoundError(errno.ENOENT, "No such file", "trials/x")
        return True


def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, sweep: Broken) -> int:
    """The exit status of a command line whose sweep is another one."""
    monkeypatch.setattr(session, "connected", lambda *_: contextlib.nullcontext(servers.Servers()))
    monkeypatch.setattr(session, "nodes_for", lambda *_: ([this_machine()], {}))
    monkeypatch.setattr(session, "Sweep", sweep)
    monkeypatch.setattr(session, "Tracker", Undelivered)
    file = write(tmp_path, name="moment", trial={**TRIAL, "ssl_method": "none"})
    places = ["--results", f"{tmp_path}/runs", "--stages", f"{tmp_path}/stages", "--cache", str(cache)]
    return main([str(file), *places])


@pytest.mark.parametrize("fails", [False, True])
def test_a_sweep_whose_folder_was_taken_by_its_end_writes_nothing_there(tmp_path, monkeypatch, capsys, cache, fails):
    sweep = Overtaken(StopIteration(), 1)
    sweep.fails = fails
    told.clear()
    assert swept(tmp_path, monkeypatch, cache, sweep) == 130
    sweep.other.release()
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.match("stopped: .*/moment was deleted, or its lock, and another sweep runs there now; to go on", last)
    assert [file.name for file in (tmp_path / "runs/moment").iterdir()] == ["lock"]
    assert told == ["stop"]  # what lies there now is not sent as this sweep's


@pytest.mark.parametrize(
    ("error", "records", "status", "said"),
    [
        (ValueError("stray"), 1, 130, r"stopped: ValueError: stray \(see .*/moment/error.txt\); .*; go on"),
        (PermissionError(13, "Permission denied", "/x"), 1, 130, "stopped: PermissionError: .*; go on with: python -m"),
        (OSError(errno.ENOSPC, "No space left"), 1, 130, "no space left"),
        (TakenError("another sweep runs there"), 1, 130, "stopped: another sweep runs there; to go on .*: python -m"),
        (KeyboardInterrupt(), 0, 130, "interrupted; go on with: python -m"),
        (RuntimeError("Ray is\nodd"), 0, 2, "RuntimeError: Ray is odd"),
        (RaySystemError("gone"), 0, 2, "RaySystemError: .*gone"),
        (ConfigError(["optuna.log: line 2 is damaged"]), 0, 2, "optuna.log: line 2 is damaged"),
    ],
)  # fmt: skip
def test_the_moment_decides_the_exit_status(tmp_path, monkeypatch, capsys, cache, error, records, status, said):
    assert swept(tmp_path, monkeypatch, cache, Broken(error, records)) == status
    last = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("digits: ")]
    assert any(re.match(said, line) for line in last) or re.search(said, last[-1]), last
    assert not [line for line in last if "Traceback" in line]
    kept = tmp_path / "runs/moment/error.txt"
    ours = not isinstance(error, TakenError)
    assert kept.exists() == (ours and records > 0 and isinstance(error, Exception))
    assert (kept.parent / "summary.md").exists() == (ours and records > 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("complete", [True, False])
def test_a_sweep_that_has_ended_says_so_whatever_signal_comes(tmp_path, monkeypatch, capsys, number, complete):
    heard = []
    before = signal.signal(number, lambda *_: heard.append(number))
    monkeypatch.setattr(session, "run_plan", lambda *_: Outcome(tmp_path, "https://box", complete=complete))
    told = command.farewell
    monkeypatch.setattr(command, "farewell", lambda *given: (signal.raise_signal(number), told(*given)))
    try:
        file = write(tmp_path, name="ended", trial={**TRIAL, "ssl_method": "none"})
        assert main([str(file)]) == (0 if complete else 130)
    finally:
        signal.signal(number, before)
    assert not heard
    said = capsys.readouterr()
    assert said.out.startswith("\nreport:") if complete else said.err.startswith("interrupted; go on with")


def test_an_agent_of_ray_that_dies_is_noticed(tmp_path):
    """Before the raylet ends with it: here what stands for both does nothing."""
    agent = tmp_path / "RuntimeEnvAgent"
    shutil.copy(shutil.which("sleep"), agent)
    raylet = subprocess.Popen(["sh", "-c", f"{agent} 100 & wait; exec sleep 100"], process_group=0)
    gcs = subprocess.Popen(["sleep", "100"], process_group=0)
    try:
        deadline = time.monotonic() + 20
        while [one.name() for one in psutil.Process(raylet.pid).children()] != [agent.name]:
            assert time.monotonic() < deadline
        there = servers.Servers({"raylet": raylet, "gcs_server": gcs})
        time.sleep(0.5)
        assert there.dead() == ""
        psutil.Process(raylet.pid).children()[0].kill()
        while not there.dead():
            assert time.monotonic() < deadline + 20
        assert raylet.wait(timeout=20) == -signal.SIGKILL
        assert there.dead() == "RuntimeEnvAgent, a server of Ray's that this sweep runs on, has ended"
    finally:
        there.kill()
        raylet.wait()
        gcs.wait()


def test_who_has_no_home_gets_one(monkeypatch):
    monkeypatch.setenv("HOME", "/some/where")
    give_home()
    assert os.environ["HOME"] == "/some/where"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda _: {}["no such user"])
    with pytest.raises(RuntimeError):
        Path.home()
    give_home()
    assert Path.home() == Path("/")


def test_a_driver_that_stood_still_ends_no_trial_for_that(tmp_path, monkeypatch):
    """As by SIGSTOP: trials go on meanwhile, and their reports have not been read."""
    ended = []
    monkeypatch.setattr(callback, "note_limit", lambda trial, cause: ended.append(trial))
    monkeypatch.setattr(callback.ray, "kill", lambda actor: None)
    trial = SimpleNamespace(trial_id="1", temporary_state=SimpleNamespace(ray_actor=object()))
    limit = callback.LONGEST_STEP + 0.5
    watching = callback.RecordCallback(Recorder(tmp_path, print), Display(Standing("x", True), True), limit, bool)
    watching.on_trial_result(0, [trial], trial, {"portrait_of": "a"})
    time.sleep(2 * limit)
    watching.on_step_end(0, [trial])
    assert not ended
    began = time.monotonic()
    while not ended:
        time.sleep(0.05)
        watching.on_step_end(0, [trial])
        assert time.monotonic() < began + 10 * limit
    assert time.monotonic() > began + 0.4


FIRST = """
import os, sys
from pathlib import Path
from harness.sweep import servers

for number in range(50):
    os.environ["HOME"] = home = f"{sys.argv[1]}/{number}"
    os.makedirs(home)
    waiting, begin = os.pipe()
    told, tell = os.pipe()
    for one in range(8):
        if not os.fork():
            os.close(begin)
            servers.TOKEN = str(one) * 64  # as in processes that are no copies
            os.read(waiting, 1)  # until all have begun
            servers.give_token()
            os.write(tell, (Path.home() / ".ray/auth_token").read_bytes())
            os._exit(0)
    for end in (begin, tell, waiting):
        os.close(end)
    for _ in range(8):
        os.wait()
    read = os.read(told, 10_000).decode()
    os.close(told)
    assert read == read[0] * 8 * 64, (number, read)
    assert os.stat(f"{home}/.ray/auth_token").st_mode & 0o777 == 0o600
"""


def test_first_sweeps_that_begin_at_once_in_a_new_home_agree_on_a_token(tmp_path):
    done = subprocess.run([sys.executable, "-c", FIRST, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


WARM = """
import os, sys, time
import psutil, ray
from ray.tune.execution.class_cache import _ActorClassCache
from harness.config.plan import load_plan
from harness.sweep.connection import connected

class Trial:
    def tell(self):
        return os.getpid(), sys.modules["harness.sweep.worker"].__file__, os.environ["OMP_NUM_THREADS"]

def servers():
    return {child.pid: " ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)}

os.environ.pop("OMP_NUM_THREADS", None)
with connected(load_plan({"name": "warm", "trial": {}, "resources": {"max_concurrent": 1}}, {})):
    assert "OMP_NUM_THREADS" not in os.environ
    while not (idle := {pid for pid, command in servers().items() if command.startswith("ray::IDLE")}):
        time.sleep(0.1)
    before = servers()
    pid, imported, threads = ray.get(_ActorClassCache().get(Trial).options(num_cpus=1).remote().tell.remote())
    assert pid in idle and imported == os.environ["HERE"] and threads == "1", (pid, before, imported, threads)
    assert len([command for command in before.values() if command.startswith("ray::IDLE")]) == 1
    assert not [command for command in before.values() if "dashboard.py" in command or "monitor.py" in command], before
assert "OMP_NUM_THREADS" not in os.environ
"""


def test_trials_run_in_workers_that_start_and_import_with_ray(tmp_path):
    """Of this very code, also where another copy is installed; as many as trials run at once."""
    code = Path(worker.__file__).parents[2]
    shutil.copytree(code / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(code / "baselines", tmp_path / "baselines", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "HERE": str(tmp_path / "harness/sweep/worker.py")}
    environment.pop("PYTHONPATH", None)
    line = [sys.executable, "-c", WARM]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("asked", "judged", "every"), [("auto", 0, 1), ("auto", None, "auto"), (5, 0, 5)])
def test_every_epoch_is_measured_where_early_stopping_judges_them(tmp_path, asked, judged, every):
    job = worker.Job(("val/accuracy",), None, Folders(tmp_path, tmp_path), 1, None, str(tmp_path), judged)
    trial = TrialConfig(pretrain=PretrainConfig(epochs=200, knn_every=asked))
    assert job.as_run(trial).pretrain.knn_every == every


def test_a_process_that_uses_ray_is_told_so(monkeypatch):
    monkeypatch.setattr(connection.ray, "is_initialized", lambda: True)
    with pytest.raises(ConfigError, match=r"uses Ray already; call ray.shutdown\(\)"), connection.connected():
        pass


def test_tasks_travel_in_one_small_piece(tmp_path):
    plan = load_plan(write(tmp_path, parameters={"selector": {"values": ["random", "coreset"]}}), {})
    tasks = tuple(Task(candidate, 3, "search", portrait=100) for candidate in plan.candidates)
    config = tune_config(tasks)
    assert tasks_in(pickle.loads(pickle.dumps(copy.deepcopy(config)))) == tasks
    assert not any(isinstance(value, dict | list) for value in config.values())  # into which Tune looks
    assert len(pickle.dumps([tune_config([tasks[0]]) for _ in range(1000)])) < 4e6


def test_a_worker_runs_each_seed_on_its_split(tmp_path, monkeypatch):
    ran, told = [], []

    def run(config, seed, *_, **__):
        ran.append((seed, config.data.split_seed))
        return {"labels/used": 20.0, "val/accuracy": 0.5}

    monkeypatch.setattr(worker, "run", run)
    context = SimpleNamespace(get_trial_id=lambda: "of_tune")
    monkeypatch.setattr(worker, "tune", SimpleNamespace(report=told.append, get_context=lambda: context))
    monkeypatch.setattr(worker, "limit_passed", lambda _: None)  # Ray keeps what is known of trials, and none runs
    monkeypatch.setattr(worker, "ended_before", lambda *_: None)
    seeds = {"values": [3, 4], "split": "fresh"}
    plan = load_plan(write(tmp_path, parameters={"selector": {"values": ["random"]}}, seeds=seeds), {})
    folders = Folders(tmp_path, tmp_path)
    job = worker.Job(("val/accuracy",), None, folders, torch.get_num_threads(), None, str(Path.cwd()))
    worker.run_in_worker(tune_config(plan.first_tasks()), job)
    assert ran == [(3, 3), (4, 4)]
    details = [report["sent"][1] for report in told if "sent" in report]
    assert [each.config["data"]["split_seed"] for each in details if each.config] == [3, 4]
    # Each report waits for the driver: a beginning and an ending of each trial, and the last of these is the end.
    assert [report["sent"][0]["status"] for report in told] == ["running", "finished"] * 2
    assert [report.get("done", False) for report in told] == [False, False, False, True]
    assert (told[-1]["failed"], told[-1]["objective_0"]) == (False, 0.5)


def test_a_trial_that_fails_ends_with_its_cause(tmp_path, monkeypatch):
    told = []

    def run(*_, **__):
        raise ValueError("trouble")

    monkeypatch.setattr(worker, "run", run)
    context = SimpleNamespace(get_trial_id=lambda: "of_tune")
    monkeypatch.setattr(worker, "tune", SimpleNamespace(report=told.append, get_context=lambda: context))
    monkeypatch.setattr(worker, "limit_passed", lambda trial: "too long" if trial.endswith("s1") else None)
    monkeypatch.setattr(worker, "ended_before", lambda *_: None)
    plan = load_plan(write(tmp_path, parameters={"selector": {"values": ["random"]}}, seeds=[0, 1]), {})
    job = worker.Job(("val/accuracy",), None, Folders(tmp_path, tmp_path), 1, None, str(Path.cwd()))
    worker.run_in_worker(tune_config(plan.first_tasks()), job)
    records = [report["sent"][0] for report in told]
    assert [(one["seed"], one["status"], one.get("error")) for one in records] == [
        (0, "running", None), (0, "failed", "ValueError: trouble"), (1, "failed", "too long")
    ]  # fmt: skip
    assert told[-1]["failed"]
    assert told[-1]["done"]


def test_a_worker_without_the_gpu_that_a_trial_computes_on_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_device(ComputeConfig())
    check_device(ComputeConfig(device="cpu"))
    with pytest.raises(RuntimeError, match=r"compute.device is cuda, but .* has no CUDA device for this trial; let"):
        check_device(ComputeConfig(device="cuda"))


class Searched:
    """What schedulers know of a trial of Tune's."""

    def __init__(self, name: str):
        self.trial_id = name


@pytest.mark.parametrize("rule", ["asha", "median"])
@pytest.mark.parametrize(
    ("goal", "poor"), [("pretrain/rankme", 1.0), ("pretrain/alignment", 9.0), ("val/accuracy", 1.0)]
)
def test_early_stopping_ends_what_is_poor_by_the_goal_of_the_search(rule, goal, poor):
    settings = {"early_terminate": {"type": rule, "eta": 2}, "metric": {"name": goal}, "confirm": {"seeds": [1]}}
    plan = load_plan({"name": "q", "trial": {}, "parameters": {"pretrain.lr": {"values": [0.1, 0.2]}}} | settings, {})
    watched = plan.watched.name if plan.watched else None
    name = goal if watched else "pretrain/knn_accuracy"
    scheduler = early_stopping(plan)
    trials, controller = [Searched(str(number)) for number in range(4)], SimpleNamespace(get_live_trials=list)
    decisions = []
    for trial, value in zip(trials, (5.0, 4.0, 5.0, poor), strict=True):
        scheduler.on_trial_add(None, trial)
        metrics = {name: value, "pretrain/knn_accuracy": value if name == "pretrain/knn_accuracy" else 0.5}
        result = {"epoch": 1, "training_iteration": 1, "watch": judged_by(watched, metrics)}
        decisions.append(scheduler.on_trial_result(controller, trial, result))
    assert decisions[-1] == "STOP"
    assert decisions[0] == "CONTINUE"


def test_an_epoch_without_a_finite_value_is_not_judged():
    assert judged_by("pretrain/alpha_req", {"pretrain/alpha_req": float("nan")}) is None
    assert judged_by("pretrain/alpha_req", {"pretrain/knn_accuracy": 0.5}) is None
    assert judged_by(None, {"pretrain/alpha_req": 1.0}) is None

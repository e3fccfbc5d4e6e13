"""What follows the last trial: what goes wrong there is told, and a signal leaves it a few seconds."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from small_sweep import TRIAL, write
from test_session import Undelivered

from harness.config.plan import load_plan
from harness.records.details import Details
from harness.sweep import interrupts, session, worker
from harness.sweep.command import main
from harness.sweep.interrupts import Interrupts
from harness.sweep.options import Options
from harness.sweep.placement import this_machine
from harness.sweep.servers import Servers
from harness.tracking.tracker import Tracker


class Trials:
    """In place of a sweep: its trials end at once, and then something happens."""

    def __init__(self, then):
        self._then = then

    def __call__(self, plan, folders, placement, recorder, display, interrupts, **_):
        self._task, self._recorder = plan.first_tasks()[0], recorder
        return self

    def run(self) -> bool:
        self._recorder.write(worker.record_of(self._task, "labels", 0, {}), Details())
        values = {"labels/used": 100, "val/accuracy": 0.5, "test/accuracy": 0.5}
        self._recorder.write(worker.record_of(self._task, "labels", 100, values) | {"status": "finished"}, Details())
        self._then()
        return True


@contextlib.contextmanager
def connected(*_):
    """In place of Ray."""
    servers = Servers()
    try:
        yield servers
    finally:
        servers.end()


@pytest.fixture
def question(tmp_path, monkeypatch):
    """A sweep's file, whose trials need no Ray."""
    monkeypatch.setattr(session, "connected", connected)
    monkeypatch.setattr(session, "nodes_for", lambda *_: ([this_machine()], {}))
    monkeypatch.setattr(session, "Tracker", Undelivered)
    return write(tmp_path, name="after", trial={**TRIAL, "ssl_method": "none"})


def odd(*_, **__):
    raise RuntimeError("odd\nthing")


STEPS = {
    "harness.records.folder.Recorder.hold": "records may be missing: ",
    "harness.report.write.write_report": "no report: ",
    "harness.encoders.export.export_encoders": "encoders were not kept: ",
    "harness.records.folder.Recorder.failed": "it is not known which trials failed: ",
    "harness.tracking.loggers.Loggers.finish": "loggers were not told the end: ",
    "harness.progress.working": "not all was done after the trials: ",
    "harness.sweep.servers.Servers.end": "not all was done after the trials: ",
    "test_session.Undelivered.finish": "MLflow does not have all: ",
    "harness.report.terminal.print_tables": "not all could be shown: ",
    "harness.report.terminal.print_answer": "not all could be shown: ",
    "harness.sweep.command.farewell": "not all could be shown: ",
}
"""Of what follows the last trial -> what is said where it fails."""


@pytest.mark.parametrize("step", STEPS)
def test_whatever_fails_after_the_last_trial_is_told_and_is_exit_1(
    tmp_path, question, monkeypatch, capsys, cache, step
):
    monkeypatch.setattr(session, "Sweep", Trials(lambda: monkeypatch.setattr(step, odd)))
    places = ["--results", f"{tmp_path}/runs", "--stages", f"{tmp_path}/stages", "--cache", str(cache)]
    assert main([str(question), *places]) == 1
    said = capsys.readouterr()
    line, *_ = [line for line in said.err.splitlines() if line.startswith(f"{STEPS[step]}RuntimeError: odd thing")]
    assert ("report:    python -m harness.report" in said.out) == (not step.endswith("farewell"))
    assert "--resume" in line or "python -m" in line or step.endswith(("Loggers.finish", "failed"))


@pytest.mark.parametrize("kept", [True, False])
def test_a_traceback_that_could_not_be_kept_is_not_named(tmp_path, question, monkeypatch, capsys, cache, kept):
    def refuse() -> None:
        if not kept:
            (tmp_path / "runs/after/error.txt/in_the_way").mkdir(parents=True)
        raise PermissionError(13, "Permission denied", "rows.jsonl")

    monkeypatch.setattr(session, "Sweep", Trials(refuse))
    places = ["--results", f"{tmp_path}/runs", "--stages", f"{tmp_path}/stages", "--cache", str(cache)]
    assert main([str(question), *places]) == 130
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("stopped: PermissionError")]
    assert ("error.txt" in line) == kept
    assert "go on with: python -m" in line


@pytest.fixture
def silent_server():
    """The address of a server that takes what it is sent and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class DeadStore:
    """In place of a copy whose store answers no more."""

    uri = "s3://bucket/after"

    def __init__(self, *_: object):
        self.close = threading.Event().wait

    def fetch(self) -> None: ...

    def start(self) -> None: ...


def wait_for_ever(*_: object) -> None:
    threading.Event().wait()


def sends(number: int, moment: str):
    """What happens as the trials end: a signal ends them, or one comes a while after the last."""

    def then() -> None:
        if moment == "after":
            threading.Timer(1.0, os.kill, (os.getpid(), number)).start()
            return
        os.kill(os.getpid(), number)
        raise KeyboardInterrupt

    return then


@pytest.mark.parametrize(
    ("slow", "number", "moment"),
    [
        (["no report"], signal.SIGTERM, "after"),
        (["no report"], signal.SIGHUP, "after"),
        (["tracking sync"], signal.SIGTERM, "after"),
        (["tracking sync"], signal.SIGINT, "after"),
        (["s3:"], signal.SIGTERM, "after"),
        (["s3:"], signal.SIGTERM, "during"),
        (["no report", "tracking sync", "s3:"], signal.SIGTERM, "after"),
        (["no report", "tracking sync", "s3:"], signal.SIGTERM, "during"),
    ],
)
def test_a_signal_leaves_what_follows_a_few_seconds(
    tmp_path, question, monkeypatch, cache, silent_server, capsys, slow, number, moment
):
    monkeypatch.chdir(tmp_path)
    if len(slow) == 1:
        monkeypatch.setattr("harness.sweep.interrupts.PATIENCE", 2.0)
    if "no report" in slow:
        monkeypatch.setattr("harness.report.write.write_report", wait_for_ever)
    if "tracking sync" in slow:
        monkeypatch.setattr(session, "Tracker", Tracker)
    monkeypatch.setattr(session, "Mirror", DeadStore)
    monkeypatch.setattr(session, "Sweep", Trials(sends(number, moment)))
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may be run by `nohup`
    results = "s3://bucket" if "s3:" in slow else "runs"
    options = Options(results, Path("stages"), cache, quiet=True, tracking_uri=silent_server)
    try:
        with Interrupts("again") as guard:
            outcome = session.run_plan(load_plan(question, {}), options, guard)
            seconds = time.monotonic() - (guard.deadline - interrupts.PATIENCE)
    finally:
        signal.signal(signal.SIGHUP, hangup)
    said = [*outcome.problems, *capsys.readouterr().err.splitlines()]
    assert outcome.complete == (moment == "after")
    assert seconds < 9, "of the ten after which some kill"
    for what in slow:
        (line,) = [line for line in said if what in line]
        assert "there was no time" in line or "not all was delivered" in line
        assert "python -m" in line or "--resume" in line

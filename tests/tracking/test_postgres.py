"""The database and the server of deploy/mlflow-compose.yaml, as processes of this machine: same URI, same packages."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from small_sweep import begin, endings, wait_for_endings
from tracked import SELECTORS, assert_shows, begun, held, runs, wait_until

from harness.tracking import __main__ as command
from harness.tracking.tracker import Tracker, sync

COMPOSE = yaml.safe_load((Path(__file__).parents[2] / "deploy/mlflow-compose.yaml").read_text())["services"]
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PASSWORD = "c0rrect"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    """A database of its own, below a folder that another user may enter: it refuses to run as the superuser."""

    def __init__(self) -> None:
        self.user = "postgres" if os.getuid() == 0 else None
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="postgres"))
        if self.user:
            shutil.chown(self.folder, self.user)
        about, password = COMPOSE["database"]["environment"], self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self.call("initdb", "-D", self.folder / "data", "-U", about["POSTGRES_USER"], "-A", "scram-sha-256", "-N",
                  f"--pwfile={password}")  # fmt: skip
        self.start()
        self.sql(f"CREATE DATABASE {about['POSTGRES_DB']}", "postgres")

    def call(self, program: str, *arguments: object) -> None:
        subprocess.run([PROGRAMS[-1] / program, *map(str, arguments)], user=self.user, check=True,
                       cwd=self.folder, stdout=subprocess.DEVNULL)  # fmt: skip

    def sql(self, line: str, database: str = "mlflow") -> None:
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        command = [PROGRAMS[-1] / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "-q", "-c", line]
        subprocess.run([*command, database], env=environment, check=True)

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        log = self.folder / "log"
        self.call("pg_ctl", "-D", self.folder / "data", "-w", "-l", log, "-o", options, "start")

    def stop(self, how: str = "immediate") -> None:
        """As a crash does, unless it is told otherwise."""
        self.call("pg_ctl", "-D", self.folder / "data", "-w", "-m", how, "stop")

    def uri(self, user: str = "mlflow", password: str = PASSWORD) -> str:
        """What the file says, with this machine in the place of the container."""
        uri = COMPOSE["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"].replace("${POSTGRES_PASSWORD}", password)
        return uri.replace("mlflow:", f"{user}:").replace("@database:5432", f"@127.0.0.1:{self.port}")


class Server:
    """The server that the file starts, on another port and folder."""

    def __init__(self, folder: Path, database: Postgres):
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        line = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE["mlflow"]["command"])
        line = line.replace("0.0.0.0 --port 5000", f"127.0.0.1 --port {port}")
        line = line.replace("/artifacts", f"{folder}/artifacts")
        self.command = [sys.executable, "-m", *line.split()]
        about = COMPOSE["mlflow"]["environment"]
        self.environment = {**os.environ, **about, "MLFLOW_BACKEND_STORE_URI": database.uri()}
        self.folder = folder

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, env=self.environment, cwd=self.folder, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=(self.folder / "server.log").open("ab"),
        )  # fmt: skip
        wait_until(self.answers, 240)

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def database():
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed")
    database = Postgres()
    try:
        yield database
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # a test that failed may have left it stopped
            database.stop()
        shutil.rmtree(database.folder, ignore_errors=True)


@pytest.fixture
def server(tmp_path, database):
    server = Server(tmp_path, database)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_server_and_database_restart_in_the_middle_and_lose_nothing(sweep, database, server, capfd):
    tracker = Tracker(server.uri, "selectors", sweep.path, sweep.environment, retry_seconds=1.0)
    tracker.start()
    for row in sweep.trial("c1", 1, SELECTORS, {100: 0.7}, epochs=50):
        tracker.record(row)
    wait_until(lambda: held(server.uri, "confirm-c1-s1") > 50, 180)
    for number, who in enumerate((database, server), 2):
        for row in sweep.trial(f"c{number}", 1, SELECTORS, {100: 0.7}, epochs=3000):
            tracker.record(row)
        wait_until(lambda trial=f"confirm-c{number}-s1": held(server.uri, trial) > 500, 180)
        (who.stop if who is database else who.kill)()  # in the middle of a delivery
        wait_until(lambda: tracker.failing, 180)
        who.start()
    assert tracker.finish("finished", timeout=240)
    assert "Traceback" not in capfd.readouterr().err
    assert_shows(server.uri, sweep.path)
    assert {run.info.status for run in runs(server.uri).values()} == {"FINISHED"}

    # without the server, as somebody whom the database does not know, and as one who may not write
    sweep.trial("c4", 1, SELECTORS, {100: 0.7})
    database.sql("CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    for uri, cure in {
        database.uri(password="wrong"): "mend the user or the password in the URI",
        database.uri("reader", "reader"): "let this user write there",
    }.items():
        assert command.main(["sync", str(sweep.path), "--tracking-uri", uri]) == 1
        (line,) = capfd.readouterr().err.splitlines()
        assert line.endswith(f"; {cure}"), line
        assert "wrong" not in line
    sync(sweep.path, server.uri)
    assert_shows(server.uri, sweep.path)


def num_finished(uri: str) -> int:
    """How many trials MLflow holds as finished."""
    return sum(run.info.status == "FINISHED" for trial, run in begun(uri).items() if trial)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("drivers_end")
def test_server_and_database_restart_in_the_middle_of_a_sweep_and_every_point_arrives(tmp_path, database, server):
    number, folder = 32, tmp_path / "a"
    sweep = folder / "runs/selectors"
    settings = ["--set", "name=selectors", "--set", "trial.selector.seconds=4"]  # a server needs a while to start
    process = begin(folder, number=number, more=[*settings, "--tracking-uri", server.uri])
    arrived = 0
    for stop, start in ((database.stop, database.start), (server.kill, server.start)):
        wait_until(lambda: num_finished(server.uri) > arrived, 240)  # noqa: B023
        stop()
        ended = endings(sweep)["finished"]
        wait_for_endings(sweep, ended + 2, process)  # without waiting for MLflow
        start()
        arrived = num_finished(server.uri)
        print(f"{time.monotonic():.1f} s: {endings(sweep)['finished']} ended, {arrived} in MLflow")
    wait_for_endings(sweep, endings(sweep)["finished"] + 1, process)  # both came back in its middle
    out, errors = process.communicate(timeout=600)
    print(out, errors)
    assert process.returncode == 0, out + errors
    assert f"MLflow at {server.uri} does not answer as it should and is tried again" in errors
    assert "Traceback" not in errors
    assert endings(sweep) == {"finished": number}
    assert_shows(server.uri, sweep)
    assert [run.info.status for run in runs(server.uri).values()] == ["FINISHED"] * (number + 1)

"""Which server, its client, and the command that delivers to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException
from tracked import SELECTORS, assert_shows

from harness.tracking import __main__ as command
from harness.tracking.server import import_mlflow, tracking_uri


def test_a_request_whose_answer_is_lost_is_not_sent_again_unseen():
    """MLflow's client would repeat it of its own, and make a second run that nobody knows of."""
    asked: list[str] = []

    class HangsUp(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.connection.shutdown(socket.SHUT_RDWR)

    with ThreadingHTTPServer(("127.0.0.1", 0), HangsUp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = import_mlflow().MlflowClient(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(MlflowException, match="runs/create"):
            client.create_run("0")
        server.shutdown()
    assert asked == ["/api/2.0/mlflow/runs/create"]


def test_tracking_uri(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert tracking_uri(None, tmp_path) == "http://server:5000"
    assert tracking_uri("sqlite:////a/b.db", tmp_path) == "sqlite:////a/b.db"
    assert tracking_uri("postgresql+psycopg2://u:p@h/d", tmp_path) == "postgresql+psycopg2://u:p@h/d"
    for other in ("http://server", "databricks"):  # which need nothing
        assert tracking_uri(other, tmp_path) == other
    with pytest.raises(ValueError, match=r"'mlruns'.*did you mean 'sqlite:///.*/mlruns/mlflow.db'"):
        tracking_uri("mlruns", tmp_path)
    with pytest.raises(ValueError, match=r"'postgres://box/db' is not one of .*; did you mean 'postgresql://box/db'\?"):
        tracking_uri("postgres://me:secret@box/db", tmp_path)


def test_a_database_whose_driver_is_missing_is_refused_before_anything_runs(tmp_path):
    """What `postgresql://` alone means has changed with SQLAlchemy 2.1: psycopg 3."""
    with pytest.raises(ValueError, match=r"'mssql\+pymssql://box/db' needs the package pymssql, which is not "):
        tracking_uri("mssql+pymssql://me:secret@box/db", tmp_path)
    if find_spec("psycopg") is None:
        near = r"needs the package psycopg, .* did you mean 'postgresql\+psycopg2://box/db', which is\?$"
        with pytest.raises(ValueError, match=near):
            tracking_uri("postgresql://me:secret@box/db", tmp_path)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql:me:hunter2@box",
        "postgresql+psycopg2://me:p@ss:hunter2@127.0.0.1:1/db",
        "mysql+pymysql://me:p@ss:hunter2@127.0.0.1:x/db",
        "http://me:p/hunter2@127.0.0.1:1",
        "https:me:hunter2@127.0.0.1",
        "http://127.0.0.1:hunter2",
        "http://me:[hunter2@box",
    ],
)
def test_a_uri_that_cannot_be_read_is_refused_without_being_shown(sweep, tmp_path, capsys, uri):
    scheme = uri.partition(":")[0].partition("+")[0]
    with pytest.raises(ValueError, match=f"the tracking URI is none; expected {scheme}://HOST") as raised:
        tracking_uri(uri, tmp_path)
    assert command.main(["sync", str(sweep.path), "--tracking-uri", uri]) == 2
    assert str(raised.value) in (said := capsys.readouterr().err)
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "uri",
    [
        "me:hunter2@box:5000",
        "http//me:hunter2@box",
        "runs/me:hunter2@box",
        "me@corp.com:hunter2@box:5000",
        ".me:hunter2@box",
        "me:hunter2%40box",
        "me%3Ahunter2%40box",
        "me:hunter2@http://box:5000",
    ],
)
def test_a_login_without_a_scheme_is_refused_without_being_shown(tmp_path, uri):
    with pytest.raises(ValueError, match="the tracking URI is none; expected http://HOST") as raised:
        tracking_uri(uri, tmp_path)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("path", ["runs/a@b:c/x", "./a:b@c", "../a:b@c", "~/a:b@c", "~me/a:b@c", "/a:b@c"])
def test_a_folder_is_no_login(tmp_path, path):
    with pytest.raises(ValueError, match=f"'{path}' .* did you mean .sqlite:///.*/mlflow.db"):
        tracking_uri(path, tmp_path)
    with pytest.raises(ValueError, match=r"did you mean .sqlite:////data/a%3Ab@c/mlflow"):
        tracking_uri("/data/a:b@c", tmp_path)


def test_command_line(sweep, uri, tmp_path, capsys):
    sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    assert command.main(["sync", str(sweep.path), "--tracking-uri", uri]) == 0
    assert_shows(uri, sweep.path)
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
    assert_shows(f"sqlite:///{tmp_path}/mlflow.db", sweep.path)


@pytest.mark.parametrize("name", ["which is better? 2", "50%41", "a#b", "caf\u00e9 (1)"])
def test_the_database_lies_in_the_results_folder_whatever_that_is_called(tmp_path, name, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = tracking_uri(None, tmp_path / name)
    assert sqlalchemy.engine.make_url(uri).database == str(tmp_path / name / "mlflow.db")


def test_a_driver_that_nobody_has_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"'postgresql\+nonesuch://box/db': no driver of that name; known: "):
        tracking_uri("postgresql+nonesuch://box/db", tmp_path)

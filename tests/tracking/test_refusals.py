"""What a server refuses for good: the cause is shown with its cure, and nobody waits for what will not come."""

from __future__ import annotations

import errno
import os
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.exceptions
import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy import exc
from tracked import SELECTORS, assert_shows, begun, deliver, runs, wait_until

from harness.tracking import __main__ as command
from harness.tracking.refusals import cure_of, told
from harness.tracking.tracker import Tracker, sync

AT_ONCE = 20
"""Seconds, on a busy machine; `finish` would wait for sixty."""


def refused(tracker: Tracker) -> None:
    """Ends a sweep whose tracker is refused for good."""
    began = time.monotonic()
    assert not tracker.finish("finished", timeout=60)
    assert time.monotonic() - began < AT_ONCE


def test_an_experiment_that_was_deleted_is_told_with_what_restores_it(sweep, uri, capfd):
    deliver(sweep, uri, sweep.trial("c1", 1, SELECTORS, {100: 0.7}))
    client = MlflowClient(uri)
    number = client.get_experiment_by_name("selectors").experiment_id
    client.delete_experiment(number)
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment)
    tracker.start()
    for row in sweep.trial("c2", 1, SELECTORS, {100: 0.7}):
        tracker.record(row)
    refused(tracker)
    first, last = capfd.readouterr().err.splitlines()
    assert f"RefusedError: its experiment 'selectors' was deleted; env MLFLOW_TRACKING_URI={uri} mlflow experiments "
    assert f"restore --experiment-id {number} brings it back, or deliver with --experiment NEW" in first
    assert last.startswith("tracking: not all was delivered; later: python -m harness.tracking sync ")
    assert command.main(["sync", str(sweep.path), "--tracking-uri", uri]) == 1
    assert f"--experiment-id {number} brings it back" in capfd.readouterr().err
    client.restore_experiment(number)
    sync(sweep.path, uri)
    assert_shows(uri, sweep.path)


def test_an_experiment_that_is_deleted_and_restored_while_the_sweep_runs_gets_all(sweep, uri, capfd):
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment, retry_seconds=0.5)
    tracker.start()
    for row in sweep.trial("c1", 1, SELECTORS, {100: 0.7}):
        tracker.record(row)
    wait_until(lambda: "confirm-c1-s1" in begun(uri) and not tracker.failing)
    client = MlflowClient(uri)
    number = client.get_experiment_by_name("selectors").experiment_id
    client.delete_experiment(number)
    for row in sweep.trial("c2", 1, SELECTORS, {100: 0.7}):
        tracker.record(row)
    wait_until(lambda: tracker.failing)
    client.restore_experiment(number)
    assert tracker.finish("finished")
    assert_shows(uri, sweep.path)
    assert {run.info.status for run in runs(uri).values()} == {"FINISHED"}


def nested(uri) -> bool:
    """Whether every trial's run is shown below the sweep's."""
    shown = runs(uri)
    parent = shown.pop("").info.run_id
    return {run.data.tags["mlflow.parentRunId"] for run in shown.values()} == {parent}


@pytest.mark.parametrize("also", ["", "confirm-c1-s1"], ids=["the_sweeps", "and_a_trials"])
def test_runs_that_are_deleted_while_the_sweep_runs_are_made_again(sweep, uri, also):
    tracker = Tracker(uri, "selectors", sweep.path, sweep.environment, retry_seconds=0.5)
    tracker.start()
    for row in sweep.trial("c1", 1, SELECTORS, {100: 0.7}):
        tracker.record(row)
    wait_until(lambda: begun(uri).get("confirm-c1-s1") and begun(uri)["confirm-c1-s1"].info.status == "FINISHED")
    before = runs(uri)
    for trial in {"", also}:
        MlflowClient(uri).delete_run(before[trial].info.run_id)
    for row in sweep.trial("c2", 1, SELECTORS, {100: 0.7}):
        tracker.record(row)
    assert tracker.finish("finished", timeout=30)
    assert_shows(uri, sweep.path)
    assert nested(uri)
    assert {run.info.status for run in runs(uri).values()} == {"FINISHED"}
    assert before[""].info.run_id != runs(uri)[""].info.run_id


def test_runs_that_are_deleted_after_the_sweep_are_made_again_by_sync(sweep, uri):
    rows = [row for c in ("c1", "c2") for row in sweep.trial(c, 1, SELECTORS, {100: 0.7})]
    deliver(sweep, uri, rows)
    for trial in ("", "confirm-c1-s1"):
        MlflowClient(uri).delete_run(runs(uri)[trial].info.run_id)
    sync(sweep.path, uri)
    assert_shows(uri, sweep.path)
    assert nested(uri)
    assert len(runs(uri, ViewType.DELETED_ONLY)) == 2


@contextmanager
def answering(statuses: list[int]):
    """A server that answers with the last of these."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"You are not allowed to do this."
            self.send_response(statuses[-1])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "cure"),
    [(401, "; let MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"), (403, "; let whoever keeps the server")],
)
def test_a_server_that_knows_no_such_user_is_not_waited_for_and_its_newest_answer_is_told(sweep, capfd, status, cure):
    rows = sweep.trial("c1", 1, SELECTORS, {100: 0.7})
    statuses = [503]
    with answering(statuses) as uri:
        tracker = Tracker(uri, "selectors", sweep.path, sweep.environment, retry_seconds=0.3)
        tracker.start()
        for row in rows:
            tracker.record(row)
        wait_until(lambda: tracker.failing)
        statuses.append(status)
        refused(tracker)
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 3, errors
    assert f"MLflow at {uri} does not answer as it should and is tried again (" in errors[0]
    assert cure not in errors[0]
    assert f"MLflow at {uri} refuses what it is sent and is tried again (" in errors[1]
    assert f"failed with error code {status} " in errors[1]
    assert cure in errors[1]
    assert errors[2].startswith("tracking: not all was delivered; later: ")


def of_store(code: str, message: str) -> Exception:
    """What a store of artifacts answers, as botocore raises it."""
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": message}}, "PutObject")


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (exc.OperationalError("", {}, Exception('FATAL:  password authentication failed for user "me"')), "password"),
        (exc.OperationalError("", {}, Exception("Access denied for user 'me'@'box' (...)")), "password"),
        (exc.OperationalError("", {}, Exception('FATAL:  database "mlflow" does not exist')), "create it"),
        (exc.ProgrammingError("", {}, Exception("permission denied for table experiments")), "let this user write"),
        (exc.OperationalError("", {}, Exception("attempt to write a readonly database")), "let this user write"),
        (MlflowException("(sqlite3.OperationalError) database or disk is full"), "make room"),
        ('connection to server at "box", port 5432 failed: fe_sendauth: no password supplied', "the password"),
        ('FATAL:  role "my user" does not exist', "create it"),
        ('FATAL:  database "ml flow" does not exist', "create it"),
        ('FATAL:  role "me" is not permitted to log in', "the password"),
        ("(1114, \"The table 'metrics' is full\")", "make room"),
        ("(1044, \"Access denied for user 'me'@'%' to database 'mlflow'\")", "the password"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/mlruns/x"), "make room"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/mlruns/x"), "make room"),
        (of_store("AccessDenied", "Access Denied"), "read and write the experiment's artifacts"),
        (of_store("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist"), "AWS_ACCESS_KEY_ID"),
        (of_store("SignatureDoesNotMatch", "The request signature we calculated does not match"), "AWS_ACCESS_KEY_ID"),
        (of_store("NoSuchBucket", "The specified bucket does not exist"), "create the bucket"),
        (of_store("SlowDown", "Please reduce your request rate."), None),
        (botocore.exceptions.NoCredentialsError(), "AWS_ACCESS_KEY_ID"),
        (botocore.exceptions.PartialCredentialsError(provider="env", cred_var="x"), "AWS_ACCESS_KEY_ID"),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://box:9000"), None),
        (
            MlflowException("Detected out-of-date database schema (found version a, but expected b)"),
            "mlflow db upgrade",
        ),
        (
            requests.exceptions.SSLError(
                ssl.SSLCertVerificationError(
                    1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"
                )
            ),
            "CERT_PATH",
        ),
        ("FATAL:  sorry, too many clients already", None),
        ("FATAL:  the database system is starting up", None),
        (exc.OperationalError("", {}, Exception("connection refused")), None),
        (MlflowException("database is locked"), None),
        (ConnectionError("timed out"), None),
    ],
)
def test_what_databases_and_stores_refuse_is_told_from_their_absence(error, cure):
    error = exc.OperationalError("", {}, Exception(error)) if isinstance(error, str) else error
    given = cure_of(error)
    assert (cure in (given or "")) if cure else given is None
    assert (given or "") in told(error)

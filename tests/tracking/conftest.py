"""A sweep's folder, a database for it, and a server of MLflow on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from sweep_folder import SweepFolder
from tracked import wait_until

from harness.tracking.server import import_mlflow


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A migrated database; migrating takes seconds, so that every test gets a copy."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    import_mlflow().MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(empty_database, tmp_path):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def sweep(tmp_path):
    return SweepFolder(tmp_path / "selectors")


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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

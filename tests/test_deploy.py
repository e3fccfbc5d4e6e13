"""The files of `deploy/`, as far as they can be checked without the things they describe."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.engine import make_url

from harness.sweep.command import main

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PINNED = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"
)


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def test_the_ray_cluster_is_what_ray_up_takes():
    from ray.autoscaler._private.util import prepare_config, validate_config

    about = read("ray-cluster.yaml")
    validate_config(prepare_config(about))
    with pytest.raises(Exception, match="head_start_ray_command"):  # the schema does find a wrong key
        validate_config(prepare_config({**about, "head_start_ray_command": []}))


def test_the_ray_clusters_nodes_get_what_this_project_needs():
    (install,) = [line for line in read("ray-cluster.yaml")["setup_commands"] if "pip install" in line]
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    installed = {re.split(r"[\[>=]", word.strip('"'))[0] for word in install.split()}
    assert {re.split(r"[\[>=]", name)[0] for name in needed} <= installed
    assert "--constraint ~/constraints.txt" in install
    assert (ROOT / read("ray-cluster.yaml")["file_mounts"]["~/constraints.txt"]).is_file()


def test_the_rayjob_has_what_kuberay_requires():
    job = read("kuberay-rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"])
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == PINNED["ray"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        (container,) = pod["containers"]
        assert container["image"].startswith("REGISTRY/selbench:")
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        assert all(isinstance(variable["value"], str) for variable in container["env"])
    for group in cluster["workerGroupSpecs"]:
        assert group["groupName"]
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def commands() -> list[str]:
    """The calls of harness.sweep that the files make."""
    return [
        read("kuberay-rayjob.yaml")["spec"]["entrypoint"],
        (DEPLOY / "slurm.sh")
        .read_text()
        .replace("\\\n", " ")
        .partition(" -- ")[2]
        .partition(" &\n")[0]
        .replace('"$@"', "FILE"),
    ]


@pytest.mark.parametrize("command", commands())
def test_the_sweeps_that_are_started_have_options_that_exist(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    _, called, arguments = command.partition("python -m harness.sweep ")
    assert called
    words = arguments.replace("FILE", "search_spaces/augment.yaml").replace('"$address"', "10.0.0.1:6379").split()
    assert {"--address", "--resume"} <= set(words)
    assert main([*words, "--dry-run", "--quiet"]) == 0


@pytest.mark.parametrize("script", sorted(DEPLOY.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_bash(script):
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


SRUN = """#!/bin/bash
case "$*" in
  *hostname*) echo 10.0.0.1 ;;
  *) echo "$RAY_AUTH_MODE $(stat -c %a ~/.ray/auth_token) $(wc -c <~/.ray/auth_token)" ;;
esac
"""
"""In place of SLURM's: says what it was to start Ray with."""


@pytest.mark.parametrize("before", [None, "0" * 64])
def test_the_slurm_script_starts_ray_with_a_token_that_nobody_else_reads(tmp_path, before):
    home, place = tmp_path / "home", tmp_path / "place"
    for folder in (home / ".ray", place / ".venv/bin"):
        folder.mkdir(parents=True)
    if before:
        (home / ".ray/auth_token").write_text(before)
        (home / ".ray/auth_token").chmod(0o644)
    for name, content in {"srun": SRUN, "scontrol": "#!/bin/bash\necho first\n"}.items():
        (place / name).write_text(content)
        (place / name).chmod(0o755)
    (place / ".venv/bin/activate").write_text(f"PATH={place}:{Path(sys.executable).parent}:$PATH")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(home), "USER": "somebody", "SLURM_SUBMIT_DIR": str(place)}
    environment |= {"SLURM_JOB_NODELIST": "first,second", "SLURM_JOB_NUM_NODES": "2"}
    command = ["bash", "-c", 'umask 022 && exec bash "$0" FILE', str(DEPLOY / "slurm.sh")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "token 600 64\n"), done.stderr


def test_no_cluster_is_started_without_a_token():
    assert read("kuberay-rayjob.yaml")["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    about = read("ray-cluster.yaml")
    started = [line for key in ("head", "worker") for line in about[f"{key}_start_ray_commands"] if "ray start" in line]
    assert len(started) == 2
    assert all("RAY_AUTH_MODE=token " in line for line in started)
    assert "~/.ray/auth_token" in about["file_mounts"]
    page = (ROOT / "docs/cluster.md").read_text()
    assert re.search(r"^    export .*RAY_AUTH_MODE=token\n    ray start --head", page, re.MULTILINE)


def test_every_command_that_makes_a_token_closes_its_file():
    pages = [*DEPLOY.iterdir(), ROOT / "docs/cluster.md"]
    made = [
        line for page in pages for line in page.read_text().splitlines() if "get-auth-token" in line and "`" not in line
    ]
    assert len(made) == 3
    assert all("(umask 077 && ray get-auth-token --generate >/dev/null)" in line for line in made)


def test_the_slurm_script_calls_ray_with_options_that_exist():
    from ray.scripts.symmetric_run import symmetric_run

    text = (DEPLOY / "slurm.sh").read_text()
    known = {option for parameter in symmetric_run.params for option in parameter.opts}
    (call,) = re.findall(r"ray symmetric-run (.*?) -- ", text)
    assert {word for word in call.split() if word.startswith("--")} <= known


def test_the_compose_file_joins_server_and_database():
    about = read("mlflow-compose.yaml")
    server, database = about["services"]["mlflow"], about["services"]["database"]
    assert "database" in server["depends_on"]
    assert database["environment"]["POSTGRES_PASSWORD"].startswith("${")  # no password is written down
    uri = make_url(server["environment"]["MLFLOW_BACKEND_STORE_URI"])
    of_database = database["environment"]
    assert (uri.username, uri.password) == (of_database["POSTGRES_USER"], "${POSTGRES_PASSWORD}")
    assert (uri.host, uri.database) == ("database", of_database["POSTGRES_DB"])
    assert f" {uri.get_dialect().driver}-binary==" in server["build"]["dockerfile_inline"]
    mounted = {volume.partition(":")[0] for service in (server, database) for volume in service["volumes"]}
    assert mounted == set(about["volumes"])


def test_the_mlflow_server_has_options_that_exist():
    from mlflow.cli import server

    known = {option for parameter in server.params for option in parameter.opts}
    command = read("mlflow-compose.yaml")["services"]["mlflow"]["command"]
    assert {word for word in command.split() if word.startswith("--")} <= known


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("10.0.0.7", True),
        ("mlflow", True),
        ("172.20.0.3", True),
        ("172.217.0.1", False),
        ("rebound.example", False),
    ],
)
def test_the_mlflow_server_answers_to_the_names_that_drivers_use(host, allowed):
    """The option takes the place of what the server allows by itself."""
    from mlflow.server.security_utils import is_allowed_host_header

    command = read("mlflow-compose.yaml")["services"]["mlflow"]["command"]
    (hosts,) = re.findall(r"--allowed-hosts (\S+)", re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", command))
    assert is_allowed_host_header(hosts.split(","), f"{host}:5000") == allowed


def test_versions_are_those_of_the_constraints():
    named = {}
    for file in DEPLOY.iterdir():
        text = file.read_text()
        for name, version in re.findall(r"([A-Za-z][\w-]*)(?:\[[\w,]*\])?==([\d.]+\d)", text):
            assert PINNED[name] == version, f"{file.name}: {name}"
            named[name] = version
        for version in re.findall(r"rayproject/ray:([\d.]+)-", text):
            assert PINNED["ray"] == version, file.name
            named["image"] = version
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        assert {*re.findall(r"selbench:(\d[\d.]+\d)", text)} <= {project}, file.name
    assert named.keys() >= {"mlflow", "psycopg2-binary", "ray", "image"}


def test_no_host_and_no_account_of_ours_is_named():
    for file in DEPLOY.iterdir():
        named = set(re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", file.read_text()))
        assert named <= {"0.0.0.0", "127.0.0.1"}, file.name

"""Sweeps on Ray clusters of several nodes, which here are processes of one machine."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import socket
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import filelock
import pytest
import yaml
from cluster_nodes import PLUGIN, nodes
from trials import SMALL

from harness.config.parsing import parse_trial
from harness.config.plan import load_plan
from harness.config.schema import ConfigError, Problems
from harness.plugins.registry import PluginSpec
from harness.records import environment, rows
from harness.sweep import cluster, inquiry
from harness.sweep.command import main
from harness.sweep.options import host_and_port
from harness.trial.run import Folders, load_data

# ---------------------------------------------------------------- without a cluster


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("me:hunter2@box:6379", "***@box:6379"),
        ("me@box:6379", "***@box:6379"),
        ("me:hunter2%40box:6379", "***@box:6379"),
        ("ray://me:hunter2@box:10001", "***@box:10001"),
        ("box:6379?token=hunter2", "box:6379?token=***"),
    ],
)
def test_the_address_of_a_cluster_is_refused_without_a_login(address, shown):
    with pytest.raises(ConfigError, match=re.escape(f"--address {shown}: ")):
        host_and_port(address)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("somewhere", "expected auto or HOST:PORT"),
        ("127.0.0.1", "expected auto or HOST:PORT"),
        ("ray://127.0.0.1:10001", "on a node of the cluster, with `--address auto`"),
        ("127.0.0.1:1", "nothing answers there"),
        ("127.0.0.1:99999", "nothing answers there"),
        ("no.such.host.invalid:6379", "nothing answers there"),
    ],
)
def test_a_wrong_address_is_one_line_and_exit_2(tmp_path, capsys, address, message):
    file = tmp_path / "question.yaml"
    file.write_text(yaml.safe_dump({"trial": SMALL}))
    started = time.monotonic()
    assert main([str(file), "--results", str(tmp_path / "runs"), "--address", address]) == 2
    assert time.monotonic() - started < 30
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"--address {address}: ")
    assert message in line
    assert not (tmp_path / "runs").exists()


def test_a_port_where_something_else_listens_is_given_up(monkeypatch):
    monkeypatch.setattr(cluster, "JOIN_SECONDS", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConfigError, match="no Ray cluster that this machine is a node of answers there within 4 s"):
            cluster.check_address(address)


def test_auto_without_a_cluster_says_so(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # whatever else may run on this machine
    monkeypatch.setattr(cluster, "JOIN_SECONDS", 4.0)
    with pytest.raises(ConfigError, match="--address auto: no Ray cluster"):
        cluster.check_address("auto")


def test_the_cause_of_a_failed_join_is_the_exceptions_message():
    stderr = (
        "[2026-01-01] W noise\nTraceback (most recent call last):\n  File ...\nTraceback (most recent call last):\n"
        "  File ...\nRuntimeError: Version mismatch: the cluster has\n    Ray: 1.0\n"
    )
    assert cluster.cause_in(stderr) == "Version mismatch: the cluster has Ray: 1.0"
    assert cluster.cause_in("Killed\n") == "Killed"


def ask(folder: Path, seconds: float = 0.0, **space) -> Path:
    """A question with a plugin that no node has."""
    (folder / "telling.py").write_text(PLUGIN)
    file = folder / f"{space['name']}.yaml"
    selector = {"name": "telling:Telling", "log": str(folder / "log"), "seconds": seconds}
    trial = {**SMALL, "labels": {"start": 20, "budget": 10, "rounds": 1}, "selector": selector}
    file.write_text(yaml.safe_dump({"trial": trial, **space}))
    return file


def test_workers_get_this_project_and_plugins_that_are_not_installed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    sent = cluster.modules(load_plan(ask(tmp_path, name="question"), {}))
    assert [Path(path).name for path in sent] == ["harness", "baselines", "telling.py"]
    assert all(Path(path).exists() for path in sent)


def question(tmp_path: Path) -> inquiry.Question:
    config = parse_trial(SMALL, "trial", Problems())
    assert config is not None
    return inquiry.Question(
        data=[(config, load_data(config, tmp_path / "data", with_test=False)[0].fingerprint)],
        plugins=[PluginSpec("selectors", "coreset")],
        folders=Folders(tmp_path / "data", tmp_path / "stages"),
        code=inquiry.code_version(),
        packages=environment.numeric_versions(),
        cwd=os.getcwd(),
        probe=tmp_path / "stages" / ".probe-x",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code": "0" * 24}, "is other code than the driver's"),
        ({"packages": {**environment.numeric_versions(), "torch": "1.0"}}, "but 1.0 on the driver; install the same"),
        ({"plugins": [PluginSpec("selectors", "corset")]}, "did you mean 'coreset'?; install its package on every"),
    ],
)
def test_a_node_that_would_compute_otherwise_says_why(tmp_path, change, message):
    assert not list(inquiry.differences_from_driver(question(tmp_path)))
    (problem,) = inquiry.differences_from_driver(dataclasses.replace(question(tmp_path), **change))
    assert message in problem


def test_a_package_that_the_driver_has_not_got_keeps_no_node_out(tmp_path):
    packages = {k: v for k, v in environment.numeric_versions().items() if k != "scikit-activeml"}
    assert not list(inquiry.differences_from_driver(dataclasses.replace(question(tmp_path), packages=packages)))


@pytest.mark.skipif(find_spec("skactiveml") is None, reason="scikit-activeml is not installed")
def test_a_node_with_another_scikit_activeml_says_so(tmp_path):
    packages = {**environment.numeric_versions(), "scikit-activeml": "0.1"}
    (problem,) = inquiry.differences_from_driver(dataclasses.replace(question(tmp_path), packages=packages))
    assert problem.startswith("scikit-activeml is ")


def test_a_node_must_find_the_drivers_data(tmp_path, monkeypatch):
    config = parse_trial(SMALL, "trial", Problems())
    absent = parse_trial({**SMALL, "dataset": {"name": "image_folder", "path": "no/such"}}, "trial", Problems())
    assert config is not None
    assert absent is not None
    data = [(config, "another fingerprint"), (absent, "")]
    other, missing = inquiry.data_problems(dataclasses.replace(question(tmp_path), data=data))
    assert "data set digits holds other images or labels than on the driver" in other
    assert "no/such" in missing


def test_nodes_say_whether_they_share_stages_and_see_locks(tmp_path):
    asked = question(tmp_path)
    apart = inquiry.answer(asked)
    assert (apart.shared, apart.problems) == (False, [])
    with filelock.FileLock(asked.probe):
        together = inquiry.answer(asked)
    assert (together.shared, together.locked) == (True, True)
    asked.probe.touch()
    unlocked = inquiry.answer(asked)
    assert not unlocked.locked

    def notes(*answers: inquiry.Answer) -> list[str]:
        return cluster.nodes_of([{"Resources": {"CPU": 1.0}}] * 2, answers, asked.folders).notes

    assert "each computes and keeps its own stages" in notes(together, apart)[0]
    assert not notes(together, together)
    assert "locks" in notes(together, unlocked)[0]
    assert [file.name for file in asked.folders.stages.iterdir()] == [asked.probe.name]  # no litter


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSYS, "its file system has no locks; let --stages be on a disk of each node's own"),
        (errno.ENOLCK, "let --stages be on a disk of each node's own"),
    ],
)
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch, number, message):
    inquiry.check_locks(tmp_path)
    asked = question(tmp_path)

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OSError, match=message):
        inquiry.check_locks(tmp_path)
    assert message in inquiry.answer(asked).problems[0]


# ---------------------------------------------------------------- with one


def run(folder: Path, file: Path, name: str, *more: str) -> int:
    own = ["--results", f"{folder}/{name}", "--stages", f"{folder}/{name}-stages", "--cache", f"{folder}/{name}-data"]
    return main([str(file), *own, "--quiet", *more])


def outcome(sweep: Path) -> dict:
    """What the rows say, but for times, memory, and who computed a stage first."""
    records, unreadable = rows.read_rows(sweep)
    assert unreadable == 0
    aside = ("time/", "throughput/", "stage/", "memory/")
    told = {
        (r["trial"], r["step_kind"], r["step"], r["status"]): (
            r["parameters"],
            {name: value for name, value in r["metrics"].items() if not name.startswith(aside)},
        )
        for r in records
    }
    assert len(told) == len(records), "a record is there twice"
    return told


def said(folder: Path) -> list[list[str]]:
    """The lines of the plugin: what, node, where the project's code was, offset."""
    return [line.split() for line in (folder / "log").read_text().splitlines()]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where the driver runs; its plugin can be imported there and nowhere else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.slow
def test_two_nodes_without_this_project_do_what_one_machine_does(home, capsys):
    file = ask(home, name="same", parameters={"selector.offset": {"values": [0, 5]}})
    assert run(home, file, "one") == 0
    (home / "log").unlink()
    (home / "log.together").touch()
    capsys.readouterr()
    with nodes({}, {"fast": 1}) as there:
        assert run(home, file, "many", "--address", there.address, "--set", "resources.custom={fats: 1}") == 2
        assert "same: resources.custom.fats: no node has it; did you mean 'fast'?" in capsys.readouterr().err
        assert not (home / "many").exists()
        assert run(home, file, "many", "--address", there.address) == 0
    assert outcome(home / "many/same") == outcome(home / "one/same")
    assert len(outcome(home / "many/same")) >= 10
    assert len({node for _, node, _, _ in said(home)}) == 2
    assert all("runtime_resources" in code for _, _, code, _ in said(home))
    assert "each computes" not in capsys.readouterr().err  # one machine: the stages are shared
    about = json.loads((home / "many/same/environment.json").read_text())
    assert (about["concurrent_trials"], about["shared_stages"], len(about["nodes"])) == (2, True, 2)
    assert sorted(node["resources"].get("fast", 0) for node in about["nodes"]) == [0, 1]


@pytest.mark.slow
def test_three_nodes_do_what_one_machine_does_each_what_it_is_made_for(home):
    """The search and the second phase, on the nodes that have the resource."""
    file = ask(
        home,
        name="same",
        method="random",
        run_cap=4,
        confirm={"top": 1, "seeds": [1, 2], "references": [{"ssl_method": "none"}]},
        parameters={"selector.offset": {"values": [0, 5, 10, 15, 20]}, "pretrain.epochs": {"values": [1, 2, 3]}},
    )
    assert run(home, file, "one") == 0
    (home / "log").unlink()
    (home / "log.together").touch()
    with nodes({"num_cpus": 2}, {"fast": 1}, {"fast": 1}) as there:
        head = there.head_node.node_id
        assert run(home, file, "many", "--address", there.address, "--set", "resources.custom={fast: 1}") == 0
    assert outcome(home / "many/same") == outcome(home / "one/same")
    where = {node for _, node, _, _ in said(home)}
    assert len(where) == 2
    assert head not in where


@pytest.mark.slow
def test_the_trials_of_a_node_that_dies_move(home):
    file = ask(home, seconds=8.0, name="moved", parameters={"selector.offset": {"values": [0, 5]}})
    (home / "log.together").touch()
    with nodes({}, {}) as there:
        (doomed,) = there.worker_nodes

        def kill() -> None:
            while not any(doomed.node_id in line for line in said_so_far()):
                time.sleep(0.1)
            there.remove_node(doomed, allow_graceful=False)

        def said_so_far() -> list[list[str]]:
            return said(home) if (home / "log").exists() else []

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        assert run(home, file, "runs", "--address", there.address) == 0
        killer.join(60)
        assert not there.worker_nodes
    (lost,) = [offset for what, node, _, offset in said(home) if node == doomed.node_id and what == "begins"]
    assert ["ends", lost] in [[what, offset] for what, node, _, offset in said(home) if node != doomed.node_id]
    ended = [r for r in rows.read_rows(home / "runs/moved")[0] if r["status"] == "finished"]
    assert len(ended) == len({r["trial"] for r in ended}) == 2


@pytest.mark.slow
def test_a_cluster_remembers_no_limit_that_an_earlier_run_passed(home):
    file = ask(home, seconds=12.0, name="late")
    with nodes({}) as there:
        again = ["--address", there.address, "--set"]
        assert run(home, file, "runs", *again, "resources.time_limit=6") == 1
        assert run(home, file, "runs", *again, "resources.time_limit=600", "--resume") == 0

"""Many sweeps at once on one cluster, stage cache and database; a cluster that loses its head, or gets a node."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cluster_nodes import PLUGIN, nodes
from small_sweep import SLOW, TRIAL, endings, rows, start, wait_for_endings, write
from test_faults import mlflow_statuses

from harness.report import __main__ as report_command
from harness.sweep import servers

TOGETHER = 10
ANOTHER = "another sweep is running in this folder, or its records are being sent"


def finished(sweep: Path) -> dict[str, dict]:
    """The endings of the trials that finished; none has two."""
    ended = [row for row in rows(sweep) if row["status"] == "finished"]
    assert len({row["trial"] for row in ended}) == len(ended)
    return {row["trial"]: row for row in ended}


def one_is_refused(*processes: Any) -> None:
    """That of several drivers of one folder one does what it was asked, and the others say why not, in one line."""
    told = [process.communicate(timeout=1800) for process in processes]
    assert sorted(process.returncode for process in processes) == [0] + [2] * (len(processes) - 1), told
    for process, (_, errors) in zip(processes, told, strict=True):
        if process.returncode:
            assert errors.count(ANOTHER) == 1, errors
            assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_sweeps_at_once_lose_nothing_and_train_each_encoder_once(tmp_path):
    """On one cluster with little room for objects, one stage cache, one database that none has made yet."""
    asked = {"seeds": [0, 1], "parameters": {"selector": {"values": ["random", "margin"]}}}
    names = [f"sweep{number}" for number in range(TOGETHER)]
    files = [write(tmp_path, name=name, resources={"max_concurrent": 1}, **asked) for name in names]
    with nodes({"num_cpus": 2, "object_store_memory": 80_000_000}) as there:
        cluster = ("--address", there.address)
        drivers = [start(tmp_path, file, *cluster) for file in files]
        twin = start(tmp_path, files[0], *cluster)
        while not (begun := [sweep for sweep in (tmp_path / "runs").glob("*/") if endings(sweep)["finished"]]):
            assert any(driver.poll() is None for driver in drivers), [driver.communicate() for driver in drivers]
            time.sleep(1)
        assert report_command.main([str(begun[0])]) == 0
        one_is_refused(drivers[0], twin)
        for driver in drivers[1:]:
            out, errors = driver.communicate(timeout=1800)
            assert driver.returncode == 0, out + errors
            assert not [line for line in errors.splitlines() if "Traceback" in line or line.startswith("tracking:")]
        every = [finished(tmp_path / "runs" / name) for name in names]
        assert [len(ended) for ended in every] == [4] * TOGETHER
        assert all(list(mlflow_statuses(tmp_path, name).values()) == ["FINISHED"] * 5 for name in names)
        measured = [{trial: row["metrics"]["test/accuracy"] for trial, row in ended.items()} for ended in every]
        assert measured == [measured[0]] * TOGETHER
        trained = [row for ended in every for row in ended.values() if not row["metrics"]["stage/pretrain_cached"]]
        assert sorted(row["seed"] for row in trained) == [0, 1]

        more = ("--resume", "--set", "seeds=[0,1,2]")
        one_is_refused(*(start(tmp_path, files[0], *cluster, *more) for _ in range(2)))
        grown = finished(tmp_path / "runs" / names[0])
        assert len(grown) == 6
        assert grown | every[0] == grown


def slow_sweep(folder: Path, number: int) -> Path:
    """The file of a sweep of so many trials that each take a moment."""
    (folder / "slow_plugin.py").write_text(SLOW)
    selector = {"name": "slow_plugin:Slow", "log": str(folder / "selections.log"), "seconds": 1.0}
    trial = {**TRIAL, "ssl_method": "none", "selector": selector}
    return write(folder, name="moved", trial=trial, seeds=list(range(number)))


NUMBER = 10


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("lost", ["gcs_server", "node"])
def test_a_sweep_whose_cluster_loses_its_head_says_so_and_goes_on_in_another(tmp_path, lost):
    file, sweep = slow_sweep(tmp_path, NUMBER), tmp_path / "runs/moved"
    with nodes({}, {}) as there:
        process = start(tmp_path, file, "--address", there.address)
        wait_for_endings(sweep, 2, process)
        begun = time.monotonic()
        if lost == "node":
            there.remove_node(there.head_node, allow_graceful=False)
        else:
            there.head_node.all_processes["gcs_server"][0].process.kill()
        out, errors = process.communicate(timeout=200)
        seconds = time.monotonic() - begun
    print(f"{lost}: {seconds:.1f} s\n{errors}")
    assert process.returncode == 130, out + errors
    assert seconds < servers.HEAD_SECONDS + 25
    (line,) = [line for line in errors.splitlines() if line.startswith("stopped: ")]
    assert "of the Ray cluster" in line
    assert "; nothing that finished is lost; go on with: " in line
    assert "Traceback" not in errors
    kept = finished(sweep)
    assert 2 <= len(kept) < NUMBER
    with nodes({"num_cpus": 2}) as there:
        again = start(tmp_path, file, "--address", there.address, "--resume")
        out, errors = again.communicate(timeout=600)
        assert again.returncode == 0, out + errors
    ended = finished(sweep)
    assert len(ended) == NUMBER
    assert ended | kept == ended
    assert Counter(mlflow_statuses(tmp_path, "moved").values()) == {"FINISHED": NUMBER + 1}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_node_that_joins_in_the_middle_changes_nothing(tmp_path):
    """Nobody has asked it for its code and data: it has no part in this run, and in the next one."""
    (tmp_path / "telling.py").write_text(PLUGIN)
    selector = {"name": "telling:Telling", "log": str(tmp_path / "log"), "seconds": 1.0}
    trial = {**TRIAL, "ssl_method": "none", "selector": selector}
    file, sweep = write(tmp_path, name="joined", trial=trial, seeds=list(range(6))), tmp_path / "runs/joined"
    with nodes({}) as there:
        process = start(tmp_path, file, "--address", there.address)
        wait_for_endings(sweep, 2, process)
        there.add_node(num_cpus=1)
        out, errors = process.communicate(timeout=600)
        assert process.returncode == 0, out + errors
        alone = {line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}
        again = start(tmp_path, file, "--address", there.address, "--resume", "--set", f"seeds={list(range(12))}")
        out, errors = again.communicate(timeout=600)
        assert again.returncode == 0, out + errors
        both = {line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}
    print(f"{len(alone)} node, then {len(both)}")
    assert endings(sweep) == {"finished": 12}
    assert len(finished(sweep)) == 12
    assert len(alone) == 1
    assert len(both) == 2

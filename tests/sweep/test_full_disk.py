"""A disk that fills up in the middle of a sweep, and what lies on it: all of the sweep, or a part."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from small_sweep import endings, rows, run, write
from test_faults import QUICK, mlflow_statuses

from harness.records import rows as record_rows
from harness.tracking import __main__ as tracking
from harness.tracking.server import sqlite_uri

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("workers_find_the_plugins")]


@pytest.fixture
def small_disk():
    """Makes a folder a file system of 40 MB of its own."""
    places = []

    def mount(place: Path) -> Path:
        place.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", place]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only the superuser can make a small disk")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "--lazy", place], check=True)


def filling(folder: Path, disk: Path) -> Path:
    """The file of a sweep of six trials, of which one fills a disk."""
    selector = {"name": "bad_plugins:Fills", "folder": str(disk)}
    return write(
        folder,
        name="full",
        trial=QUICK,
        seeds=[0, 1, 2],
        resources={"max_concurrent": 1},
        parameters={"selector": {"values": ["random", selector]}},
    )


@pytest.mark.parametrize("full", [".", "stages", "runs"])
def test_a_full_disk_stops_the_sweep_and_loses_nothing(tmp_path, small_disk, capsys, full):
    """Records, stages and the database lie on the disk that a trial fills; or stages alone; or all but these."""
    folder = tmp_path / "home"
    disk = small_disk(folder / full)
    file, sweep = filling(folder, disk), folder / "runs/full"
    assert run(folder, file) == 130
    errors = capsys.readouterr().err
    assert "no space left on the device" in errors
    assert "make room and go on with" in errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    records, unreadable = record_rows.read_rows(sweep)
    assert unreadable == 0
    before = [r for r in records if r["status"] == "finished"]
    assert 1 <= len(before) < 6
    assert not any(r["status"] == "failed" for r in records)
    (disk / "ballast").write_bytes(b"")
    assert run(folder, file, "--resume") == 0, capsys.readouterr()
    assert endings(sweep) == {"finished": 6}
    assert [r for r in rows(sweep) if r["status"] == "finished"][: len(before)] == before
    assert set(mlflow_statuses(folder, "full").values()) == {"FINISHED"}


def test_a_full_disk_of_the_database_alone_costs_no_trial(tmp_path, small_disk, capfd):
    folder = tmp_path / "home"
    disk = small_disk(folder / "databases")
    database = ("--tracking-uri", sqlite_uri(disk / "mlflow.db"))
    file, sweep = filling(folder, disk), folder / "runs/full"
    assert run(folder, file, *database) == 0
    assert endings(sweep) == {"finished": 6}
    errors = capfd.readouterr().err
    assert "refuses what it is sent" in errors
    assert "make room there" in errors
    assert "not all was delivered" in errors
    assert "Traceback" not in errors
    (disk / "ballast").write_bytes(b"")
    assert tracking.main(["sync", str(sweep), *database]) == 0
    assert list(mlflow_statuses(folder, "full", disk / "mlflow.db").values()) == ["FINISHED"] * 7

"""Whatever ends a sweep, it says so within seconds, in its own words, and the command that it prints goes on."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from small_sweep import HERE, NUMBER, SLOW, begin, question, surroundings, wait_for_endings
from test_faults import mlflow_statuses
from test_sweep import without_agents

from harness.cores import usable_cores
from harness.records import rows as record_rows
from harness.tracking.server import sqlite_uri

ROOT = HERE.parent

ODD = 'which? 50% #2 é 学 it\'s "so" `x` $HOME'
"""The name of a folder, which every command that is printed has to quote."""


def go_on(command: str, folder: Path, *before: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Pastes a command into bash."""
    python = command.replace("python", sys.executable, 1)
    shell = [*before, "bash", "-c", python]
    return subprocess.run(
        shell, env=surroundings(folder) | variables, capture_output=True, text=True, timeout=900, check=False
    )


def finished(sweep: Path) -> dict[str, dict]:
    """The trials that finished, with their endings; none has two."""
    records = [r for r in record_rows.read_rows(sweep)[0] if r["status"] == "finished"]
    assert Counter(r["trial"] for r in records) == dict.fromkeys({r["trial"] for r in records}, 1)
    return {r["trial"]: r for r in records}


def servers(process: subprocess.Popen, *names: str) -> list[psutil.Process]:
    return [one for one in psutil.Process(process.pid).children(recursive=True) if one.name() in names]


def driver(process: subprocess.Popen) -> psutil.Process:
    """What the sweep runs in: the child of the process that watches it."""
    (child,) = psutil.Process(process.pid).children()
    return child


def workers(process: subprocess.Popen) -> list[psutil.Process]:
    """What trials run in."""
    every = psutil.Process(process.pid).children(recursive=True)
    return [one for one in every if one.cmdline()[:1] and one.cmdline()[0].startswith("ray::ImplicitFunc")]


def end_group(process: subprocess.Popen) -> None:
    """What `timeout` does: to the process and its group."""
    process.send_signal(signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)


def end_all(process: subprocess.Popen) -> None:
    """What systemd and SLURM do: to every process of the job."""
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        one.terminate()


BLOWS = {
    "group": end_group,
    "job": end_all,
    "hangup": lambda process: process.send_signal(signal.SIGHUP),
    "raylet": lambda process: servers(process, "raylet")[0].kill(),
    "gcs_server": lambda process: servers(process, "gcs_server")[0].kill(),
    "RuntimeEnvAgent": lambda process: servers(process, "ray::RuntimeEnvAgent")[0].kill(),
    "DashboardAgent": lambda process: servers(process, "ray::DashboardAgent")[0].kill(),
    "driver": lambda process: driver(process).kill(),
}

DIED = {
    "raylet": "raylet, a server of Ray's that this sweep runs on, was killed (SIGKILL)",
    "gcs_server": "gcs_server, a server of Ray's that this sweep runs on, was killed (SIGKILL)",
    "RuntimeEnvAgent": "RuntimeEnvAgent, a server of Ray's that this sweep runs on, has ended",
    "DashboardAgent": "DashboardAgent, a server of Ray's that this sweep runs on, has ended",
    "driver": "the process of this sweep was killed (SIGKILL)",
}
"""Blow -> how the line begins that tells of it. Of the others the sweep is told in time."""


@pytest.mark.slow
@pytest.mark.parametrize("blow", BLOWS)
def test_a_sweep_that_is_ended_says_so_and_goes_on(tmp_path, blow):
    folder = tmp_path / ODD
    sweep = folder / "runs/it's #1"
    process = begin(folder)
    wait_for_endings(sweep, 2, process)
    while not (folder / "runs/mlflow.db").exists():  # whose tables MLflow may take longer to make than two trials
        time.sleep(0.1)
    assert len({os.getpgid(one.pid) for one in servers(process, "raylet", "gcs_server")} - {process.pid}) == 2
    started = psutil.Process(process.pid).children(recursive=True)
    if blow == "driver":
        started = without_agents(started)
    busy = os.getloadavg()[0] / usable_cores()
    before = time.monotonic()
    BLOWS[blow](process)
    out, errors = process.communicate(timeout=60)
    seconds = time.monotonic() - before
    print(f"{blow}: {seconds:.1f} s\n{errors}")
    assert process.returncode == 130, out + errors
    assert seconds < 10 * max(1.0, busy), "10 s where each process has a core, and longer as they wait for one"
    kept = finished(sweep)
    assert 2 <= len(kept) < NUMBER
    lines = [line for line in errors.splitlines() if not re.match(r"\[\d+/12\] |digits: ", line)]
    late = [line for line in lines if line.startswith("no report: there was no time; try again with: ")]
    undelivered = [line for line in lines if line.startswith("tracking: not all was delivered")]
    assert not undelivered or busy > 2, errors
    lines = [line for line in lines if line not in late + undelivered]
    if blow in DIED:
        said = [DIED[blow]]
        if "Agent" in blow:  # Ray's C++ may be faster, with a line of its own, and then who watches says it
            lines = [one for one in lines if not re.match(r"\[.* E .*\] core_worker\.cc", one)]
            said.append("the process of this sweep ended with status 1")
        (line,) = lines
        assert line.startswith(tuple(f"stopped: {one}" for one in said))
        assert "; nothing that finished is lost; go on with: " in line
    else:
        command = lines[0].removeprefix("stopping; go on with: ")
        assert lines == [f"stopping; go on with: {command}", f"interrupted; go on with: {command}"]
        assert (sweep / "report.html").exists() or (late and busy > 2), errors
    if blow not in DIED:  # of which Ray may end the driver before MLflow has heard
        statuses = mlflow_statuses(folder, "it's #1")
        assert undelivered or (statuses[""] == "KILLED" and "RUNNING" not in statuses.values()), statuses
    assert not psutil.wait_procs(started, timeout=20)[1], "Ray's processes outlived the driver"

    ascii_terminal = {"PYTHONIOENCODING": "ascii"} if blow == "hangup" else {}
    again = go_on(lines[-1].rpartition("go on with: ")[2], folder, **ascii_terminal)
    assert again.returncode == 0, again.stderr
    assert [file.name for file in tmp_path.iterdir()] == [ODD]  # before MLflow is asked from here, which makes another
    assert len(finished(sweep)) == NUMBER
    assert finished(sweep) | kept == finished(sweep)
    assert Counter(mlflow_statuses(folder, "it's #1").values()) == {"FINISHED": NUMBER + 1}
    assert {"mlflow.db", "mlflow_artifacts", "it's #1"} <= {file.name for file in (folder / "runs").iterdir()}
    if not ascii_terminal:
        said = dict(
            line.split(":", 1) for line in again.stdout.splitlines() if line.startswith(("report:", "MLflow UI:"))
        )
        report, ui = said["report"].strip(), said["MLflow UI"]
        assert shlex.split(ui) == ["mlflow", "ui", "--backend-store-uri", sqlite_uri(folder / "runs/mlflow.db")]
        assert go_on(report, folder).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("server", ["raylet", "gcs_server"])
def test_ray_whose_server_hangs_as_it_starts_is_one_line(tmp_path, server):
    """As on a machine that is too busy for it: Ray itself waits in vain."""
    process = begin(tmp_path / "a")
    while not (found := servers(process, server)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    found[0].suspend()
    started = psutil.Process(process.pid).children(recursive=True)
    before = time.monotonic()
    out, errors = process.communicate(timeout=240)
    print(f"{server}: {time.monotonic() - before:.1f} s\n{errors}")
    assert process.returncode == 2, out + errors
    (line,) = [one for one in errors.splitlines() if not one.startswith("digits: ")]
    assert line.startswith("Ray cannot start on this machine: ")
    assert not psutil.wait_procs(started, timeout=20)[1], "Ray's processes outlived the driver"


SCONTROL = "#!/bin/sh\necho localhost\n"
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do [ "$1" = -w ] && shift; shift; done
exec "$@"
"""
"""What stands for SLURM's commands on one node: of `srun` the options are left out."""

APART = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
"""What begins a command line that sees no other process of this machine, whose Ray it would take for one of its own."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_of_slurm_is_ended_tidily_and_submitted_again(tmp_path):
    if subprocess.run([*APART, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only the superuser can hide other processes")
    folder, programs = tmp_path / "a", tmp_path / "programs"
    bin, sweep = folder / ".venv/bin", folder / "runs/it's #1"
    for made in (bin, programs):
        made.mkdir(parents=True)
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (bin / "activate").write_text(f"export PATH={programs}:{Path(sys.executable).parent}:$PATH\n")
    file = question(folder, NUMBER)
    shutil.copy(ROOT / "deploy/slurm.sh", script := folder / "job.sh")
    variables = {"SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_NODELIST": "localhost", "SLURM_JOB_NUM_NODES": "1",
                 "HOME": str(folder), "TMPDIR": str(tmp_path), "USER": "somebody"}  # fmt: skip
    places = ["--results", f"{folder}/runs", "--stages", f"{folder}/stages"]
    submitted = {"args": [*APART, "bash", str(script), str(file), *places], "env": surroundings(folder) | variables,
                 "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}  # fmt: skip
    job = subprocess.Popen(**submitted)
    wait_for_endings(sweep, 2, job)
    psutil.Process(job.pid).children()[0].terminate()  # the script alone
    out, errors = job.communicate(timeout=120)
    print(out, errors)
    assert job.returncode == 130, out + errors
    said = [line for line in errors.splitlines() if line.startswith(("stopping; ", "interrupted; ", "stopped: "))]
    assert [line.partition("; go on with: python -m harness.sweep ")[0] for line in said] == ["stopping", "interrupted"]
    assert (sweep / "report.html").exists()
    kept = finished(sweep)
    assert 2 <= len(kept) < NUMBER
    subprocess.run(**submitted | {"timeout": 500, "check": True})
    assert len(finished(sweep)) == NUMBER
    assert finished(sweep) | kept == finished(sweep)


# ---------------------------------------------------------------- the ground gives way

FEW = 6
ASLEEP = 60
"""Seconds for which a driver is stopped: more than Ray's servers and agents wait for one another."""


ELSEWHERE = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
"""What begins a command line whose process takes this machine for another one."""


def report_from_another_machine(sweep: Path, folder: Path) -> None:
    """As somebody makes it on another node, which sees the files of a sweep that runs and nothing else of it."""
    before = ELSEWHERE if not subprocess.run([*ELSEWHERE, "true"], capture_output=True, check=False).returncode else []
    command = [*before, sys.executable, "-m", "harness.report", str(sweep)]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert told.returncode == 0, told.stderr
    assert (sweep / "report.html").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_whatever_befalls_a_running_sweep_from_outside_it_ends_with_every_trial(tmp_path):
    """Caches wiped, the driver stopped and a report made meanwhile, its folder wiped, its code changed."""
    folder, sweep, number = tmp_path / "a", tmp_path / "a/runs/it's #1", FEW + 2
    process = begin(folder, number=number)
    wait_for_endings(sweep, 1, process)
    for cache in ("stages", "data"):
        shutil.rmtree(folder / cache, ignore_errors=True)
    wait_for_endings(sweep, 2, process)
    driver(process).suspend()
    asleep = time.monotonic()
    report_from_another_machine(sweep, tmp_path)
    time.sleep(max(0.0, asleep + ASLEEP - time.monotonic()))
    driver(process).resume()
    wait_for_endings(sweep, 3, process)
    kept = finished(sweep)
    shutil.rmtree(sweep, ignore_errors=True)
    wait_for_endings(sweep, 4, process)
    (folder / "slow_plugin.py").write_text(SLOW.replace("budget]", "budget] if True else None"))
    for worker in workers(process):  # who has loaded the code goes on with it; its successor loads it anew
        worker.kill()
    out, errors = process.communicate(timeout=900)
    print(out, errors)
    assert process.returncode == 0, out + errors
    assert "rows.jsonl was deleted or changed while the sweep runs; written anew" in errors
    assert "Traceback" not in errors
    ended = finished(sweep)
    assert len(ended) == number
    assert ended | kept == ended
    assert Counter(mlflow_statuses(folder, "it's #1").values()) == {"FINISHED": number + 1}
    assert "ran different code or packages" in (sweep / "summary.md").read_text()


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t back(void) {
    const char *file = getenv("SET_BACK");
    return file && !access(file, F_OK) ? 3600 : 0;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, now);
    now->tv_sec -= id == CLOCK_REALTIME ? back() : 0;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int (*real)(struct timeval *restrict, void *restrict) = dlsym(RTLD_NEXT, "gettimeofday");
    int failed = real(now, zone);
    now->tv_sec -= back();
    return failed;
}

time_t time(time_t *now) {
    time_t (*real)(time_t *) = dlsym(RTLD_NEXT, "time");
    time_t seconds = real(NULL) - back();
    if (now) *now = seconds;
    return seconds;
}
"""
"""A clock that stands an hour back as soon as the file of the variable `SET_BACK` is there, for all of a sweep."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_a_clock_set_back_and_a_harness_pulled_under_a_sweep_change_no_trial(tmp_path):
    clock, set_back = tmp_path / "clock.so", tmp_path / "set_back"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(clock), "-xc", "-", "-ldl"], input=CLOCK, text=True, check=True)
    for package in ("harness", "baselines"):
        shutil.copytree(ROOT / package, tmp_path / "code" / package, ignore=shutil.ignore_patterns("__pycache__"))
    folder, sweep = tmp_path / "a", tmp_path / "a/runs/it's #1"
    in_clone = ["env", "-C", str(tmp_path / "code")]
    process = begin(folder, *in_clone, number=FEW, LD_PRELOAD=str(clock), SET_BACK=str(set_back))
    wait_for_endings(sweep, 1, process)
    set_back.touch()
    wait_for_endings(sweep, 3, process)
    before = finished(sweep)
    with (tmp_path / "code/harness/trial/rounds.py").open("a") as file:
        file.write("\nPULLED = True\n")
    workers(process)[0].kill()  # who has loaded the code goes on with it; its successor loads it anew
    out, errors = process.communicate(timeout=900)
    print(out, errors)
    assert process.returncode == 0, out + errors
    assert "Traceback" not in errors
    ended = finished(sweep)
    assert (len(ended), ended | before) == (FEW, ended)
    times = [record["time"] for record in record_rows.read_rows(sweep)[0]]
    assert 3000 < max(earlier - later for earlier, later in pairwise(times)) / 1000 <= 3600
    assert Counter(mlflow_statuses(folder, "it's #1").values()) == {"FINISHED": FEW + 1}
    assert "ran different code or packages" in (sweep / "summary.md").read_text()
    begin(tmp_path / "b", number=FEW).communicate(timeout=900)  # a clock that goes on, one code
    alone = finished(tmp_path / "b/runs/it's #1")
    assert by_seed(alone) == by_seed(ended)


def by_seed(trials: dict[str, dict]) -> dict[int, float]:
    return {record["seed"]: record["metrics"]["test/accuracy"] for record in trials.values()}


NOBODY = 54321
"""A user id without a name or a home, which may read every file, as the Python of these tests may be root's own."""

AS_NOBODY = [
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    *("env", "-u", "USER", "-u", "LOGNAME"),
]

HOMELESS = [*AS_NOBODY, "-u", "HOME"]


def give(files: Iterable[Path], user: int) -> None:
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # a sweep that runs has put it in another's place
            os.chown(file, user, user, follow_symlinks=False)


DENIED = r"PermissionError: \[Errno 13\] Permission denied: "

CLOSED = {
    "stages": [rf"stopped: {DENIED}'.*/stages/.*' \(see .*error.txt.*\); nothing"],
    "data": [rf"stopped: {DENIED}'.*/data/digits-.*' \(see .*error.txt.*\); nothing"],
    "runs": [rf"stopped: {DENIED}.*/trials/.*; nothing", rf"no report: {DENIED}.*; try again with: "],
}
"""Folder of a running sweep that is closed to it -> how the lines begin that tell of it at the end."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("closed", CLOSED)
def test_nobody_without_a_home_runs_a_sweep_of_which_a_folder_is_closed_in_the_middle(tmp_path, closed):
    if os.getuid() or subprocess.run([*AS_NOBODY, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only the superuser can run as another")
    place = tmp_path / "place"
    long, home = place / ("slurm_job_1355700_" * 6), place / "home"
    for made in (place, long, home):
        made.mkdir()
    give([place, long], NOBODY)
    home.chmod(0o555)
    folder, sweep = place / "a", place / "a/runs/it's #1"
    process = begin(folder, *AS_NOBODY, number=FEW, HOME=str(home), TMPDIR=str(long))
    give([folder, *folder.iterdir()], NOBODY)
    wait_for_endings(sweep, 2, process)
    taken = [folder / closed, *(folder / closed).rglob("*")]
    give(taken, 0)
    before = time.monotonic()
    out, errors = process.communicate(timeout=600)
    print(f"{closed}: {time.monotonic() - before:.1f} s", out, errors)
    assert process.returncode == 130, out + errors
    assert "Traceback" not in errors
    lines = errors[errors.index("stopped: ") :].splitlines()
    assert len(lines) == len(CLOSED[closed]), errors
    assert all(re.match(expected, line) for expected, line in zip(CLOSED[closed], lines, strict=True)), errors
    kept = finished(sweep)
    assert len(kept) >= 2
    give(taken, NOBODY)
    again = go_on(lines[0].rpartition("go on with: ")[2], folder, *HOMELESS, TMPDIR=str(long))
    print(again.stderr)
    assert again.returncode == 0, again.stderr
    assert "Traceback" not in again.stderr
    ended = finished(sweep)
    assert len(ended) == FEW
    assert ended | kept == ended
    assert Counter(mlflow_statuses(folder, "it's #1").values()) == {"FINISHED": FEW + 1}


LITTLE = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=16m tmpfs /dev/shm && ulimit -n 256 && exec "$@"', "sh"]
"""What begins a command line whose processes have little shared memory and few open files."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_sweep_does_with_256_open_files_and_16_mb_of_shared_memory(tmp_path):
    if subprocess.run([*LITTLE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only the superuser can make a small disk")
    process = begin(tmp_path / "a", *LITTLE, number=2)
    out, errors = process.communicate(timeout=900)
    assert process.returncode == 0, out + errors
    assert "Traceback" not in errors
    assert len(finished(tmp_path / "a/runs/it's #1")) == 2

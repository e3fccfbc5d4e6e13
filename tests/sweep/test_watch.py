"""What ends the process of a sweep without a word is said by the one that watches it, and signals reach it once."""

from __future__ import annotations

import importlib
import os
import pty
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from harness.sweep.watch import END_NOTHING, OF_FAULTS

ROOT = Path(__file__).parents[2]

WATCHED = """
import os, signal, sys, time
from harness.sweep.watch import leave, tell_begun, tell_status, watch

status = watch("again")
if status is not None:
    assert not {"ray", "torch", "numpy"} & set(sys.modules)
    sys.exit(status)
heard = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: heard.append(number))
"""

LISTEN = """
print("ready", flush=True)
while not heard:
    time.sleep(0.01)
time.sleep(0.5)
print(*map(int, heard), flush=True)
leave(0)
"""

RUN = "sys.argv = sys.argv[1:]; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"


ENDS = {number for number in signal.Signals if number.name not in {*END_NOTHING, "SIGPIPE", "SIGXFSZ"}}
"""All signals that end a process unless it says otherwise; Python does of two."""


AS_IN_A_TERMINAL = f"""
import signal
for number in {sorted(map(int, ENDS))}:
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
"""
"""What begins these tests in the background may ignore some signals, and so would what they begin."""


def begin(body: str, before: str = AS_IN_A_TERMINAL) -> subprocess.Popen:
    """A process that is watched and does so, in a session of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", before + WATCHED + body]
    return subprocess.Popen(command, env=environment, **pipes)


@pytest.mark.parametrize(
    ("body", "status", "how"),
    [
        ("tell_begun(); os._exit(1)", 130, "ended with status 1"),
        ("tell_begun(); os._exit(0)", 130, "ended with status 0"),
        ("tell_begun(); os.kill(os.getpid(), 40)", 130, "was killed (signal 40)"),
        ("tell_begun(); tell_begun(); os.kill(os.getpid(), signal.SIGKILL)", 130, "was killed (SIGKILL)"),
        ("tell_begun(); os.abort()", 130, "was killed (SIGABRT)"),
        ("os._exit(0)", 2, "ended with status 0"),
        ("os.abort()", 2, "was killed (SIGABRT)"),
        ("tell_begun(); leave(1)", 1, ""),
        ("leave(1); tell_begun()", 1, ""),
        ("leave(1)", 1, ""),
        ("leave(0)", 0, ""),
        ("tell_status(2); sys.exit(2)", 2, ""),
        ("tell_status(0); os.abort()", 0, ""),  # after all was said
        ("tell_status(130); tell_status(1); os._exit(3)", 1, ""),
    ],
)
def test_an_end_that_was_not_told_is_told(body, status, how):
    out, errors = (process := begin(body)).communicate(timeout=60)
    assert process.returncode == status, out + errors
    then = (
        "nothing that finished is lost; go on with: again"
        if status == 130
        else "it ran no trial; try again with: again"
    )
    said = f"stopped: the process of this sweep {how}; {then}\n"
    assert errors == (said if how else "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_process_reaches_the_sweep(number):
    process = begin(LISTEN)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, f"{int(number)}\n"), errors


@pytest.mark.parametrize("group", [False, True])
def test_whatever_signal_ends_a_process_ends_a_sweep_tidily(group):
    """As SLURM sends the one that it is asked to, a terminal SIGQUIT, a limit of processor time SIGXCPU."""
    interrupts = "from harness.sweep.interrupts import Interrupts\n"
    wait = "try:\n    print('ready', flush=True)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    leave(0)"
    body = f"{interrupts}with Interrupts('again'):\n{textwrap.indent(wait, '    ')}"
    for number in sorted(number for number in ENDS if not (group and number.name in OF_FAULTS)):
        process = begin(body)
        assert process.stdout.readline() == "ready\n"
        (os.killpg if group else os.kill)(process.pid, number)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, (number, out, errors)
        assert errors.startswith("stopping; "), (number, errors)


def test_a_process_with_threads_goes_on_itself():
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    told = "import os\nprint(os.getpid(), flush=True)\nleave(0)"
    command = [sys.executable, "-c", thread + WATCHED + told]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.communicate(timeout=60)[0] == f"{process.pid}\n"
    assert process.returncode == 0


def test_ctrl_c_in_a_terminal_reaches_the_sweep_once():
    ours, theirs = pty.openpty()
    take = "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"  # the terminal of this session
    command = [sys.executable, "-c", take + WATCHED + LISTEN]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n", process.communicate()
    os.write(ours, b"\x03")
    out, errors = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert (process.returncode, out) == (0, f"{int(signal.SIGINT)}\n"), errors


def test_the_sweep_does_not_outlive_who_watches_it():
    process = begin(LISTEN)
    assert process.stdout.readline() == "ready\n"
    (child,) = psutil.Process(process.pid).children()
    assert os.getpgid(child.pid) == os.getpgid(process.pid)
    process.kill()
    process.communicate(timeout=60)
    assert not psutil.wait_procs([child], timeout=20)[1]


def test_a_hangup_that_is_ignored_reaches_nobody():
    process = begin(LISTEN, "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, f"{int(signal.SIGTERM)}\n"), errors


SWALLOWS = """
import os, signal

try:
    os.kill(os.getpid(), signal.{name})
    sum(range(10**6))
except BaseException as error:
    raise RecursionError("another one") from error
from baselines.selectors.random import Random
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_within_an_import_ends_the_command_in_a_line(tmp_path, name):
    (tmp_path / "odd_plugin.py").write_text(SWALLOWS.format(name=name))
    file = tmp_path / "q.yaml"
    file.write_text("name: q\ntrial: {dataset: digits, ssl_method: none, selector: 'odd_plugin:Random'}\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "harness.sweep", str(file), "--dry-run", "--results", str(tmp_path / "runs")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 130, done
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"interrupted; go on with: python -m harness.sweep {file} --dry-run")


def test_a_sweep_that_ends_in_silence_before_its_first_trial_ran_nothing(tmp_path):
    (tmp_path / "odd_plugin.py").write_text("import os\n\nos.abort()\n")
    file = tmp_path / "q.yaml"
    file.write_text("name: q\ntrial: {dataset: digits, ssl_method: none, selector: 'odd_plugin:Random'}\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "harness.sweep", str(file), "--results", str(tmp_path / "runs")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2, done
    said = "stopped: the process of this sweep was killed (SIGABRT); it ran no trial; try again with: python -m"
    assert done.stderr.splitlines()[-1].startswith(said)


@pytest.mark.parametrize("call", ["harness.__main__", "harness.sweep.__main__", "harness.sweep.demo"])
def test_a_process_of_somebody_else_is_not_forked(call, monkeypatch, tmp_path, capsys):
    def fork() -> int:
        pytest.fail("this process has threads, and goes on when the sweep has ended")

    monkeypatch.setattr(os, "fork", fork)
    sweeps = ["sweep"] if call == "harness.__main__" else []
    file = [] if call.endswith("demo") else [str(ROOT / "search_spaces/augment.yaml")]
    wrong = ["--set", "trial.backbone=resnet", "--results", str(tmp_path)]
    assert importlib.import_module(call).main([*sweeps, *file, *wrong]) == 2
    assert "resnet" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["harness sweep augment.yaml", "harness.sweep augment.yaml", "harness demo"])
def test_a_program_is_watched_and_ends_with_the_status_of_its_sweep(program, tmp_path):
    shutil.copy(ROOT / "search_spaces/augment.yaml", tmp_path)
    wrong = ["--set", "trial.backbone=resnet", "--results", str(tmp_path)]
    traced = f"import os, runpy, sys; fork = os.fork; os.fork = lambda: print('forked', flush=True) or fork(); {RUN}"
    command = [sys.executable, "-c", traced, *program.split(), *wrong]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (2, "forked\n"), ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "resnet" in ended.stderr


HOST = """
import atexit, os, signal, threading
from harness.sweep import command

atexit.register(print, "cleaned up")
threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
status = command.main(["augment.yaml", "--dry-run", "--quiet"])
print("went on", status)
"""


def test_ctrl_c_in_somebody_elses_program_ends_the_command_and_not_the_program():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOST]
    ended = subprocess.run(
        command, env=environment, cwd=ROOT / "search_spaces", capture_output=True, text=True, timeout=120
    )
    assert ended.stdout.endswith("went on 130\ncleaned up\n"), ended.stdout + ended.stderr
    assert ended.returncode == 0

"""Bars on a terminal, lines elsewhere, nothing where it is quiet."""

import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import progress
from harness.__main__ import COMMANDS


def test_quiet_work_shows_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with progress.hushed(True), progress.track(10, "Working") as advance:
        advance(5)
    assert capsys.readouterr().err == ""


def test_progress_is_silent_for_short_work_and_prints_lines_for_long(capsys, monkeypatch):
    with progress.track(10, "Working") as advance:
        advance(10)
    with progress.working("thinking"):
        pass
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with progress.track(10, "Working") as advance:
        advance(4)
        advance(6)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" after")[0] for line in err.splitlines()] == ["Working: 4 of 10", "Working: 10 of 10"]


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress.track(10, "Working") as advance:
        advance(10)
    assert "10/10" in terminal.getvalue()
    with progress.working("thinking"):
        pass
    assert "thinking" in terminal.getvalue()
    before = terminal.getvalue()
    with progress.hushed(True), progress.working("resting"):
        pass
    assert terminal.getvalue() == before


def test_a_terminal_that_lacks_a_character_shows_a_question_mark(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    progress.forgive_output()
    print("0.5 \u00b1 0.1", flush=True)
    assert stream.buffer.getvalue() == b"0.5 ? 0.1\n"


def test_what_is_said_to_nobody_ends_nothing_and_leaves_stdout_as_it_is():
    reader, writer = os.pipe()
    os.close(reader)
    code = "from harness.progress import say; say('a'); say('b'); print('done')"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=writer, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"done\n")


GUARDED = {"interrupts.py", "watch.py", "command.py"}
"""What prints on stderr with a guard of its own, or where the sweep is over."""


@pytest.mark.parametrize("package", ["sweep", "records", "data", "tracking"])
def test_what_a_sweep_says_goes_through_one_place(package):
    folder = Path(progress.__file__).parent / package
    assert {file.name for file in folder.glob("*.py") if "file=sys.stderr" in file.read_text()} <= GUARDED


@pytest.mark.parametrize("command", [["sweep", "search_spaces/augment.yaml", "--dry-run", "--quiet"], ["schema"]])
def test_a_command_whose_reader_has_left_ends_without_a_word(command):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "harness", *command], stdout=writer, stderr=subprocess.PIPE, timeout=120
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("demo", "sweep")])  # a sweep goes on
def test_every_other_command_ends_with_its_reader(name):
    assert importlib.import_module(COMMANDS[name][0]).main.__wrapped__

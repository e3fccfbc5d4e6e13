"""No command prints what the terminal obeys, whatever the names that it is given."""

from __future__ import annotations

import importlib
import os
import subprocess

import pytest
import yaml

from harness.messages import printable
from harness.sweep.command import farewell, resume_command
from harness.sweep.session import Outcome

NAME = "no\x1b[31mred\x07\u202e\x9b`x`"
CLEAN = printable(NAME)


def printed(capsys) -> str:
    out, err = capsys.readouterr()
    assert printable(out + err) == out + err
    return out + err


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("sweep.command", [f"{NAME}.yaml"]),
        ("sweep.command", ["{folder}/question.yaml"]),
        ("sweep.command", ["{folder}/question.yaml", "--dry-run", f"--set=name={NAME}"]),
        ("report.__main__", [NAME]),
        ("report.__main__", ["--serve", NAME]),
        ("report.__main__", [NAME, "a", "--output", NAME]),
        ("tracking.__main__", ["sync", NAME]),
        ("tracking.__main__", ["links", NAME]),
        ("tracking.__main__", ["links", ".", "--tracking-uri", f"x://{NAME}"]),
        ("tracking.__main__", ["links", "{folder}"]),
        ("trial.__main__", [f"{NAME}.yaml"]),
        ("trial.__main__", ["{folder}/question.yaml"]),
        ("embed", [NAME, NAME]),
        ("pick.command", [NAME]),
        ("plugins.__main__", []),
    ],
)
def test_no_command_prints_what_a_terminal_obeys(module, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / f"{NAME}.there"
    folder.mkdir()
    question = {"name": "x", "description": NAME, "trial": {"dataset": {"name": NAME, "path": NAME}}}
    (folder / "question.yaml").write_text(yaml.safe_dump(question), encoding="utf-8")
    main = importlib.import_module(f"harness.{module}").main
    try:
        status = main([argument.replace("{folder}", str(folder)) for argument in arguments])
    except SystemExit as end:  # of argparse
        status = end.code
    assert printed(capsys)
    assert status == (0 if module.startswith("plugins") else 2)


def test_a_report_prints_nothing_that_a_terminal_obeys(tmp_path, monkeypatch, capsys):
    from sweep_folder import selection_sweep

    from harness.report.__main__ import main

    first, second = (
        selection_sweep(tmp_path / f"{NAME}{number}", {"random": 0, NAME.replace("`", ""): 0.2}, seeds=(1, 2), rounds=1)
        for number in (1, 2)
    )
    monkeypatch.chdir(tmp_path)
    assert main([str(first.path), str(second.path), "--output", f"{NAME}.html", "--figures", "svg"]) == 0
    assert CLEAN in printed(capsys)


def test_the_last_words_of_a_sweep_can_be_pasted_and_are_no_command_to_the_terminal(tmp_path, capsys):
    folder = tmp_path / NAME
    resume = resume_command("printf '%s\\n'", [f"{NAME}.yaml", "--set=name=a b"])
    outcome = Outcome(folder, tracking_uri=f"sqlite:///{NAME}")
    outcome.error, outcome.traceback = RuntimeError(f"{NAME} is gone"), folder / "error.txt"
    farewell(outcome, resume)
    said = printed(capsys)
    assert resume in said
    told = subprocess.run(["bash", "-c", resume], capture_output=True, check=True).stdout
    assert os.fsdecode(told).splitlines() == [f"{NAME}.yaml", "--set=name=a b", "--resume"]

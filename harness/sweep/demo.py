"""`selbench demo`: the question that comes with selbench, which needs no file and no download."""

from __future__ import annotations

from pathlib import Path

from harness.sweep import command

QUESTION = Path(__file__).with_name("augment.yaml")
"""In the checkout a link to that of `search_spaces/`."""


def main(arguments: list[str] | None = None, prog: str = "selbench demo") -> int:
    """The command line, as `prog`: that of a sweep whose file is known; returns the exit status."""
    return command.main(arguments, prog, QUESTION)


def program(arguments: list[str] | None = None, prog: str = "selbench demo") -> int:
    """`main` of a process that is the sweep's alone, as that of `harness.sweep`."""
    return command.main(arguments, prog, QUESTION, watched=True)

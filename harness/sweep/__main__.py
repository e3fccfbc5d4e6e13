"""`python -m harness.sweep FILE`: runs a search space."""

import os
import signal
import sys

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # until `main` has its own
        signal.signal(number, lambda *_: os._exit(130))

from harness.sweep import command


def main(arguments: list[str] | None = None, prog: str = "python -m harness.sweep") -> int:
    """The command line, as `prog`; returns the exit status."""
    return command.main(arguments, prog)


def program(arguments: list[str] | None = None, prog: str = "python -m harness.sweep") -> int:
    """`main` of a process that is the sweep's alone, with one thread: it watches the sweep, which runs in its child."""
    return command.main(arguments, prog, watched=True)


if __name__ == "__main__":
    sys.exit(program())

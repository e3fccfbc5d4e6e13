"""`selbench COMMAND ...`: every command of the harness under one name; `python -m harness` is the same."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from harness.messages import closest

COMMANDS = {
    "demo": ("harness.sweep.demo", "run the question that comes with selbench, on data that needs no download"),
    "sweep": ("harness.sweep.__main__", "run a search space"),
    "trial": ("harness.trial.__main__", "run one trial, without Ray"),
    "report": ("harness.report.__main__", "tell what sweeps found"),
    "papers": ("harness.papers", "set the sources' tables beside our sweeps"),
    "plugins": ("harness.plugins.__main__", "list every plugin and recipe"),
    "embed": ("harness.embed", "turn images into embeddings"),
    "pick": ("harness.pick.command", "choose the images to label next"),
    "tracking": ("harness.tracking.__main__", "deliver records to MLflow"),
    "schema": ("harness.config.__main__", "write the JSON schema of search spaces, for editors"),
}
"""Name -> the module whose `main` it is, and what it does. A `program` beside it may fork: that of a process's own."""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    width = max(map(len, COMMANDS)) + 2
    listed = "\n".join(f"  {name:{width}}{about}" for name, (_, about) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="selbench",
        usage="selbench COMMAND ...",
        description=f"Compares self-supervised methods, augmentations and label selectors.\n\ncommands:\n{listed}",
        epilog="`selbench COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", help=argparse.SUPPRESS)
    name = parser.parse_args(given[:1]).command
    if name not in COMMANDS:
        parser.error(f"no command {name!r}; {closest(name, COMMANDS)}")
    if os.getcwd() not in sys.path:  # as for `python -m`: `selector: my_module:Mine` is found beside the question
        sys.path.insert(0, os.getcwd())
    module = importlib.import_module(COMMANDS[name][0])
    run = module.main if arguments is not None else getattr(module, "program", module.main)
    return run(given[1:], f"selbench {name}")


if __name__ == "__main__":
    sys.exit(main())

"""`python -m harness.plugins [--json]`: lists every plugin and every recipe, with settings and defaults."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from harness.progress import forgive_output, until_reader_leaves


def _with_recipes() -> list[dict[str, Any]]:
    from harness.config import recipes  # which reads its files by a schema that knows plugins
    from harness.plugins import registry

    return registry.describe_plugins() + recipes.describe_recipes()


def _print_table(listed: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from harness.plugins.registry import CONTRACTS

    console = Console()
    for kind in [*CONTRACTS, "recipes"]:
        table = Table(
            "name", "provider", "summary", "hyper-parameters", title=kind.replace("_", " "), title_justify="left"
        )
        for entry in (item for item in listed if item["kind"] == kind):
            settings = ", ".join(f"{key}={value}" for key, value in entry["hyperparameters"].items())
            table.add_row(entry["name"], entry["provider"], entry.get("error") or entry["summary"], settings)
        console.print(table)


@until_reader_leaves
def main(arguments: list[str] | None = None, prog: str = "python -m harness.plugins") -> int:
    """The command line, as `prog`; returns the exit status."""
    parser = argparse.ArgumentParser(prog=prog, description="Lists every plugin and recipe.")
    parser.add_argument("--json", action="store_true", help="for programs: a list of objects")
    options = parser.parse_args(arguments)
    forgive_output()
    listed = _with_recipes()
    if options.json:
        print(json.dumps(listed, indent=2, default=str))
    else:
        _print_table(listed)
    return 0


if __name__ == "__main__":
    sys.exit(main())

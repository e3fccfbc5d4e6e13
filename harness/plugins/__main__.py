"""`python -m harness.plugins [--json]`: lists every plugin and every recipe, with settings and defaults."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from harness.plugins.registry import CONTRACTS, describe


def _with_recipes() -> list[dict[str, Any]]:
    from harness.config import recipes  # which reads its files by a schema that knows plugins

    return describe() + recipes.describe()


def _print_table(listed: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for kind in [*CONTRACTS, "recipes"]:
        table = Table(
            "name", "provider", "summary", "hyper-parameters", title=kind.replace("_", " "), title_justify="left"
        )
        for entry in (item for item in listed if item["kind"] == kind):
            settings = ", ".join(f"{key}={value}" for key, value in entry["hyperparameters"].items())
            table.add_row(entry["name"], entry["provider"], entry.get("error") or entry["summary"], settings)
        console.print(table)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.plugins", description="Lists every plugin and recipe.")
    parser.add_argument("--json", action="store_true", help="for programs: a list of objects")
    options = parser.parse_args(arguments)
    listed = _with_recipes()
    if options.json:
        print(json.dumps(listed, indent=2, default=str))
    else:
        _print_table(listed)
    return 0


if __name__ == "__main__":
    sys.exit(main())

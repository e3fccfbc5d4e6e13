"""What a sweep found: `python -m harness.report FOLDER...` prints it and writes it into the folder.

`harness.findings` reads and compares; `harness.summary` writes `summary.md` and `leaderboard.csv`, `harness.rounds` the
figures of a sweep with rounds, and `harness.page` the report page.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness import page, rounds
from harness.compare import NO_EVIDENCE
from harness.console import show
from harness.findings import Entry, Report, read
from harness.summary import leaderboard, summary

__all__ = ["NO_EVIDENCE", "Entry", "Report", "leaderboard", "main", "read", "show", "summary", "write"]


def write(folder: Path) -> Report:
    """Reads a sweep's folder and writes into it `leaderboard.csv`, `summary.md`, `report.html` and its pictures.

    Raises:
        ValueError: the folder is not a sweep's, or holds no records.
    """
    report = read(folder)
    leaderboard(report).to_csv(folder / "leaderboard.csv", index=False)
    (folder / "summary.md").write_text(summary(report), encoding="utf-8")
    if report.rounds:
        rounds.write(report.rounds, folder)
    page.write(report)
    return report


def main(arguments: list[str] | None = None) -> int:
    """`python -m harness.report FOLDER...`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m harness.report", description="What a sweep found.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="such as results/runs/augment")
    for folder in parser.parse_args(arguments).folders:
        try:
            show(write(folder))
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes what a sweep found: summary, leaderboard, pictures and page."""

from __future__ import annotations

from pathlib import Path

from harness.report import rounds
from harness.report.model import Report
from harness.report.page import write as write_module
from harness.report.read import read
from harness.report.summary import leaderboard, summary


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
    write_module.write(report)
    return report

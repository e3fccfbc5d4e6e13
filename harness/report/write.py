"""Writes what a sweep found: summary, leaderboard, pictures and page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.report import frames
from harness.report.model import Report, RoundComparison
from harness.report.page.write import write_page
from harness.report.read import read_report
from harness.report.summary import summary


def write_report(folder: Path) -> Report:
    """Reads a sweep's folder and writes its report into it.

    That is `report.html` with its pictures, `summary.md`, `leaderboard.csv` and `records.parquet`; of several rounds
    `curves.csv`, too.

    Raises:
        ValueError: the folder is not a sweep's, or holds no records.
    """
    report = read_report(folder)
    frames.leaderboard(report).to_csv(folder / "leaderboard.csv", index=False)
    frames.records(report).to_parquet(folder / "records.parquet", index=False)
    (folder / "summary.md").write_text(summary(report), encoding="utf-8")
    if report.rounds:
        _write_rounds(report.rounds, folder)
    write_page(report)
    return report


def _write_rounds(rounds: RoundComparison, folder: Path) -> None:
    """`curves.csv`, `penalty.csv` and `overlap.csv`; only what the data has."""
    frames.by_labels(rounds).to_csv(folder / "curves.csv", index=False)
    if rounds.can_test:
        pd.DataFrame(rounds.penalty, rounds.cases, rounds.cases).to_csv(folder / "penalty.csv")
    if rounds.overlap is not None:
        pd.DataFrame(rounds.overlap, rounds.cases, rounds.cases).to_csv(folder / "overlap.csv")

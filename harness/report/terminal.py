"""What a sweep found, on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness import messages
from harness.report import cells, tables
from harness.report.model import Entry, Report


def show(report: Report) -> None:
    """Prints the answer and the tables to the terminal, within its width."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]{escape(report.space['name'])}[/bold]: {escape(report.answer)}")
    if report.rounds:
        console.print(escape(tables.answer(report.rounds)))
    for note in report.all_notes:
        console.print(f"[yellow]{escape(note)}[/yellow]")

    def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        grid = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        grid.add_column(header[0], overflow="fold", min_width=14)
        for name in header[1:]:
            grid.add_column(name.replace("/", "/\n"), justify="right", no_wrap=True)
        for row in rows:
            grid.add_row(*(escape(cell.replace(" ± ", "\n±")) for cell in row))
        console.print(grid)

    if report.confirmed:
        metrics = cells.shown_metrics(report, report.confirmed)[:2]
        table(
            "Confirmed (mean ± 95 % half-width; difference to the reference, paired)",
            ["configuration", *metrics, "difference", "n", "labels", "total s"],
            (
                [
                    entry.label,
                    *(cells.mean(metric, entry.estimate(metric)) for metric in metrics),
                    _stacked(report, entry),
                    str(len(entry.seeds)),
                    "–" if entry.mean("labels/used") is None else f"{entry.mean('labels/used'):.0f}",
                    cells.seconds(entry, "total"),
                ]
                for entry in report.confirmed
            ),
        )
    if report.searched:
        metrics = cells.shown_metrics(report, report.searched)[:3]
        table(
            f"Search (validation data only; {min(10, len(report.searched))} of {len(report.searched)})",
            ["configuration", *metrics, "n", "total s", "ending"],
            (
                [
                    entry.label,
                    *(cells.mean(metric, entry.estimate(metric)) for metric in metrics),
                    str(len(entry.seeds)),
                    cells.seconds(entry, "total"),
                    entry.ending.replace("-stopped ", "-stopped\n"),
                ]
                for entry in report.searched[:10]
            ),
        )
    if report.failures:
        console.print(f"[red]{messages.count(len(report.failures), 'trial')} failed:[/red]")
        for trial, cause in report.failures.items():
            console.print(escape(f"  {trial}: {cause}"))
    files = ", ".join(str(report.folder / name) for name in ("report.html", "summary.md", "leaderboard.csv"))
    console.print(f"written: {files}", soft_wrap=True)


def _stacked(report: Report, entry: Entry) -> str:
    """Difference, interval and verdict below one another, to fit a narrow terminal."""
    difference = cells.difference(report.measure, entry.comparison).replace(" [", "\n[")
    verdict = entry.verdict.replace("evidence of", "evidence\nof").replace(" after Holm's", "\nafter Holm's")
    return verdict if entry is report.reference else f"{difference}\n{verdict}"

"""`python -m harness.papers`: the sources' tables and figures beside what came out here, one row each.

`results/papers.yaml` lists the rows; the figures of ours are read from sweeps, `results/papers/<name>` or
`results/<name>`, and a row without a sweep says so. A claim is a direction, such as "UAL is better than random". It is

- reproduced, if the paired difference of at least five seeds is a verdict its way,
- contradicted, if it is a verdict the other way, or an equivalence (`worth`, one point if the question says nothing),
- not resolved, if it is no verdict, and untested with fewer seeds or none.

A claim that there is no difference is reproduced by an equivalence and contradicted by a verdict of either kind. Each
claim is judged alone, by the first of its sweeps that tests it, those of the source's size before the small ones: small
ones are smaller than the source's in images, network and epochs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harness.config.schema import Problems, by_path, parse, read_yaml
from harness.files import check_output, replace_text
from harness.messages import cut, printable
from harness.progress import until_reader_leaves
from harness.records.rows import last, rows_file
from harness.report.entry import Entry
from harness.report.model import Report
from harness.report.one_to_one import judge_pair
from harness.report.read import read_report

EXHIBITS = Path("results/papers.yaml")
FEWEST_SEEDS = 5
MOST_SHOWN = 8
"""Configurations of a sweep that a row lists, at most; of more it lists the best and those of its claims."""

Finding = Literal["reproduced", "contradicted", "not resolved", "untested"]


@dataclass(frozen=True)
class Claim:
    """What a source says of two configurations.

    Attributes:
        says: in words, a sentence without its full stop.
        better: parameters by which one is known: dotted path -> value.
        than: those of the other.
        differs: false: the source says that they do not differ.
        metric: by which; the report's own if empty.
    """

    says: str
    better: dict
    than: dict
    differs: bool = True
    metric: str = ""

    @property
    def sides(self) -> tuple[dict, dict]:
        """Both configurations."""
        return self.better, self.than


@dataclass(frozen=True)
class Exhibit:
    """A table or a figure of a source.

    Attributes:
        source: its name.
        what: which table or figure.
        protocol: in five words.
        paper: its figures.
        code: what its released code does otherwise; empty: nothing is known, or none was released.
        question: the file's name under `search_spaces`, without `.yaml`.
        small: names of the sweeps at the small size; where a file says nothing, the question's own.
        large: those at the source's size.
        claims: of it.
    """

    source: str
    what: str
    protocol: str
    paper: str
    question: str
    code: str = ""
    small: tuple[str, ...] = ()
    large: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()


def read_exhibits(file: Path) -> list[Exhibit]:
    """The rows of a file.

    Raises:
        ValueError: what is wrong with it, a line each.
    """
    if not file.exists():
        raise ValueError(f"{file}: no such file; it is part of the repository, so run this there")
    content, problems = read_yaml(file), Problems(str(file))
    if not isinstance(content, list):
        raise ValueError(f"{file}: expected a list of rows, `- source: ...`, not {cut(repr(content), 60)}")
    rows: list[Exhibit] = []
    for number, item in enumerate(content):
        if row := parse(Exhibit, item, f"[{number}]", problems):
            rows.append(row if "small" in item else replace(row, small=(Path(row.question).name,)))
    problems.raise_any()
    return rows


def folder_of(sweep: str, results: Path) -> Path | None:
    """Where a sweep of that name is kept; None where it is not."""
    places = (results / "papers" / sweep, results / sweep)
    return next((place for place in places if rows_file(place).is_file()), None)


def entry_of(report: Report, parameters: Mapping[str, Any]) -> Entry | None:
    """The confirmed configuration that has these parameters; None where it has no result.

    Raises:
        ValueError: several have.
    """
    fitting = [entry for entry in report.confirmed if _fits(entry.parameters, parameters)]
    if len(fitting) > 1:
        raise ValueError(f"{report.folder}: {len(fitting)} configurations with {json.dumps(dict(parameters))}")
    return fitting[0] if fitting else None


def _fits(parameters: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    return all(parameters.get(path) == value for path, value in by_path(asked).items())


def verdict(claim: Claim, report: Report) -> tuple[Finding, str]:
    """What a sweep says of a claim, and the difference in words."""
    if report.mixed:
        return "untested", "trials of different data"
    metric = claim.metric or report.measure
    ours, other = entry_of(report, claim.better), entry_of(report, claim.than)
    judged = judge_pair(report, metric, ours, other, looks=report.looks) if ours and other else None
    if judged is None or judged.difference.n < FEWEST_SEEDS:
        return "untested", f"n = {judged.difference.n if judged else 0}"
    middle, half = judged.difference.mean, judged.difference.half
    about = f"{100 * middle:+.1f} ± {100 * half:.1f} points, n = {judged.difference.n}" if half is not None else ""
    if not claim.differs:
        return {"equivalent": "reproduced", "better": "contradicted", "worse": "contradicted"}.get(
            judged.kind, "not resolved"
        ), about  # type: ignore[return-value]
    outcomes: dict[str, Finding] = {"better": "reproduced", "worse": "contradicted", "equivalent": "contradicted"}
    return outcomes.get(judged.kind, "not resolved"), about


def figures(row: Exhibit, report: Report) -> str:
    """Each configuration's mean and interval in percent, and how many seeds."""
    entries = [entry for entry in report.confirmed if entry.values.get(report.measure)]
    if len(entries) > MOST_SHOWN:
        claimed = [one for claim in row.claims for side in claim.sides if (one := entry_of(report, side))]
        entries = [entry for entry in entries if any(entry is one for one in (entries[0], *claimed))]
    shown = []
    for entry in entries:
        mean = entry.estimate(report.measure)
        assert mean is not None
        spread = f" ± {100 * mean.half:.1f}" if mean.half is not None else ""
        shown.append(f"{entry.label or 'all'} {100 * mean.mean:.1f}{spread} (n {mean.n})")
    return "; ".join(shown)


HEADER = ("source", "protocol", "paper (percent)", "released code", "ours, small", "ours, paper's size", "claims")


def lines(rows: Sequence[Exhibit], results: Path) -> list[tuple[str, ...]]:
    """The cells of each row, in the order of `HEADER`.

    Raises:
        ValueError: a claim names a configuration that none of its sweeps asked for.
    """
    made: list[tuple[str, ...]] = []
    for row in rows:
        reports = {size: _reports(getattr(row, size), results) for size in ("small", "large")}
        small, large = ("; ".join(figures(row, one) for one in some) for some in reports.values())
        about = f"{row.source}, {row.what}", f"{row.protocol} (`{row.question}`)", row.paper, row.code or "–"
        made.append((*about, small or "not run", large, _said(row, reports)))
    return made


def _reports(sweeps: Sequence[str], results: Path) -> list[Report]:
    folders = [folder_of(sweep, results) for sweep in sweeps]
    return [read_report(folder) for folder in folders if folder]


def _said(row: Exhibit, reports: Mapping[str, Sequence[Report]]) -> str:
    said = []
    for claim in row.claims:
        outcome, about = _judged(claim, reports)
        said.append(f"{claim.says}: **{outcome}**" + (f" ({about})" if about else "") + ".")
    return " ".join(said) or "–"


def _judged(claim: Claim, reports: Mapping[str, Sequence[Report]]) -> tuple[Finding, str]:
    """By the first sweep that tests it, the source's size before the small one; else why the first does not."""
    every = [(report, size) for size in ("large", "small") for report in reports[size]]
    for side in claim.sides:
        asked = [by_path(last(history)["parameters"]) for report, _ in every for history in report.histories.values()]
        if every and not any(_fits(parameters, side) for parameters in asked):
            raise ValueError(f"{every[0][0].folder}: no configurations with {json.dumps(side)}")
    outcomes: list[tuple[Finding, str]] = []
    for report, size in every:
        outcome, about = verdict(claim, report)
        outcomes.append((outcome, f"{about}, {size} size" if reports["large"] and reports["small"] else about))
    return next((one for one in outcomes if one[0] != "untested"), outcomes[0] if outcomes else ("untested", ""))


def exhibits_table(rows: Sequence[Exhibit], results: Path) -> str:
    """The table."""
    every = [HEADER, ("---",) * len(HEADER), *lines(rows, results)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in every)


@until_reader_leaves
def main(arguments: list[str] | None = None, prog: str = "python -m harness.papers") -> int:
    """The command line, as `prog`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=prog, description="The sources' tables beside what came out here, as a Markdown table."
    )
    parser.add_argument(
        "--rows", type=Path, default=EXHIBITS, metavar="FILE", help=f"what is listed; default: {EXHIBITS}"
    )
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="where sweeps are looked for; default: the folder of the rows"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="instead of the screen")
    options = parser.parse_args(arguments)
    try:
        if options.output:
            check_output("--output", options.output)
        if options.results and not options.results.is_dir():
            raise ValueError(f"--results {options.results}: no such folder")
        table = exhibits_table(read_exhibits(options.rows), options.results or options.rows.parent)
        if options.output:
            replace_text(options.output, f"{table}\n")
    except (ValueError, OSError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    if not options.output:
        print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a sweep found, as files for reading and for programs: `summary.md` and `leaderboard.csv`."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness import messages
from harness.report import cells, tables
from harness.report.compare import NO_EVIDENCE, estimate, holm, paired, verdict
from harness.report.looks import gallery
from harness.report.model import SECONDS, Entry, Report
from harness.report.tables import Section

SEARCH_ROWS = 20
"""How many configurations of a search are listed in `summary.md`."""


def leaderboard(report: Report) -> pd.DataFrame:
    """Every configuration of both phases with all its figures, confirmed ones first, one a row."""
    rows = []
    for phase, entries in (("confirm", report.confirmed), ("search", report.searched)):
        for entry in entries:
            row: dict[str, Any] = {"phase": phase, "configuration": entry.id, "label": entry.label}
            row |= entry.parameters
            row |= {"ending": entry.ending, "n_seeds": len(entry.seeds), "seeds": " ".join(map(str, entry.seeds))}
            for metric in sorted(entry.values):
                found = entry.estimate(metric)
                assert found is not None
                row[metric] = found.mean
                if metric.startswith(("val/", "test/")):
                    row[f"{metric} half-width 95 %"] = found.half
            if entry.comparison:
                difference = entry.comparison.difference
                row |= {"difference": difference.mean, "difference half-width 95 %": difference.half}
                row |= {"difference n_seeds": difference.n, "p": entry.comparison.p, "p_holm": entry.p_holm}
                row["smallest_resolvable_difference"] = entry.comparison.smallest
            row["verdict"] = entry.verdict
            rows.append(row)
    frame = pd.DataFrame(rows)
    return frame[[column for column in frame if "/" not in str(column)] + [c for c in frame if "/" in str(c)]]


def summary(report: Report) -> str:
    """`summary.md`."""
    over_rounds = tables.answer(report.rounds) if report.rounds else ""
    blocks = [
        f"# {report.space['name']}",
        f"**Answer.** {report.answer}",
        *([f"**Over the rounds.** {over_rounds}"] if over_rounds else []),
        f"**Question.** {messages.one_line(report.space.get('description') or 'none was stated')}",
        *(f"**Note.** {note}" for note in report.all_notes),
        *(block for section in _sections(report) for block in _markdown(section)),
        "## How this was made",
        "\n".join(f"- {name}: {'; '.join(said)}" for name, said in made(report)),
    ]
    return "\n\n".join(blocks) + "\n"


def _sections(report: Report) -> list[Section]:
    over_rounds = tables.sections(report.rounds) if report.rounds else curves(report)
    shown = gallery.sections(report)
    return [*confirmed(report), *beside(report), *over_rounds, *shown, *searched(report, SEARCH_ROWS), *failed(report)]


def _markdown(section: Section) -> list[str]:
    images = [f"![{alt}]({stem}.png)" for stem, alt in section.pictures.items()]
    blocks = [f"## {section.title}", *images, *section.text]
    if section.rows:
        lines = [section.header, ["---"] * len(section.header), *section.rows]
        escaped = ([messages.one_line(cell).replace("|", "\\|") for cell in line] for line in lines)
        blocks.append("\n".join("| " + " | ".join(line) + " |" for line in escaped))
    if section.notes:
        blocks.append("\n".join(f"- {note}" for note in section.notes))
    return blocks


def confirmed(report: Report) -> list[Section]:
    """The confirmed configurations with everything that was compared; none where nothing was confirmed."""
    if not report.confirmed:
        return []
    metrics = cells.shown_metrics(report, report.confirmed)
    header = ["configuration", *metrics, f"{report.measure} - reference", "p (Holm)", "smallest", "verdict", "n"]
    header += ["labels (+ val)", *(f"{stage} s" for stage in SECONDS)]
    rows = []
    for entry in report.confirmed:
        smallest = entry.comparison.smallest if entry.comparison else None
        rows.append(
            [
                entry.label,
                *(cells.mean(metric, entry.estimate(metric)) for metric in metrics),
                cells.difference(report.measure, entry.comparison),
                "–" if entry.p_holm is None else f"{entry.p_holm:.2g}",
                "–" if smallest is None else cells.number(report.measure, smallest),
                entry.verdict,
                str(len(entry.seeds)),
                cells.labels(entry),
                *(cells.seconds(entry, stage) for stage in SECONDS),
            ]
        )
    return [Section("Confirmed", [], header, rows, _footnotes(report))]


def beside(report: Report) -> list[Section]:
    """The same comparison under each classifier beside the first."""
    measured = dict.fromkeys(metric for entry in report.confirmed for metric in entry.values)
    found = []
    for metric in (name for name in measured if name.startswith(f"{report.measure}/")):
        header = ["configuration", metric, f"{metric} - reference", "p (Holm)", "verdict"]
        title = f"The same under {metric.rpartition('/')[2]}"
        found.append(Section(title, [], header, _beside_rows(report, metric)))
    return found


def _beside_rows(report: Report, metric: str) -> list[list[str]]:
    """A row for each confirmed configuration, best first; the p values are a family of their own."""
    entries = [entry for entry in report.confirmed if entry.values.get(metric)]
    entries.sort(key=lambda entry: entry.mean(metric) or 0, reverse=report.maximize)
    reference = report.reference.values.get(metric, {}) if report.reference else {}
    found = {entry.id: paired(entry.values[metric], reference) for entry in entries if entry is not report.reference}
    tested = {name: item.p for name, item in found.items() if item and item.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))

    def row(entry: Entry) -> list[str]:
        line = [entry.label, cells.mean(metric, entry.estimate(metric))]
        if entry.id not in found:
            return [*line, "–", "–", "reference"]
        comparison, p = found[entry.id], adjusted.get(entry.id)
        said = verdict(comparison, p, maximize=report.maximize)
        return [*line, cells.difference(metric, comparison), "–" if p is None else f"{p:.2g}", said]

    return [row(entry) for entry in entries]


def _footnotes(report: Report) -> list[str]:
    count = sum(entry.p_holm is not None for entry in report.confirmed)
    notes = [
        "Mean ± half-width of the 95 % t-interval over seeds, at the largest number of labels.",
        "Difference: mean of the differences seed by seed, with its 95 % interval; where that holds 0, there is "
        f"{NO_EVIDENCE}.",
        "Smallest: the true difference that this many seeds find with 80 % power (two-sided paired t test, "
        "alpha = .05, noncentral t; about (t(.975, n-1) + t(.80, n-1)) s / sqrt(n), s the standard deviation of the "
        "differences).",
    ]
    if count > 1:
        notes.append(f"p: paired t test, adjusted by Holm's method for {count} comparisons.")
    if any(len(entry.seeds) == 1 for entry in report.confirmed):
        notes.append("n = 1: one seed gives no interval, and its rank may be luck.")
    if any(entry.cached for entry in report.confirmed):
        notes.append("*: from the cache in at least one trial; the seconds are those of the first computation.")
    return notes


def curves(report: Report) -> list[Section]:
    """The learning curves alone, where there are no two to compare."""
    entries, measure = (report.confirmed, report.measure) if report.confirmed else (report.searched, report.goal)
    found = {entry.id: entry.curves.get(measure, {}) for entry in entries[:SEARCH_ROWS]}
    steps = sorted({step for curve in found.values() for step in curve})
    if len(steps) < 2:
        return []
    rows = [
        [
            entry.label,
            *(cells.mean(measure, estimate(list(curve[step].values())) if step in curve else None) for step in steps),
        ]
        for entry, curve in zip(entries, found.values(), strict=False)
    ]
    header = ["configuration", *(f"{step} labels" for step in steps)]
    return [Section(f"Learning curves: {measure} by number of labels", [], header, rows)]


def searched(report: Report, limit: int) -> list[Section]:
    """The configurations of the search, at most so many; none where nothing was searched."""
    if not report.searched:
        return []
    metrics = cells.shown_metrics(report, report.searched)
    rows = [
        [
            entry.label,
            *(cells.mean(metric, entry.estimate(metric)) for metric in metrics),
            str(len(entry.seeds)),
            cells.seconds(entry, "total"),
            entry.ending,
        ]
        for entry in report.searched[:limit]
    ]
    stopped = sum(entry.ending != "finished" for entry in report.searched)
    more = f"; the first {limit} are shown, all are in leaderboard.csv" if len(report.searched) > limit else ""
    text = f"{messages.count(len(report.searched), 'configuration')}, {stopped} of them early-stopped{more}. "
    text += "Validation data only: the best of many looks better here than it is."
    return [Section("Search", [text], ["configuration", *metrics, "n", "total s", "ending"], rows)]


def failed(report: Report) -> list[Section]:
    """The trials that failed, with their causes."""
    rows = [[trial, cause] for trial, cause in report.failures.items()]
    return [Section("Failed trials", [], ["trial", "cause"], rows)] if rows else []


def made(report: Report) -> list[tuple[str, list[str]]]:
    """What was searched and confirmed, where, with what, and beside what: names and what is to be said of each."""
    space, environment = report.space, report.environment
    domains = [f"`{path}`: {cells.domain(spec)}" for path, spec in (space.get("parameters") or {}).items()]
    cases = [f"cases {', '.join(space['cases'])}"] if space.get("cases") else []
    data_sets = environment.get("datasets") or [environment["dataset"]]
    gpus = ", ".join(map(str, environment.get("gpus") or [])) or "no GPU"
    at_once = environment.get("concurrent_trials")
    sharing = "one trial at a time" if at_once == 1 else f"up to {at_once} trials at once, sharing the machine"
    seeds = ", ".join(map(str, sorted({seed for entry in report.confirmed for seed in entry.seeds}))) or "none"
    versions = {"python": environment.get("python"), **environment.get("packages", {})}
    changes = " with uncommitted changes" if environment.get("dirty") else ""
    saved = f"{cells.duration(report.saved)} came from the cache, not spent again"
    return [
        (
            f"{'Searched' if report.searched else 'Compared'} by {space.get('method')}",
            [*cases, *domains] or ["one configuration"],
        ),
        ("Confirmed", [f"{messages.count(len(report.confirmed), 'configuration')}, seeds {seeds}"]),
        ("Data", [cells.data_set(data) for data in data_sets]),
        ("Hardware", [f"{environment.get('cpu')}, {environment.get('cores')} cores, {gpus}", f"times with {sharing}"]),
        ("Compute", [f"{cells.duration(report.seconds)}, of which {saved}"]),
        ("Commit", [f"`{str(environment.get('commit') or 'unknown')[:12]}`{changes}"]),
        ("Versions", [", ".join(f"{name} {version}" for name, version in versions.items())]),
        ("Command", [f"`{environment.get('command')}`, started {environment.get('started')}"]),
    ]

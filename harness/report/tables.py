"""The tables of a sweep's configurations, built once: the summary, the page, the terminal and the files take them.

A new statistic of a comparison is a column of `judged_columns`; a new metric is shown where it is declared so
(`harness.metrics`). The tables of several rounds are those of `round_tables`.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness import messages
from harness.metrics import METRICS
from harness.report import words
from harness.report.cells import (
    Cell,
    Count,
    Difference,
    Empty,
    Mean,
    Number,
    Probability,
    Quantity,
    Seconds,
    SeedCount,
    Text,
    Verdict,
)
from harness.report.compare import Judgement
from harness.report.entry import Entry, by_ground
from harness.report.model import SECONDS, Report
from harness.report.section import Column, Section, Table

CURVES = 20
"""How many configurations of a search have their learning curve listed."""


def judged_columns(metric: str, judgements: Sequence[Judgement | None], verdicts: Sequence[str]) -> list[Column]:
    """What comparisons with the reference say, a row each.

    Args:
        metric: what is compared.
        judgements: None for the reference itself and where nothing can be compared.
        verdicts: in words; empty where there is none.
    """
    p: list[Cell] = [Probability(one.p_holm, one.p) if one else Empty() for one in judgements]
    flips = [Number(one.sign_flip if one else None, ".3f") for one in judgements]
    smallest = [Quantity(metric, one.smallest if one else None) for one in judgements]
    kinds = [one.kind if one else None for one in judgements]
    said = [Verdict(text, kind) if text else Empty() for text, kind in zip(verdicts, kinds, strict=True)]
    return [
        Column("difference", [Difference(metric, one) for one in judgements], "difference", essential=True),
        Column("verdict", said, "verdict", essential=True),
        Column("p (Holm)", p, "p"),
        Column("sign-flip p", flips, "p_sign_flip"),
        Column("smallest", smallest, "smallest_resolvable_difference"),
    ]


def comparison_tables(report: Report) -> list[Section]:
    """The confirmed configurations with everything that was compared, a table for each ground; none without any."""
    blocks = list(report.blocks.items())
    return [_comparison(report, *one, last=one is blocks[-1]) for one in blocks]


def _comparison(report: Report, block: str, entries: Sequence[Entry], *, last: bool) -> Section:
    """Of one ground; the notes stand below the last."""
    measure, *others = _shown_metrics(report, entries)
    judgements = [entry.judgement for entry in entries]
    columns = [
        _names(entries),
        _means(measure, entries, essential=True),
        *judged_columns(report.measure, judgements, [entry.verdict for entry in entries]),
        *(_means(metric, entries) for metric in others),
        _seeds(entries),
        Column("labels (+ val)", [label_count(entry) for entry in entries], "labels/used"),
        *(_seconds(stage, entries) for stage in SECONDS),
    ]
    said = [column for column in columns if column.essential or not column.says_nothing]
    title = words.on_ground("Confirmed", block)
    name = f"{title}: mean ± 95 % half-width; difference to the reference, paired"
    return Section(title, parts=[Table(said, _footnotes(report) if last else [], name)])


def _shown_metrics(report: Report, entries: Sequence[Entry]) -> list[str]:
    """The measure, the goals and what is declared to be shown; only what some configuration has."""
    goals = [str(goal["name"]) for goal in report.space["metric"]]
    declared = [metric.name for metric in METRICS.values() if metric.shown]
    wanted = dict.fromkeys([report.measure, *goals, *declared])
    return [metric for metric in wanted if any(entry.values.get(metric) for entry in entries)]


def _names(entries: Sequence[Entry]) -> Column:
    key = "method" if entries[0].method else "label"
    cells = [Text(entry.name, link=entry.link) for entry in entries]
    return Column("configuration", cells, key, essential=True)


def _means(metric: str, entries: Sequence[Entry], *, essential: bool = False) -> Column:
    return Column(metric, [Mean(metric, entry.estimate(metric)) for entry in entries], metric, essential)


def _seeds(entries: Sequence[Entry]) -> Column:
    return Column("n", [SeedCount(len(e.seeds), words.lacking_of(e)) for e in entries], "n_seeds", essential=True)


def _seconds(stage: str, entries: Sequence[Entry]) -> Column:
    cells = [seconds(entry, stage) for entry in entries]
    return Column(f"{stage.replace('_', ' ')} s", cells, f"time/{stage}_seconds", essential=stage == "total")


def seconds(entry: Entry, stage: str) -> Seconds:
    """Mean seconds, starred where a trial took the stage (of the total: any stage) from the cache."""
    cached = bool(entry.cached) if stage == "total" else stage in entry.cached
    return Seconds(entry.mean(f"time/{stage}_seconds"), cached)


def label_count(entry: Entry) -> Count:
    """Labels of training images and, beside them, of validation images."""
    return Count(entry.mean("labels/used"), entry.mean("labels/val"))


def tables_of_other_classifiers(report: Report) -> list[Section]:
    """The same comparison under each classifier beside the first, a table for each ground.

    The p values of each classifier are a family of their own.
    """
    measured = dict.fromkeys(metric for entry in report.confirmed for metric in entry.values)
    sections = []
    for metric in (name for name in measured if name.startswith(f"{report.measure}/")):
        by_id = report.judgements(metric)
        for block, entries in sorted(by_ground(report.ordered(metric)).items()):
            judgements = [by_id.get(entry.id) for entry in entries]
            verdicts = [report.verdict(entry, one) for entry, one in zip(entries, judgements, strict=True)]
            columns = [_names(entries), _means(metric, entries), *judged_columns(metric, judgements, verdicts)]
            columns.append(_seeds(entries))
            title = words.on_ground(f"The same under {metric.rpartition('/')[2]}", block)
            sections.append(Section(title, parts=[Table(columns, name=title)]))
    return sections


def _footnotes(report: Report) -> list[str]:
    judgements = [entry.judgement for entry in report.confirmed if entry.judgement]
    notes = [f"Mean with its 95 % interval at the largest number of labels. {words.covered(report)}"]
    if report.reference and judgements:
        notes += words.procedure(judgements, report.reference_name)
        worth = report.worth(report.measure)
        if worth is not None and any(one.p_holm is not None for one in judgements):
            notes.append(f"Equivalent: within {worth:g}, by two one-sided tests, corrected by Holm's method, too.")
    if report.flattery:
        notes.append("Each interval is of its own row; that one was chosen as the best, the answer allows for.")
    if report.looks and judgements:
        notes.append(words.looked_at(report.looks, max(one.looks for one in judgements)))
    if any(entry.lacking for entry in report.confirmed):
        notes.append(words.INCOMPLETE)
    if any(len(entry.seeds) == 1 for entry in report.confirmed):
        notes.append("n = 1: one seed gives no interval, and its rank may be luck.")
    if any(entry.cached for entry in report.confirmed):
        notes.append("*: from the cache in at least one trial; the seconds are those of the first computation.")
    return notes


def curve_tables(report: Report) -> list[Section]:
    """The learning curves alone, where there are no two to compare, of each ground."""
    entries, measure = (report.confirmed, report.measure) if report.confirmed else (report.searched, report.goal)
    return [table for block, of in by_ground(entries).items() for table in _curves(block, of[:CURVES], measure)]


def _curves(block: str, entries: Sequence[Entry], measure: str) -> list[Section]:
    steps = sorted({step for entry in entries for step in entry.curves.get(measure, {})})
    if len(steps) < 2:
        return []

    def cells(step: int) -> list[Cell]:
        return [Mean(measure, entry.estimate(measure, step)) for entry in entries]

    points = [Column(f"{step} labels", cells(step)) for step in steps]
    title = words.on_ground(f"Learning curves: {measure} by number of labels", block)
    return [Section(title, parts=[Table([_names(entries), *points], name=title)])]


def search_tables(report: Report, limit: int) -> list[Section]:
    """The configurations of the search, at most so many; none where nothing was searched."""
    if not report.searched:
        return []
    entries, count = report.searched[:limit], len(report.searched)
    goal, *others = _shown_metrics(report, report.searched) or [report.goal]
    columns = [
        _names(entries),
        _means(goal, entries, essential=True),
        *(_means(metric, entries) for metric in others),
        _seeds(entries),
        _seconds("total", entries),
        Column("ending", [Text(entry.ending) for entry in entries], "ending", essential=True),
    ]
    stopped = sum(entry.ending != "finished" for entry in report.searched)
    more = f"; the first {limit} are shown, all are in leaderboard.csv" if count > limit else ""
    text = f"{messages.count(count, 'configuration')}, {stopped} of them early-stopped{more}. "
    text += "No test data: the best of many looks better here than it is."
    table = Table(columns, name=f"Search (no test data; {len(entries)} of {count})")
    return [Section("Search", parts=[table], caption=text)]


def failed(report: Report) -> list[Section]:
    """The trials that failed, with their causes."""
    rows = [[Text(trial), Text(cause)] for trial, cause in report.failures.items()]
    title = "Failed trials"
    return [Section(title, parts=[Table.of_rows(["trial", "cause"], rows, name=title)])] if rows else []

"""A report as data frames: what `leaderboard.csv` and `curves.csv` hold, and every record in tidy form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd

from harness.messages import closest
from harness.metrics import is_of_class, step_kind
from harness.records.rows import Record
from harness.report import tables
from harness.report.cells import HALF, Mean
from harness.report.compare import Judgement
from harness.report.entry import Entry
from harness.report.model import Report, RoundComparison, area_name
from harness.report.section import Table


def leaderboard(report: Report) -> pd.DataFrame:
    """Every configuration of both phases with all its figures, confirmed ones first, one a row."""
    rows: list[dict[str, Any]] = []
    for phase, entries, sections in (
        ("confirm", report.confirmed, tables.comparison_tables(report)),
        ("search", report.searched, tables.search_tables(report, len(report.searched))),
    ):
        fields = [row for section in sections for table in section.tables for row in table.records()]
        rows += [_configuration(phase, entry) | row for entry, row in zip(entries, fields, strict=True)]
    frame = pd.DataFrame(rows)
    return frame[[column for column in frame if "/" not in str(column)] + [c for c in frame if "/" in str(c)]]


def _configuration(phase: str, entry: Entry) -> dict[str, Any]:
    """What identifies a configuration, and all that was measured but class by class; half-widths of what is a score."""
    row: dict[str, Any] = {"phase": phase, "configuration": entry.id, "label": entry.label, **entry.parameters}
    row |= {"ground": entry.block} if entry.block else {}
    row |= {"ending": entry.ending, "n_seeds": len(entry.seeds), "seeds": " ".join(map(str, entry.seeds))}
    for metric in sorted(name for name in entry.values if not is_of_class(name)):
        fields = Mean(metric, entry.estimate(metric)).fields(metric)
        row |= fields if metric.startswith(("val/", "test/")) else {metric: fields[metric]}
    return row


def rows(report: Report) -> pd.DataFrame:
    """Every metric of every record that counts, one a row, in the order of the records.

    Columns: `phase`, `configuration` (its hash), `label`, `seed`, `trial`, `status` (the trial's when it wrote), one a
    parameter, `step_kind` (`epoch` or `labels`), `step`, `metric`, `value`.
    """
    named = _labels(report)
    return pd.DataFrame(
        [
            {
                **_trial(record, named),
                "status": record["status"],
                **record["parameters"],
                "step_kind": record["step_kind"],
                "step": record["step"],
                "metric": metric,
                "value": value,
            }
            for record in _records(report)
            for metric, value in record["metrics"].items()
        ]
    )


def records(report: Report) -> pd.DataFrame:
    """Everything that counts, one row per trial and step: what `records.parquet` holds.

    Columns: `phase`, `configuration` (its hash), `label`, `seed`, `trial`, `status` (the trial's when it wrote), one a
    parameter by its path (text where its values are of several types), `step_kind` (`epoch` or `labels`), `step`, and
    one a metric; what a trial has at its end stands in the row of its last round. A trial that was stopped early or
    failed has a row of its ending without metrics, at step 0.
    """
    named = _labels(report)
    steps: dict[tuple[str, str, int], dict[str, Any]] = {}
    for record in _records(report):
        repeats = record["status"] not in ("running", "finished")  # the metrics of the record before it
        if not record["metrics"] and not repeats:
            continue  # it began
        place = record["trial"], record["step_kind"], record["step"]
        about = {**_trial(record, named), "status": record["status"], **record["parameters"]}
        row = steps.setdefault(place, about | {"step_kind": record["step_kind"], "step": record["step"]})
        row |= {"status": record["status"]} | ({} if repeats else record["metrics"])
    frame = pd.DataFrame(list(steps.values()))
    for path in {path for record in _records(report) for path in record["parameters"]} & set(frame):
        types = {type(value) for value in frame[path].dropna()}
        if len(types) > 1 or not types <= {str, int, float, bool}:
            frame[path] = [json.dumps(value) if not isinstance(value, str) else value for value in frame[path]]
    return frame


def curves(report: Report, metric: str) -> pd.DataFrame:
    """A metric along its axis, one value a row.

    Columns: `phase`, `configuration`, `label`, `seed`, `trial`, then `labels` or `epoch`, and `value`. The ending of a
    trial that was stopped or failed is no point: it repeats the trial's last record.

    Raises:
        ValueError: no trial recorded the metric.
    """
    axis = step_kind(metric)
    records = [record for record in _records(report) if record["status"] in ("running", "finished")]
    recorded = {name for record in records for name in record["metrics"] if step_kind(name) == record["step_kind"]}
    if metric not in recorded:
        raise ValueError(f"no trial of {report.folder} recorded {metric!r}; {closest(metric, sorted(recorded))}")
    named = _labels(report)
    points: dict[tuple[str, int], dict[str, Any]] = {}  # where a trial finishes, its last step has two records
    for record in records:
        if metric in record["metrics"] and record["step_kind"] == axis:
            place = record["trial"], record["step"]
            points[place] = {**_trial(record, named), axis: record["step"], "value": record["metrics"][metric]}
    return pd.DataFrame(list(points.values()))


def picked_images(report: Report) -> pd.DataFrame:
    """Every image that a selector picked, one a row, in its own order.

    Columns: `phase`, `configuration`, `label`, `seed`, `trial`, `labels` (with the pick's round), `rank` (from 1 on in
    each round), `position` in the pool, and `file` and `class`, empty where they are not known.
    """
    named = _labels(report)
    parts = []
    for trial, history in report.histories.items():
        about = _trial(next(iter(history.values())), named)
        for labels, positions in report.files[trial].selected.items():
            part = pd.DataFrame({"position": positions or [], "file": "", "class": ""})
            file = report.folder / "trials" / trial / f"selected_{labels}.csv"
            if file.is_file():
                part = pd.read_csv(file, keep_default_na=False, dtype=object, encoding_errors="surrogateescape")
                part = part.astype({"position": int})
            parts.append(pd.DataFrame(about | {"labels": labels, "rank": range(1, len(part) + 1)}).join(part))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _records(report: Report) -> Iterator[Record]:
    for history in report.histories.values():
        yield from history.values()


def _labels(report: Report) -> dict[tuple[str, str], str]:
    """Phase and configuration -> what people call it; of configurations without an ending nothing."""
    phases = (("confirm", report.confirmed), ("search", report.searched), ("headroom", report.bounds))
    return {(phase, entry.id): entry.label for phase, entries in phases for entry in entries}


def _trial(record: Record, named: dict[tuple[str, str], str]) -> dict[str, Any]:
    phase, configuration = record["phase"], record["configuration"]
    return {
        "phase": phase,
        "configuration": configuration,
        "label": named.get((phase, configuration), configuration),
        "seed": record["seed"],
        "trial": record["trial"],
    }


def by_labels(rounds: RoundComparison) -> pd.DataFrame:
    """Every mean and difference of several rounds, one a row; `labels` is empty for the area under the curve."""
    frame_rows: list[dict[str, Any]] = []
    for setting in rounds.settings:
        for measure in rounds.measures:
            tested = setting.by_round if measure == rounds.measure else {}
            columns = [
                (area_name(measure), None, setting.by_area[measure]),
                *((measure, step, tested.get(step, {})) for step in setting.steps),
            ]
            for metric, step, judgements in columns:
                for case in rounds.order(setting):
                    mean = setting.estimate(measure, step, case)
                    if mean is None:
                        continue
                    place: dict[str, Any] = {"setting": setting.name, "metric": metric, "labels": step, "case": case}
                    place |= {"mean": mean.mean, HALF: mean.half, "n_seeds": mean.n}
                    frame_rows.append(place | _judged(metric, judgements.get(case)))
    return pd.DataFrame(frame_rows).astype({"labels": "Int64"})


def _judged(metric: str, judgement: Judgement | None) -> dict[str, Any]:
    verdict = judgement.verdict if judgement else ""
    (fields,) = Table(tables.judged_columns(metric, [judgement], [verdict])).records()
    return fields

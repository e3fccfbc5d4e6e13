"""What a sweep found: `python -m harness.report FOLDER...` prints it and writes leaderboard.csv and summary.md.

Two tables never mix. The search saw validation data only, and the best of many on validation looks better than it is;
it is listed, not compared. The confirmed configurations ran on the same seeds and read the test set once: they are
compared with the reference, seed by seed (`harness.compare`).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from harness import records, rounds, sections
from harness.compare import NO_EVIDENCE, Comparison, Estimate, estimate, holm, paired, verdict
from harness.metrics import known
from harness.records import History
from harness.rounds import Rounds

SEARCH_ROWS = 20
SECONDS = ("pretrain", "select", "train", "total")


@dataclass
class Entry:
    """One configuration in one phase, over its seeds.

    Attributes:
        id: the configuration's hash.
        label: the parameters in which it differs from the others, for people.
        parameters: the searched parameters, by dotted path.
        seeds: of the trials that count.
        values: metric -> seed -> value at the largest number of labels.
        cached: the stages that some trial took from the cache.
        curves: metric -> number of labels -> seed -> value.
        trials: seed -> trial.
        ending: "finished" or, in a search, "early-stopped at epoch 3".
        comparison: with the reference; None for the reference itself and in a search.
        p_holm: the comparison's p, adjusted for the number of comparisons.
        verdict: in words.
    """

    id: str
    parameters: dict[str, Any]
    seeds: list[int]
    values: dict[str, dict[int, float]]
    cached: list[str]
    curves: dict[str, dict[int, dict[int, float]]]
    trials: dict[int, str]
    ending: str
    label: str = ""
    comparison: Comparison | None = None
    p_holm: float | None = None
    verdict: str = ""

    def estimate(self, metric: str) -> Estimate | None:
        """Mean and interval over the seeds that have the metric."""
        return estimate(list(self.values[metric].values())) if self.values.get(metric) else None

    def mean(self, metric: str) -> float | None:
        """Mean over the seeds that have the metric."""
        found = self.estimate(metric)
        return found.mean if found else None


@dataclass
class Report:
    """A sweep, read and compared.

    Attributes:
        measure: the metric that the confirmed configurations are compared by: the test twin of the sweep's first
            metric where the test set was read.
        maximize: whether more of it is better.
        confirmed: best first.
        searched: best first, early-stopped ones last.
        reference: one of `confirmed`.
        failures: trial -> cause.
        seconds: of all trials together, stages from the cache at their first cost.
        saved: how many of these seconds were not spent again, thanks to the cache.
        notes: what a reader must know, one sentence each.
        answer: one or two sentences.
        rounds: the confirmed configurations over several rounds; None where there are none to compare.
    """

    folder: Path
    space: dict[str, Any]
    environment: dict[str, Any]
    measure: str
    maximize: bool
    confirmed: list[Entry]
    searched: list[Entry]
    reference: Entry | None
    failures: dict[str, str]
    seconds: float
    saved: float
    notes: list[str] = field(default_factory=list)
    answer: str = ""
    rounds: Rounds | None = None

    @property
    def goal(self) -> str:
        """The first metric of the sweep, on validation data."""
        return str(self.space["metric"][0]["name"])


def read(folder: Path) -> Report:
    """Reads a sweep's folder and compares what it holds.

    Raises:
        ValueError: the folder is not a sweep's, is damaged, or holds no records.
    """
    for name in ("space.yaml", "environment.json", "rows.jsonl"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is not a sweep's folder: it has no {name}")
    space = records.mapping(folder / "space.yaml")
    environment = records.mapping(folder / "environment.json")
    rows, unreadable = records.read(folder)
    trials = records.by_trial(rows)
    if not trials:
        raise ValueError(f"{folder} holds no records yet")

    phases: dict[str, dict[str, History]] = {"search": {}, "confirm": {}}
    for trial, history in trials.items():
        phases[records.last(history)["phase"]][trial] = history
    goal = space["metric"][0]
    measure = _measure(goal["name"], phases["confirm"])
    totals = [_at_most_labels(history) for history in trials.values()]
    report = Report(
        folder,
        space,
        environment,
        measure,
        goal["goal"] == "maximize",
        _entries(phases["confirm"], measure, goal["goal"] == "maximize", ("finished",)),
        _entries(phases["search"], goal["name"], goal["goal"] == "maximize", ("finished", "stopped")),
        None,
        {
            trial: _line(records.last(history).get("error") or "no cause was recorded")
            for trial, history in trials.items()
            if records.last(history)["status"] == "failed"
        },
        sum(total.get("time/total_seconds", 0) for total in totals),
        sum(total.get(f"time/{s}_seconds", 0) for total in totals for s in SECONDS if total.get(f"stage/{s}_cached")),
    )
    if unreadable:
        report.notes.append(f"{_count(unreadable, 'line')} of rows.jsonl could not be read and was skipped.")
    unfinished = sum(records.last(history)["status"] == "running" for history in trials.values())
    if unfinished:
        report.notes.append(f"{_count(unfinished, 'trial')} did not finish: the sweep is running or was interrupted.")
    _compare(report, _first_seen(phases["confirm"]))
    report.answer = _answer(report)
    report.rounds = rounds.read(report)
    return report


def write(folder: Path) -> Report:
    """Reads a sweep's folder and writes `leaderboard.csv` and `summary.md` into it, and what `rounds.write` names.

    Raises:
        ValueError: the folder is not a sweep's, or holds no records.
    """
    report = read(folder)
    leaderboard(report).to_csv(folder / "leaderboard.csv", index=False)
    (folder / "summary.md").write_text(summary(report), encoding="utf-8")
    if report.rounds:
        rounds.write(report.rounds, folder)
    return report


# Reading -----------------------------------------------------------------------------------------------------------


def _measure(goal: str, confirmed: Mapping[str, History]) -> str:
    twin = goal.replace("val/", "test/", 1)
    measured = {name for history in confirmed.values() for record in history.values() for name in record["metrics"]}
    return twin if twin in measured else goal


def _entries(trials: Mapping[str, History], measure: str, maximize: bool, endings: Sequence[str]) -> list[Entry]:
    """The configurations that have at least one trial with such an ending, best first."""
    groups: dict[str, list[History]] = {}
    for history in trials.values():
        if records.last(history)["status"] in endings:
            groups.setdefault(records.last(history)["configuration"], []).append(history)
    entries = [_entry(configuration, group) for configuration, group in groups.items()]
    labels = records.labels({entry.id: entry.parameters for entry in entries})
    for entry in entries:
        entry.label = labels[entry.id]

    def rank(entry: Entry) -> tuple[bool, bool, float]:
        mean = entry.mean(measure)
        return entry.ending != "finished", mean is None, 0.0 if mean is None else -mean if maximize else mean

    return sorted(entries, key=rank)


def _entry(configuration: str, histories: Sequence[History]) -> Entry:
    values: dict[str, dict[int, float]] = {}
    curves: dict[str, dict[int, dict[int, float]]] = {}
    for history in histories:
        seed = records.last(history)["seed"]
        for name, value in _at_most_labels(history).items():
            values.setdefault(name, {})[seed] = value
        for record in _by_labels(history):
            for name, value in _finite(record).items():
                curves.setdefault(name, {}).setdefault(record["step"], {})[seed] = value
    stopped = [history for history in histories if records.last(history)["status"] == "stopped"]
    epoch = max((r["step"] for history in stopped for r in history.values() if r["step_kind"] == "epoch"), default=0)
    return Entry(
        id=configuration,
        parameters=_parameters(records.last(histories[0])["parameters"]),
        seeds=sorted(records.last(history)["seed"] for history in histories),
        values=values,
        cached=[stage for stage in SECONDS if any(values.get(f"stage/{stage}_cached", {}).values())],
        curves={name: dict(sorted(curve.items())) for name, curve in curves.items()},
        trials={records.last(history)["seed"]: records.last(history)["trial"] for history in histories},
        ending=f"early-stopped at epoch {epoch}" if stopped else "finished",
    )


def _by_labels(history: History) -> list[dict[str, Any]]:
    """The records of rounds, by number of labels; the closing record comes last."""
    rounds = [record for record in history.values() if record["step_kind"] == "labels"]
    return sorted(rounds, key=lambda record: (record["step"], record["status"] in records.FINAL))


def _at_most_labels(history: History) -> dict[str, float]:
    """Every metric where the most labels were used; of pre-training, at its last epoch."""
    epochs = [record for record in history.values() if record["step_kind"] == "epoch"]
    merged: dict[str, float] = {}
    for record in [*epochs, *_by_labels(history)]:
        merged |= _finite(record)
    return merged


def _finite(record: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in record["metrics"].items() if value is not None and math.isfinite(value)}


def _parameters(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by path, so that `selector: coreset`, `selector.name: coreset` and `selector: {name: coreset}` agree."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            leaves |= _parameters(value, f"{path}.")
        else:
            leaves[path.removesuffix(".name")] = value
    return leaves


def _first_seen(trials: Mapping[str, History]) -> list[str]:
    return list(dict.fromkeys(records.last(history)["configuration"] for history in trials.values()))


# Comparing ---------------------------------------------------------------------------------------------------------


def _compare(report: Report, order: Sequence[str]) -> None:
    """Finds the reference and compares every other confirmed configuration with it."""
    if not report.confirmed:
        return
    report.reference = reference = _reference(report, order)
    for entry in report.confirmed:
        if entry is not reference:
            entry.comparison = paired(entry.values.get(report.measure, {}), reference.values.get(report.measure, {}))
    tested = [entry for entry in report.confirmed if entry.comparison and entry.comparison.p is not None]
    for entry, p in zip(tested, holm([entry.comparison.p for entry in tested]), strict=True):  # type: ignore[union-attr, misc]
        entry.p_holm = p
    for entry in report.confirmed:
        words = verdict(entry.comparison, entry.p_holm, maximize=report.maximize)
        entry.verdict = "reference" if entry is reference else words
    used = {entry.mean("labels/used") for entry in report.confirmed}
    if len(used) > 1:
        report.notes.append("The configurations did not use equally many labels; see the column.")


def _reference(report: Report, order: Sequence[str]) -> Entry:
    """The configuration that `reference` names, else the first of `confirm.references`, else the first that ran."""
    confirm = report.space.get("confirm") or {}
    wanted = report.space.get("reference") or next(iter(confirm.get("references") or []), None)
    by_order = sorted(report.confirmed, key=lambda entry: order.index(entry.id))
    if not wanted:
        return by_order[0]
    for entry in by_order:
        if _parameters(wanted).items() <= entry.parameters.items():
            return entry
    report.notes.append(f"No confirmed configuration is the reference {wanted}; {by_order[0].label} stands in for it.")
    return by_order[0]


def _answer(report: Report) -> str:
    """One or two sentences, with the interval."""
    if not report.confirmed:
        return _answer_of_search(report)
    best, reference = report.confirmed[0], report.reference
    name = report.measure
    assert reference is not None
    if best.mean(name) is None:
        return f"No confirmed configuration reported {name}."
    score = f"{name} {_show(name, best.estimate(name))} ({_seeds(best)})"
    if len(report.confirmed) == 1:
        return f"{best.label} reached {score}; nothing was confirmed beside it to compare it with."
    first = f"{best.label} was the best of {len(report.confirmed)} with {score}."
    other, versus = best, f"Against the reference, {reference.label}, that is"
    if best is reference:
        first = first.replace(" was", ", the reference, was", 1)
        other = report.confirmed[1]
        versus = f"The next, {other.label}, lies at"
    if other.comparison is None:
        return f"{first} {other.label} and {reference.label} share no seed and cannot be compared."
    versus += f" {_show_difference(name, other.comparison)}"
    if other.comparison.smallest is None:
        return f"{first} {versus}; one seed gives no interval, so this may be luck."
    versus += f" (95 %, paired over {other.comparison.difference.n} seeds): {other.verdict}"
    if other.verdict in ("better", "worse"):
        return f"{first} {versus}."
    smallest = _number(name, other.comparison.smallest)
    return f"{first} {versus}; so many seeds can resolve differences of {smallest} or more."


def _answer_of_search(report: Report) -> str:
    if not report.searched or report.searched[0].mean(report.goal) is None:
        return "No trial has finished."
    best, count = report.searched[0], len(report.searched)
    score = f"{report.goal} {_show(report.goal, best.estimate(report.goal))}"
    chosen = f"the best of {count} on the data it was chosen by" if count > 1 else "the only one"
    return f"{best.label} reached {score}, {chosen}: not confirmed on fresh seeds or on test data."


# Showing -----------------------------------------------------------------------------------------------------------


def _number(metric: str, value: float, sign: str = "") -> str:
    """Fractions with four decimals, counts whole, the rest with three significant digits."""
    about = known(metric)
    unit = about.unit if about else ""
    form = {"fraction": ".4f", "images": ".0f"}.get(unit, ".3g" if abs(value) < 1000 else ".0f")
    return format(value, sign + form)


def _show(metric: str, value: Estimate | None) -> str:
    if value is None:
        return "–"
    half = "" if value.half is None else f" ± {_number(metric, value.half)}"
    return _number(metric, value.mean) + half


def _show_difference(metric: str, comparison: Comparison | None) -> str:
    if comparison is None:
        return "–"
    mean, half = comparison.difference.mean, comparison.difference.half
    if half is None:
        return _number(metric, mean, "+")
    return f"{_number(metric, mean, '+')} [{_number(metric, mean - half, '+')}, {_number(metric, mean + half, '+')}]"


def _seeds(entry: Entry) -> str:
    return "n = 1 seed, so no interval" if len(entry.seeds) == 1 else f"95 %, n = {len(entry.seeds)} seeds"


def _seconds(entry: Entry, stage: str) -> str:
    """Mean seconds, with a star where a trial took the stage (of the total: any stage) from the cache."""
    name = f"time/{stage}_seconds"
    mean = entry.mean(name)
    cached = bool(entry.cached) if stage == "total" else stage in entry.cached
    return "–" if mean is None else _number(name, mean) + ("*" if cached else "")


def _line(text: str) -> str:
    return " ".join(text.split())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


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
    over_rounds = sections.answer(report.rounds) if report.rounds else ""
    blocks = [
        f"# {report.space['name']}",
        f"**Answer.** {report.answer}",
        *([f"**Over the rounds.** {over_rounds}"] if over_rounds else []),
        f"**Question.** {_line(report.space.get('description') or 'none was stated')}",
        *(f"**Note.** {note}" for note in [*report.notes, *(report.rounds.notes if report.rounds else [])]),
        *_confirmed_section(report),
        *_beside_section(report),
        *(_rounds_sections(report.rounds) if report.rounds else _curve_section(report)),
        *_searched_section(report),
        *_failed_section(report),
        *_made_section(report),
    ]
    return "\n\n".join(blocks) + "\n"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_line(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _shown_metrics(report: Report, entries: Sequence[Entry]) -> list[str]:
    """The measure, its twin on validation data, test and val accuracy, and the other goals; only those that exist."""
    goals = [str(goal["name"]) for goal in report.space["metric"]]
    wanted = dict.fromkeys([report.measure, *goals, "test/accuracy", "val/accuracy"])
    return [metric for metric in wanted if any(entry.values.get(metric) for entry in entries)]


def _confirmed_section(report: Report) -> list[str]:
    if not report.confirmed:
        return []
    metrics = _shown_metrics(report, report.confirmed)
    header = ["configuration", *metrics, f"{report.measure} - reference", "p (Holm)", "smallest", "verdict", "n"]
    header += ["labels (+ val)", *(f"{stage} s" for stage in SECONDS)]
    rows = []
    for entry in report.confirmed:
        smallest = entry.comparison.smallest if entry.comparison else None
        rows.append(
            [
                entry.label,
                *(_show(metric, entry.estimate(metric)) for metric in metrics),
                _show_difference(report.measure, entry.comparison),
                "–" if entry.p_holm is None else f"{entry.p_holm:.2g}",
                "–" if smallest is None else _number(report.measure, smallest),
                entry.verdict,
                str(len(entry.seeds)),
                _label_count(entry),
                *(_seconds(entry, stage) for stage in SECONDS),
            ]
        )
    return ["## Confirmed", _markdown(header, rows), _footnotes(report)]


def _beside_section(report: Report) -> list[str]:
    """The same comparison under each classifier beside the first."""
    measured = dict.fromkeys(metric for entry in report.confirmed for metric in entry.values)
    blocks: list[str] = []
    for metric in (name for name in measured if name.startswith(f"{report.measure}/")):
        header = ["configuration", metric, f"{metric} - reference", "p (Holm)", "verdict"]
        classifier = metric.rpartition("/")[2]
        blocks += [f"## The same under {classifier}", _markdown(header, _beside_rows(report, metric))]
    return blocks


def _beside_rows(report: Report, metric: str) -> list[list[str]]:
    """A row for each confirmed configuration, best first; the p values are a family of their own."""
    entries = [entry for entry in report.confirmed if entry.values.get(metric)]
    entries.sort(key=lambda entry: entry.mean(metric) or 0, reverse=report.maximize)
    reference = report.reference.values.get(metric, {}) if report.reference else {}
    found = {entry.id: paired(entry.values[metric], reference) for entry in entries if entry is not report.reference}
    tested = {name: item.p for name, item in found.items() if item and item.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))

    def row(entry: Entry) -> list[str]:
        cells = [entry.label, _show(metric, entry.estimate(metric))]
        if entry.id not in found:
            return [*cells, "–", "–", "reference"]
        comparison, p = found[entry.id], adjusted.get(entry.id)
        said = verdict(comparison, p, maximize=report.maximize)
        return [*cells, _show_difference(metric, comparison), "–" if p is None else f"{p:.2g}", said]

    return [row(entry) for entry in entries]


def _label_count(entry: Entry) -> str:
    used, val = entry.mean("labels/used"), entry.mean("labels/val")
    return ("–" if used is None else f"{used:.0f}") + ("" if val is None else f" (+ {val:.0f})")


def _footnotes(report: Report) -> str:
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
    return "\n".join(f"- {note}" for note in notes)


def _rounds_sections(found: Rounds) -> list[str]:
    blocks = []
    for section in sections.sections(found):
        blocks += [f"## {section.title}", *section.text]
        if section.rows:
            blocks.append(_markdown(section.header, section.rows))
        if section.notes:
            blocks.append("\n".join(f"- {note}" for note in section.notes))
    return blocks


def _curve_section(report: Report) -> list[str]:
    """The curves alone, where there are no two to compare."""
    entries, measure = (report.confirmed, report.measure) if report.confirmed else (report.searched, report.goal)
    curves = {entry.id: entry.curves.get(measure, {}) for entry in entries[:SEARCH_ROWS]}
    steps = sorted({step for curve in curves.values() for step in curve})
    if len(steps) < 2:
        return []
    rows = [
        [
            entry.label,
            *(_show(measure, estimate(list(curve[step].values())) if step in curve else None) for step in steps),
        ]
        for entry, curve in zip(entries, curves.values(), strict=False)
    ]
    return [
        f"## Learning curves: {measure} by number of labels",
        _markdown(["configuration", *(f"{step} labels" for step in steps)], rows),
    ]


def _searched_section(report: Report) -> list[str]:
    if not report.searched:
        return []
    metrics = _shown_metrics(report, report.searched)
    rows = [
        [
            entry.label,
            *(_show(metric, entry.estimate(metric)) for metric in metrics),
            str(len(entry.seeds)),
            _seconds(entry, "total"),
            entry.ending,
        ]
        for entry in report.searched[:SEARCH_ROWS]
    ]
    stopped = sum(entry.ending != "finished" for entry in report.searched)
    more = (
        f"; the first {SEARCH_ROWS} are shown, all are in leaderboard.csv" if len(report.searched) > SEARCH_ROWS else ""
    )
    text = f"{_count(len(report.searched), 'configuration')}, {stopped} of them early-stopped{more}. "
    text += "Validation data only: the best of many looks better here than it is."
    return ["## Search", text, _markdown(["configuration", *metrics, "n", "total s", "ending"], rows)]


def _failed_section(report: Report) -> list[str]:
    if not report.failures:
        return []
    return [
        "## Failed trials",
        _markdown(["trial", "cause"], ([trial, cause] for trial, cause in report.failures.items())),
    ]


def _made_section(report: Report) -> list[str]:
    """What was searched and confirmed, where, with what, and beside what."""
    space, environment = report.space, report.environment
    searched = [f"`{path}`: {_domain(spec)}" for path, spec in (space.get("parameters") or {}).items()]
    data_sets = environment.get("datasets") or [environment["dataset"]]
    gpus = ", ".join(map(str, environment.get("gpus") or [])) or "no GPU"
    versions = {"python": environment.get("python"), **environment.get("packages", {})}
    at_once = environment.get("concurrent_trials")
    beside = "one trial at a time" if at_once == 1 else f"up to {at_once} trials at once, sharing the machine"
    cases = [f"cases {', '.join(space['cases'])}"] if space.get("cases") else []
    lines = [
        f"{'Searched' if report.searched else 'Compared'} by {space.get('method')}: "
        + ("; ".join([*cases, *searched]) or "one configuration"),
        f"Confirmed: {_count(len(report.confirmed), 'configuration')}, seeds "
        + (", ".join(map(str, sorted({seed for e in report.confirmed for seed in e.seeds}))) or "none"),
        "Data: " + "; ".join(map(_data_set, data_sets)),
        f"Hardware: {environment.get('cpu')}, {environment.get('cores')} cores, {gpus}; times with {beside}",
        f"Compute: {report.seconds:,.0f} s, of which {report.saved:,.0f} s came from the cache, not spent again",
        f"Commit: `{str(environment.get('commit') or 'unknown')[:12]}`"
        + (" with uncommitted changes" if environment.get("dirty") else ""),
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"Command: `{environment.get('command')}`, started {environment.get('started')}",
    ]
    return ["## How this was made", "\n".join(f"- {line}" for line in lines)]


def _data_set(data: Mapping[str, Any]) -> str:
    """One of `environment.json`'s data sets, whose classes are names or their number."""
    classes = data["classes"] if isinstance(data["classes"], int) else len(data["classes"])
    counts = f"{data['train']} train, {data['val']} val, {data['test']} test images, {classes} classes"
    return f"{data['name']} ({counts}), fingerprint `{data['fingerprint'][:12]}`"


def _domain(spec: Any) -> str:
    """A parameter's domain as in the YAML, on one line."""
    if not isinstance(spec, Mapping):
        return records.show(spec)
    if "values" in spec:
        return "one of " + ", ".join(map(records.show, spec["values"]))
    return ", ".join(f"{key} {records.show(value)}" for key, value in spec.items())


def show(report: Report) -> None:
    """Prints the answer and the tables to the terminal, within its width."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]{escape(report.space['name'])}[/bold]: {escape(report.answer)}")
    if report.rounds:
        console.print(escape(sections.answer(report.rounds)))
    for note in [*report.notes, *(report.rounds.notes if report.rounds else [])]:
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
        metrics = _shown_metrics(report, report.confirmed)[:2]
        table(
            "Confirmed (mean ± 95 % half-width; difference to the reference, paired)",
            ["configuration", *metrics, "difference", "n", "labels", "total s"],
            (
                [
                    entry.label,
                    *(_show(metric, entry.estimate(metric)) for metric in metrics),
                    _stacked(report, entry),
                    str(len(entry.seeds)),
                    "–" if entry.mean("labels/used") is None else f"{entry.mean('labels/used'):.0f}",
                    _seconds(entry, "total"),
                ]
                for entry in report.confirmed
            ),
        )
    if report.searched:
        metrics = _shown_metrics(report, report.searched)[:3]
        table(
            f"Search (validation data only; {min(10, len(report.searched))} of {len(report.searched)})",
            ["configuration", *metrics, "n", "total s", "ending"],
            (
                [
                    entry.label,
                    *(_show(metric, entry.estimate(metric)) for metric in metrics),
                    str(len(entry.seeds)),
                    _seconds(entry, "total"),
                    entry.ending.replace("-stopped ", "-stopped\n"),
                ]
                for entry in report.searched[:10]
            ),
        )
    if report.failures:
        console.print(f"[red]{_count(len(report.failures), 'trial')} failed:[/red]")
        for trial, cause in report.failures.items():
            console.print(escape(f"  {trial}: {cause}"))
    console.print(f"written: {report.folder / 'summary.md'}, {report.folder / 'leaderboard.csv'}", soft_wrap=True)


def _stacked(report: Report, entry: Entry) -> str:
    """Difference, interval and verdict below one another, to fit a narrow terminal."""
    difference = _show_difference(report.measure, entry.comparison).replace(" [", "\n[")
    verdict = entry.verdict.replace("evidence of", "evidence\nof").replace(" after Holm's", "\nafter Holm's")
    return verdict if entry is report.reference else f"{difference}\n{verdict}"


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

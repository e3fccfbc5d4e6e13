"""Reads and compares what a sweep recorded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import messages
from harness.config.extension import labels_asked
from harness.config.headroom import NAME
from harness.config.schema import by_path
from harness.records import names
from harness.records import rows as record_rows
from harness.records.rows import FINAL, History, by_trial, mapping
from harness.records.standing import standing
from harness.records.trial_files import TrialFiles, read_trial_files
from harness.report import answers, words
from harness.report.across import compare_across
from harness.report.astray import astray
from harness.report.blocks import places
from harness.report.entry import Entry
from harness.report.mixture import mixed_code, mixed_compute, mixed_data
from harness.report.model import SECONDS, Report
from harness.report.references import Assignments, choose_reference
from harness.report.rounds import compare_rounds

WITHOUT_LABELS = (
    "Not a single label was read. The figures say how an encoder's features lie, not how well classes can be told from "
    "them: that a higher score makes a better encoder is an experience of papers, and no promise for these images. "
    "Only labels, of some hundred images at least, can say which encoder classifies better, and by how much."
)


def read_report(folder: Path) -> Report:
    """Reads a sweep's folder and compares what it holds.

    Raises:
        ValueError: the folder is not a sweep's, or holds no records.
    """
    for file in (folder / "space.yaml", folder / "environment.json", record_rows.rows_file(folder)):
        if not file.is_file():
            raise ValueError(f"{folder} is not a sweep's folder: it has no {file.name}")
    space = mapping(folder / "space.yaml")
    environment = mapping(folder / "environment.json")
    rows, unreadable = record_rows.read_rows(folder)
    trials = by_trial(rows)
    if not trials:
        raise ValueError(f"{folder} holds no records yet")

    totals, saved = [_at_most_labels(history) for history in trials.values()], sum(map(_saved, trials.values()))
    _reopen_short(trials, space)
    phases: dict[str, dict[str, History]] = {"search": {}, "confirm": {}, "headroom": {}}
    for trial, history in trials.items():
        phases[record_rows.last(history)["phase"]][trial] = history
    goal = space["metric"][0]
    maximize = goal["goal"] == "maximize"
    measure = _measure(goal["name"], phases["confirm"])
    files = {trial: read_trial_files(folder / "trials" / trial) for trial in trials}
    until = isinstance(space.get("seeds"), Mapping) and bool(space["seeds"].get("until"))
    report = Report(
        folder,
        space,
        environment,
        measure,
        maximize,
        _entries(phases["confirm"], files, measure, maximize, until=until),
        _entries(phases["search"], files, goal["name"], maximize, searched_by=[one["name"] for one in space["metric"]]),
        None,
        {
            trial: messages.one_line(record_rows.last(history).get("error") or "no cause was recorded")
            for trial, history in trials.items()
            if record_rows.last(history)["status"] == "failed"
        },
        sum(total.get("time/total_seconds", 0) for total in totals),
        saved,
        mixed_data(space, trials.values()),
        mixed_code(trials.values()) + mixed_compute(space, trials.values()),
        histories=trials,
        files=files,
        bounds=_entries(_not_replaced(phases["headroom"]), files, measure, maximize),
    )
    for entry in (*report.confirmed, *report.searched, *report.bounds):
        if not entry.parameters:
            entry.label = names.name_of_trial(space.get("trial") or {})
    report.notes += _notes_of_reading(report, unreadable)
    _compare(report, phases["confirm"])
    report.rounds = None if report.mixed else compare_rounds(report)
    report.across = compare_across(report)
    report.answer, report.about = answers.answer_of(report), answers.beside_answer(report)
    return report


def _reopen_short(trials: Mapping[str, History], space: Mapping[str, Any]) -> None:
    """Takes the ending from each trial that finished with fewer labels than another one that is to have as many.

    A question that grew by rounds has not given them to all of its trials yet.
    """
    finished = [history for history in trials.values() if record_rows.last(history)["status"] == "finished"]
    endings = [record_rows.last(history) for history in finished]
    parameters = {ending["configuration"]: ending["parameters"] for ending in endings}
    asked = {configuration: labels_asked(space, of) for configuration, of in parameters.items()}
    most: dict[tuple[str, int | None], int] = {}
    for ending in endings:
        alike = ending["phase"], asked[ending["configuration"]]
        most[alike] = max(most.get(alike, 0), ending["step"])
    for history, ending in zip(finished, endings, strict=True):
        total = asked[ending["configuration"]]
        if total is not None and ending["step"] < most[ending["phase"], total]:
            record_rows.reopen(history)


def _not_replaced(bounds: Mapping[str, History]) -> dict[str, History]:
    """The trials of the newest upper bound of each setting: a question that grew has had others before."""
    newest: dict[str, str] = {}
    for history in sorted(bounds.values(), key=lambda history: record_rows.last(history)["time"]):
        last = record_rows.last(history)
        shared = {name: value for name, value in last["parameters"].items() if name != NAME}
        newest[json.dumps(shared, sort_keys=True)] = last["configuration"]
    kept = set(newest.values())
    return {trial: history for trial, history in bounds.items() if record_rows.last(history)["configuration"] in kept}


def _measure(goal: str, confirmed: Mapping[str, History]) -> str:
    twin = goal.replace("val/", "test/", 1)
    measured = {name for history in confirmed.values() for record in history.values() for name in record["metrics"]}
    return twin if twin in measured else goal


def _entries(
    trials: Mapping[str, History],
    files: Mapping[str, TrialFiles],
    measure: str,
    maximize: bool,
    *,
    searched_by: Sequence[str] = (),
    until: bool = False,
) -> list[Entry]:
    """The configurations that have at least one trial that finished, best first; equals by name.

    Of a search, whose goals are given, also those that were stopped early. These have no value of a goal: what an
    epoch on the way reached is not what was asked.
    With `until` a seed without a trial is none that a configuration lacks: its comparison may be resolved without.
    """
    groups: dict[str, list[History]] = {}
    statuses: dict[str, dict[int, str]] = {}
    for history in trials.values():
        last = record_rows.last(history)
        statuses.setdefault(last["configuration"], {})[last["seed"]] = last["status"]
        if last["status"] == "finished" or (searched_by and last["status"] == "stopped"):
            groups.setdefault(last["configuration"], []).append(history)
    entries = {configuration: _entry(configuration, group, files) for configuration, group in groups.items()}
    labels = _labels(_asked(trials))
    seeds = sorted({seed for by_seed in statuses.values() for seed in by_seed})
    for entry in entries.values():
        entry.label = labels[entry.id]
        if entry.ending == "finished":
            entry.seeds = [seed for seed in entry.seeds if seed in entry.values.get(measure, {})]
        else:
            entry.values = {metric: by_seed for metric, by_seed in entry.values.items() if metric not in searched_by}
        known = {seed: statuses[entry.id].get(seed, "missing") for seed in (statuses[entry.id] if until else seeds)}
        entry.lacking = {seed: status for seed, status in known.items() if seed not in entry.seeds}
    values = {name: entry.values.get(measure, {}) for name, entry in entries.items()}
    order = standing(values, {name: len(entry.lacking) for name, entry in entries.items()}, maximize=maximize)
    return sorted((entries[name] for name in order), key=lambda entry: entry.ending != "finished")


def _entry(configuration: str, histories: Sequence[History], files: Mapping[str, TrialFiles]) -> Entry:
    values: dict[str, dict[int, float]] = {}
    curves: dict[str, dict[int, dict[int, float]]] = {}
    for history in histories:
        seed = record_rows.last(history)["seed"]
        for name, value in _at_most_labels(history).items():
            values.setdefault(name, {})[seed] = value
        for record in _by_labels(history) if record_rows.last(history)["status"] == "finished" else ():
            for name, value in _finite(record["metrics"]).items():
                curves.setdefault(name, {}).setdefault(record["step"], {})[seed] = value
    trials = {record_rows.last(history)["seed"]: record_rows.last(history)["trial"] for history in histories}
    stopped = [history for history in histories if record_rows.last(history)["status"] == "stopped"]
    epoch = max((r["step"] for history in stopped for r in history.values() if r["step_kind"] == "epoch"), default=0)
    return Entry(
        id=configuration,
        parameters=by_path(record_rows.last(histories[0])["parameters"]),
        seeds=sorted(record_rows.last(history)["seed"] for history in histories),
        values=values,
        cached=[stage for stage in SECONDS if _ever(curves.get(f"stage/{stage}_cached", {}))],
        curves={name: dict(sorted(curve.items())) for name, curve in curves.items()},
        trials=trials,
        ending=f"early-stopped at epoch {epoch}" if stopped else "finished",
        files={seed: files[trial] for seed, trial in trials.items()},
    )


def _ever(flags: Mapping[int, Mapping[int, float]]) -> bool:
    """Whether any of labels -> seed -> flag is set: one round that came from the cache is enough."""
    return any(flag for by_seed in flags.values() for flag in by_seed.values())


def _saved(history: History) -> float:
    """Seconds of a trial's total that the cache saved; summed over rounds where the records do not hold the sum."""
    closing = _at_most_labels(history)
    if "time/saved_seconds" in closing or "time/total_seconds" not in closing:
        return closing.get("time/saved_seconds", 0.0)
    parts = [(closing, "pretrain")]
    parts += [(r["metrics"], s) for r in history.values() if r["status"] == "running" for s in ("select", "train")]
    return sum(measured.get(f"time/{s}_seconds", 0) * measured.get(f"stage/{s}_cached", 0) for measured, s in parts)


def _by_labels(history: History) -> list[dict[str, Any]]:
    """The records of rounds, by number of labels; the closing record comes last."""
    rounds = [record for record in history.values() if record["step_kind"] == "labels"]
    return sorted(rounds, key=lambda record: (record["step"], record["status"] in FINAL))


def _at_most_labels(history: History) -> dict[str, float]:
    """Every metric where the most labels were used; of pre-training, at its last epoch. None that is not finite there.

    What an earlier round or epoch measured takes no place of it: what diverged would look as it was before.
    """
    epochs = [record for record in history.values() if record["step_kind"] == "epoch"]
    merged: dict[str, float | None] = {}
    for record in [*epochs, *_by_labels(history)]:
        merged |= record["metrics"]
    return _finite(merged)


def _finite(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}


def _asked(trials: Mapping[str, History]) -> Assignments:
    lasts = map(record_rows.last, trials.values())
    return {last["configuration"]: last["parameters"] for last in lasts}


def _labels(asked: Assignments) -> dict[str, str]:
    return names.name_configurations({name: by_path(parameters) for name, parameters in asked.items()})


def _notes_of_reading(report: Report, unreadable: int) -> list[str]:
    """What a reader should know of the folder before any figure."""
    notes = []
    if unreadable:
        notes.append(f"{messages.count(unreadable, 'line')} of rows.jsonl could not be read and was skipped.")
    ended = [record_rows.last(history) for history in report.histories.values()]
    unfinished = sum(last["status"] == "running" for last in ended)
    if unfinished:
        notes.append(f"{messages.count(unfinished, 'trial')} did not finish: the sweep is running or was interrupted.")
    if (report.space.get("trial") or {}).get("labels", {}).get("stratified"):
        notes.append(
            "Start pools are in proportion to the class sizes: that read hidden labels, which no count of labels holds."
        )
    if [] in [data.get("classes") for data in report.environment["datasets"]]:
        notes.append(WITHOUT_LABELS)
    of_data = [note for data in report.environment["datasets"] for note in data.get("notes", [])]
    notes += [f"{note}." for note in dict.fromkeys(of_data)]
    bad = [f"{trial}/{name}" for trial, left in report.files.items() for name in left.damaged]
    if bad:
        notes.append(f"{messages.count(len(bad), 'damaged file')} left out, the first trials/{bad[0]}.")
    return notes + [f"{last['trial']}: {messages.one_line(last['warning'])}." for last in ended if "warning" in last]


def _compare(report: Report, trials: Mapping[str, History]) -> None:
    """Finds the reference and compares every other confirmed configuration with it, each on its own ground.

    Args:
        report: without its comparisons.
        trials: of the confirmed configurations and of those that have no result.
    """
    if not report.confirmed:
        return
    asked = _asked(trials)
    where = places(asked, report.space)
    for entry in report.confirmed if where else ():
        entry.block, entry.method = where[entry.id]
    for entries in report.blocks.values():
        had = {seed for entry in entries for seed in entry.seeds}
        for entry in entries:
            entry.lacking = entry.lacking_beside(had)
    report.confirmed = [entry for _, entries in sorted(report.blocks.items()) for entry in entries]
    methods = {name: where[name][1] if where else name for name in asked}
    report.reference = choose_reference(report, asked, methods)
    by_block = report.blocks.values()
    report.confirmed = [entry for entries in by_block for entry in report.by_standing(entries, report.measure)]
    judgements = report.judgements(report.measure)
    for entry in report.confirmed:
        entry.judgement = judgements.get(entry.id)
        entry.verdict = report.verdict(entry, entry.judgement)
    report.notes += [*_grounds(report), *_without_result(report, trials), *_warnings(report)]
    used = [{n for one in of for n in one.values.get("labels/used", {}).values()} for of in report.blocks.values()]
    if any(len(numbers) > 1 for numbers in used):
        report.notes.append("The configurations did not use equally many labels; see the column.")


def _grounds(report: Report) -> list[str]:
    """On which grounds configurations are compared, and on which they are not."""
    if report.reference is None or not report.reference.method:
        return []
    name, uncompared = report.reference.method, report.uncompared
    alone = [block for block in uncompared if any(map(report.is_reference, report.blocks[block]))]
    without = [block for block in uncompared if block not in alone]
    notes = []
    if compared := [block for block in report.blocks if block not in uncompared]:
        over = ", and over all of them; the correction is for all comparisons" if len(compared) > 1 else ""
        notes.append(f"Compared within {', '.join(compared)}{over}.")
    if without:
        notes.append(f"Not compared on {', '.join(without)}: the reference, {name}, has no result there.")
    if alone:
        notes.append(f"Not compared on {', '.join(alone)}: nothing but the reference, {name}, has a result there.")
    return notes


def _without_result(report: Report, trials: Mapping[str, History]) -> list[str]:
    """The configurations with trials of which none has a result, so that they stand in no table."""
    asked = _asked(trials)
    labels, shown = _labels(asked), {entry.id for entry in report.confirmed}
    statuses: dict[str, list[str]] = {name: [] for name in asked if name not in shown}
    for last in map(record_rows.last, trials.values()):
        if last["configuration"] in statuses:
            statuses[last["configuration"]].append(last["status"])
    said = [f"{labels[name]} ({words.lacking(of, len(of))})" for name, of in statuses.items()]
    return [f"Without any result, and so in no table: {', '.join(said)}."] if said else []


def _warnings(report: Report) -> list[str]:
    """What is missing or astray, and so takes some of its meaning from every figure beside it."""
    notes = []
    for reference in filter(report.is_reference, report.confirmed if len(report.confirmed) > 1 else ()):
        if reference.lacking:
            seeds = _seed_words(list(reference.lacking))
            notes.append(
                f"The reference, {reference.label}, has no result under {seeds}; nothing is compared with it there."
            )
    lacking = [entry for entry in report.confirmed if entry.lacking and not report.is_reference(entry)]
    if lacking:
        said = ", ".join(f"{entry.label} ({_seed_words(list(entry.lacking))})" for entry in lacking)
        notes.append(f"Without a result: {said}. These stand below the others, whatever their other seeds reached.")
    values = {entry.id: entry.values.get(report.measure, {}) for entry in report.confirmed}
    label = {entry.id: entry.label for entry in report.confirmed}
    said = ", ".join(
        f"{label[name]} under seed {seed} ({words.show_number(report.measure, values[name][seed])})"
        for entries in report.blocks.values()
        for name, seed in astray({entry.id: values[entry.id] for entry in entries})
    )
    if said:
        notes.append(
            f"Far from what the other seeds let expect: {said}. Where some seeds collapse, no interval of few seeds "
            "holds; look into these trials before you quote a figure."
        )
    return notes


def _seed_words(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"

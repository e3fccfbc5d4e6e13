"""The rounds of a sweep: its confirmed configurations, compared over every number of labels.

Configurations that differ in their selector alone form a setting; without a grid of selectors all of one ground do. The
statistics are those of `curves`; `round_tables` and `pictures` show what is compared here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.records import names as record_names
from harness.report import curves as curve_module
from harness.report.compare import judge
from harness.report.curves import Curves, chance_overlap, penalties
from harness.report.entry import Entry
from harness.report.headroom import attainable
from harness.report.model import SCORES, Report, RoundComparison, Setting, by_area
from harness.report.sequential import Looks


def compare_rounds(report: Report) -> RoundComparison | None:
    """Compares the confirmed configurations over their rounds.

    Returns:
        The comparison, or None where fewer than two configurations share two numbers of labels.
    """
    measures = _measures(report)
    if not measures:
        return None
    notes: list[str] = []
    labels = _case_labels(report.confirmed)
    reference = labels[report.reference.id] if report.reference else None
    settings: list[Setting] = []
    for name, group in _grouped(report.confirmed).items():
        entries = {labels[entry.id]: entry for entry in group}
        for setting in _settings(name, entries, measures, reference, notes, report.looks):
            setting.attainable = attainable(group, report.bounds, measures, setting.steps)
            settings.append(setting)
    if not settings:
        return None
    _judge(settings, measures, report.worth(measures[0]))
    cases = by_area(settings, measures[0])
    selections = [{step: s.scores(measures[0], step) for step in s.selected} for s in settings]
    picks = _over_settings([s.picks for s in settings])
    return RoundComparison(
        measures,
        cases,
        settings,
        penalties(selections, cases),
        curve_module.ranks(_ranked(settings, measures[0])),
        curve_module.overlap(picks, cases) if len(picks) > 1 else None,
        _chance(report.environment, settings),
        notes,
        "selector" if _is_grid_of_selectors(report.confirmed) else "configuration",
    )


def _measures(report: Report) -> list[str]:
    """The report's measure and its twin on validation data if they are scores, else accuracy; those with a curve."""
    split, _, name = report.measure.partition("/")
    score = name if split in ("val", "test") and name in SCORES else "accuracy"
    wanted = (f"test/{score}", f"val/{score}")
    return [metric for metric in wanted if any(len(entry.curves.get(metric, {})) > 1 for entry in report.confirmed)]


def _selector(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {path: value for path, value in parameters.items() if path.partition(".")[0] == "selector"}


def _others(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {path: value for path, value in parameters.items() if path.partition(".")[0] != "selector"}


def _key(parameters: Mapping[str, Any]) -> str:
    return json.dumps(parameters, sort_keys=True, default=str)


def _is_grid_of_selectors(entries: Sequence[Entry]) -> bool:
    """Whether every combination of the other parameters has two selectors or more."""
    sizes: dict[str, set[str]] = {}
    for entry in entries:
        sizes.setdefault(_key(_others(entry.parameters)), set()).add(_key(_selector(entry.parameters)))
    return all(len(selectors) > 1 for selectors in sizes.values())


def _case_labels(entries: Sequence[Entry]) -> dict[str, str]:
    """Configuration -> name of its case, the same in every setting."""
    if not _is_grid_of_selectors(entries):
        return {entry.id: entry.method or entry.label for entry in entries}
    keys = {entry.id: _key(_selector(entry.parameters)) for entry in entries}
    names = record_names.name_configurations({keys[entry.id]: _selector(entry.parameters) for entry in entries})
    return {entry.id: names[keys[entry.id]] for entry in entries}


def _grouped(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Setting's name -> its configurations, which are of one ground."""
    grid = _is_grid_of_selectors(entries)
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_key(_others(entry.parameters)) if grid else entry.block, []).append(entry)
    about = {key: _others(group[0].parameters) for key, group in groups.items()}
    names = record_names.name_configurations(about) if grid else {key: key for key in groups}
    return {names[key] if len(groups) > 1 else "": group for key, group in groups.items()}


def _judge(settings: Sequence[Setting], measures: Sequence[str], worth: float | None) -> None:
    """Compares the cases with the reference: by the area of each measure, and after every selection by the first.

    Each is one family over all settings.
    """
    judged = {number: setting for number, setting in enumerate(settings) if setting.reference}
    if not judged:
        return
    reference = next(iter(judged.values())).reference
    assert reference is not None
    for measure in measures:
        areas = {number: setting.scores(measure, None) for number, setting in judged.items()}
        for number, column in judge(areas, reference, worth=worth, looks=settings[0].looks).items():
            judged[number].by_area[measure] = column
    columns = {(n, step): one.scores(measures[0], step) for n, one in judged.items() for step in one.selected}
    for (number, step), column in judge(columns, reference, worth=worth, looks=settings[0].looks).items():
        judged[number].by_round[step] = column


def _settings(
    name: str,
    entries: Mapping[str, Entry],
    measures: Sequence[str],
    reference: str | None,
    notes: list[str],
    looks: Looks | None,
) -> list[Setting]:
    """The setting, or none where its cases do not share two numbers of labels."""
    first = measures[0]
    with_curve = {case: entry for case, entry in entries.items() if len(entry.curves.get(first, {})) > 1}
    where = f" ({name})" if name else ""
    alone = [case for case in entries if case not in with_curve]
    if alone and len(with_curve) > 1:
        notes.append(f"Left out, for they were measured at one number of labels only{where}: {', '.join(alone)}.")
    steps = sorted(set.intersection(*(set(e.curves[first]) for e in with_curve.values()))) if with_curve else []
    if len(with_curve) < 2 or len(steps) < 2:
        return []
    reference = reference if reference in with_curve else None
    curves: dict[str, Curves] = {
        metric: {step: {c: e.curves.get(metric, {}).get(step, {}) for c, e in with_curve.items()} for step in steps}
        for metric in measures
    }
    areas = {metric: curve_module.areas(curves[metric]) for metric in measures}
    selected = [step for step in steps if any(step in _selections(entry) for entry in with_curve.values())]
    had = {seed for entry in with_curve.values() for seed in entry.seeds}
    setting = Setting(
        name,
        curves,
        selected or steps,
        areas,
        reference,
        {case: picks for case, entry in with_curve.items() if (picks := _picks(entry, steps[-1]))},
        {case: entry.files for case, entry in with_curve.items()},
        {case: entry.id for case, entry in with_curve.items()},
        {case: {*entry.seeds, *entry.lacking_beside(had)} for case, entry in with_curve.items()},
        looks,
        {measure: {} for measure in measures},
    )
    notes += _missing(setting.lacking, where)
    return [setting]


def _selections(entry: Entry) -> list[int]:
    """The numbers of labels that were reached by selecting."""
    return list(entry.curves.get("stage/select_cached", {}))


def _missing(lacking: Mapping[str, Sequence[int]], where: str) -> list[str]:
    """Says which seeds a case lacks."""
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for case, missing in lacking.items():
        by_seeds.setdefault(tuple(missing), []).append(case)
    return [
        f"Without a complete curve{where}: {', '.join(cases)} under seed {', '.join(map(str, missing))}; they stand "
        "below the others, and only seeds that both sides have are compared."
        for missing, cases in by_seeds.items()
    ]


def _picks(entry: Entry, last: int) -> dict[int, frozenset[int]]:
    """Seed -> every position selected on the way to `last` labels; without trials that lack a round's file."""
    picks = {}
    for seed, left in entry.files.items():
        selected = [left.selected.get(step) for step in _selections(entry) if step <= last]
        if selected and None not in selected:
            picks[seed] = frozenset(position for positions in selected for position in positions or ())
    return picks


def _over_settings(columns: Sequence[Mapping[str, Mapping[int, Any]]]) -> dict[str, dict[tuple[int, int], Any]]:
    """Case -> (number of the setting, seed) -> value, so that only seeds of the same setting meet."""
    joined: dict[str, dict[tuple[int, int], Any]] = {}
    for number, column in enumerate(columns):
        for case, values in column.items():
            joined.setdefault(case, {}).update({(number, seed): value for seed, value in values.items()})
    return joined


def _ranked(settings: Sequence[Setting], measure: str) -> dict[str, dict[tuple[int, int], float]]:
    """Case -> block -> area, of the cases that lack none, under the seeds that all of these have in a setting."""
    lacking = {case for setting in settings for case in setting.lacking}
    columns = []
    for setting in settings:
        whole = {case: areas for case, areas in setting.areas[measure].items() if case not in lacking}
        shared = set.intersection(*map(set, whole.values())) if whole else set()
        columns.append({case: {s: area for s, area in of.items() if s in shared} for case, of in whole.items()})
    return _over_settings(columns)


def _chance(environment: Mapping[str, Any], settings: Sequence[Setting]) -> float | None:
    """The overlap of random draws, where every trial picked equally many images out of equally many."""
    pools = {data["train"] for data in environment["datasets"]}
    ends = {setting.steps[-1] for setting in settings}
    sizes = {len(picks) for setting in settings for by_seed in setting.picks.values() for picks in by_seed.values()}
    if not len(pools) == len(ends) == len(sizes) == 1:
        return None
    pool, end, size = pools.pop(), ends.pop(), sizes.pop()
    return chance_overlap(size, pool - (end - size))  # what was labelled and not picked was the start pool

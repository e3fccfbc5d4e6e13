"""Several sweeps on one page: their answers, and their configurations side by side, as far as they can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from harness import messages
from harness.config.schema import by_path, lies_in
from harness.records.names import EXACT, show_value
from harness.report import tables, words
from harness.report.cells import Cell, Count, Difference, Empty, Mean, Probability, Seconds, Text
from harness.report.compare import Judgement, Scores, judge
from harness.report.model import Entry, Report
from harness.report.page.document import PageHead, render
from harness.report.pictures import style
from harness.report.section import Column, Heading, Picture, Section, Table

BEST_SHOWN = 3
"""How many of the best of each sweep are set side by side."""

SETTINGS = 6
"""How many settings that differ are named."""


def write_comparison(reports: Sequence[Report], file: Path) -> None:
    """Writes the page, and its picture beside it as SVG."""
    names = _names(reports)
    sections = [_answers(reports, names), _best(reports, names, file.stem), _shared(reports, names)]
    head = PageHead(
        "Sweeps compared",
        "selbench report",
        " · ".join(names),
        answer=[_verdict(reports, names)],
        notes=settings_that_differ(reports, names),
        facts=[(name, [str(report.folder)]) for name, report in zip(names, reports, strict=True)],
    )
    file.write_text(render(head, [section for section in sections if section], file.parent), encoding="utf-8")


def _names(reports: Sequence[Report]) -> list[str]:
    """The sweeps' names; with their folder where two have the same."""
    names = [str(report.space["name"]) for report in reports]
    return [f"{name} ({r.folder})" if names.count(name) > 1 else name for name, r in zip(names, reports, strict=True)]


def _fingerprints(report: Report) -> set[str]:
    """Of the images and their split; data sets of different sizes are different."""
    data = report.environment["datasets"]
    return {f"{one['fingerprint']} {one['train']} {one['val']} {one['test']}" for one in data}


def _seeds(report: Report) -> set[int]:
    return {seed for entry in report.confirmed for seed in entry.seeds}


def _labels(report: Report) -> set[float]:
    return {used for entry in report.confirmed if (used := entry.mean("labels/used")) is not None}


def obstacles(one: Report, other: Report) -> list[str]:
    """Why figures of two sweeps say nothing about each other; empty where they do."""
    stops = [*one.mixed, *other.mixed]
    if not one.confirmed or not other.confirmed:
        stops.append("a search alone has no figures on fresh seeds")
    elif one.measure != other.measure:
        stops.append(f"one measures {one.measure}, the other {other.measure}")
    if not _fingerprints(one) & _fingerprints(other):
        stops.append("the images or their split differ")
    if one.confirmed and other.confirmed and not _labels(one) & _labels(other):
        stops.append("they used different numbers of labels")
    return stops


def cautions(one: Report, other: Report) -> list[str]:
    """What else differs, and must be known when figures are compared nevertheless."""
    warnings = []
    if one.confirmed and other.confirmed and len(_seeds(one) & _seeds(other)) < 2:
        warnings.append("they share fewer than two seeds, so differences cannot be paired and have no interval")
    commits = [report.environment.get("commit") for report in (one, other)]
    if commits[0] != commits[1]:
        warnings.append(f"the code differs (commits {', '.join(str(commit)[:12] for commit in commits)})")
    if one.environment.get("dirty") or other.environment.get("dirty"):
        warnings.append("code was changed after its commit")
    machines = [
        tuple(str(report.environment.get(key)) for key in ("cpu", "cores", "gpus", "concurrent_trials"))
        for report in (one, other)
    ]
    if machines[0] != machines[1]:
        warnings.append("the machines or their load differ, so seconds do not compare")
    precisions = [report.environment.get("precision") for report in (one, other)]
    if precisions[0] != precisions[1]:
        warnings.append(f"the precision differs ({', '.join(map(str, precisions))})")
    settings = _settings(one, other)
    if settings:
        shown = ", ".join(settings[:SETTINGS]) + (
            f" and {len(settings) - SETTINGS} more" if settings[SETTINGS:] else ""
        )
        warnings.append(f"the settings that neither sweep varies differ: {shown}")
    return warnings


def _settings(one: Report, other: Report) -> list[str]:
    """What both trials fix, and differently: `backbone.width 8 and 32`."""
    trials = [by_path(report.space.get("trial") or {}) for report in (one, other)]
    varied = {path for report in (one, other) for entry in report.confirmed for path in entry.parameters}
    fixed = [path for path in trials[0] if path in trials[1] and not _varies(path, varied)]
    values = {path: tuple(trial[path] for trial in trials) for path in fixed}
    return [f"{path} {' and '.join(_apart(a, b))}" for path, (a, b) in values.items() if a != b]


def _apart(one: Any, other: Any) -> tuple[str, str]:
    """Two different values, with as many digits as it takes to see that."""
    shown = show_value(one), show_value(other)
    return shown if shown[0] != shown[1] else (show_value(one, EXACT), show_value(other, EXACT))


def _varies(path: str, varied: set[str]) -> bool:
    """Whether the setting, or the section that it belongs to, is varied."""
    return any(lies_in(path, other) or lies_in(other, path) for other in varied)


def settings_that_differ(reports: Sequence[Report], names: Sequence[str]) -> list[str]:
    """A sentence for each pair of sweeps that differ in anything but the question."""
    said = []
    for (one, a), (other, b) in combinations(zip(names, reports, strict=True), 2):
        stops, warns = obstacles(a, b), cautions(a, b)
        if stops:
            said.append(f"{one} and {other} are not comparable: {'; '.join(stops)}.")
        if warns:
            said.append(f"{one} and {other}: {'; '.join(warns)}.")
    return said


def _verdict(reports: Sequence[Report], names: Sequence[str]) -> str:
    """Whether the best of the sweeps differ, where that can be said."""
    sentences = []
    for (one, a), (other, b) in combinations(zip(names, reports, strict=True), 2):
        if obstacles(a, b):
            continue
        left, right = a.best, b.best
        judgement = _judged(a, left, right)
        head = f"The best of {one}, {left.label}, against the best of {other}, {right.label}: {a.measure}"
        if judgement is None or judgement.p is None:
            means = f"{_mean(a, left)} and {_mean(b, right)}"
            sentences.append(f"{head} {means}; with fewer than two seeds in common nothing can be said.")
        else:
            n, interval = judgement.difference.n, Difference(a.measure, judgement)
            sentences.append(f"{head} {interval} (95 %, paired over {n} seeds): {judgement.verdict}.")
    if not sentences:
        return "No two of these sweeps are comparable; their answers stand below one another, each for itself."
    if len(sentences) > 1:
        sentences.append(f"These are {len(sentences)} comparisons, not corrected for their number.")
    return " ".join(sentences)


def _judged(report: Report, entry: Entry, other: Entry) -> Judgement | None:
    """The entry against that of another sweep, over the seeds that both have: a family of its own."""
    measure, both = report.measure, {"entry": entry, "other": other}
    common = set(entry.values.get(measure, {})) & set(other.values.get(measure, {}))
    values = {
        name: {seed: one.values[measure][seed] for seed in sorted(common)} for name, one in both.items() if common
    }
    family = {measure: Scores(values, lambda name: both[name].outcomes(measure))}
    return judge(family, "other", maximize=report.maximize, worth=report.worth(measure))[measure].get("entry")


def _mean(report: Report, entry: Entry) -> Mean:
    return Mean(report.measure, entry.estimate(report.measure))


def _answers(reports: Sequence[Report], names: Sequence[str]) -> Section:
    section = Section("Their answers", "answers")
    for name, report in zip(names, reports, strict=True):
        question = messages.one_line(report.space.get("description") or "")
        section.parts += [Heading(name), *([question] if question else []), report.answer, *report.notes]
    data = [report.environment["datasets"] for report in reports]
    columns = [
        Column("sweep", [Text(name) for name in names]),
        Column("data", [Text(", ".join(map(_data, one))) for one in data]),
        Column("test images", [Text(", ".join(str(part["test"]) for part in one)) for one in data]),
        Column("seeds", [_seed_list(_seeds(report)) for report in reports]),
        Column("commit", [Text(str(report.environment.get("commit") or "unknown")[:12]) for report in reports]),
        Column("precision", [_known(report.environment.get("precision")) for report in reports]),
        Column("configurations", [Count(len(report.confirmed)) for report in reports]),
        Column("total s", [Seconds(report.seconds) for report in reports]),
        Column("from cache s", [Seconds(report.saved) for report in reports]),
    ]
    section.parts.append(Table(columns, name="What the sweeps were made of"))
    return section


def _data(one: Mapping[str, Any]) -> str:
    return f"{one['name']} {one['fingerprint'][:8]}, {one['train']} train"


def _seed_list(seeds: Iterable[int]) -> Cell:
    return _known(", ".join(map(str, sorted(seeds))))


def _known(value: object) -> Cell:
    return Text(str(value)) if value else Empty()


def _best(reports: Sequence[Report], names: Sequence[str], stem: str) -> Section | None:
    """The best of each and its reference, with intervals; a picture for each group of comparable sweeps."""
    section = Section(
        "The best of each",
        "best",
        caption="Confirmed configurations only, each with its own sweep's seeds. Sweeps that are not comparable stand "
        "in tables of their own.",
    )
    for number, group in enumerate(_comparable(reports)):
        chosen = [(names[i], reports[i], entry) for i in group for entry in _chosen(reports[i])]
        if not chosen:
            continue
        if len(group) < len(reports):
            section.parts.append(Heading(" · ".join(names[i] for i in group)))
        if len(group) > 1:
            section.parts.append(_picture(chosen, f"{stem}_{number + 1}" if number else stem))
        section.parts.append(_best_table(chosen))
    return section if section.parts else None


Chosen = Sequence[tuple[str, Report, Entry]]
"""Configurations, each with its sweep and that sweep's name."""


def _best_table(chosen: Chosen) -> Table:
    measure, entries = chosen[0][1].measure, [entry for _, _, entry in chosen]
    columns = [
        Column("configuration", [Text(entry.label) for entry in entries]),
        Column("sweep", [Text(name) for name, _, _ in chosen]),
        Column(measure, [_mean(report, entry) for _, report, entry in chosen]),
        Column("n", [Count(len(entry.seeds)) for entry in entries]),
        Column("seeds", [_seed_list(entry.seeds) for entry in entries]),
        Column("labels (+ val)", [tables.label_count(entry) for entry in entries]),
        Column("total s", [tables.seconds(entry, "total") for entry in entries]),
        Column("place", [Text(_place(report, entry)) for _, report, entry in chosen]),
    ]
    return Table(columns, name=f"The best by {measure}")


def _place(report: Report, entry: Entry) -> str:
    place = f"{report.confirmed.index(entry) + 1} of {len(report.confirmed)}"
    return f"{place}, reference" if entry is report.reference else place


def _comparable(reports: Sequence[Report]) -> list[list[int]]:
    """Groups of sweeps any two of which can be compared, in the order given."""
    groups: list[list[int]] = []
    for index, report in enumerate(reports):
        for group in groups:
            if not any(obstacles(reports[other], report) for other in group):
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def _chosen(report: Report) -> list[Entry]:
    first = [report.best] if report.confirmed else []
    best = [*first, *(entry for entry in report.confirmed if entry not in first)][:BEST_SHOWN]
    return best if report.reference is None or report.reference in best else [*best, report.reference]


def _picture(chosen: Chosen, stem: str) -> Picture:
    """Means and intervals, a colour for each sweep."""
    sweeps = ", ".join(dict.fromkeys(name for name, _, _ in chosen))
    return Picture(
        stem,
        partial(_draw, chosen),
        f"Means of {chosen[0][1].measure} with 95 % intervals, of the best of {sweeps}",
        "Mean over seeds with its 95 % interval; diamond: its sweep's reference.",
    )


def _draw(chosen: Chosen) -> Figure:
    measure = chosen[0][1].measure
    factor = words.scale(measure)[0]
    sweeps = list(dict.fromkeys(name for name, _, _ in chosen))
    names = [style.wrapped(entry.label) for _, _, entry in chosen]
    figure = style.canvas(7.6, (0.36 if any("\n" in name for name in names) else 0.27) * len(chosen) + 1.35)
    axes = figure.subplots()
    seen: set[str] = set()
    for place, (name, report, entry) in enumerate(chosen):
        mean = entry.estimate(measure)
        if mean is None:
            continue
        axes.errorbar(
            factor * mean.mean,
            place,
            xerr=style.error_bar(mean, factor),
            fmt="D" if entry is report.reference else "o",
            color=style.COLOURS[sweeps.index(name) % len(style.COLOURS)],
            markersize=5,
            linewidth=1.5,
            label=None if name in seen else name,
        )
        seen.add(name)
    axes.set_yticks(range(len(chosen)), names, fontsize=9)
    axes.set_ylim(len(chosen) - 0.5, -0.5)
    axes.set_xlabel(words.axis(measure))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#E5E5E5", linewidth=0.7)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def _shared(reports: Sequence[Report], names: Sequence[str]) -> Section | None:
    """The configurations that two or more sweeps confirmed, trial for trial the same settings."""
    holders: dict[str, list[int]] = {}
    for index, report in enumerate(reports):
        for entry in report.confirmed:
            holders.setdefault(entry.id, []).append(index)
    rows = []
    for configuration, held in holders.items():
        for a, b in combinations(held, 2):
            rows.append(_shared_row(configuration, (names[a], reports[a]), (names[b], reports[b])))
    if not rows:
        return None
    titles = ["configuration", "first sweep", "second sweep", "first", "second", "second - first", "p", "seeds shared"]
    notes = ["Difference and p: paired over the seeds that both have, not corrected for the number of pairs."]
    return Section(
        "What they share",
        "shared",
        [Table.of_rows(titles, rows, notes, "Configurations that several sweeps confirmed")],
        "The very same settings, run in several sweeps. On the same seeds, data and code their figures would agree.",
    )


def _shared_row(configuration: str, one: tuple[str, Report], other: tuple[str, Report]) -> list[Cell]:
    (name_a, a), (name_b, b) = one, other
    left = next(entry for entry in a.confirmed if entry.id == configuration)
    right = next(entry for entry in b.confirmed if entry.id == configuration)
    row = [Text(left.label), Text(name_a), Text(name_b), _mean(a, left), _mean(b, right)]
    if obstacles(a, b):
        return [*row, Text("not comparable"), Empty(), Empty()]
    judgement = _judged(a, right, left)
    p = Probability(judgement.p if judgement else None)
    return [*row, Difference(a.measure, judgement), p, Count(judgement.difference.n if judgement else 0)]

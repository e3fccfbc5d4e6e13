"""Several sweeps on one page: their answers, and their configurations side by side, as far as they can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from harness import messages
from harness.report import tables, words
from harness.report.cells import Cell, Count, Difference, Empty, Mean, Probability, Seconds, Text
from harness.report.comparability import (
    Side,
    between_entries,
    between_sweeps,
    comparable,
    seeds_of,
    settings_that_differ,
    sides_of,
)
from harness.report.compare import NO_EVIDENCE, OPEN, Judgement
from harness.report.entry import Entry
from harness.report.model import Report
from harness.report.one_to_one import judge_pair
from harness.report.page.document import PageHead, render
from harness.report.pictures import style
from harness.report.section import Column, Heading, Picture, Section, Table
from harness.report.sequential import Looks

BEST_SHOWN = 3
"""How many of the best of each sweep are set side by side."""


def write_comparison(reports: Sequence[Report], file: Path) -> None:
    """Writes the page, and its picture beside it as SVG."""
    names = _names(reports)
    sides = [side for report, name in zip(reports, names, strict=True) for side in sides_of(report, name)]
    sections = [_answers(reports, names), _best(sides, file.stem), _shared(reports, names)]
    head = PageHead(
        "Sweeps compared",
        "selbench report",
        " · ".join(names),
        answer=[_verdict(sides)],
        notes=settings_that_differ(reports, names),
        facts=[(name, [str(report.folder)]) for name, report in zip(names, reports, strict=True)],
    )
    file.write_text(render(head, [section for section in sections if section], file.parent), encoding="utf-8")


def _names(reports: Sequence[Report]) -> list[str]:
    """The sweeps' names; with their folder where two have the same."""
    names = [str(report.space["name"]) for report in reports]
    return [f"{name} ({r.folder})" if names.count(name) > 1 else name for name, r in zip(names, reports, strict=True)]


def _verdict(sides: Sequence[Side]) -> str:
    """Whether the bests of the sweeps differ, wherever that can be said."""
    sentences = [_sentence(a, b) for a, b in combinations(sides, 2) if comparable(a, b)]
    if not sentences:
        return "No two of these sweeps are comparable; their answers stand below one another, each for itself."
    if len(sentences) > 1:
        sentences.append(f"These are {len(sentences)} comparisons, not corrected for their number.")
    return " ".join(sentences)


def _sentence(a: Side, b: Side) -> str:
    """How the best of one side lies to that of another."""
    measure, judgement = a.report.measure, judge_bests(a, b)
    first, second = (side.best.method or side.best.label for side in (a, b))
    head = f"The best of {a.name}, {first}, against the best of {b.name}, {second}: {measure}"
    if judgement is None or judgement.p is None:
        means = f"{_mean(a.report, a.best)} and {_mean(b.report, b.best)}"
        return f"{head} {means}; {judgement.verdict if judgement else 'no seed in common'}."
    n, interval = judgement.difference.n, Difference(measure, judgement)
    said = f"{head} {interval} (95 %, paired over {n} seeds): {judgement.verdict}."
    flattered = [side for side in (a, b) if side.flattery]
    if not flattered:
        return said
    by = [f"of {len(side.entries)} by {words.show_number(measure, side.flattery)}" for side in flattered]
    return f"{said} To be the best flatters, {' and '.join(by)} if all were equal; interval and verdict allow for it."


def judge_bests(a: Side, b: Side) -> Judgement | None:
    """The best of one side against that of another, with an interval that allows for both having been chosen.

    A verdict stands only if it does with what flatters either of them taken off.
    """
    report, sign = a.report, 1 if a.report.maximize else -1
    judged = partial(judge_pair, report, report.measure, a.best, b.best, looks=_looks(report, b.report))
    judgement, sober = judged(), [judged(shift=shift) for shift in (-sign * a.flattery, sign * b.flattery)]
    if judgement is None:
        return None
    below, above = (a.flattery, b.flattery)[::sign]
    allowed = replace(judgement, difference=replace(judgement.difference, below=below, above=above))
    if allowed.kind in OPEN:
        return allowed
    if {one.kind for one in sober if one} != {allowed.kind}:
        return replace(allowed, kind="none", verdict=f"{NO_EVIDENCE} once the choice of the bests is allowed for")
    said = {allowed.verdict, *(one.verdict for one in sober if one)}
    return allowed if len(said) == 1 else replace(allowed, verdict=allowed.kind)


def _looks(a: Report, b: Report) -> Looks | None:
    """At which either sweep was looked at while seeds were added: of two plans the one with more looks."""
    plans = [report.looks for report in (a, b) if report.looks]
    return max(plans, key=lambda plan: len(plan.sizes), default=None)


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
        Column("seeds", [_seed_list(seeds_of(report)) for report in reports]),
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


def _best(sides: Sequence[Side], stem: str) -> Section | None:
    """The best of each and its reference, with intervals; a picture for each group of comparable sides."""
    section = Section(
        "The best of each",
        "best",
        caption="Confirmed configurations only, each with its own sweep's seeds. What is not comparable stands in "
        "tables of its own.",
    )
    groups = _groups(sides)
    for number, group in enumerate(groups):
        chosen = [(side, entry) for side in group for entry in _chosen(side)]
        if len(groups) > 1:
            section.parts.append(Heading(" · ".join(side.name for side in group)))
        if len(group) > 1:
            section.parts.append(_picture(chosen, f"{stem}_{number + 1}" if number else stem))
        section.parts.append(_best_table(chosen))
    return section if section.parts else None


Chosen = Sequence[tuple[Side, Entry]]
"""Configurations, each with its side."""


def _best_table(chosen: Chosen) -> Table:
    measure, entries = chosen[0][0].report.measure, [entry for _, entry in chosen]
    columns = [
        Column("configuration", [Text(entry.label) for entry in entries]),
        Column("sweep", [Text(side.sweep) for side, _ in chosen]),
        Column(measure, [_mean(side.report, entry) for side, entry in chosen]),
        Column("n", [Count(len(entry.seeds)) for entry in entries]),
        Column("seeds", [_seed_list(entry.seeds) for entry in entries]),
        Column("labels (+ val)", [tables.label_count(entry) for entry in entries]),
        Column("total s", [tables.seconds(entry, "total") for entry in entries]),
        Column("place", [Text(_place(side, entry)) for side, entry in chosen]),
    ]
    return Table(columns, name=f"The best by {measure}")


def _place(side: Side, entry: Entry) -> str:
    place = f"{side.entries.index(entry) + 1} of {len(side.entries)}"
    return f"{place}, reference" if side.report.is_reference(entry) else place


def _groups(sides: Sequence[Side]) -> list[list[Side]]:
    """Groups of sides any two of which can be compared, in the order given."""
    groups: list[list[Side]] = []
    for side in sides:
        for group in groups:
            if all(comparable(other, side) for other in group):
                group.append(side)
                break
        else:
            groups.append([side])
    return groups


def _chosen(side: Side) -> list[Entry]:
    best = [side.best, *(entry for entry in side.entries if entry is not side.best)]
    return best[:BEST_SHOWN] + [entry for entry in best[BEST_SHOWN:] if side.report.is_reference(entry)]


def _picture(chosen: Chosen, stem: str) -> Picture:
    """Means and intervals, a colour for each sweep."""
    sweeps = ", ".join(dict.fromkeys(side.sweep for side, _ in chosen))
    return Picture(
        stem,
        partial(_draw, chosen),
        f"Means of {chosen[0][0].report.measure} with 95 % intervals, of the best of {sweeps}",
        "Mean over seeds with its 95 % interval; diamond: its sweep's reference.",
    )


def _draw(chosen: Chosen) -> Figure:
    measure = chosen[0][0].report.measure
    factor = words.scale(measure)[0]
    sweeps = list(dict.fromkeys(side.sweep for side, _ in chosen))
    names = [style.wrapped(entry.label) for _, entry in chosen]
    figure = style.canvas(7.6, (0.36 if any("\n" in name for name in names) else 0.27) * len(chosen) + 1.35)
    axes = figure.subplots()
    seen: set[str] = set()
    for place, (side, entry) in enumerate(chosen):
        mean = entry.estimate(measure)
        if mean is None:
            continue
        axes.errorbar(
            factor * mean.mean,
            place,
            xerr=style.error_bar(mean, factor),
            fmt="D" if side.report.is_reference(entry) else "o",
            color=style.COLOURS[sweeps.index(side.sweep) % len(style.COLOURS)],
            markersize=5,
            linewidth=1.5,
            label=None if side.sweep in seen else side.sweep,
        )
        seen.add(side.sweep)
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
    """The configurations that two or more sweeps confirmed, with the same settings."""
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
        "The same settings, run in several sweeps. On the same seeds, data, splits and code their figures would agree.",
    )


def _shared_row(configuration: str, one: tuple[str, Report], other: tuple[str, Report]) -> list[Cell]:
    (name_a, a), (name_b, b) = one, other
    left = next(entry for entry in a.confirmed if entry.id == configuration)
    right = next(entry for entry in b.confirmed if entry.id == configuration)
    row = [Text(left.label), Text(name_a), Text(name_b), _mean(a, left), _mean(b, right)]
    if between_sweeps(a, b) or between_entries(a, left, b, right):
        return [*row, Text("not comparable"), Empty(), Empty()]
    judgement = judge_pair(a, a.measure, right, left, looks=_looks(a, b))
    p = Probability(judgement.p if judgement else None)
    return [*row, Difference(a.measure, judgement), p, Count(judgement.difference.n if judgement else 0)]

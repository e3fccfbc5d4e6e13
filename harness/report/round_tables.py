"""The rounds of a sweep in words and tables: the sections of `summary.md` about them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from harness.report import curves, words
from harness.report.cells import Cell, Count, Empty, Number, Points, Probability, Text
from harness.report.compare import ALPHA, NO_EVIDENCE, Judgement, estimate
from harness.report.model import RoundComparison, Setting, area_name
from harness.report.pictures import rounds as pictures
from harness.report.section import Column, Picture, Section, Table

MATRIX_COLUMNS = 10
"""A matrix of more cases is a picture and a CSV file only: as a table nobody could read it."""


def answer_over_rounds(rounds: RoundComparison) -> str:
    """Which cases differ from the reference over all rounds, in which direction, and which do not."""
    return " ".join(filter(None, (_answer(rounds, setting) for setting in rounds.settings)))


def _answer(rounds: RoundComparison, setting: Setting) -> str:
    reference = setting.reference
    if reference is None:
        return ""
    judgements = setting.by_area[rounds.measure]
    order = [case for case in rounds.order(setting) if case != reference]
    tested = [case for case in order if case in judgements and judgements[case].p_holm is not None]
    untested = [case for case in order if case not in tested]
    better, worse = ([c for c in tested if judgements[c].verdict == word] for word in ("better", "worse"))
    unclear = [case for case in tested if judgements[case].verdict.startswith(NO_EVIDENCE)]
    count = len(tested)

    def named(cases: Iterable[str]) -> str:
        return ", ".join(f"{case} ({words.points(judgements[case].comparison.difference, '+')})" for case in cases)

    where = f"{setting.name}: by" if setting.name else "By"
    corrected = f", Holm's correction for {count} comparisons" if count > 1 else ""
    head = f"{where} {area_name(rounds.measure)}, {setting.steps[0]} to {setting.steps[-1]} labels"
    sentences = [f"{head} (points, 95 %, paired over seeds{corrected}):"]
    if count:
        sentences.append(
            f"Better than {reference} beyond doubt: {named(better)}."
            if better
            else f"Nothing is better than {reference} beyond doubt."
        )
    if worse:
        sentences.append(f"Worse than {reference} beyond doubt: {named(worse)}.")
    if unclear:
        sentences.append(f"No evidence of a difference to {reference}: {', '.join(unclear)}.")
    if untested:
        sentences.append(f"With fewer than two seeds in common nothing can be said of: {', '.join(untested)}.")
    if rounds.best(setting) == reference:
        sentences.append(f"{reference} has the highest mean of all {len(order) + 1}.")
    sentences[1:2] = [text[0].lower() + text[1:] for text in sentences[1:2]]  # follows a colon
    return " ".join(sentences)


def sentence(judgement: Judgement, reference: str) -> str:
    """One case against the reference, in words."""
    comparison = judgement.comparison
    n = comparison.difference.n
    seeds = f"n = {n} seed{'' if n == 1 else 's'}"
    if judgement.verdict == NO_EVIDENCE:
        return f"{NO_EVIDENCE} to {reference} ({seeds})"
    if judgement.verdict.startswith(NO_EVIDENCE):
        return f"{NO_EVIDENCE} to {reference} ({seeds}) once corrected for the number of comparisons"
    if judgement.p_holm is None:
        return f"one seed in common with {reference}: no interval, so nothing can be said"
    size = replace(comparison.difference, mean=abs(comparison.difference.mean))
    return f"{judgement.verdict} than {reference} by {words.points(size)} points ({seeds})"


def _mark(judgement: Judgement) -> str:
    """‡ where the difference stands after Holm's correction, † where its own interval leaves out 0."""
    if judgement.verdict in ("better", "worse"):
        return "‡"
    return "†" if judgement.comparison.difference.excludes_zero else ""


def _lead(judgement: Judgement | None, digits: int = 2) -> Cell:
    """The difference to the reference, in points, with its mark."""
    if judgement is None:
        return Empty()
    return Points(judgement.comparison.difference, digits, "+", _mark(judgement))


def round_sections(rounds: RoundComparison) -> list[Section]:
    """What several rounds show, the most important first."""
    parts: list[Section] = []
    for number, setting in enumerate(rounds.settings):
        parts.append(_area_section(rounds, setting))
        if setting.reference:
            parts += _difference_sections(rounds, setting, number)
        parts += [_curve_section(rounds, setting, measure, number) for measure in rounds.measures]
    return [*parts, *_penalty_sections(rounds), *_rank_sections(rounds), *_overlap_sections(rounds)]


def _titled(title: str, setting: Setting) -> str:
    return f"{title} ({setting.name})" if setting.name else title


def _area_section(rounds: RoundComparison, setting: Setting) -> Section:
    """Everything about a case in one line: areas, differences, rank, penalty, n."""
    order, reference = rounds.order(setting), setting.reference
    columns = [Column("case", [Text(case) for case in order])]
    for measure in rounds.measures:
        areas, judgements = setting.areas[measure], setting.by_area[measure]
        means = [estimate(list(areas[case].values())) if areas.get(case) else None for case in order]
        columns.append(Column(area_name(measure), [Points(mean) for mean in means]))
        if reference:
            columns.append(Column(f"vs {reference}", [_lead(judgements.get(case)) for case in order]))
        if reference and measure == rounds.measure:
            p = [judgements[case].p_holm if case in judgements else None for case in order]
            columns.append(Column("p (Holm)", [Probability(one) for one in p]))
    areas, judgements = setting.areas[rounds.measure], setting.by_area[rounds.measure]
    if reference:
        smallest = [judgements[case].comparison.smallest if case in judgements else None for case in order]
        columns.append(Column("smallest", [Number(None if one is None else 100 * one, ".2f") for one in smallest]))
    if rounds.ranks:
        columns.append(Column("rank", [Number(rounds.ranks.mean[case], ".1f") for case in order]))
    penalty = dict(zip(rounds.cases, curves.overall_penalty(rounds.penalty), strict=True))
    columns.append(Column("penalty", [Number(penalty[case], ".2f") for case in order]))
    columns.append(Column("n", [Count(len(areas.get(case, {}))) for case in order]))
    title = _titled("Over all rounds", setting)
    return Section(title, parts=[Table(columns, _area_notes(rounds, setting), title)])


def _area_notes(rounds: RoundComparison, setting: Setting) -> list[str]:
    measures, reference = rounds.measures, setting.reference
    notes = [
        f"{', '.join(map(area_name, measures))}: the trapezoid area under the curve of {', '.join(measures)} over "
        f"{setting.steps[0]} to {setting.steps[-1]} labels, divided by that width: the mean height of the curve. In "
        "percentage points, mean ± half-width of the 95 % t-interval over n seeds with a complete curve.",
    ]
    if reference:
        count = max(sum(one.p_holm is not None for one in setting.by_area[m].values()) for m in measures)
        notes += [
            f"vs {reference}: mean of the differences seed by seed; unmarked: the interval holds 0, {NO_EVIDENCE}; "
            f"†: it does not; ‡: Holm's p, too, is at most .05 among {count} comparisons.",
            "Smallest: the true difference, in points, that so many seeds find with 80 % power.",
        ]
        judgements = setting.by_area[rounds.measure]
        notes += [f"{c}: {sentence(judgements[c], reference)}." for c in rounds.order(setting) if c in judgements]
    return notes


def _difference_sections(rounds: RoundComparison, setting: Setting, number: int) -> list[Section]:
    """Cases by rounds: the differences to the reference, and their p."""
    reference = setting.reference
    assert reference is not None
    order = [case for case in rounds.order(setting) if case != reference]

    def columns(cell: Callable[[Judgement | None], Cell]) -> list[Column]:
        by_round = ((step, setting.by_round[step]) for step in setting.selected)
        steps = [Column(str(step), [cell(column.get(case)) for case in order]) for step, column in by_round]
        return [Column("case", [Text(case) for case in order]), *steps]

    tests = sum(judgement.p_holm is not None for column in setting.by_round.values() for judgement in column.values())
    title = f"{rounds.measure} - {reference}, by number of labels"
    note = (
        "Percentage points, mean ± half-width of the 95 % t-interval of the differences seed by seed. Unmarked: "
        f"the interval holds 0, {NO_EVIDENCE}; †: it does not; ‡: Holm's p is at most .05, too, for {tests} tests."
    )
    picture = Picture(rounds.stem("differences", number), partial(pictures.draw_differences, rounds, setting), title)
    table = Table(columns(lambda judgement: _lead(judgement, 1)), [note], title)
    differences = Section(_titled(title, setting), parts=[picture, table])
    if not tests:
        return [differences]
    text = f"Paired t test, adjusted by Holm's method for all {tests} comparisons of the table."
    p = Table(columns(lambda judgement: Probability(judgement.p_holm if judgement else None)), name=f"{title}, p")
    return [differences, Section(_titled("The same, p", setting), parts=[text, p])]


def _curve_section(rounds: RoundComparison, setting: Setting, measure: str, number: int) -> Section:
    order = rounds.order(setting)

    def cell(seeds: Mapping[int, float] | None) -> Cell:
        return Points(estimate(list(seeds.values())) if seeds else None, 1)

    by_step = ((step, setting.curves[measure][step]) for step in setting.steps)
    columns = [Column(str(step), [cell(column.get(case)) for case in order]) for step, column in by_step]
    title = f"{measure} by number of labels"
    note = "Per cent, mean ± half-width of the 95 % t-interval over seeds."
    table = Table([Column("case", [Text(case) for case in order]), *columns], [note], title)
    picture = Picture(rounds.stem("curves", number), partial(pictures.overview, rounds, setting), title)
    first = measure == rounds.measure  # the picture shows them all
    return Section(_titled(f"Learning curves: {title}", setting), parts=[picture, table] if first else [table])


def _matrix(corner: str, cases: Sequence[str], matrix: np.ndarray, name: str, *last: Sequence[Cell]) -> Table:
    rows = [
        [Text(case), *(Number(None if i == j else float(value), ".2f") for j, value in enumerate(matrix[i]))]
        for i, case in enumerate(cases)
    ]
    return Table.of_rows([corner, *cases], [*rows, *last], name=name)


def _penalty_sections(rounds: RoundComparison) -> list[Section]:
    if not rounds.can_test:
        return []
    settings = len(rounds.settings)
    text = (
        f"The pairwise penalty matrix of BADGE (Ash et al. 2020, https://arxiv.org/abs/1906.03671), {rounds.measure}. "
        "Where the row beats the column after a selection (two-sided paired t test over seeds, 95 %, uncorrected), "
        f"1 / the number of selections is added{f', summed over {settings} settings' if settings > 1 else ''}. "
        "Penalty: the mean of a column, lower is better. By chance alone, of equal cases, it would be about "
        f"{0.025 * settings:.3f}."
    )
    title = "Who beats whom"
    section = Section(
        title, parts=[Picture("penalty", partial(pictures.draw_penalties, rounds), "pairwise penalties"), text]
    )
    if len(rounds.cases) <= MATRIX_COLUMNS:
        penalty = curves.overall_penalty(rounds.penalty)
        last = [Text("penalty", strong=True), *(Number(float(value), ".2f") for value in penalty)]
        section.parts.append(_matrix("row beats column", rounds.cases, rounds.penalty, title, last))
    else:
        section.parts.append("The matrix is in penalty.csv, its column means in the first table.")
    return [section]


def _rank_sections(rounds: RoundComparison) -> list[Section]:
    ranks = rounds.ranks
    if ranks is None:
        return []
    blocks = "the seeds" if len(rounds.settings) == 1 else "the seeds of every setting"
    text = (
        f"Mean ranks by {area_name(rounds.measure)} over {ranks.blocks} blocks: {blocks} that no case lacks (the "
        "rounds of one trial are not independent and would not do). Friedman's test: p "
        f"{words.p_value(ranks.p, equal=True)}, "
    )
    if ranks.p > ALPHA:
        text += "no evidence that the cases rank differently."
    else:
        text += f"so the cases do not all rank alike. Nemenyi's critical difference at 5 %: {ranks.critical:.2f} ranks."
        text += "".join(f" {NO_EVIDENCE.capitalize()} among {_run(group)}." for group in ranks.groups)
    text += (
        " What such a test says of two cases depends on which others take part (Benavoli et al. 2016); of a pair, the "
        "paired differences above say more."
    )
    picture = Picture("ranks", partial(pictures.critical_difference, rounds), "critical-difference diagram")
    return [Section("Ranks", parts=[picture, text])]


def _run(group: Sequence[str]) -> str:
    """A run of the ranking, by its ends where it is long."""
    return ", ".join(group) if len(group) <= 4 else f"the {len(group)} from {group[0]} to {group[-1]}"


def _overlap_sections(rounds: RoundComparison) -> list[Section]:
    if rounds.overlap is None:
        return []
    chance = f" By chance alone, of two random draws: {rounds.chance:.3f}." if rounds.chance is not None else ""
    title = "Overlap of the picks"
    section = Section(
        title,
        parts=[
            Picture("overlap", partial(pictures.draw_overlap, rounds), "overlap of the picks"),
            "The share |A and B| / |A or B| (Jaccard) of all that two cases selected under the same seed, the start "
            f"pool left out; mean over seeds.{chance}",
        ],
    )
    if len(rounds.cases) <= MATRIX_COLUMNS:
        section.parts.append(_matrix("case", rounds.cases, rounds.overlap, title))
    else:
        titles = ["case", "shares most with", "most", "least with", "least"]
        section.parts.append("The matrix is in overlap.csv.")
        section.parts.append(Table.of_rows(titles, _neighbours(rounds.cases, rounds.overlap), name=title))
    return [section]


def _neighbours(cases: Sequence[str], overlap: np.ndarray) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for i, case in enumerate(cases):
        others = [j for j in range(len(cases)) if j != i and not math.isnan(overlap[i, j])]
        if others:
            near, far = max(others, key=overlap[i].__getitem__), min(others, key=overlap[i].__getitem__)
            shares = [Number(float(overlap[i, place]), ".3f") for place in (near, far)]
            rows.append([Text(case), Text(cases[near]), shares[0], Text(cases[far]), shares[1]])
    return rows

"""The rounds of a sweep in words and tables: the sections of `summary.md` about them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.report import curves
from harness.report.compare import ALPHA, NO_EVIDENCE, Estimate, estimate
from harness.report.curves import Difference
from harness.report.model import Rounds, Setting, area_name

MATRIX_COLUMNS = 10
"""A matrix of more cases is a picture and a CSV file only: as a table nobody could read it."""


@dataclass
class Section:
    """A part of `summary.md`: a title, text, a table, footnotes and pictures, each but the title possibly empty."""

    title: str
    text: list[str] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)
    """Name of the file without its ending -> what it shows; above the text."""


def answer(rounds: Rounds) -> str:
    """Which cases differ from the reference over all rounds, in which direction, and which do not."""
    return " ".join(filter(None, (_answer(rounds, setting) for setting in rounds.settings)))


def _answer(rounds: Rounds, setting: Setting) -> str:
    reference = setting.reference
    if reference is None:
        return ""
    differences = setting.by_area[rounds.measure]
    order = [case for case in rounds.order(setting) if case != reference]
    tested = [case for case in order if case in differences and differences[case].p_holm is not None]
    untested = [case for case in order if case not in tested]
    better, worse = ([c for c in tested if differences[c].verdict == word] for word in ("better", "worse"))
    unclear = [case for case in tested if differences[case].verdict.startswith(NO_EVIDENCE)]
    count = len(tested)

    def named(cases: Iterable[str]) -> str:
        return ", ".join(f"{case} ({_points(differences[case].comparison.difference, sign='+')})" for case in cases)

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


def sentence(difference: Difference, reference: str) -> str:
    """One case against the reference, in words."""
    comparison = difference.comparison
    n = comparison.difference.n
    seeds = f"n = {n} seed{'' if n == 1 else 's'}"
    if difference.verdict == NO_EVIDENCE:
        return f"{NO_EVIDENCE} to {reference} ({seeds})"
    if difference.verdict.startswith(NO_EVIDENCE):
        return f"{NO_EVIDENCE} to {reference} ({seeds}) once corrected for the number of comparisons"
    if difference.p_holm is None:
        return f"one seed in common with {reference}: no interval, so nothing can be said"
    size = replace(comparison.difference, mean=abs(comparison.difference.mean))
    return f"{difference.verdict} than {reference} by {_points(size)} points ({seeds})"


def _points(value: Estimate | None, *, digits: int = 2, sign: str = "", spaced: bool = True) -> str:
    """A fraction in percentage points, with the half-width of its interval."""
    if value is None:
        return "–"
    half = "" if value.half is None else f"{' ± ' if spaced else ' ±'}{100 * value.half:.{digits}f}"
    return f"{100 * value.mean:{sign}.{digits}f}{half}"


def _p(value: float | None, *, equal: bool = False) -> str:
    """`.012`, `<.001` or `1`; with `equal`, `= .012` or `< .001`, for a sentence."""
    if value is None:
        return "–"
    if value < 0.001:
        return "< .001" if equal else "<.001"
    return ("= " if equal else "") + ("1" if value > 0.9995 else f"{value:.3f}".removeprefix("0"))


def _mark(difference: Difference) -> str:
    """‡ where the difference stands after Holm's correction, † where its own interval leaves out 0."""
    if difference.verdict in ("better", "worse"):
        return " ‡"
    return " †" if difference.comparison.difference.excludes_zero else ""


def sections(rounds: Rounds) -> list[Section]:
    """The parts of `summary.md` about rounds, the most important first."""
    found: list[Section] = []
    for number, setting in enumerate(rounds.settings):
        found.append(_area_section(rounds, setting))
        if setting.reference:
            found += _difference_sections(rounds, setting, number)
        found += [_curve_section(rounds, setting, measure, number) for measure in rounds.measures]
    return [*found, *_penalty_sections(rounds), *_rank_sections(rounds), *_overlap_sections(rounds)]


def _titled(title: str, setting: Setting) -> str:
    return f"{title} ({setting.name})" if setting.name else title


def _area_section(rounds: Rounds, setting: Setting) -> Section:
    """Everything about a case in one line: areas, differences, rank, penalty, n."""
    measures, reference = rounds.measures, setting.reference
    tested = {m: sum(d.p_holm is not None for d in setting.by_area[m].values()) for m in measures}
    header = ["case"]
    for measure in measures:
        header += [area_name(measure)] + ([f"vs {reference}"] if reference else [])
        header += ["p (Holm)"] if reference and measure == rounds.measure else []
    header += ["smallest"] if reference else []
    header += (["rank"] if rounds.ranks else []) + ["penalty", "n"]
    penalty = dict(zip(rounds.cases, curves.overall_penalty(rounds.penalty), strict=True))
    rows = []
    for case in rounds.order(setting):
        row = [case]
        for measure in measures:
            values = list(setting.areas[measure].get(case, {}).values())
            row.append(_points(estimate(values) if values else None, spaced=False))
            if reference:
                found = setting.by_area[measure].get(case)
                points = _points(found.comparison.difference, sign="+", spaced=False) if found else "–"
                row.append(points + (_mark(found) if found else ""))
            if reference and measure == rounds.measure:
                row.append(_p(found.p_holm if found else None))
        if reference:
            judged = setting.by_area[rounds.measure].get(case)
            smallest = judged.comparison.smallest if judged else None
            row.append("–" if smallest is None else f"{100 * smallest:.2f}")
        row += [f"{rounds.ranks.mean[case]:.1f}"] if rounds.ranks else []
        row += [f"{penalty[case]:.2f}", str(len(setting.areas[rounds.measure].get(case, {})))]
        rows.append(row)
    count = max(tested.values(), default=0)
    notes = [
        f"{', '.join(map(area_name, measures))}: the trapezoid area under the curve of {', '.join(measures)} over "
        f"{setting.steps[0]} to {setting.steps[-1]} labels, divided by that width: the mean height of the curve. In "
        "percentage points, mean ± half-width of the 95 % t-interval over n seeds with a complete curve.",
    ]
    if reference:
        notes += [
            f"vs {reference}: mean of the differences seed by seed; unmarked: the interval holds 0, {NO_EVIDENCE}; "
            f"†: it does not; ‡: Holm's p, too, is at most .05 among {count} comparisons.",
            "Smallest: the true difference, in points, that so many seeds find with 80 % power.",
        ]
        judged_by = setting.by_area[rounds.measure]
        notes += [f"{c}: {sentence(judged_by[c], reference)}." for c in rounds.order(setting) if c in judged_by]
    return Section(_titled("Over all rounds", setting), [], header, rows, notes)


def _difference_sections(rounds: Rounds, setting: Setting, number: int) -> list[Section]:
    """Cases by rounds: the differences to the reference, and their p."""
    reference, steps = setting.reference, setting.selected
    assert reference is not None
    order = [case for case in rounds.order(setting) if case != reference]

    def rows(cell: Callable[[Difference], str]) -> list[list[str]]:
        found = [(case, [setting.by_round[step].get(case) for step in steps]) for case in order]
        return [[case, *("–" if d is None else cell(d) for d in line)] for case, line in found]

    tests = sum(d.p_holm is not None for column in setting.by_round.values() for d in column.values())
    header = ["case", *map(str, steps)]
    title = f"{rounds.measure} - {reference}, by number of labels"
    differences = Section(
        _titled(title, setting),
        [],
        header,
        rows(lambda d: _points(d.comparison.difference, digits=1, sign="+", spaced=False) + _mark(d)),
        [
            "Percentage points, mean ± half-width of the 95 % t-interval of the differences seed by seed. Unmarked: "
            f"the interval holds 0, {NO_EVIDENCE}; †: it does not; ‡: Holm's p is at most .05, too, for {tests} tests.",
        ],
        {rounds.stem("differences", number): title},
    )
    p = Section(
        _titled("The same, p", setting),
        [f"Paired t test, adjusted by Holm's method for all {tests} comparisons of the table."],
        header,
        rows(lambda d: _p(d.p_holm)),
    )
    return [differences, p] if tests else [differences]


def _curve_section(rounds: Rounds, setting: Setting, measure: str, number: int) -> Section:
    rows = []
    for case in rounds.order(setting):
        columns = [setting.curves[measure][step].get(case, {}) for step in setting.steps]
        means = [estimate(list(column.values())) if column else None for column in columns]
        rows.append([case, *(_points(mean, digits=1, spaced=False) for mean in means)])
    first = measure == rounds.measure
    return Section(
        _titled(f"Learning curves: {measure} by number of labels", setting),
        [],
        ["case", *map(str, setting.steps)],
        rows,
        ["Per cent, mean ± half-width of the 95 % t-interval over seeds."],
        {rounds.stem("curves", number): f"{measure} by number of labels"} if first else {},
    )


def _matrix_rows(cases: Sequence[str], matrix: np.ndarray) -> list[list[str]]:
    return [
        [case, *("–" if i == j or math.isnan(v) else f"{v:.2f}" for j, v in enumerate(matrix[i]))]
        for i, case in enumerate(cases)
    ]


def _penalty_sections(rounds: Rounds) -> list[Section]:
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
    section = Section("Who beats whom", [text], pictures={"penalty": "pairwise penalties"})
    if len(rounds.cases) <= MATRIX_COLUMNS:
        section.header = ["row beats column", *rounds.cases]
        penalty = curves.overall_penalty(rounds.penalty)
        section.rows = [*_matrix_rows(rounds.cases, rounds.penalty), ["**penalty**", *(f"{v:.2f}" for v in penalty)]]
    else:
        section.text.append("The matrix is in penalty.csv, its column means in the first table.")
    return [section]


def _rank_sections(rounds: Rounds) -> list[Section]:
    found = rounds.ranks
    if found is None:
        return []
    blocks = "the seeds" if len(rounds.settings) == 1 else "the seeds of every setting"
    text = (
        f"Mean ranks by {area_name(rounds.measure)} over {found.blocks} blocks: {blocks} that no case lacks (the "
        f"rounds of one trial are not independent and would not do). Friedman's test: p {_p(found.p, equal=True)}, "
    )
    if found.p > ALPHA:
        text += "no evidence that the cases rank differently."
    else:
        text += f"so the cases do not all rank alike. Nemenyi's critical difference at 5 %: {found.critical:.2f} ranks."
        text += "".join(f" {NO_EVIDENCE.capitalize()} among {_run(group)}." for group in found.groups)
    text += (
        " What such a test says of two cases depends on which others take part (Benavoli et al. 2016); of a pair, the "
        "paired differences above say more."
    )
    return [Section("Ranks", [text], pictures={"ranks": "critical-difference diagram"})]


def _run(group: Sequence[str]) -> str:
    """A run of the ranking, by its ends where it is long."""
    return ", ".join(group) if len(group) <= 4 else f"the {len(group)} from {group[0]} to {group[-1]}"


def _overlap_sections(rounds: Rounds) -> list[Section]:
    if rounds.overlap is None:
        return []
    chance = f" By chance alone, of two random draws: {rounds.chance:.3f}." if rounds.chance is not None else ""
    section = Section(
        "Overlap of the picks",
        [
            "The share |A and B| / |A or B| (Jaccard) of all that two cases selected under the same seed, the start "
            f"pool left out; mean over seeds.{chance}",
        ],
        pictures={"overlap": "overlap of the picks"},
    )
    if len(rounds.cases) <= MATRIX_COLUMNS:
        section.header = ["case", *rounds.cases]
        section.rows = _matrix_rows(rounds.cases, rounds.overlap)
    else:
        section.text.append("The matrix is in overlap.csv.")
        section.header = ["case", "shares most with", "most", "least with", "least"]
        section.rows = _neighbours(rounds.cases, rounds.overlap)
    return [section]


def _neighbours(cases: Sequence[str], overlap: np.ndarray) -> list[list[str]]:
    rows = []
    for i, case in enumerate(cases):
        others = [j for j in range(len(cases)) if j != i and not math.isnan(overlap[i, j])]
        if others:
            near, far = max(others, key=overlap[i].__getitem__), min(others, key=overlap[i].__getitem__)
            rows.append([case, cases[near], f"{overlap[i, near]:.3f}", cases[far], f"{overlap[i, far]:.3f}"])
    return rows

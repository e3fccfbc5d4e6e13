"""The rounds of a sweep in words and tables: the sections of `summary.md` about them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from harness import messages
from harness.report import curves, words
from harness.report.cells import Cell, Empty, Ends, Number, Points, Probability, SeedCount, Text
from harness.report.compare import NO_EVIDENCE, OPEN, Judgement, Kind
from harness.report.entry import estimate_of
from harness.report.headroom import Share, share_of_headroom
from harness.report.inference import ALPHA
from harness.report.model import RoundComparison, Setting, area_name
from harness.report.pictures import rounds as pictures
from harness.report.section import Column, Picture, Section, Table

MATRIX_COLUMNS = 10
"""A matrix of more cases is a picture and a CSV file only: as a table nobody could read it."""


def answers_over_rounds(rounds: RoundComparison) -> list[str]:
    """Which cases differ from the reference over all rounds, in which direction, and which do not: of each setting."""
    return list(filter(None, (_answer(rounds, setting) for setting in rounds.settings)))


def answer_over_rounds(rounds: RoundComparison) -> str:
    """The same in one text."""
    return " ".join(answers_over_rounds(rounds))


def _answer(rounds: RoundComparison, setting: Setting) -> str:
    reference = setting.reference
    if reference is None:
        return ""
    judgements = setting.by_area[rounds.measure]
    order = [case for case in rounds.order(setting) if case != reference]
    tested = [case for case in order if case in judgements and judgements[case].p_holm is not None]
    untested = [case for case in order if case not in tested]

    def of_kind(kind: Kind) -> list[str]:
        return [case for case in tested if judgements[case].kind == kind]

    def named(cases: Iterable[str]) -> str:
        return ", ".join(f"{case} ({words.points(judgements[case].difference, '+')})" for case in cases)

    sentences = [_verdict(rounds, setting, tested, named(of_kind("better")))] if tested else []
    best = rounds.best(setting)
    mean = setting.beside(rounds.measure, best)
    if mean:
        by = "" if tested else f" by {area_name(rounds.measure)}, {setting.steps[0]} to {setting.steps[-1]} labels"
        whose = f"{best}, the reference" if best == reference else best
        highest = f"Highest by the differences to {reference}, of" if setting.looks else "Highest mean of"
        is_own = mean == setting.estimate(rounds.measure, None, best)
        beside = "" if is_own else f", set beside all seeds of {reference}"
        sentences.append(f"{highest} {len(order) + 1}{by}: {whose}, {words.points(mean)} %{beside}.")
    if of_kind("worse"):
        sentences.append(f"Worse than {reference} beyond doubt: {named(of_kind('worse'))}.")
    if of_kind("equivalent"):
        sentences.append(f"Equivalent to {reference} for what is worth a difference: {named(of_kind('equivalent'))}.")
    if of_kind("indication"):
        sentences.append(f"An indication of a difference to {reference}: {named(of_kind('indication'))}.")
    if of_kind("none"):
        sentences.append(f"{NO_EVIDENCE.capitalize()} to {reference}: {', '.join(of_kind('none'))}.")
    if untested:
        sentences.append(f"Without a spread over two seeds in common nothing can be said of: {', '.join(untested)}.")
    if share := _share(rounds, setting, best):
        sentences.append(f"{best} gained {share} of what the best batches by their true labels would have.")
    return (f"{setting.name}: " if setting.name else "") + " ".join(sentences)


def _verdict(rounds: RoundComparison, setting: Setting, tested: Sequence[str], better: str) -> str:
    """Whether any case is better than the reference over all rounds, and what so many seeds could have told."""
    judgements = [setting.by_area[rounds.measure][case] for case in tested]
    count = rounds.tests(rounds.measure)
    how = "paired over seeds, 95 %" + (f", Holm's correction for {count} comparisons" if count > 1 else "")
    where = f"by {area_name(rounds.measure)}, {setting.steps[0]} to {setting.steps[-1]} labels ({how})"
    if better:
        return f"Better than {setting.reference} beyond doubt {where}, in points: {better}."
    open_ones = [one for one in judgements if one.kind in OPEN and one.smallest is not None]
    seeds = messages.count(max(one.difference.n for one in judgements), "seed")
    smallest = max((one.smallest or 0.0 for one in open_ones), default=None)
    resolved = f"; {seeds} can resolve {100 * smallest:.1f} points" if smallest is not None else ""
    return f"No {rounds.noun} is better than {setting.reference} beyond doubt {where}{resolved}."


def sentence(judgement: Judgement, reference: str) -> str:
    """One case against the reference, in words."""
    n = judgement.difference.n
    seeds = f"n = {n} seed{'' if n == 1 else 's'}"
    if judgement.kind == "untested":
        return f"{judgement.verdict}, so nothing can be said of a difference to {reference}"
    if judgement.kind == "none":
        return judgement.verdict.replace(NO_EVIDENCE, f"{NO_EVIDENCE} to {reference} ({seeds})")
    return f"{judgement.verdict}; {words.points(judgement.difference, '+')} points against {reference} ({seeds})"


def _mark(judgement: Judgement) -> str:
    """‡ where the difference stands after Holm's correction, † where its own interval leaves out 0."""
    if judgement.kind in ("better", "worse"):
        return "‡"
    return "†" if judgement.difference.excludes_zero else ""


def _lead(judgement: Judgement | None, digits: int = 2) -> Cell:
    """The difference to the reference, in points, with its mark."""
    if judgement is None:
        return Empty()
    return Points(judgement.difference, digits, "+", _mark(judgement))


def round_sections(rounds: RoundComparison) -> list[Section]:
    """What several rounds show, the most important first."""
    return [*leading_sections(rounds), *detailed_sections(rounds)]


def leading_sections(rounds: RoundComparison) -> list[Section]:
    """Of each setting the one table and the one picture that say most: areas under the curves, and the curves."""
    return [
        section
        for number, setting in enumerate(rounds.settings)
        for section in (_area_section(rounds, setting), _curve_picture(rounds, setting, number))
    ]


def detailed_sections(rounds: RoundComparison) -> list[Section]:
    """Everything else: round by round, who beats whom, ranks, and which picks were shared."""
    parts: list[Section] = []
    for number, setting in enumerate(rounds.settings):
        if setting.reference:
            parts += _target_sections(rounds, setting)
            parts += _difference_sections(rounds, setting, number)
        parts += [_curve_section(rounds, setting, measure) for measure in rounds.measures]
    return [*parts, *_penalty_sections(rounds), *_rank_sections(rounds), *_overlap_sections(rounds)]


def _titled(title: str, setting: Setting) -> str:
    return words.on_ground(title, setting.name)


def _area_section(rounds: RoundComparison, setting: Setting) -> Section:
    """Everything about a case in one line: areas, differences, rank, penalty, n."""
    order, reference = rounds.order(setting), setting.reference
    columns = [Column("case", [Text(case) for case in order], essential=True)]
    for measure in rounds.measures:
        leads = measure == rounds.measure
        judgements = setting.by_area[measure]
        means = [setting.estimate(measure, None, case) for case in order]
        columns.append(Column(area_name(measure), [Points(mean) for mean in means], essential=leads))
        if reference:
            differences = [_lead(judgements.get(case)) for case in order]
            columns.append(Column(f"vs {reference}", differences, essential=leads))
        if reference and leads:
            p = [judgements[case].p_holm if case in judgements else None for case in order]
            columns.append(Column("p (Holm)", [Probability(one) for one in p]))
    areas, judgements = setting.areas[rounds.measure], setting.by_area[rounds.measure]
    if reference:
        smallest = [judgements[case].smallest if case in judgements else None for case in order]
        columns.append(Column("smallest", [Number(None if one is None else 100 * one, ".2f") for one in smallest]))
    if reference and setting.attainable:
        shares = [_share(rounds, setting, case) for case in order]
        columns.append(Column("of headroom", [Text(str(share)) if share else Empty() for share in shares]))
    of_all = " over all" if len(rounds.settings) > 1 else ""
    if rounds.ranks:
        columns.append(Column(f"rank{of_all}", [Number(rounds.ranks.mean.get(case), ".1f") for case in order]))
    penalty = dict(zip(rounds.cases, curves.overall_penalty(rounds.penalty), strict=True))
    columns.append(Column(f"penalty{of_all}", [Number(penalty[case], ".2f") for case in order]))
    counts = [(len(areas.get(case, {})), len(setting.lacking.get(case, ()))) for case in order]
    columns = [column for column in columns if not column.says_nothing]
    columns.append(
        Column("n", [SeedCount(n, f"{lacks} of {n + lacks} missing" if lacks else "") for n, lacks in counts])
    )
    title = _titled("Over all rounds", setting)
    return Section(title, parts=[Table(columns, _area_notes(rounds, setting), title)])


def _share(rounds: RoundComparison, setting: Setting, case: str) -> Share | None:
    """What a case gained of what was attainable; None for the reference, and where nothing was."""
    areas, reference, bound = setting.areas[rounds.measure], setting.reference, setting.attainable
    if reference is None or bound is None or case == reference:
        return None
    return share_of_headroom(areas.get(case, {}), areas.get(reference, {}), bound.areas[rounds.measure])


def _headroom_notes(rounds: RoundComparison, setting: Setting) -> list[str]:
    """What was attainable, by what, and how the shares of it are to be read."""
    bound, reference = setting.attainable, setting.reference
    if bound is None:
        return []
    areas = bound.areas[rounds.measure]
    reached = estimate_of(areas, {}, rounds.measure)
    notes = [
        f"Attainable: {words.points(reached) if reached else 'nothing measured'}, n = {len(areas)}, by buying in each "
        "round the best of many batches (the selectors' own, random ones, mixtures) by their true labels and the "
        f"validation images. No method: a trial of it read the labels of {bound.looked_at:,.0f} images, bought or not."
    ]
    if reference:
        of_reference = setting.areas[rounds.measure].get(reference, {})
        seeds = set(areas) & set(of_reference)
        gain = estimate_of({seed: areas[seed] - of_reference[seed] for seed in seeds}, {}, "")
        said = f" of the {words.points(gain, '+')} points that it lies above {reference}" if gain else ""
        notes.append(
            f"Of headroom: the share{said} which a case gained, ratio of means and its 95 % interval over seeds "
            "(Fieller's); without an interval where the headroom cannot be told from nothing."
        )
    return notes


def _area_notes(rounds: RoundComparison, setting: Setting) -> list[str]:
    measures, reference = rounds.measures, setting.reference
    notes = [
        f"{', '.join(map(area_name, measures))}: the trapezoid area under the curve of {', '.join(measures)} over "
        f"{setting.steps[0]} to {setting.steps[-1]} labels, divided by that width: the mean height of the curve. In "
        "percentage points, mean ± half-width of the 95 % interval over n seeds with a complete curve.",
    ]
    notes += _headroom_notes(rounds, setting)
    if reference:
        count = max(map(rounds.tests, measures))
        notes += [
            f"vs {reference}: mean of the differences seed by seed; unmarked: the interval holds 0, {NO_EVIDENCE}; "
            f"†: it does not; ‡: Holm's p, too, is at most .05 among {messages.count(count, 'comparison')}."
            if count
            else f"vs {reference}: the difference under the seed in common, which has no interval and no test.",
        ]
        judgements = setting.by_area[rounds.measure]
        if any(one.smallest is not None for one in judgements.values()):
            notes.append("Smallest: the true difference, in points, that would be marked ‡ with 80 % power.")
        notes += [f"{c}: {sentence(judgements[c], reference)}." for c in rounds.order(setting) if c in judgements]
    return notes


def _target_sections(rounds: RoundComparison, setting: Setting) -> list[Section]:
    """How many labels each case needs for what the reference reaches at the end; none where that tells nothing."""
    reference, measure = setting.reference, rounds.measure
    assert reference is not None
    order, areas = rounds.order(setting), setting.areas[measure]
    lacking = {case for case in order if case != reference and setting.lacking.get(case)}
    seeds = [areas.get(case, {}).keys() for case in order if case not in lacking]
    shared = set.intersection(*map(set, seeds))
    unequal = max(map(len, seeds)) > len(shared)
    values = curves.under(setting.curves[measure], shared)
    target = curves.target_of(values, reference)
    if target is None:
        return []
    needed = {case: None if case in lacking else curves.labels_to(values, case, target) for case in order}
    columns = [Column("case", [Text(case) for case in order])]
    shown = {case: Ends(one, ".0f", least=setting.steps[0]) for case, one in needed.items() if one}
    columns.append(Column(f"labels for {100 * target:g} %", [shown.get(case, Empty()) for case in order]))
    of_reference = needed[reference]
    reached = [one.value if one and math.isfinite(one.value) else None for one in needed.values()]
    unit = of_reference.value if of_reference and math.isfinite(of_reference.value) else None
    shares = [value / unit if value and unit else None for value in reached]
    columns.append(Column(f"of {reference}'s", [Number(share, ".0%") for share in shares]))
    title = _titled(f"Labels for what {reference} reaches at the end", setting)
    note = (
        f"{100 * target:g} %: what {reference} reaches at the end, in whole per cent. The number of labels at which "
        "the mean curve first reaches it, on straight lines between the rounds; from eight seeds on in brackets its "
        "95 % interval by the bootstrap over seeds; never: not within these rounds; or fewer: from the first round on."
        + (f" Under the {messages.count(len(shared), 'seed')} that all have." if unequal else "")
        + (" Cases that lack a seed are left out." if lacking else "")
    )
    said = target_sentence(shown, reference, target)
    return [Section(title, parts=[*([said] if said else []), Table(columns, [note], title)])]


def target_sentence(needed: Mapping[str, Ends], reference: str, target: float) -> str:
    """`random needs 900 labels for 80 %, typiclust 420 [380, 470]`: the reference, and the case that needs fewest."""
    reached = {case: one.between.value for case, one in needed.items() if one.between.value < math.inf}
    fewest = min((case for case in reached if case != reference), key=reached.__getitem__, default=None)
    if reference not in reached or fewest is None:
        return ""
    return f"{reference} needs {needed[reference]} labels for {100 * target:g} %, {fewest} {needed[fewest]}."


def _difference_sections(rounds: RoundComparison, setting: Setting, number: int) -> list[Section]:
    """Cases by rounds: the differences to the reference, and their p."""
    reference = setting.reference
    assert reference is not None
    order = [case for case in rounds.order(setting) if case != reference]

    def columns(cell: Callable[[Judgement | None], Cell]) -> list[Column]:
        by_round = ((step, setting.by_round[step]) for step in setting.selected)
        steps = [Column(str(step), [cell(column.get(case)) for case in order]) for step, column in by_round]
        return [Column("case", [Text(case) for case in order]), *steps]

    tests = rounds.tests_by_round
    title = f"{rounds.measure} - {reference}, by number of labels"
    note = (
        "Percentage points, mean ± half-width of the 95 % interval of the differences seed by seed. Unmarked: "
        f"the interval holds 0, {NO_EVIDENCE}; †: it does not; ‡: Holm's p is at most .05, too, for "
        f"{messages.count(tests, 'test')}."
        if tests
        else "Percentage points under the seed in common, which has no interval and no test."
    )
    draw = partial(pictures.draw_differences, rounds, setting)
    shown = pictures.the_best(pictures.PANELS, len(order), "the table")
    picture = Picture(rounds.stem("differences", number), draw, title, shown)
    table = Table(columns(lambda judgement: _lead(judgement, 1)), [note], title)
    differences = Section(_titled(title, setting), parts=[picture, table])
    if not tests:
        return [differences]
    text = f"Student's t, adjusted by Holm's method for all {tests} comparisons of the table."
    p = Table(columns(lambda judgement: Probability(judgement.p_holm if judgement else None)), name=f"{title}, p")
    return [differences, Section(_titled("p of these differences", setting), parts=[text, p])]


def _curve_picture(rounds: RoundComparison, setting: Setting, number: int) -> Section:
    alt = f"{', '.join(rounds.measures)} by number of labels"
    picture = Picture(rounds.stem("curves", number), partial(pictures.overview, rounds, setting), alt)
    return Section(_titled("Learning curves", setting), parts=[picture])


def _curve_section(rounds: RoundComparison, setting: Setting, measure: str) -> Section:
    order = rounds.order(setting)

    columns = [
        Column(str(step), [Points(setting.estimate(measure, step, case), 1) for case in order])
        for step in setting.steps
    ]
    title = f"{measure} by number of labels"
    note = "Per cent, mean ± half-width of the 95 % interval, or its ends where 0 or 100 % cuts it."
    table = Table([Column("case", [Text(case) for case in order]), *columns], [note], title)
    return Section(_titled(title, setting), parts=[table])


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
        "Where the row beats the column after a selection (two-sided, 95 %, uncorrected), "
        f"1 / the number of selections is added{f', summed over {settings} settings' if settings > 1 else ''}. "
        "Penalty: the mean of a column, lower is better. By chance alone, of equal cases, it would be at most "
        f"{curves.PENALTY_BY_CHANCE * settings:.3f}."
    )
    title = "Who beats whom"
    if not rounds.penalty.any():
        return [Section(title, parts=["No case beat another after any selection (two-sided, 95 %, uncorrected)."])]
    shown = pictures.the_best(pictures.MOST_NAMED, len(rounds.cases), "penalty.csv")
    picture = Picture("penalty", partial(pictures.draw_penalties, rounds), "pairwise penalties", shown)
    section = Section(title, parts=[picture, text])
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
        f"Mean ranks by {area_name(rounds.measure)} over {ranks.blocks} blocks: {blocks}, of the cases that lack "
        "none (the rounds of one trial are not independent and would not do). Friedman's test: p "
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
    shown = pictures.the_best(pictures.MOST_NAMED, len(ranks.mean), "the first table")
    picture = Picture("ranks", partial(pictures.critical_difference, rounds), "critical-difference diagram", shown)
    return [Section("Ranks", parts=[picture, text])]


def _run(group: Sequence[str]) -> str:
    """A run of the ranking, by its ends where it is long."""
    return ", ".join(group) if len(group) <= 4 else f"the {len(group)} from {group[0]} to {group[-1]}"


def _overlap_sections(rounds: RoundComparison) -> list[Section]:
    if rounds.overlap is None:
        return []
    chance = f" By chance alone, of two random draws: {rounds.chance:.3f}." if rounds.chance is not None else ""
    title, shown = "Overlap of the picks", pictures.the_best(pictures.MOST_NAMED, len(rounds.cases), "overlap.csv")
    section = Section(
        title,
        parts=[
            Picture("overlap", partial(pictures.draw_overlap, rounds), "overlap of the picks", shown),
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

"""The statistics of learning curves: area, difference per round, penalties, ranks, and overlap of picks.

Every function is pure. A column holds one quantity: case -> seed -> value; a curve's table is one column per number of
labels. Seeds that failed are absent: two cases are compared over the seeds that both have, ranked only without gaps.
More of a value is better throughout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from typing import Any

import numpy as np
from scipy import stats

from harness.metrics import area_under_curve
from harness.report.compare import Cases, Scores, differences
from harness.report.inference import ALPHA, ROUNDING
from harness.report.resampling import Between, bootstrap

Curves = Mapping[int, Cases]
"""Number of labels -> case -> seed -> value."""

PENALTY_BY_CHANCE = ALPHA / 2
"""The most that an entry of the penalty matrix of one setting would be among equal cases."""


def under(curves: Curves, seeds: AbstractSet[Any]) -> Curves:
    """The curves of these seeds alone."""
    return {
        step: {case: {seed: of[seed] for seed in of if seed in seeds} for case, of in column.items()}
        for step, column in curves.items()
    }


def areas(curves: Curves) -> dict[str, dict[Any, float]]:
    """The area under each curve: the mean height over the label budget (area under the budget curve, `aubc`).

    The trapezoid area under (labels, value), divided by the width of the budget, so that it has the unit of the value.
    A case under a seed that lacks one of the numbers of labels gets none: its mean would be of another range.

    Args:
        curves: at two numbers of labels or more.
    """
    steps = sorted(curves)
    assert len(steps) > 1, "a curve has two points or more"
    by_case: dict[str, dict[Any, float]] = {}
    for case in dict.fromkeys(case for step in steps for case in curves[step]):
        rows = [curves[step].get(case, {}) for step in steps]
        complete = [seed for seed in rows[0] if all(seed in row for row in rows)]
        for seed in complete:
            points = [(step, row[seed]) for step, row in zip(steps, rows, strict=True)]
            by_case.setdefault(case, {})[seed] = area_under_curve(points)
    return by_case


def target_of(curves: Curves, reference: str) -> float | None:
    """What the reference's mean reaches at the end, in whole per cent; None where it is there from the start on."""
    first, *_, last = (np.mean(list(curves[step].get(reference, {}).values()) or [math.nan]) for step in sorted(curves))
    target = math.floor(100 * (last + ROUNDING)) / 100 if math.isfinite(last) else math.nan
    return target if first + ROUNDING < target else None


def labels_to(curves: Curves, case: str, target: float) -> Between | None:
    """The number of labels at which a case's mean curve first reaches a value.

    Infinite where it never does, and minus infinity where it is there from the start on: with how few is not known.

    Args:
        curves: at two numbers of labels or more.
        case: seeds that lack one of these numbers do not count; None without any.
        target: the value.

    Returns:
        With an interval that draws the seeds anew.
    """
    steps = sorted(curves)
    rows = [curves[step].get(case, {}) for step in steps]
    complete = [seed for seed in rows[0] if all(seed in row for row in rows)]
    if not complete:
        return None
    values = np.array([[row[seed] for row in rows] for seed in complete])  # [n, S]
    return bootstrap([values], lambda drawn: _crossing(np.array(steps, float), drawn[0].mean(1), target)[:, None])[0]


def _crossing(steps: np.ndarray, means: np.ndarray, target: float) -> np.ndarray:
    """f64 [R]: where each of the curves f64 [R, S] first reaches the target, on straight lines between its points.

    Minus infinity where it does before the first, infinity where it never does.
    """
    target -= ROUNDING
    reached = means >= target
    place = np.clip(reached.argmax(1), 1, None)  # at the first point there is nothing before it
    row = np.arange(len(means))
    low, high = means[row, place - 1], means[row, place]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = steps[place - 1] + (target - low) / (high - low) * (steps[place] - steps[place - 1])
    return np.where(reached[:, 0], -np.inf, np.where(reached.any(1), between, np.inf))


def penalties(settings: Sequence[Mapping[int, Scores]], cases: Sequence[str]) -> np.ndarray:
    """The pairwise penalty matrix of BADGE (Ash et al. 2020, section 4.2, https://arxiv.org/abs/1906.03671).

    For each setting and each number of labels, a two-sided test at 95 % decides whether i beats j (`differences`; the
    paper: t = sqrt(5) mean / sd > 2.776 for its five seeds, which fewer seeds that agree by accident would pass); if
    so, P[i, j] grows by 1 / the setting's numbers of labels, so that each setting weighs the same and no entry exceeds
    the number of settings. The paper tests at
    M + 2^(m-1) B labels only and stops where random sampling has converged; here every number of labels that is given
    counts. The tests are not corrected for their number: with equal selectors up to 2.5 % of the entries' maximum are
    expected by chance, which is what a penalty has to be read against.

    Args:
        settings: each setting's scores, at the rounds of selection (a shared start pool tells nothing apart).
        cases: the K rows and columns.

    Returns:
        f64 [K, K], row beats column, in [0, number of settings]; the diagonal is 0. See `overall_penalty`.
    """
    matrix = np.zeros((len(cases), len(cases)))
    place = {case: number for number, case in enumerate(cases)}
    for curves in settings:
        for scores in curves.values():
            compared = differences(scores, list(combinations(scores.values, 2)))
            if compared is None:
                continue
            for number in np.flatnonzero(compared.means.p <= ALPHA):
                a, b = compared.pairs[number]
                winner, loser = (a, b) if compared.means.mean[number] > 0 else (b, a)
                matrix[place[winner], place[loser]] += 1 / len(curves)
    return matrix


def overall_penalty(matrix: np.ndarray) -> np.ndarray:
    """The mean of each column over the other cases: how often a case is beaten; lower is better.

    Args:
        matrix: f64 [K, K] of `penalties`, K at least 2.

    Returns:
        f64 [K].
    """
    return np.asarray(matrix.sum(0) / (len(matrix) - 1))


@dataclass(frozen=True)
class Attainable:
    """What an upper bound reached, which is no method: in each round it bought the best of many batches.

    Attributes:
        curves: metric -> number of labels -> seed -> value.
        areas: metric -> seed -> area under the curve.
        looked_at: labels that a trial of it read, bought or not; mean over seeds.
    """

    curves: dict[str, dict[int, dict[int, float]]]
    areas: dict[str, dict[int, float]]
    looked_at: float


@dataclass(frozen=True)
class Ranks:
    """Mean ranks over blocks.

    Attributes:
        mean: case -> mean rank, 1 is best, in that order; equal values share the mean of their ranks.
        blocks: how many blocks N there are.
        p: of Friedman's test that all cases rank alike (chi-squared with k - 1 degrees of freedom; coarse and
            cautious for few blocks).
        critical: Nemenyi's critical difference of two mean ranks at 5 %.
        groups: the largest runs of cases, by mean rank, within which no difference reaches `critical`; all of them
            in one where Friedman's test finds none.
    """

    mean: dict[str, float]
    blocks: int
    p: float
    critical: float
    groups: list[list[str]]


def ranks(values: Cases) -> Ranks | None:
    """Ranks the cases within each block (Friedman's test) and gives Nemenyi's critical difference.

    As in Demšar 2006 (https://jmlr.org/papers/v7/demsar06a.html): q(0.05, k, inf) / sqrt(2) * sqrt(k (k + 1) / (6 N)).
    A block must be independent of the others, so it is one seed with one value, the area under its curve: rounds of
    one trial share their labels, and counting them as blocks would find differences in noise. With seeds of one data
    set as blocks the test speaks of that data set alone.

    Benavoli et al. 2016 (https://jmlr.org/papers/v17/benavoli16a.html) show that this verdict about two cases depends
    on which others take part, and advise a signed-rank test of each pair with Holm's correction. That test cannot
    fall below 2 / 2^N: .0625 for five seeds, so it would never find anything here. The pairs are therefore judged by
    their differences (`judge`, `penalties`), and the ranks are kept as an overview.

    Args:
        values: case -> block -> value. Cases that lack a block which another has are left out: without the block that
            it failed in, a case would rank higher.

    Returns:
        The ranks, or None with fewer than three complete cases (the paired test says it all) or two blocks.
    """
    blocks = list(dict.fromkeys(block for case in values for block in values[case]))
    cases = [case for case in values if len(values[case]) == len(blocks)]
    if len(cases) < 3 or len(blocks) < 2:
        return None
    table = np.array([[values[case][block] for case in cases] for block in blocks])
    by_block = stats.rankdata(-table, axis=1)
    all_tied = bool((by_block == by_block[:, :1]).all())
    p = 1.0 if all_tied else float(stats.friedmanchisquare(*table.T).pvalue)
    mean = dict(sorted(zip(cases, by_block.mean(0).tolist(), strict=True), key=lambda item: item[1]))
    k = len(cases)
    q = stats.studentized_range.ppf(1 - ALPHA, k, np.inf) / math.sqrt(2)
    critical = float(q * math.sqrt(k * (k + 1) / (6 * len(blocks))))
    groups = [list(mean)] if p > ALPHA else _groups(mean, critical)
    return Ranks(mean, len(blocks), p, critical, groups)


def _groups(mean: Mapping[str, float], critical: float) -> list[list[str]]:
    """The maximal runs of two or more cases whose extremes differ by less than `critical`."""
    names, places = list(mean), list(mean.values())
    groups: list[list[str]] = []
    reached = 0
    for first in range(len(names)):
        end = next((k for k in range(first, len(names)) if places[k] - places[first] >= critical), len(names))
        if end > max(reached, first + 1):
            groups.append(names[first:end])
            reached = end
    return groups


def overlap(picks: Mapping[str, Mapping[Any, AbstractSet[int]]], cases: Sequence[str]) -> np.ndarray:
    """The Jaccard overlap, |A and B| / |A or B|, of what two cases picked under the same seed; mean over seeds.

    Args:
        picks: case -> seed -> positions in the pool, over all rounds.
        cases: the K rows and columns.

    Returns:
        f64 [K, K], symmetric, in [0, 1]; NaN where two cases have no seed in common.
    """
    matrix = np.full((len(cases), len(cases)), np.nan)
    for i, j in combinations_with_replacement(range(len(cases)), 2):
        a, b = picks.get(cases[i], {}), picks.get(cases[j], {})
        shares = [len(a[seed] & b[seed]) / len(a[seed] | b[seed]) for seed in a if seed in b and a[seed] | b[seed]]
        if shares:
            matrix[i, j] = matrix[j, i] = np.mean(shares)
    return matrix


def chance_overlap(picked: int, available: int) -> float:
    """The expected Jaccard overlap of two independent uniform draws.

    The intersection is hypergeometric, and the expectation is taken over it exactly.

    Args:
        picked: images in each draw, 1 .. available.
        available: images to draw from.
    """
    assert 1 <= picked <= available
    common = np.arange(max(0, 2 * picked - available), picked + 1)
    return float(stats.hypergeom.pmf(common, available, picked, picked) @ (common / (2 * picked - common)))

"""Averages, differences to a reference and what may be said of them: every verdict of a report is made here.

Configurations are compared on the same seeds (same start pools, same initial weights) and, where it was kept which
images each model got right, image by image. The formulas are those of `inference`.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import astuple, dataclass, field, replace
from functools import cache, cached_property, lru_cache, partial
from typing import Any, Literal, TypeVar

import numpy as np

from harness.report import inference
from harness.report.inference import NO_IMAGES, Averages, Decisions, ImageMoments
from harness.report.sequential import Looks, Seen

NO_EVIDENCE = "no evidence of a difference"
NO_SEED = "no seed in common with the reference"
Key = TypeVar("Key", bound=Hashable)
Cases = Mapping[str, Mapping[Any, float]]
"""Case -> seed -> value."""

Kind = Literal["better", "worse", "equivalent", "indication", "none", "untested"]
OPEN: tuple[Kind, ...] = ("none", "untested")
"""What is said where nothing can be said: more seeds may change it."""

HOPELESS = 0.05
"""A smaller chance of a verdict is not worth more seeds."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What each image contributes to a score that is a mean over images.

    Attributes:
        images: names the images.
        values: [m], bool where these are hits, f64 for means over several models; their mean is the score.
    """

    images: str
    values: np.ndarray


def _nothing_kept(_: str) -> Mapping[Any, Outcomes]:
    return {}


@dataclass(frozen=True)
class Scores:
    """One quantity of several cases.

    Attributes:
        values: case -> seed -> value.
        outcomes: case -> seed -> what the images contribute to the value; empty where it is no mean over images, or
            nobody kept it.
        lacking: the cases that have no value under a seed that was asked of them.
    """

    values: Cases
    outcomes: Callable[[str], Mapping[Any, Outcomes]] = field(default=_nothing_kept)
    lacking: AbstractSet[str] = frozenset()

    def under(self, seeds: AbstractSet[Any]) -> Scores:
        """Of these seeds alone."""
        values = {case: {s: v for s, v in by_seed.items() if s in seeds} for case, by_seed in self.values.items()}
        return replace(self, values=values)


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % confidence interval.

    Attributes:
        mean: over the seeds.
        half: half-width of its interval; None where there is none: of one seed, or where nothing ever varied.
        n: how many seeds.
        limits: the smallest and the largest possible value.
        below: by how much the interval reaches further down, and
        above: further up, for what is known to be flattered.
    """

    mean: float
    half: float | None
    n: int
    limits: tuple[float, float] = (-math.inf, math.inf)
    below: float = 0.0
    above: float = 0.0

    @property
    def low(self) -> float:
        """The lower end of the interval; the mean without one."""
        return max(self.limits[0], self.mean - (self.half or 0) - self.below)

    @property
    def high(self) -> float:
        """The upper end of the interval; the mean without one."""
        return min(self.limits[1], self.mean + (self.half or 0) + self.above)

    @property
    def is_symmetric(self) -> bool:
        """Whether mean ± half says it all."""
        half = self.half or 0
        return (
            not self.below
            and not self.above
            and self.limits[0] <= self.mean - half <= self.mean + half <= self.limits[1]
        )

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0; False without an interval."""
        return self.half is not None and abs(self.mean) > self.half


@cache
def _tosses(count: int) -> np.ndarray:
    """Every outcome of so many tosses of a coin as signs, f64 [2^count, count], all + first."""
    return np.array(list(itertools.product((1.0, -1.0), repeat=count)))


DRAWN_TOSSES = 9_999
"""Of the signs of many seeds."""


@lru_cache(maxsize=1)
def _drawn_tosses(count: int) -> np.ndarray:
    """Some outcomes of so many tosses of a coin as signs, f64 [DRAWN_TOSSES, count]."""
    return np.random.default_rng(0).choice((-1.0, 1.0), size=(DRAWN_TOSSES, count))


@dataclass(frozen=True, eq=False)
class Judgement:
    """A configuration against the reference, over the seeds both have, as one of a family of comparisons.

    Attributes:
        difference: mean of configuration - reference, with its own interval.
        p: two-sided; None where nothing can be tested: with one seed in common, or where nothing ever varied.
        p_holm: the same, adjusted for every test of the family.
        smallest: the smallest true difference that the verdict would find, see `inference.smallest`; None where no
            verdict can be given.
        kind: of the verdict.
        verdict: in words.
        by_images: whether it is known which images both got right; else seeds alone speak.
        differences: seed by seed.
        looks: how often it was looked at.
        settled: whether more seeds are asked for no longer: there is a verdict, or none is to be hoped for.
    """

    difference: Estimate
    p: float | None
    p_holm: float | None
    smallest: float | None
    kind: Kind
    verdict: str
    by_images: bool
    differences: tuple[float, ...]
    looks: int = 1
    settled: bool = True

    @cached_property
    def sign_flip(self) -> float | None:
        """The p of the exact test that the sign of each seed's difference is a toss of a coin, at least 2^(1 - n).

        It assumes nothing of the seeds' distribution and says nothing of the images. Of more than 13 seeds it is drawn.
        """
        count = len(self.differences)
        if count == 1:
            return None
        values = np.array(self.differences)
        if count <= 13:
            sums = np.abs(_tosses(count) @ values)
            return float(np.mean(sums >= sums[0] - 1e-12 * np.abs(values).sum()))  # the first is that of the values
        reached = np.abs(_drawn_tosses(count) @ values) >= abs(values.sum()) - 1e-12 * np.abs(values).sum()
        return float((1 + reached.sum()) / (1 + DRAWN_TOSSES))  # the values as they are count as one draw


def estimate(
    values: Sequence[float], outcomes: Sequence[Outcomes] = (), limits: tuple[float, float] = (-math.inf, math.inf)
) -> Estimate:
    """The mean of at least one value, and its interval.

    Args:
        values: one a seed.
        outcomes: of the seeds of which they were kept.
        limits: of a value.
    """
    moments = _moments([(one.images, one.values) for one in outcomes])
    return _estimate(inference.means(np.array(values, float), moments), limits)


def estimate_of_shares(shares: Sequence[float], images: int) -> Estimate:
    """The mean of shares of the same images, where it is not known which they were.

    What so many images add, p (1 - p) / m, counts beside what the seeds vary by, as if all models were right on the
    same ones: an upper bound.

    Args:
        shares: one a seed, of models that saw the same images.
        images: m.
    """
    values = np.array(shares, float)
    of_images = np.asarray(values.mean() * (1 - values.mean()) / images)
    moments = ImageMoments(np.zeros(()), of_images, np.asarray(values.mean()), np.asarray(images))
    return _estimate(inference.means(values, moments), (0, 1))


def _estimate(mean: Averages, limits: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    return Estimate(float(mean.mean), _known(mean.half), int(mean.n), limits)


def _known(value: np.ndarray) -> float | None:
    return None if np.isnan(value) else float(value)


def _moments(by_seed: Sequence[tuple[str, np.ndarray]]) -> ImageMoments:
    """Of the images' names and contributions under the seeds of which these are known, all or some: two are enough.

    Where several seeds have the same images, and others have not, what the same images do is taken to hold for all.
    """
    count = Counter(images for images, _ in by_seed)
    most, times = max(count.items(), key=lambda one: one[1], default=("", 0))
    known = [x for images, x in by_seed if times == 1 or images == most]
    if len(known) < 2 or len({len(x) for x in known}) > 1 or len(known[0]) < 2:
        return NO_IMAGES
    x = np.stack([x.astype(np.int8) if x.dtype == bool else x for x in known])
    return inference.image_moments(x, same_images=times > 1)


@dataclass(frozen=True, eq=False)
class Differences:
    """Pairs of cases, compared seed by seed and image by image.

    Attributes:
        pairs: of cases, each first - second: those with a seed in common.
        means: the mean differences, arrays [P].
        values: of each pair under each seed, f64 [P, S]; NaN where a side lacks it.
    """

    pairs: list[tuple[str, str]]
    means: Averages
    values: np.ndarray


def differences(scores: Scores, pairs: Sequence[tuple[str, str]]) -> Differences | None:
    """Compares pairs of cases, all at once: of 500 cases there are 124,750.

    Args:
        scores: of all cases, which know together how much a value varies.
        pairs: of cases, each first - second.

    Returns:
        None where no pair has a seed in common.
    """
    cases = list(scores.values)
    place = {case: number for number, case in enumerate(cases)}
    seeds = list(dict.fromkeys(seed for by_seed in scores.values.values() for seed in by_seed))
    table = np.array([[by_seed.get(seed, np.nan) for seed in seeds] for by_seed in scores.values.values()], float)
    table = table.reshape(len(cases), len(seeds))
    known = np.isfinite(table)
    sides = np.array([(place[a], place[b]) for a, b in pairs if a in place and b in place], int).reshape(-1, 2)
    common = known[sides[:, 0]] & known[sides[:, 1]]  # [P, S]
    sides, common = sides[common.any(1)], common[common.any(1)]
    if not len(sides):
        return None
    values = table[sides[:, 0]] - table[sides[:, 1]]
    variance, freedom = inference.residual_variance(np.nan_to_num(table), known)
    pooled = 2 * variance if freedom else 0.0
    scale = float(np.abs(table[known]).max())
    kept = {number: scores.outcomes(cases[number]) for number in np.unique(sides).tolist()}
    seeds_of, kind = np.unique(known, axis=0, return_inverse=True)  # of pairs there are many, of these few
    kinds = kind.ravel()[sides] @ (len(seeds_of), 1)
    parts, places = [], []
    for both in np.unique(kinds):
        rows = np.flatnonzero(kinds == both)
        shared = common[rows[0]]
        moments = _moments_of_pairs(kept, sides[rows], [seeds[k] for k in np.flatnonzero(shared)])
        parts.append(inference.means(values[np.ix_(rows, shared)], moments, pooled, freedom or None, scale=scale))
        places.append(rows)
    means = _together(parts).at(np.argsort(np.concatenate(places)))
    return Differences([(cases[a], cases[b]) for a, b in sides.tolist()], means, values)


def _moments_of_pairs(
    kept: Mapping[int, Mapping[Any, Outcomes]], sides: np.ndarray, seeds: Sequence[Any]
) -> ImageMoments:
    """Of pairs of numbers of cases, i64 [P, 2], over some seeds: arrays [P], or single numbers where nothing is known.

    Pairs grow with the square of the cases: where all hit the same images, products of matrices do.
    """
    numbers, columns = np.unique(sides, return_inverse=True)
    outcomes = [[kept[number].get(seed) for seed in seeds] for number in numbers.tolist()]
    if not any(one for by_seed in outcomes for one in by_seed):
        return NO_IMAGES
    hits = [[one.values for one in by_seed if one] for by_seed in outcomes]
    images = [[one.images for one in by_seed if one] for by_seed in outcomes]
    shapes = {(one.shape, one.dtype == bool) for by_seed in hits for one in by_seed}
    alike = len(shapes) == 1 and all(by_seed == images[0] and len(by_seed) == len(seeds) for by_seed in images)
    groups = len(set(images[0]))  # of seeds that share their images: what counts of a mixture `_moments` alone says
    alike = alike and groups in (1, len(seeds))
    if alike and hits[0][0].dtype == bool and min(len(seeds), hits[0][0].size) > 1 and len(sides) > len(numbers):
        one, other = columns.reshape(sides.shape).T
        return inference.pair_moments(np.array(hits), one, other, same_images=groups == 1)
    single = [_difference_moments(kept[a], kept[b], seeds) for a, b in sides.tolist()]
    floor, spread, square, count = np.array([(m.floor, m.images, m.square, m.count) for m in single], float).T
    return ImageMoments(floor, spread, square, count)


def _difference_moments(
    one: Mapping[Any, Outcomes], other: Mapping[Any, Outcomes], seeds: Sequence[Any]
) -> ImageMoments:
    """By the seeds of which both sides are known, on the same images."""
    pairs = [(one.get(seed), other.get(seed)) for seed in seeds]
    return _moments(
        [
            (a.images, np.subtract(a.values, b.values, dtype=np.int8 if a.values.dtype == bool else float))
            for a, b in pairs
            if a and b and a.images == b.images and len(a.values) == len(b.values)
        ]
    )


def judge(
    columns: Mapping[Key, Scores],
    reference: str,
    *,
    maximize: bool = True,
    worth: float | None = None,
    looks: Looks | None = None,
) -> dict[Key, dict[str, Judgement]]:
    """Compares every case with the reference in every column; Holm's correction runs over all of them together.

    Args:
        columns: what is compared.
        reference: a case.
        maximize: whether more is better.
        worth: the smallest difference that matters; None: equivalence is not asked.
        looks: at which the values were looked at, and cases were left alone that had a verdict; None: once, at the end.

    Returns:
        Column's key -> case -> judgement, without the reference and without cases that share no seed with it. Of a case
        that lacks a seed that was asked of it, the rest cannot make it better, nor worse where the reference lacks one.
    """
    judgements: dict[Key, dict[str, Judgement]] = {key: {} for key in columns}
    latest, seen, looked = _looked_at(columns, reference, worth, looks)
    if not latest:
        return judgements
    family = _together([mean for mean, _ in latest.values()])
    decisions = inference.decide(family, worth, seen, partial(_tests_at, looks, [at[-1] for at in looked.values()]))
    hope = _hope(family, worth, looks, max(1, int((~decisions.differs).sum())))
    for place, ((key, case), (mean, values)) in enumerate(latest.items()):
        one = _judgement(mean, values, decisions, place, maximize, worth)
        one = _weakened(one, case in columns[key].lacking, reference in columns[key].lacking)
        if looks:
            one = replace(one, looks=len(looked[key, case]), settled=one.kind not in OPEN)
        if looks and one.kind in OPEN and hope[place] < HOPELESS:
            more = f"{one.verdict}; {len(looks.seeds)} seeds would hardly bring one"
            one = replace(one, settled=True, verdict=more)
        judgements[key][case] = one
    return judgements


Compared = dict[tuple[Key, str], tuple[Averages, list[float]]]


def _compared(columns: Mapping[Key, Scores], reference: str) -> Compared:
    """Column and case -> the mean difference to the reference, and the differences seed by seed."""
    compared: Compared = {}
    for key, scores in columns.items():
        if of_column := differences(scores, [(case, reference) for case in scores.values if case != reference]):
            for number, ((case, _), values) in enumerate(zip(of_column.pairs, of_column.values, strict=True)):
                compared[key, case] = of_column.means.at(number), values[np.isfinite(values)].tolist()
    return compared


def _looked_at(
    columns: Mapping[Key, Scores], reference: str, worth: float | None, looks: Looks | None
) -> tuple[Compared, Seen | None, dict[tuple[Key, str], list[int]]]:
    """Each comparison as it was at its last look, what was seen until then, and which looks there were.

    A look counts for a comparison where a seed of its block is there for both sides: what has a verdict gets no more.
    """
    if looks is None:
        return _compared(columns, reference), None, {}
    latest: Compared = {}
    seen: dict[tuple[Key, str], Seen] = {}
    looked: dict[tuple[Key, str], list[int]] = {}
    for look, size in enumerate(looks.sizes):
        seeds = set(looks.seeds[:size])
        here = _compared({key: scores.under(seeds) for key, scores in columns.items()}, reference)
        for pair, (mean, values) in here.items():
            if pair in latest and len(values) == len(latest[pair][1]):
                continue
            beyond = mean.p_beyond(worth) if worth is not None else np.array(np.nan)
            seen[pair] = looks.seen(look, mean.mean, mean.p, beyond, seen.get(pair))
            latest[pair] = replace(mean, level=looks.level(look, inference.ALPHA)), values
            looked.setdefault(pair, []).append(look)
    return latest, Seen(*np.array([astuple(one) for one in seen.values()]).reshape(-1, 5).T), looked


def _tests_at(looks: Looks | None, last: Sequence[int], count: np.ndarray) -> np.ndarray:
    """Of so many tests, looked at once, each comparison has the level of its last look."""
    alpha = inference.ALPHA / np.maximum(count.item(), 1)
    return np.array([inference.ALPHA / looks.level(look, alpha) for look in last]) if looks else count


def _hope(family: Averages, worth: float | None, looks: Looks | None, count: int) -> np.ndarray:
    """The chance of a verdict with all planned seeds, for each comparison of which `count` are open; else 1."""
    if looks is None:
        return np.ones(family.mean.shape)
    level = looks.level(len(looks.sizes) - 1, inference.ALPHA / count)
    chance = inference.chance_of_verdict(family, len(looks.seeds), level, worth)
    return np.where((family.n >= len(looks.seeds)) | np.isnan(chance), 1.0, chance)


def _weakened(one: Judgement, case_lacks: bool, reference_lacks: bool) -> Judgement:
    """What may be said where a side lacks seeds: those may have failed, so what is left flatters it."""
    flattered = (one.kind in ("better", "equivalent") and case_lacks) or (
        one.kind in ("worse", "equivalent") and reference_lacks
    )
    return replace(one, kind="indication", verdict=f"indication: {one.verdict}") if flattered else one


def _together(means: Sequence[Averages]) -> Averages:
    """One array of single means and arrays of them."""

    def joined(part: Callable[[Averages], np.ndarray | float]) -> np.ndarray:
        return np.concatenate([np.broadcast_to(part(one), np.shape(one.mean)).ravel() for one in means]).astype(float)

    moments = ImageMoments(
        joined(lambda one: one.moments.floor),
        joined(lambda one: one.moments.images),
        joined(lambda one: one.moments.square),
        joined(lambda one: one.moments.count),
    )
    return Averages(
        joined(lambda one: one.mean),
        joined(lambda one: one.spread),
        joined(lambda one: one.spread_freedom),
        joined(lambda one: one.n),
        moments,
        joined(lambda one: one.level),
    )


def _judgement(
    mean: Averages, values: Sequence[float], decisions: Decisions, place: int, maximize: bool, worth: float | None
) -> Judgement:
    difference = _estimate(mean)
    p, p_holm = _known(mean.p), _known(decisions.p_holm[place])
    better = (difference.mean > 0) == maximize
    direction: Kind = "better" if better else "worse"
    small = f"{worth:g}" if worth is not None else ""
    kind: Kind = "none"
    verdict = NO_EVIDENCE
    if p_holm is None:
        kind, verdict = (
            "untested",
            "one seed in common: no interval" if difference.n == 1 else "nothing varied: no interval",
        )
    elif decisions.differs[place]:
        kind, verdict = direction, f"{direction}, by less than {small}" if decisions.equivalent[place] else direction
    elif decisions.equivalent[place]:
        kind, verdict = "equivalent", f"equivalent within {small}"
    elif decisions.indicates[place]:
        kind, verdict = "indication", f"indication: {direction}"
    elif decisions.faded[place]:
        verdict = f"{NO_EVIDENCE}: an earlier look found one, more seeds do not"
    elif difference.excludes_zero and p_holm <= inference.ALPHA:
        verdict = f"{NO_EVIDENCE}: of two seeds p must be at most {inference.ALPHA_OF_FEW:g}"
    elif difference.excludes_zero:
        verdict = f"{NO_EVIDENCE} after Holm's correction"
    known = bool(np.isfinite(mean.moments.count))
    return Judgement(difference, p, p_holm, _known(decisions.smallest[place]), kind, verdict, known, tuple(values))


def flattery(scores: Scores) -> float:
    """By how much the best of several cases is expected to flatter, see `inference.expected_flattery`."""
    first, *others = scores.values
    compared = differences(scores, [(case, first) for case in others])
    return float(inference.expected_flattery(compared.means)) if compared else 0.0

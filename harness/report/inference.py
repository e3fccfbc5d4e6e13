"""The one procedure behind every interval, p value and verdict: arrays in, arrays out, any number of families at once.

A score varies for two reasons: another seed gives another model, and other test images give another score of the same
model. Seeds alone see the second in part only, for they all meet the same images, and few of them see neither well:
two or three values may agree by accident. So a difference of two configurations over n common seeds has the variance

    max(own, pooled, floor) / n + images

own     variance of its n values;
pooled  twice the residual variance of the block design, seeds x all configurations of the family: where they vary
        alike, it knows the spread from many more values;
floor   W / m, what m test images alone must add to each value (the variance in McNemar's test);
images  V / m - W / (n m), at least 0: what the same m images add to all n values alike.

x is 1 where the first is right and the second wrong, -1 the other way round, else 0; V is the variance over images of
its mean over seeds, W the mean over images of its variance over seeds. The mean of one configuration has the same
variance, with x = its hits and without `pooled`, since what a seed does to all configurations is part of its spread.
`python -m benchmarks.statistics` measures what this promises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache

import numpy as np
from scipy import special, stats

from harness.report.sequential import Seen

ALPHA = 0.05
POWER = 0.80
FEW = 2
"""So many seeds can say no more than "indication": if one of them fails to train, both families and the error break."""

ALPHA_OF_FEW = 0.02
"""The level of an indication: by it the chance of a false one stays below .06 even where one seed in ten collapses."""

ROUNDING = 1e-9
"""What is below this share of the scores is rounding: values that never differ."""


@dataclass(frozen=True)
class ImageMoments:
    """What m test images, one value x each, do to a mean over n seeds; arrays of one shape [...].

    Attributes:
        floor: of the variance of one seed's value.
        images: variance that the seeds share.
        square: mean of x**2; of two configurations' hits the share of images on which they differ.
        count: m; infinite where nothing is known of the images, and the seeds alone must do.
    """

    floor: np.ndarray
    images: np.ndarray
    square: np.ndarray
    count: np.ndarray


NO_IMAGES = ImageMoments(np.zeros(()), np.zeros(()), np.zeros(()), np.array(np.inf))


def image_moments(x: np.ndarray, *, same_images: bool = True) -> ImageMoments:
    """The moments of hits, or of differences of hits.

    Args:
        x: [..., n, m], n seeds and m images, at least two of each; i8 for hits, floats for means of several rounds.
        same_images: whether all seeds were measured on the same images in the same order. Where each seed has images
            of its own, their noise is in the spread over seeds already.
    """
    n, m = x.shape[-2:]
    kind = np.int32 if x.dtype.kind in "biu" else np.float64
    square = np.einsum("...ij,...ij->...", x, x, dtype=kind) / (n * m)
    if not same_images:
        floor = x.var(-1, ddof=1).mean(-1) / m
        return ImageMoments(floor, np.zeros_like(floor), square, np.full(floor.shape, m))
    total = x.sum(-2, dtype=np.int16 if kind is np.int32 else kind)  # [..., m]
    squares = np.einsum("...i,...i->...", total, total, dtype=kind) / m
    mean = total.mean(-1, dtype=np.float64)
    within = (square * n - squares / n) / (n - 1)  # W
    between = (squares - mean**2) * m / (m - 1) / n**2  # V
    return ImageMoments(within / m, np.maximum(between - within / n, 0) / m, square, np.full(within.shape, m))


def pair_moments(hits: np.ndarray, one: np.ndarray, other: np.ndarray, *, same_images: bool = True) -> ImageMoments:
    """`image_moments` of the differences of many pairs, by products of matrices in the place of a pass a pair.

    Args:
        hits: bool [K, n, m], of K configurations under n seeds, at least two, on m images, at least two.
        one: i64 [P], numbers of configurations, of which
        other: i64 [P] are subtracted.
        same_images: as of `image_moments`.
    """
    (cases, n, m), pairs = hits.shape, (one, other)
    flat = hits.reshape(cases, n * m).astype(np.float32 if n * m < 2**24 else np.float64)  # sums are exact
    squares = _squared_distances(flat, *pairs)
    if not same_images:
        right = hits.sum(-1, dtype=np.int64)
        floor = (squares - np.square(right[one] - right[other]).sum(-1) / m) / (m - 1) / n / m
        return ImageMoments(floor, np.zeros_like(floor), squares / (n * m), np.full(floor.shape, float(m)))
    total = hits.sum(1, dtype=np.float64)  # [K, m]
    square, shared = squares / (n * m), _squared_distances(total, *pairs) / m
    mean = (total.sum(-1)[one] - total.sum(-1)[other]) / m
    within = (square * n - shared / n) / (n - 1)  # W
    between = (shared - mean**2) * m / (m - 1) / n**2  # V
    return ImageMoments(within / m, np.maximum(between - within / n, 0) / m, square, np.full(within.shape, float(m)))


def _squared_distances(rows: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """f64 [P]: between pairs of rows of whole numbers, exactly."""
    products = (rows @ rows.T).astype(np.float64)
    lengths = products.diagonal()
    return np.asarray(lengths[one] + lengths[other] - 2 * products[one, other])


@dataclass(frozen=True)
class Averages:
    """Estimated means; arrays of one shape [...].

    Attributes:
        mean: over n seeds.
        spread: variance of the mean, as far as it varies with the seed.
        spread_freedom: its degrees of freedom.
        n: seeds.
        moments: of the images.
        level: of the interval, two-sided; smaller where it was looked at before and may have been kept from growing.
    """

    mean: np.ndarray
    spread: np.ndarray
    spread_freedom: np.ndarray
    n: np.ndarray
    moments: ImageMoments
    level: np.ndarray | float = ALPHA

    @cached_property
    def error(self) -> np.ndarray:
        """Standard error of the mean; 0 where nothing ever varied, which says nothing of its precision."""
        return np.sqrt(self.spread + self.moments.images)

    @cached_property
    def freedom(self) -> np.ndarray:
        """Degrees of freedom of `error`, between those of the seeds and those of the images.

        1 / f is the mean of theirs by their shares of the variance, which to the first order is how Cochran and Cox
        (1957) weight two t values. Satterthwaite's f is larger, and optimistic where one share has few degrees. Where
        it has a single one (two seeds of one configuration) this f is too, an interval covering .906 at worst: there
        the squares of the two t values are weighted instead, and it covers .950 or more.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            seeds, images = self.spread / self.error**2, self.moments.images / self.error**2
            usual = 1 / (seeds / self.spread_freedom + images / (self.moments.count - 1))
            squares = seeds * _critical_t(1) ** 2 + images * _critical_t(self.moments.count - 1) ** 2
            return np.where(self.spread_freedom > 1, usual, np.interp(np.sqrt(squares), *_FREEDOM_OF_T))

    def at(self, places: np.ndarray | int) -> Averages:
        """Those at some places of arrays [k]."""

        def part(values: np.ndarray | float) -> np.ndarray:
            return np.asarray(np.broadcast_to(values, self.mean.shape)[places])

        m = self.moments
        moments = ImageMoments(part(m.floor), part(m.images), part(m.square), part(m.count))
        spread, level = part(self.spread), part(self.level)
        return Averages(part(self.mean), spread, part(self.spread_freedom), part(self.n), moments, level)

    def shifted(self, d: np.ndarray) -> Averages:
        """What would be known if the means were d: where models differ so, they differ on more of the images."""
        q, m = self.moments.square, self.moments.count
        more = np.maximum(_disagreement(q, d) - q - d**2, 0) / m
        return replace(self, mean=d, moments=replace(self.moments, images=self.moments.images + more))

    @property
    def half(self) -> np.ndarray:
        """Half-width of the 95 % interval; NaN where there is none."""
        with np.errstate(invalid="ignore"):
            return np.where(self.error > 0, special.stdtrit(self.freedom, 1 - self.level / 2) * self.error, np.nan)

    @property
    def p(self) -> np.ndarray:
        """Two-sided p of a mean of 0; NaN where there is none."""
        return 2 * self._tail(np.abs(self.mean))

    def p_beyond(self, bound: float) -> np.ndarray:
        """The larger p of the two one-sided tests against -bound and +bound, by the error that such a mean has."""
        return self.shifted(np.full(self.mean.shape, bound))._tail(bound - np.abs(self.mean))

    def _tail(self, distance: np.ndarray) -> np.ndarray:
        """The chance of more than a distance; NaN where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.error > 0, special.stdtr(self.freedom, -distance / self.error), np.nan)


def _critical_t(freedom: np.ndarray | float) -> np.ndarray:
    return np.asarray(special.stdtrit(freedom, 1 - ALPHA / 2))  # that of scipy.stats, a hundred times as quick


_FREEDOM_OF_T = _critical_t(1 / np.linspace(1e-9, 1, 5_000)), 1 / np.linspace(1e-9, 1, 5_000)
"""Critical t, rising, and the degrees of freedom that it belongs to."""


def _disagreement(q: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The share of images on which two models differ whose scores differ by d, if without that they differed on q.

    An image is right where it is easier than a model's limit. What differs is the share between two limits: the mean
    absolute value of a normal variable of mean d which for d = 0 is q.
    """
    s = q * np.sqrt(np.pi / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = d / s
        folded = q * np.exp(-(z**2) / 2) + d * special.erf(z / np.sqrt(2))
    return np.where(s > 0, folded, np.abs(d))


def means(
    values: np.ndarray,
    moments: ImageMoments = NO_IMAGES,
    pooled: np.ndarray | float = 0.0,
    freedom: np.ndarray | float | None = None,
    scale: float = 0.0,
) -> Averages:
    """The mean of n values and its error.

    Args:
        values: f64 [..., n], n at least 1.
        moments: of the images, of shape [...].
        pooled: variance of a value as the whole family knows it.
        freedom: its degrees of freedom; n - 1 of `values` alone.
        scale: the largest of the scores that `values` are differences of: these have the rounding of the scores.
    """
    n = values.shape[-1]
    mean = values.mean(-1)
    if n == 1:
        nothing = np.full(mean.shape, np.nan)
        return Averages(mean, nothing, nothing, np.full(mean.shape, 1), moments)
    own = values.var(-1, ddof=1)
    size = ROUNDING * np.maximum(np.abs(values).max(-1), scale)
    spread = np.maximum(own, pooled)
    spread = np.maximum(np.where(spread > size**2, spread, 0), moments.floor)
    freedom = np.broadcast_to(np.asarray(n - 1 if freedom is None else freedom, float), mean.shape)
    return Averages(mean, spread / n, freedom, np.full(mean.shape, n), moments)


def residual_variance(values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, int]:
    """The residual variance of the block design: value = configuration + seed + residual, by least squares.

    Some of the values may be missing: the others keep what they say.

    Args:
        values: f64 [..., C, n], configurations by seeds.
        known: bool [C, n], where there is a value.

    Returns:
        f64 [...], and its degrees of freedom, (C - 1) (n - 1) where nothing is missing; NaN where these are 0.
    """
    if not known.any():
        return np.full(values.shape[:-2], np.nan), 0
    starts, counts, basis = _seed_effects(known.tobytes(), *known.shape)
    freedom = known.sum() - len(counts) - basis.shape[1]
    if not freedom:
        return np.full(values.shape[:-2], np.nan), 0
    rows, columns = known.nonzero()
    centred = _centred(values[..., rows, columns], starts, counts)
    return np.square(centred - centred @ basis @ basis.T).sum(-1) / freedom, int(freedom)


def _centred(values: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Values [..., v] less the mean of their own configuration, whose values stand side by side."""
    return np.asarray(values - np.repeat(np.add.reduceat(values, starts, -1) / counts, counts, -1))


@lru_cache(maxsize=64)
def _seed_effects(known: bytes, cases: int, seeds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the known values of each configuration begin, how many there are, and what seeds do to centred values.

    The last is an orthonormal basis f64 [v, rank], of v known values; `known` is that of bool [C, n].
    """
    rows, columns = np.frombuffer(known, bool).reshape(cases, seeds).nonzero()
    _, starts, counts = np.unique(rows, return_index=True, return_counts=True)
    effects = _centred(np.eye(seeds)[:, columns], starts, counts).T
    left, sizes, _ = np.linalg.svd(effects, full_matrices=False)
    return starts, counts, left[:, sizes > 1e-9 * max(1.0, sizes.max())]


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's (1979) step-down adjustment along the last axis: the chance of any false claim stays at ALPHA.

    NaN is no test, and stays.
    """
    order = np.argsort(p, -1)  # NaN comes last
    left = np.isfinite(p).sum(-1, keepdims=True) - np.arange(p.shape[-1])
    adjusted = np.maximum.accumulate(np.minimum(1, np.take_along_axis(p, order, -1) * left), -1)
    return np.take_along_axis(adjusted, np.argsort(order, -1), -1)


@dataclass(frozen=True)
class Decisions:
    """What a family of differences allows to say; arrays [..., k] along whose last axis the family lies.

    Attributes:
        p_holm: of no difference, adjusted for the family.
        differs: it is one.
        indicates: the same at `ALPHA_OF_FEW`, of seeds too few to claim it.
        equivalent: it is smaller than what is worth a difference.
        faded: a look before the last one found it to be one, and the last one does not.
        differences: what is judged.
        tests: among how many, see `smallest`.
    """

    p_holm: np.ndarray
    differs: np.ndarray
    indicates: np.ndarray
    equivalent: np.ndarray
    faded: np.ndarray
    differences: Averages
    tests: np.ndarray

    @cached_property
    def smallest(self) -> np.ndarray:
        """The smallest true difference that would be needed so, with a power of 80 %; NaN where nothing can be."""
        return np.where(self.differences.n > FEW, smallest(self.differences, self.tests), np.nan)


def decide(
    differences: Averages,
    worth: float | None,
    seen: Seen | None = None,
    tests_of: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Decisions:
    """Judges a family of differences: Holm's correction runs over all of them together.

    Args:
        differences: [..., k].
        worth: what is worth a difference; equivalence is asked by two one-sided tests, corrected in the same way. None:
            it is not asked.
        seen: of a family that was looked at before: what an earlier look found counts as long as the last one finds it.
        tests_of: number of comparisons [..., 1] -> of so many, looked at once, each has the level of its last look.
    """
    p = seen.p if seen else differences.p
    beyond = (seen.p_beyond if seen else differences.p_beyond(worth)) if worth is not None else None
    p_holm, enough = holm(p), differences.n > FEW
    crossed = p_holm <= np.where(enough, ALPHA, ALPHA_OF_FEW)
    needed = crossed & seen.stands(differences.mean, ALPHA) if seen else crossed
    equal = holm(beyond) <= ALPHA if beyond is not None else np.zeros(needed.shape, bool)
    equal = equal & (seen.last_beyond <= ALPHA) if seen else equal
    tests = tests_of(np.isfinite(p_holm).sum(-1, keepdims=True))
    return Decisions(p_holm, needed & enough, needed & ~enough, equal & enough, crossed & ~needed, differences, tests)


def chance_of_verdict(
    differences: Averages, planned: int, level: np.ndarray | float, worth: float | None
) -> np.ndarray:
    """The predictive power (Spiegelhalter, Freedman & Blackburn 1986): how likely all planned seeds bring a verdict.

    The mean of `planned` seeds is normal about that of n, with variance spread (1 - n / planned); by then the spread
    has shrunk to n / planned of itself, and what the images add is as it was.

    Args:
        differences: [..., k], of n seeds.
        planned: seeds at the end.
        level: of a verdict then, two-sided.
        worth: what is worth a difference; None: there is no other verdict than better or worse.

    Returns:
        f64 [..., k], of better, worse and equivalent together; NaN where nothing is known.
    """
    share = differences.n / planned
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(differences.spread * share + differences.moments.images)
        needed = stats.norm.isf(np.asarray(level) / 2) * error
        deviation = np.sqrt(differences.spread * (1 - share))
        beyond = stats.norm.sf((needed - differences.mean) / deviation)
        beyond += stats.norm.cdf((-needed - differences.mean) / deviation)
        if worth is None:
            return beyond
        inside = np.minimum(worth - stats.norm.isf(level) * error, needed)  # further out it is a difference already
        between = stats.norm.cdf((inside - differences.mean) / deviation)
        between -= stats.norm.cdf((-inside - differences.mean) / deviation)
        return beyond + np.where(inside > 0, between, 0)


def smallest(differences: Averages, tests: np.ndarray) -> np.ndarray:
    """The true difference d that the verdict, Holm's correction among `tests` included, finds with a power of 80 %.

    With the error e and the critical c = t(1 - ALPHA / (2 tests), f), what is observed must reach d0 = c e(d0), for
    models that differ by d differ on d of the images at least, see `Averages.shifted`, and with that e and f grow. And
    d = d0 + r (e(d0) + e(d)) / 2, where r (see `_reserves`) makes up for chance: counts vary less below their mean than
    above it, and halfway their error is even; where the spread is underestimated, d is too small, and the images' share
    with it, so that of 0 and of d counts half each.

    Args:
        differences: [..., k].
        tests: numbers, at least 1, of a shape that broadcasts with these.
    """
    kinds = np.stack(np.broadcast_arrays(tests, differences.spread_freedom, differences.n, differences.error))[:3]
    needed = np.full(differences.error.shape, np.nan)
    for kind in {tuple(kind) for kind in kinds.reshape(3, -1).T.tolist()}:
        if all(number > 0 for number in kind):
            here = (kinds == np.reshape(kind, (3, *[1] * needed.ndim))).all(0)
            needed = np.where(here, _smallest(differences, *kind), needed)
    return np.where(differences.error > 0, needed, np.nan)


def _smallest(differences: Averages, tests: float, freedom: float, n: float) -> np.ndarray:
    def at(d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Error, critical t, and the spread's share of the variance, as far as its estimate may be too small."""
        there = differences.shifted(d)
        with np.errstate(invalid="ignore", divide="ignore"):
            # from below: a spread near the floor is known, and so is one that is not there
            held = np.where(there.spread > 0, there.moments.floor / there.n / there.spread, 1)
            share = there.spread / there.error**2 * (1 - held**4)
        return there.error, stats.t.ppf(1 - ALPHA / (2 * tests), there.freedom), share

    observed = np.zeros(differences.error.shape)
    _, _, first = at(observed)
    for _ in range(25):  # it contracts
        before, critical, _ = at(observed)
        observed = critical * before
    needed = observed
    for _ in range(25):
        error, _, share = at(needed)
        reserve = np.interp((first + share) / 2, SHARES, _reserves(tests, freedom, n))
        needed = observed + reserve * (before + error) / 2
    return needed


SHARES = np.linspace(0, 1, 11)


@cache
def _reserves(tests: float, freedom: float, n: float) -> np.ndarray:
    """r of `smallest`, in units of the error, for each of `SHARES` w of the spread in the variance.

    Of the spread an estimate is known, and so it is in the sweep that is to find d: u times the true one, u being the
    larger of chi2 / f and, of the pair's own n values, chi2 / (n - 1). A sweep sees the error s(u) = sqrt(w u + 1 - w)
    with f s(u)**2 / (w u) degrees of freedom, so what it observes must reach c(u) s(u), c the critical t of these. What
    was printed is c(u') s(u') + r s(u') with an independent u', and r solves
    P(Z + c(u') s(u') + r s(u') > c(u) s(u)) = 80 %.
    """
    u = _largest_chi2({freedom, n - 1})
    spread = SHARES[:, None] * u
    seen = np.sqrt(spread + 1 - SHARES[:, None])  # [w, u]
    quantile = 1 - ALPHA / (2 * tests)
    with np.errstate(divide="ignore"):
        threshold = stats.t.ppf(quantile, freedom * seen**2 / spread) * seen
    low, high = np.zeros(len(SHARES)), np.full(len(SHARES), 60 * stats.t.ppf(quantile, freedom))
    for _ in range(50):
        middle = (low + high) / 2
        printed = threshold + middle[:, None] * seen
        enough = special.ndtr(printed[:, None, :] - threshold[:, :, None]).mean((1, 2)) > POWER
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


def _largest_chi2(freedoms: set[float]) -> np.ndarray:
    """60 values that are equally likely, of the largest of independent chi2 / f."""
    grid = np.concatenate([np.geomspace(1e-6, 0.1, 500, endpoint=False), np.linspace(0.1, 30, 20_000)])
    below = np.prod([stats.chi2.cdf(grid * freedom, freedom) for freedom in freedoms], axis=0)
    return np.interp((np.arange(60) + 0.5) / 60, below, grid)


@cache
def _expected_largest(count: int) -> float:
    """Mean of the largest of so many independent standard normal values."""
    from scipy.integrate import quad

    return quad(lambda x: count * x * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1), -12, 12)[0]


def expected_flattery(differences: Averages) -> np.ndarray:
    """By how much the best of a family is expected to look better than it is, where all are equal in truth.

    The mean of the largest of K independent normal values, in units of what is each configuration's own in its mean:
    the error of a difference is that of two. What a seed does to all configurations chooses none of them.

    Args:
        differences: [..., K - 1], to one of the K configurations.

    Returns:
        f64 [...]; 0 where nothing is known.
    """
    known = differences.error > 0
    variance = np.where(known, differences.error**2 / 2, 0).sum(-1) / np.maximum(known.sum(-1), 1)
    return _expected_largest(differences.error.shape[-1] + 1) * np.sqrt(variance)

"""What the verdicts, intervals and smallest differences of a report are worth: simulated families of real hits.

    python -m benchmarks.statistics [--quick] [--processes 2] [--write results/statistics.md]

A cell is a family of k rivals and a reference, n seeds and m test images. An image is right where its difficulty, which
has a part common to all models, one of each configuration and one of each model, lies below the model's limit. All
configurations are equal in truth (accuracy .8); then one rival is better, or worse, by just the smallest difference
that was printed; then all differ by just what is `worth` a difference. Every family is judged by
`harness.report.inference`, which judges those of a report. Other families get seeds until all is resolved. Exit status
1 where a cell misses what is promised.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special, stats
from scipy.optimize import brentq

from harness.progress import track
from harness.report import inference
from harness.report.astray import astray
from harness.report.compare import HOPELESS
from harness.report.inference import FEW, Averages
from harness.report.sequential import Looks, Seen

ACCURACY, DEVIATION, WORTH = 0.8, 0.01, 0.01
"""Of every configuration; of its seeds and of what a seed does to all; what is worth a difference."""

CHUNK = 12_000_000
"""Hits drawn at a time."""

FAMILY, COVERAGE, POWER, WITHIN, EQUIVALENT = 0.06, 0.93, 0.80, 0.05, 0.05
"""What is promised: at most, at least, and 80 % within so much."""


@dataclass(frozen=True)
class Cell:
    """One kind of family.

    Attributes:
        rivals: k.
        seeds: n.
        images: m; 0 for a metric that is no mean over images, or of which the hits were not kept.
        disagreement: the share of images on which two equal models differ.
        persistent: the share of the latter that all seeds of a configuration have in common.
        deviations: "equal", "unequal" (lognormal, .4) or "none".
        collapses: whether one seed in ten falls to an accuracy of .1.
    """

    rivals: int
    seeds: int
    images: int
    disagreement: float
    persistent: float
    deviations: str
    collapses: bool = False


@dataclass(frozen=True)
class Figures:
    """What came out of a cell, shares of families or comparisons; NaN where it is not asked."""

    families: int
    claimed: float
    indicated: float
    covers_difference: float
    covers_mean: float
    power: float
    equivalent: float
    smallest: float
    seconds: float


@cache
def common_share(disagreement: float) -> float:
    """The share of the difficulty that all models have in common, where two differ on so many images."""
    limit = stats.norm.ppf(ACCURACY)

    def excess(share: float) -> float:
        both = stats.multivariate_normal(cov=[[1, share], [share, 1]]).cdf([limit, limit])
        return float(2 * (ACCURACY - both) - disagreement)

    return float(brentq(excess, 0, 0.999999))


class Families:
    """Draws many families of a cell; each configuration keeps its deviation from draw to draw."""

    def __init__(self, cell: Cell, number: int, rng: np.random.Generator):
        self.cell, self.number, self._rng = cell, number, rng
        configurations = cell.rivals + 1
        self._deviation = np.full((number, configurations, 1), DEVIATION * (cell.deviations != "none"))
        if cell.deviations == "unequal":
            self._deviation *= np.exp(rng.normal(0, 0.4, self._deviation.shape))

    def draw(self, better: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores f64 [R, k + 1, n] and hits i8 [R, k + 1, n, m], of configurations better by f64 [R, k + 1, 1]."""
        cell, rng = self.cell, self._rng
        shape = (self.number, cell.rivals + 1, cell.seeds)
        luck = DEVIATION * (cell.deviations != "none") * rng.standard_normal((self.number, 1, cell.seeds))
        truth = ACCURACY + better + luck + self._deviation * rng.standard_normal(shape)
        if cell.collapses:
            truth = np.where(rng.random(shape) < 0.1, 0.1, truth)
        if not cell.images:
            return truth, None
        hits = self._hits(np.clip(truth, 0.001, 0.999))
        return hits.mean(-1, dtype=np.float64), hits

    def _hits(self, accuracy: np.ndarray) -> np.ndarray:
        cell = self.cell
        common = common_share(cell.disagreement)
        number, configurations, seeds = accuracy.shape

        def part(share: float, *shape: int) -> np.ndarray:
            normal = self._rng.standard_normal((*shape, cell.images), dtype=np.float32)
            normal *= np.float32(math.sqrt(share))
            return normal

        limit = special.ndtri(accuracy).astype(np.float32)[..., None]
        difficulty = part(common, number, 1, 1)
        difficulty = difficulty + part((1 - common) * cell.persistent, number, configurations, 1)
        if cell.persistent < 1:
            own = part((1 - common) * (1 - cell.persistent), number, configurations, seeds)
            own += difficulty
            difficulty = own
        return (difficulty < limit).view(np.int8)


def differences(scores: np.ndarray, hits: np.ndarray | None) -> Averages:
    """The rivals against the first configuration, as a report compares them."""
    moments = inference.NO_IMAGES if hits is None else inference.image_moments(hits[:, 1:] - hits[:, :1])
    variance, freedom = inference.residual_variance(scores, np.ones(scores.shape[1:], bool))
    return inference.means(scores[:, 1:] - scores[:, :1], moments, 2 * variance[:, None], freedom)


def averages(scores: np.ndarray, hits: np.ndarray | None) -> Averages:
    """The mean of each configuration, as a report gives it."""
    return inference.means(scores, inference.NO_IMAGES if hits is None else inference.image_moments(hits))


def measure(cell: Cell, families: int, seed: int) -> Figures:
    """Simulates a cell."""
    rng, started = np.random.Generator(np.random.SFC64(seed)), time.perf_counter()
    size = max(1, CHUNK // ((cell.rivals + 1) * cell.seeds * max(1, cell.images)))
    rows = [_measured(Families(cell, min(size, families - at), rng)) for at in range(0, families, size)]
    *columns, smallest = (np.concatenate(column) for column in zip(*rows, strict=True))
    claimed, indicated, difference, mean, power, equivalent = (
        float(column.mean()) if column.size else math.nan for column in columns
    )
    median, seconds = float(np.median(smallest)), time.perf_counter() - started
    return Figures(families, claimed, indicated, difference, mean, power, equivalent, median, seconds)


def _measured(families: Families) -> list[np.ndarray]:
    """The columns of `Figures`, of each family."""
    scores, hits = families.draw()
    found = differences(scores, hits)
    decisions = inference.decide(found, WORTH)
    mean = averages(scores, hits)
    columns = [
        decisions.differs.any(-1),
        decisions.indicates.any(-1),
        (np.abs(found.mean) <= found.half).mean(-1),
        (np.abs(mean.mean - ACCURACY) <= mean.half).mean(-1),
    ]
    smallest, nothing = decisions.smallest[:, 0], np.empty(0)
    if families.cell.seeds <= FEW:
        return [*columns, nothing, nothing, smallest]
    sign = np.where(np.arange(len(smallest)) % 2, 1, -1)  # better and worse, in turn
    alone = np.zeros((len(smallest), families.cell.rivals + 1, 1))
    alone[:, 1, 0] = sign * np.nan_to_num(smallest)
    found = differences(*families.draw(alone))
    power = inference.decide(found, WORTH).differs[:, 0] & (found.mean[:, 0] * sign > 0)
    all_differ = np.full((families.cell.rivals + 1, 1), WORTH)
    all_differ[0] = 0
    equivalent = inference.decide(differences(*families.draw(all_differ)), WORTH).equivalent.any(-1)
    return [*columns, power, equivalent, smallest]


def cells() -> list[Cell]:
    """A covering set: every k with every n under every kind of deviation, the images' part going round beside them.

    The largest m goes with the families that are small enough for it. Values that are no means over images come next,
    and last many rivals of few seeds on the largest m.
    """
    sizes = list(itertools.product((2, 5, 12, 21), (2, 3, 5, 10, 20)))
    kinds = [("equal", False), ("unequal", False), ("none", False), ("equal", True)]
    images = [
        (100, 0.02),
        (360, 0.01),
        (1_000, 0.1),
        (10_000, 0.05),
        (360, 0.2),
        (1_000, 0.01),
        (100, 0.2),
        (10_000, 0.01),
    ]
    chosen = []
    for row, (deviations, collapses) in enumerate(kinds):
        for place, (k, n) in enumerate(sizes):
            m, q = images[(place + 3 * row + place // len(images)) % len(images)]
            m = 1_000 if m * n * (k + 1) > 250_000 else m
            chosen.append(Cell(k, n, m, q, (0.0, 0.5, 1.0)[(place + row) % 3], deviations, collapses))
    chosen += [Cell(k, n, 0, 0.0, 0.0, kind, c) for kind, c in kinds if kind != "none" for k, n in sizes[1::3]]
    large = itertools.product((12, 21), (3, 5), (("equal", 0.05), ("unequal", 0.2)))
    return [*chosen, *(Cell(k, n, 10_000, q, 0.5, kind) for k, n, (kind, q) in large)]


def misses(cell: Cell, figures: Figures) -> list[str]:
    """What a cell does not keep of what is promised.

    Where seeds collapse, intervals and the smallest difference are promised nothing: there a report warns. A power is
    missed where it is further off than two standard errors of its simulation.
    """
    doubt = 2 * math.sqrt(POWER * (1 - POWER) / figures.families)
    kept = {
        "family": not max(figures.claimed, figures.indicated) > FAMILY,
        "equivalent": not figures.equivalent > EQUIVALENT,
        "difference": cell.collapses or figures.covers_difference >= COVERAGE,
        "mean": cell.collapses or figures.covers_mean >= COVERAGE,
        "power": cell.collapses or not abs(figures.power - POWER) > WITHIN + doubt,
    }
    return [name for name, good in kept.items() if not good]


@dataclass(frozen=True)
class Headline:
    """A grid of equal configurations, of which one is chosen and quoted.

    Attributes:
        configurations: K.
        seeds: n.
        by_validation: whether it is chosen on other images than it is quoted on.
    """

    configurations: int
    seeds: int
    by_validation: bool


def covers(grid: Headline, families: int, seed: int) -> tuple[float, float]:
    """How often the interval of the chosen configuration holds the truth: with the report's allowance, and without."""
    rng = np.random.Generator(np.random.SFC64(seed))
    cell = Cell(grid.configurations - 1, grid.seeds, 2_000, 0.1, 0.5, "equal")
    size = max(1, CHUNK // (grid.configurations * grid.seeds * cell.images))
    hold, plain = [], []
    for at in range(0, families, size):
        number = min(size, families - at)
        _, hits = Families(cell, number, rng).draw()
        assert hits is not None
        validation, hits = np.split(hits, 2, axis=-1)
        scores = hits.mean(-1, dtype=np.float64)
        chosen = (validation if grid.by_validation else hits).mean((2, 3), dtype=np.float64).argmax(-1)
        mean, allowance = averages(scores, hits), inference.expected_flattery(differences(scores, hits))
        error, half = (one[np.arange(number), chosen] for one in (mean.mean - ACCURACY, mean.half))
        hold.append((error <= half + allowance) & (error >= -half))
        plain.append(np.abs(error) <= half)
    return float(np.concatenate(hold).mean()), float(np.concatenate(plain).mean())


def warned(cell: Cell, families: int, seed: int) -> tuple[float, float]:
    """The share of collapsed seeds that a report names, and of other seeds that it names with them."""
    rng = np.random.Generator(np.random.SFC64(seed))
    scores, _ = Families(cell, families, rng).draw()
    collapsed = scores < ACCURACY / 2
    named = np.zeros(scores.shape, bool)
    for family, table in enumerate(scores):
        for case, place in astray({str(c): dict(enumerate(row)) for c, row in enumerate(table)}):
            named[family, int(case), place] = True
    return float(named[collapsed].mean()), float(named[~collapsed].mean())


@dataclass(frozen=True)
class Resolved:
    """What becomes of families whose seeds are added until all is resolved, and of the fixed plan with all seeds.

    Attributes:
        families: drawn for each of the three truths.
        claimed: of equals, families with any false better or worse; and with the fixed plan.
        equivalent: where all differ by `worth`, families of which one is called equivalent; and with the fixed plan.
        trials_equal: of equals, the share of the fixed plan's trials that were run.
        trials_clear: the same where all are better by `CLEAR`.
        power: of these the share that is called better; and with the fixed plan.
    """

    families: int
    claimed: tuple[float, float]
    equivalent: tuple[float, float]
    trials_equal: float
    trials_clear: float
    power: tuple[float, float]


CLEAR = 0.03
"""Better by so much, three deviations of the seeds, is a clear effect."""

MOST_TRIALS = 0.5
"""Of the fixed plan's trials, at most so many are run where effects are clear."""

PLANNED = Looks(tuple(range(30)), 5)


def sequel_cells() -> list[Cell]:
    """Families that are looked at while seeds are added."""
    seeds = len(PLANNED.seeds)
    kinds = [("equal", False), ("unequal", False), ("equal", True)]
    chosen = [Cell(k, seeds, 0, 0.0, 0.0, kind, collapses) for kind, collapses in kinds for k in (2, 5, 12)]
    return [*chosen, Cell(2, seeds, 360, 0.1, 0.5, "equal")]


def resolve(cell: Cell, families: int, seed: int) -> Resolved:
    """Simulates a cell under three truths: all equal, all better by `CLEAR`, all better by `WORTH`."""
    rng = np.random.Generator(np.random.SFC64(seed))
    columns: dict[float, list[Any]] = {}
    for better in (0.0, CLEAR, WORTH):
        gains = np.full((cell.rivals + 1, 1), better)
        gains[0] = 0
        size = max(1, CHUNK // ((cell.rivals + 1) * cell.seeds * max(1, cell.images)))
        parts = [
            until_resolved(*Families(cell, min(size, families - at), rng).draw(gains))
            for at in range(0, families, size)
        ]
        columns[better] = [np.concatenate(column) for column in zip(*parts, strict=True)]
    claimed, _, trials_equal, fixed_claimed, _ = columns[0.0]
    better, _, trials_clear, fixed_better, _ = columns[CLEAR]
    _, equal, _, _, fixed_equal = columns[WORTH]
    return Resolved(
        families,
        (float(claimed.any(-1).mean()), float(fixed_claimed.any(-1).mean())),
        (float(equal.any(-1).mean()), float(fixed_equal.any(-1).mean())),
        float(trials_equal.mean()),
        float(trials_clear.mean()),
        (float(better.mean()), float(fixed_better.mean())),
    )


def until_resolved(scores: np.ndarray, hits: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Adds seeds as a sweep does; `compare.judge` of a single family says the same.

    Args:
        scores: f64 [R, k + 1, n], all planned seeds.
        hits: i8 [R, k + 1, n, m], or None.

    Returns:
        bool [R, k] called different, and equivalent; f64 [R], the share of the trials that were run; the first two of
        the fixed plan.
    """
    families, rivals = len(scores), scores.shape[1] - 1
    active, taken = np.ones((families, rivals), bool), np.zeros((families, rivals + 1), int)
    seen: Seen | None = None
    for look, size in enumerate(PLANNED.sizes):
        taken[np.column_stack([active.any(-1), active])] = size
        now = _differences_of(scores[..., :size], None if hits is None else hits[:, :, :size], taken)
        seen = _of_the_active(active, PLANNED.seen(look, now.mean, now.p, now.p_beyond(WORTH), seen), seen)
        decisions = inference.decide(now, WORTH, seen)
        left = np.maximum(1, (~decisions.differs).sum(-1, keepdims=True))
        level = PLANNED.level(len(PLANNED.sizes) - 1, inference.ALPHA / left)
        hope = inference.chance_of_verdict(now, len(PLANNED.seeds), level, WORTH)
        active &= ~(decisions.differs | decisions.equivalent | (hope < HOPELESS))
    fixed = inference.decide(differences(scores, hits), WORTH)
    return decisions.differs, decisions.equivalent, taken.mean(-1) / len(PLANNED.seeds), fixed.differs, fixed.equivalent


def _of_the_active(active: np.ndarray, after: Seen, before: Seen | None) -> Seen:
    """What is known after a look, where it was one of the active comparisons bool [R, k] alone."""
    return Seen(*(np.where(active, *pair) for pair in zip(astuple(after), astuple(before or after), strict=True)))


def _differences_of(scores: np.ndarray, hits: np.ndarray | None, taken: np.ndarray) -> Averages:
    """As `differences`, where the spread is known of so many seeds i64 [R, k + 1] of each configuration."""
    moments = inference.NO_IMAGES if hits is None else inference.image_moments(hits[:, 1:] - hits[:, :1])
    order = np.argsort(taken, -1)  # the residual variance does not depend on it, and there are fewer kinds of families
    sizes = np.take_along_axis(taken, order, -1)
    variance, freedom = np.empty(len(scores)), np.empty(len(scores))
    for kind in np.unique(sizes, axis=0):
        here = (sizes == kind).all(-1)
        values = np.take_along_axis(scores[here], order[here][..., None], 1)
        known = np.arange(scores.shape[-1]) < kind[:, None]
        variance[here], freedom[here] = inference.residual_variance(values, known)
    return inference.means(scores[:, 1:] - scores[:, :1], moments, 2 * variance[:, None], freedom[:, None])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few cells of few families, to see that it runs")
    parser.add_argument("--sequels", action="store_true", help="only the families whose seeds are added until resolved")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", type=Path, help="a file for the tables")
    options = parser.parse_args()
    chosen = (
        [cell for cell in cells() if cell.rivals * cell.seeds <= 15 and cell.images <= 360]
        if options.quick
        else cells()
    )
    families = (lambda _: 100) if options.quick else _families
    started = time.perf_counter()
    grids = [Headline(k, n, by) for k in (5, 20, 50) for n in (3, 5) for by in (True, False)]
    sequels = sequel_cells()[:: 4 if options.quick else 1]
    if options.sequels:
        chosen, grids = [], []
    number = len(chosen) + len(grids) + len(sequels)
    with ProcessPoolExecutor(options.processes) as pool, track(number, "Simulating") as advance:
        jobs = [pool.submit(measure, cell, families(cell), seed) for seed, cell in enumerate(chosen)]
        quotes = [pool.submit(covers, grid, 100 if options.quick else 2_000, 0) for grid in grids]
        more = [pool.submit(resolve, cell, 100 if options.quick else 2_000, seed) for seed, cell in enumerate(sequels)]
        for job in as_completed([*jobs, *quotes, *more]):
            job.result()
            advance(1)
        figures, quoted, resolved = ([job.result() for job in of] for of in (jobs, quotes, more))
    until = until_report(sequels, resolved)
    text = until if options.sequels else report(chosen, figures, grids, quoted, 50 if options.quick else 400, until)
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    missed = [miss for cell, one in zip(chosen, figures, strict=True) for miss in misses(cell, one)]
    missed += ["headline" for held, _ in quoted if held < COVERAGE]
    missed += [miss for cell, one in zip(sequels, resolved, strict=True) for miss in misses_of_looks(cell, one)]
    print(f"figure statistics_cells {len(chosen)}\nfigure statistics_missed {len(missed)}")
    print(f"figure statistics_seconds {time.perf_counter() - started:.0f}")
    return 1 if missed and not options.quick else 0


def _families(cell: Cell) -> int:
    """More where they are cheap."""
    cost = (cell.rivals + 1) * cell.seeds * max(cell.images, 100)
    return int(np.clip(300_000_000 // cost, 1_000, 4_000))


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}".removeprefix("0")


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [titles, ["---"] * len(titles), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def report(
    cells: Sequence[Cell],
    figures: Sequence[Figures],
    grids: Sequence[Headline],
    quoted: Sequence[tuple[float, float]],
    families: int,
    until: str,
) -> str:
    """The tables as Markdown."""
    titles = ["k", "n", "m", "disagree", "persist", "deviations", "families", "any claim", "indication"]
    titles += ["difference covered", "mean covered", "power", "any wrong equivalent", "smallest", "misses"]
    rows = [_row(cell, one) for cell, one in zip(cells, figures, strict=True)]
    headline = [
        [str(grid.configurations), str(grid.seeds), "validation" if grid.by_validation else "test", *map(_share, held)]
        for grid, held in zip(grids, quoted, strict=True)
    ]
    lines = [
        "# What the verdicts are worth",
        "Made by `python -m benchmarks.statistics --write results/statistics.md`, which says what is simulated.",
        "## The worst cells",
        *_worst(cells, figures),
        "## Every cell",
        LEGEND,
        "\n".join(_table(titles, rows)),
        "## The headline of a grid",
        "The best of K equal configurations, chosen on 1,000 other images or on the very 1,000 that it is quoted on: "
        "how often its interval holds the truth, with the allowance that a report makes and without.",
        "\n".join(_table(["K", "n", "chosen on", "with allowance", "without"], headline)),
        "## Seeds astray",
        "One seed in ten collapses: the share of these that a report names, and of the others that it names too.",
        "\n".join(_table(["k", "n", "collapsed named", "others named"], _astray(families))),
        until.rstrip("\n"),
    ]
    return "\n\n".join(lines) + "\n"


def misses_of_looks(cell: Cell, one: Resolved) -> list[str]:
    """What is not kept of what is promised where seeds are added until resolved."""
    kept = {
        "family": one.claimed[0] <= FAMILY,
        "equivalent": one.equivalent[0] <= EQUIVALENT,
        "trials": cell.collapses or one.trials_clear <= MOST_TRIALS,
    }
    return [name for name, good in kept.items() if not good]


def until_report(cells: Sequence[Cell], resolved: Sequence[Resolved]) -> str:
    """The table of families whose seeds are added until resolved, as Markdown."""
    titles = ["k", "m", "deviations", "families", "any claim", "fixed", "any wrong equivalent", "fixed"]
    titles += ["trials, equal", "trials, clear", "found, clear", "fixed", "misses"]
    rows = []
    for cell, one in zip(cells, resolved, strict=True):
        kind = "one seed in ten collapses" if cell.collapses else cell.deviations
        shares = [*one.claimed, *one.equivalent, one.trials_equal, one.trials_clear, *one.power]
        missed = ", ".join(misses_of_looks(cell, one))
        images = f"{cell.images:,}" if cell.images else "–"
        rows.append([str(cell.rivals), images, kind, f"{one.families:,}", *map(_share, shares), missed])
    lines = [
        "## Seeds until resolved",
        f"`seeds: {{max: {len(PLANNED.seeds)}, until: resolved}}`, {PLANNED.block} at a time. *Any claim* (at most "
        f"{FAMILY}) and *trials*, as shares of the fixed plan's: of k equal rivals. *Any wrong equivalent*: where all "
        f"differ by {WORTH} (at most {EQUIVALENT}). *Trials, clear* (at most {MOST_TRIALS}), *found, clear*: where all "
        f"are better by {CLEAR}. *Fixed*: the same of the fixed plan, all {len(PLANNED.seeds)} seeds of all.",
        "\n".join(_table(titles, rows)),
    ]
    return "\n\n".join(lines) + "\n"


LEGEND = f"""\
k rivals that equal the reference, n seeds, m images (–: no hits), the share of images on which two equal models differ,
and how much of it persists over seeds. *Any claim*: families with a false better or worse (promised: at most {FAMILY}).
*Covered*: by the 95 % interval (at least {COVERAGE}). *Power*: at the printed smallest difference, of the printed
verdict ({POWER} ± {WITHIN}). *Any wrong equivalent*: families where all differ by {WORTH} and one is called equivalent
(at most {EQUIVALENT}). The standard error of a share p of f families is √(p (1 - p) / f): .003 for .05 of 4,000, .013
for .8 of 1,000; a power counts as missed from two beyond. Two seeds claim nothing. Where one seed in ten collapses to
.1, intervals and the smallest difference are promised nothing, for no few seeds can: a report warns."""


def _row(cell: Cell, figures: Figures) -> list[str]:
    images = [f"{cell.images:,}", f"{cell.disagreement:g}", f"{cell.persistent:g}"] if cell.images else ["–"] * 3
    kind = "one seed in ten collapses" if cell.collapses else cell.deviations
    shares = [figures.claimed, figures.indicated, figures.covers_difference, figures.covers_mean, figures.power]
    smallest = "–" if math.isnan(figures.smallest) else f"{figures.smallest:.4f}"
    return [
        *(str(cell.rivals), str(cell.seeds), *images, kind, f"{figures.families:,}"),
        *map(_share, [*shares, figures.equivalent]),
        *(smallest, ", ".join(misses(cell, figures))),
    ]


def _worst(cells: Sequence[Cell], figures: Sequence[Figures]) -> list[str]:
    """A sentence for each promise: the cell that comes nearest to breaking it, or breaks it."""
    asked: list[tuple[str, Callable[[Figures], float], bool]] = [
        ("Any false claim in a family, at most", lambda one: one.claimed, True),
        ("Any false indication of two seeds, at most", lambda one: one.indicated, True),
        ("Any wrong equivalent in a family, at most", lambda one: one.equivalent, True),
        ("Coverage of a difference, at least", lambda one: -one.covers_difference, False),
        ("Coverage of a mean, at least", lambda one: -one.covers_mean, False),
        ("Power at the smallest difference, at least", lambda one: -one.power, False),
        ("Power at the smallest difference, at most", lambda one: one.power, False),
    ]
    said = []
    for name, value, with_collapsed in asked:
        pairs = [
            (value(one), cell)
            for cell, one in zip(cells, figures, strict=True)
            if not math.isnan(value(one)) and (with_collapsed or not cell.collapses)
        ]
        if pairs:
            worst, cell = max(pairs, key=lambda pair: pair[0])
            row = _row(cell, figures[cells.index(cell)])
            said.append(f"- {name}: {_share(abs(worst))} (k = {row[0]}, n = {row[1]}, m = {row[2]}, {row[5]}).")
    return ["\n".join(said)]


def _astray(families: int) -> list[list[str]]:
    rows = []
    for k, n in itertools.product((2, 12), (2, 3, 5, 10)):
        named = warned(Cell(k, n, 1_000, 0.1, 0.5, "equal", collapses=True), families, 0)
        rows.append([str(k), str(n), *map(_share, named)])
    return rows


if __name__ == "__main__":
    sys.exit(main())

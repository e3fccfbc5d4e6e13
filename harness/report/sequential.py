"""Levels of comparisons that are looked at again and again while seeds are added.

Of equal configurations one look in twenty finds a difference at 5 %; ten looks find one far more often. Alpha spending
(Lan & DeMets 1983, https://doi.org/10.1093/biomet/70.3.659) says how much of the level may have been spent when a share
t of the planned seeds is there: here alpha ln(1 + (e - 1) t), their function near Pocock's boundaries, which lets clear
effects stop early. Each look has the level at which the chance of crossing there for the first time is what t adds, for
a Brownian motion seen at these t (the recursion of Armitage, McPherson & Rowe 1969). Test images that all seeds share
make looks more alike than that, which only makes the chance smaller.

What counts of a comparison is its sequential p (Liu & Anderson 2008, https://doi.org/10.1198/016214508000000986): the
smallest alpha at which one of its looks would have crossed. Holm's correction over these is the closed procedure of
Maurer & Bretz 2013 (https://doi.org/10.1080/19466315.2013.807748). A look that crossed is believed as long as the
last one by itself finds the same, in the same direction: that takes claims away and adds none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats
from scipy.optimize import brentq

NODES = 61
"""Of the integration between the boundaries."""

ALPHAS = np.geomspace(1e-9, 0.8, 60)
"""Levels at which boundaries are known; between them they are interpolated."""


@dataclass(frozen=True)
class Seen:
    """What was seen of comparisons at their looks so far; arrays of one shape, NaN where there was no test.

    Attributes:
        p: of no difference, sequential.
        p_beyond: of more than what is worth a difference, likewise.
        sign: of the mean at the look that `p` is of.
        last: the level of all looks together at which the last one crosses.
        last_beyond: the same of `p_beyond`.
    """

    p: np.ndarray
    p_beyond: np.ndarray
    sign: np.ndarray
    last: np.ndarray
    last_beyond: np.ndarray

    def stands(self, mean: np.ndarray, alpha: float) -> np.ndarray:
        """Whether the last look, of this mean, finds by itself what `p` is of: a difference, and in that direction."""
        return (self.last <= alpha) & (np.sign(mean) == self.sign)


@dataclass(frozen=True)
class Looks:
    """When a sweep is looked at.

    Attributes:
        seeds: all that are planned, in their order.
        block: so many are added between two looks.
    """

    seeds: tuple[int, ...]
    block: int

    @property
    def sizes(self) -> list[int]:
        """How many seeds there are at each look."""
        return [*range(self.block, len(self.seeds), self.block), len(self.seeds)]

    @property
    def shares(self) -> tuple[float, ...]:
        """The same, as shares of all."""
        return tuple(size / len(self.seeds) for size in self.sizes)

    def level(self, look: int, alpha: np.ndarray | float) -> np.ndarray:
        """The two-sided level of a look, of `sizes`, where all of them together have the level alpha."""
        return np.exp(np.interp(np.log(alpha), np.log(ALPHAS), np.log(_levels(self.shares)[:, look])))

    def overall(self, look: int, p: np.ndarray | float) -> np.ndarray:
        """The level of all looks at which this one's two-sided p crosses its boundary: 1 where none does; NaN: none."""
        levels, p = _levels(self.shares)[:, look], np.asarray(p)
        between = np.exp(np.interp(np.log(np.maximum(p, levels[0])), np.log(levels), np.log(ALPHAS)))
        return np.where(p >= levels[-1], 1.0, np.where(p < levels[0], ALPHAS[0] * p / levels[0], between))

    def seen(
        self, look: int, mean: np.ndarray, p: np.ndarray, p_beyond: np.ndarray, before: Seen | None = None
    ) -> Seen:
        """What is known after a look.

        Args:
            look: of `sizes`.
            mean: of the differences.
            p: of no difference, two-sided, of this look alone.
            p_beyond: of more than what is worth a difference, likewise, one-sided; NaN where that is not asked.
            before: after the looks before this one.
        """
        last, last_beyond, sign = self.overall(look, p), self.overall(look, 2 * p_beyond) / 2, np.sign(mean)
        if before is None:
            return Seen(last, last_beyond, sign, last, last_beyond)
        least, beyond = np.fmin(before.p, last), np.fmin(before.p_beyond, last_beyond)
        return Seen(least, beyond, np.where(before.p <= last, before.sign, sign), last, last_beyond)


def spent(share: float | np.ndarray, alpha: float) -> np.ndarray:
    """What may have been spent of alpha at a share of the seeds: the Pocock-type function of Lan & DeMets."""
    return alpha * np.log1p((np.e - 1) * np.asarray(share))


@cache
def _levels(shares: tuple[float, ...]) -> np.ndarray:
    """f64 [alphas, looks]: the level of each look for each of ALPHAS."""
    return np.array([2 * stats.norm.sf(boundaries(shares, alpha)) for alpha in ALPHAS])


def boundaries(shares: tuple[float, ...], alpha: float) -> np.ndarray:
    """f64 [looks]: what |z| must reach at each look.

    Args:
        shares: of the planned seeds at each look, rising to 1.
        alpha: the chance that any look of equal configurations crosses its boundary.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    before, place, density = 0.0, np.zeros(1), np.ones(1)  # all of it at 0; then weighted by the nodes
    reached = []
    for share, step in zip(shares, np.diff(spent(np.array([0.0, *shares]), alpha)), strict=True):
        root, deviation = np.sqrt(share), np.sqrt(share - before)
        z = brentq(_excess, 0, 12, args=(place / deviation, density, root / deviation, float(step)))
        reached.append(z)
        there = z * root * nodes
        moved = stats.norm.pdf((there[:, None] - place) / deviation) / deviation @ density
        place, density, before = there, moved * weights * z * root, share
    return np.array(reached)


def _excess(z: float, place: np.ndarray, density: np.ndarray, scale: float, step: float) -> float:
    """By how much the logarithm of the chance to cross first here exceeds that of what may be spent."""
    crossed = density @ (stats.norm.sf(z * scale - place) + stats.norm.cdf(-z * scale - place))
    return float(np.log(max(crossed, 1e-300)) - np.log(step))

"""Selection by coverage first and by uncertainty later, as the labels' balls fill the pool."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from baselines.selectors.balls import Balls
from baselines.selectors.finite import require_finite
from baselines.selectors.kcenter import BLOCK_ELEMENTS, filled
from baselines.selectors.log_odds import DECIMALS
from baselines.selectors.probcover import kept_radius
from baselines.selectors.ranking import shuffled
from harness.api import Pool, Selector


class DCoM(Selector):
    """DCoM, Mishal & Weinshall 2024, https://arxiv.org/abs/2407.01804.

    Every labelled image has a ball of its own radius in L2-normalised features: the largest that is mostly predicted as
    its class. The share of the pool in these balls says how competent the classifier is; by it each pick weighs its
    margin against the number of images not yet covered that a ball of the mean radius around it holds. The source is
    the authors' code (https://github.com/avihu111/TypiClust): scores scaled to [0, 1], bisection for the radii, and
    coverage alone while there is no label. Deviations: all radii are found anew with the present classifier, where the
    authors keep those of earlier rounds; the purity they must have follows from the coverage by balls of radius
    `delta`, where the authors' follows from those they kept; radii and competence are not rounded. Ties are broken at
    random. Balls of the mean radius are those of `balls`: exact up to 50,000 images.

    Args:
        delta: radius before there is a label, > 0; None estimates it as `probcover` does, as the paper's start.
        max_delta: the largest radius, > 0.
        resolution: of the radii, > 0.
        center: coverage at which the competence rises, in [0, 1].
        steepness: of its rise, > 0.
    """

    needs = frozenset({"probabilities"})
    supports_cold_start = True
    normalize = "none"

    def __init__(
        self,
        *,
        delta: float | None = None,
        max_delta: float = 1.1,
        resolution: float = 0.05,
        center: float = 0.8,
        steepness: float = 50.0,
    ):
        positive = {"max_delta": max_delta, "resolution": resolution, "steepness": steepness}
        for name, value in positive.items() if delta is None else {"delta": delta, **positive}.items():
            if not value > 0:
                raise ValueError(f"{name} = {value} is not > 0")
        if not 0 <= center <= 1:
            raise ValueError(f"center = {center} is not in [0, 1]")
        self.delta = delta
        self.max_delta = max_delta
        self.resolution = resolution
        self.center = center
        self.steepness = steepness

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        points = normalize(require_finite(pool.features, "features").float())
        delta = self.delta or kept_radius(points, pool.num_classes, 0.95)
        order = torch.cat([shuffled(pool, rng=rng), pool.labeled])
        points, num_free = points[order], len(pool.unlabeled)
        competence, doubt, covered = 0.0, torch.zeros(num_free), torch.zeros(len(order), dtype=torch.bool)
        if len(pool.labeled):
            p = require_finite(pool.logits, "logits")[order].double().softmax(dim=1)
            centers = points[num_free:]
            start = in_balls(points, centers, torch.full((len(centers),), delta))
            purity = 0.2 * float(start.double().mean()) + 0.4
            radii = pure_radii(
                points, p.argmax(dim=1), centers, pool.labels, purity, self.max_delta, resolution=self.resolution
            )
            delta = float(radii.mean())
            covered = in_balls(points, centers, radii)
            competence = self.competence(float(covered.double().mean()))
            doubt = unit_range(1 - margins(p))[:num_free]
        return order[cover_and_doubt(Balls(points, delta, rng=rng), covered, doubt, competence, budget)]

    def competence(self, coverage: float) -> float:
        """A logistic function of the coverage that is 1 at 1."""

        def log_falling(x: float) -> float:
            return float(np.logaddexp(0, -self.steepness * (x - self.center)))  # of 1 + exp(...), which may be infinite

        return math.exp(log_falling(1.0) - log_falling(coverage))


def margins(p: Tensor) -> Tensor:
    """f64 [N]: difference of the two highest of each row of f64 [N, K], equal where the probabilities are."""
    top = p.topk(2, dim=1).values
    return (top[:, 0] - top[:, 1]).round(decimals=DECIMALS)


def unit_range(values: Tensor) -> Tensor:
    """The values [n], moved and scaled to fill [0, 1]; 0 where all are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else torch.zeros_like(values)


def in_balls(points: Tensor, centers: Tensor, radii: Tensor) -> Tensor:
    """bool [N]: which of the unit vectors f32 [N, D] lie in a ball around f32 [L, D] of its radius f32 [L]."""
    least_cosine = 1 - radii.square() / 2

    def of_block(part: slice) -> Tensor:
        return (points[part] @ centers.T > least_cosine).any(dim=1)

    return filled(torch.empty(len(points), dtype=torch.bool), max(1, BLOCK_ELEMENTS // len(centers)), of_block)


def pure_radii(
    points: Tensor,
    predicted: Tensor,
    centers: Tensor,
    labels: Tensor,
    purity: float,
    max_radius: float,
    *,
    resolution: float,
) -> Tensor:
    """f32 [L]: by bisection, radii below which a share `purity` of the points in the ball is predicted as its centre.

    Args:
        points: f32 [N, D], unit vectors, the centres among them.
        predicted: i64 [N].
        centers: f32 [L, D].
        labels: i64 [L].
        purity: in [0, 1].
        max_radius: > 0.
        resolution: > 0.
    """
    radii, step = [], max(1, BLOCK_ELEMENTS // len(points))
    for part, kind in zip(centers.split(step), labels.split(step), strict=True):
        distance = (2 - 2 * part @ points.T).clamp(min=0).sqrt()
        agrees = kind.unsqueeze(1) == predicted
        low, width = torch.zeros(len(part)), max_radius
        while width > resolution:
            width /= 2
            inside = distance < (low + width).unsqueeze(1)
            is_pure = (inside & agrees).sum(dim=1) >= purity * inside.sum(dim=1)
            low += width * (is_pure & inside.any(dim=1))
        radii.append(low + width / 2)
    return torch.cat(radii)


def cover_and_doubt(balls: Balls, covered: Tensor, doubt: Tensor, competence: float, budget: int) -> Tensor:
    """i64 [budget]: again and again the first of the best by competence * doubt + (1 - competence) * new coverage.

    Both are divided by the largest left.

    Args:
        balls: of N points, the candidates first; nothing covered.
        covered: bool [N].
        doubt: f64 [U] >= 0, of the candidates; 0 for those that were picked.
        competence: in [0, 1].
        budget: 1 .. U.
    """
    balls.cover(covered.nonzero().flatten().numpy())
    gain, doubt = torch.from_numpy(balls.gain)[: len(doubt)], doubt.clone()
    left = torch.ones(len(doubt), dtype=torch.bool)
    picks: list[int] = []
    for _ in range(budget):
        score = competence * share_of_largest(doubt) + (1 - competence) * share_of_largest(gain)
        picks.append(int(score.masked_fill_(~left, -1.0).argmax()))
        balls.cover(balls.ball(picks[-1]))
        doubt[picks[-1]], left[picks[-1]] = 0, False
    return torch.tensor(picks)


def share_of_largest(values: Tensor) -> Tensor:
    """f64 [n]: values >= 0 divided by the largest; 0 where that is 0."""
    largest = float(values.max())
    return values.double() / largest if largest > 0 else torch.zeros(len(values), dtype=torch.float64)

"""Selection that covers the pool with balls."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from baselines.selectors.balls import ALL_PAIRS, Balls
from baselines.selectors.finite import require_finite
from baselines.selectors.kcenter import BLOCK_ELEMENTS
from baselines.selectors.kept import Kept
from baselines.selectors.lloyd import AUTHORS_STARTS, kmeans
from baselines.selectors.ranking import shuffled
from harness.api import Pool, Selector

SAMPLE = 2000
"""Images around which the purity of balls is estimated; the share of pure ones is then right to half a per cent."""

_log = logging.getLogger(__name__)


class ProbCover(Selector):
    """ProbCover, Yehuda et al. 2022, https://arxiv.org/abs/2205.11320.

    Greedy maximum coverage: again and again the image whose ball of radius delta holds the most images that no ball of
    a labelled or picked image holds yet. Features are L2-normalised unless `normalize` says otherwise, which also is
    what `delta` is measured in. As described, delta can be estimated without
    labels: the largest radius whose balls are pure in the clusters of k-means, with one cluster per class, for
    `purity` of the images. Deviates: of the radius the authors' code (github.com/avihu111/TypiClust) has constants
    alone; here the balls of a random 2,000 images stand for all, each against every image of the pool, at the exact
    quantile and not on a grid of radii. The code counts distances < delta and forgets the last rows of a pool that
    does not fill its blocks of 500; here they are <= delta, of all. It gives ties, those of the picks that cover
    nothing but themselves among them, to the first position, this to a random image; once everything is covered the
    rest is drawn at random. A batch of which picks cover nothing but themselves is said to hold them, on a line.
    Up to 50,000 images the neighbourhoods are exact and kept as bits, N^2 / 8 bytes; of more they are sought in
    those cells of k-means where a sample finds the most (`balls`), 2 GB for a million.

    Args:
        delta: radius, > 0; None estimates it. The paper uses 0.75 for SimCLR features of CIFAR-10.
        purity: in (0, 1], for the estimate.
    """

    supports_cold_start = True
    normalize = "l2"

    def __init__(self, *, delta: float | None = None, purity: float = 0.95):
        if delta is not None and delta <= 0:
            raise ValueError(f"delta = {delta} is not > 0")
        if not 0 < purity <= 1:
            raise ValueError(f"purity = {purity} is not in (0, 1]")
        self.delta = delta
        self.purity = purity

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        points = require_finite(pool.features, "features").float()
        delta = self.delta
        if delta is None:
            delta = kept_radius(points, pool.num_classes, self.purity)
        balls = (kept_balls if len(points) <= ALL_PAIRS else kept_balls.made)(points, delta)
        order = shuffled(pool, rng=rng)
        rank = np.empty(len(points))
        rank[torch.cat([order, pool.labeled]).numpy()] = np.arange(len(points))
        picks, num_useful = greedy_cover(balls.fresh(), pool.labeled.tolist(), budget, rank=rank)
        if num_useful < budget:
            _log.warning(
                "probcover: %d of %d picks cover no image but themselves and are drawn at random; a larger delta than "
                "%.3g would tell more of them apart",
                budget - num_useful,
                budget,
                delta,
            )
        chosen = torch.tensor(picks, dtype=torch.int64)
        return torch.cat([chosen, order[~torch.isin(order, chosen)]])[:budget]


kept_balls = Kept(Balls)
"""The cells of many points are made by the features alone, and so are the same in every round."""


def greedy_cover(
    balls: Balls, centers: list[int], budget: int, *, rank: np.ndarray | None = None
) -> tuple[list[int], int]:
    """Picks the first of the points that newly cover the most, until all are covered or the budget is spent.

    Args:
        balls: of all N points, nothing covered; they are as covered afterwards.
        centers: points whose balls are covered from the start; never picked.
        budget: the most picks.
        rank: f64 [N] of 0 .. N-1: which of equals is the first; by default their position.

    Returns:
        Distinct points, at most `budget`, and how many of them cover more than one point: these are the first ones.
    """

    order = np.arange(len(balls.gain)) if rank is None else rank
    balls.gain = balls.gain - order / len(balls.gain)  # whole numbers, less what decides among equals

    def cover(center: int) -> None:
        balls.cover(balls.ball(center))
        balls.gain[center] = -len(balls.gain)  # never again, though rounding may leave balls not quite symmetric

    for center in centers:
        cover(center)
    picks: list[int] = []
    num_useful = 0
    while len(picks) < budget and balls.uncovered.any():
        picks.append(int(balls.gain.argmax()))
        num_useful += int(np.ceil(balls.gain[picks[-1]]) > 1)
        cover(picks[-1])
    return picks, num_useful


def pure_radius(points: Tensor, num_clusters: int, purity: float, *, rng: torch.Generator) -> float:
    """The largest radius at which a share `purity` of the balls hold points of one k-means cluster only.

    That is a quantile of every point's distance to the nearest point of another cluster. A random sample of the points
    stands for all of them, but their neighbours are sought among all: nearest ones are farther in a sample.

    Args:
        points: f32 [N, D].
        num_clusters: >= 1.
        purity: in (0, 1].
        rng: draws the starts of k-means and the sample.
    """
    cluster, _ = kmeans(points, min(num_clusters, len(points)), rng=rng, n_init=AUTHORS_STARTS)
    sample = torch.randperm(len(points), generator=rng)[:SAMPLE]
    points = points - points.mean(dim=0)  # products round off less near the origin
    squares = points.square().sum(dim=1)
    nearest = []
    for part in sample.split(max(1, BLOCK_ELEMENTS // len(points))):
        squared = torch.addmm(squares, points[part], points.T, alpha=-2)
        squared[cluster[part].unsqueeze(1) == cluster] = torch.inf
        nearest.append(squared.amin(dim=1) + squares[part])
    farthest = 4 * float(squares.max())  # that points can be, squared
    distance = torch.cat(nearest).double().clamp(0, farthest).sqrt()
    return max(float(distance.quantile(1 - purity)), 1e-6)


kept_radius = Kept(pure_radius)

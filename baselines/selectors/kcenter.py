"""k-centre greedy: again and again the point that is farthest from all centres becomes the next centre.

The plain loop updates every point's distance to its nearest centre after every pick. Almost all of that work is
wasted: a distance that was not updated can only be too large, so it remains an upper bound, and a point whose
upper bound is not the largest cannot be the next pick. So only a cache-sized *window* of the points with the
largest bounds is kept up to date; when its best falls under the best bound outside, the next window is taken and
brought up to date with one blocked matrix product. The picks are those of the plain loop.

Memory beyond the points: one centred copy of them, a few numbers per point and one block of distances.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

BLOCK_ELEMENTS = 1 << 23
"""Entries of one block of distances: 32 MB in float32."""


def filled(result: Tensor, step: int, block: Callable[[slice], Tensor]) -> Tensor:
    """The result [n], filled with what `block` says of `step` rows at a time.

    Written into what was there before the first block: small results that outlive their blocks come to lie in the
    memory that these freed, so that the next one does not fit there, which of a million rows were tens of gigabytes.
    """
    for start in range(0, len(result), step):
        part = slice(start, start + step)
        result[part] = block(part)
    return result


class Distance(ABC):
    """A symmetric distance that a matrix product can evaluate: d(i, j) = offset_i + offset_j - scale left_i . right_j.

    Args:
        left: float [N, E].
        right: float [N, E].
        offset: float [N].
        scale: a number.
    """

    def __init__(self, left: Tensor, right: Tensor, offset: Tensor, scale: float):
        self.left, self.right, self.offset, self.scale = left, right, offset, scale
        # What the rounding error of a product grows with; a safe multiple of what is seen in practice.
        self.slack = 64 * torch.finfo(left.dtype).eps * (left.square().sum(dim=1) + right.square().sum(dim=1)) / 2

    @abstractmethod
    def direct(self, rows: Tensor, others: Tensor) -> Tensor:
        """f64 [n] >= 0: d(rows_k, others_k) for i64 [n] each, without cancellation; exactly 0 for equal points."""

    def block(self, rows: Tensor, others: Tensor) -> Tensor:
        """[R, M] distances of i64 [R] from i64 [M], up to rounding (may be slightly negative)."""
        product = torch.addmm(self.offset[others], self.left[rows], self.right[others].T, alpha=-self.scale)
        return product.add_(self.offset[rows].unsqueeze(1))

    def lower_bounds(self, other: int) -> Tensor:
        """[N] numbers not above the distances of all points from one, `other`."""
        product = torch.addmv(self.offset, self.left, self.right[other], alpha=-self.scale)
        return product + (self.offset[other] - self.slack[other]) - self.slack

    def subset(self, rows: Tensor) -> Self:
        """The same distance among the points i64 [R] only, renumbered 0 .. R-1."""
        part = copy.copy(self)
        part.left, part.offset, part.slack = self.left[rows], self.offset[rows], self.slack[rows]
        part.right = part.left if self.right is self.left else self.right[rows]
        return part


class SquaredEuclidean(Distance):
    """|x_i - x_j|^2, which orders points as the Euclidean distance does.

    Args:
        points: f32 [N, D].
    """

    def __init__(self, points: Tensor):
        # Centred, because the rounding errors of the product form grow with the distance from the origin.
        centered = points.float() - points.mean(dim=0, dtype=torch.float64).float()
        super().__init__(centered, centered, centered.square().sum(dim=1), scale=2)

    def direct(self, rows: Tensor, others: Tensor) -> Tensor:
        """See `Distance.direct`."""
        return (self.left[rows].double() - self.left[others].double()).square().sum(dim=1)


def k_center_greedy(
    distance: Distance, centers: Tensor, candidates: Tensor, budget: int, *, rng: torch.Generator, window: int = 1024
) -> Tensor:
    """Picks candidates one after the other, each the farthest from its nearest centre, which then is a centre too.

    Ties go to the candidate that comes first in `candidates`, as in a plain loop with argmax. Distances that decide
    are float64; which centre is the nearest to begin with is found by products in the precision of `distance`.

    Args:
        distance: among all points.
        centers: i64 [M], the first centres. If there are none, the first pick is drawn uniformly.
        candidates: i64 [U], distinct, disjoint from `centers`.
        budget: 1 .. U.
        rng: used for the first pick without centres only.
        window: number of points kept up to date at once; changes the time, not the picks.

    Returns:
        i64 [budget], distinct, all in `candidates`, in the order of picking, even where all distances are 0.
    """
    assert 1 <= budget <= len(candidates), (budget, len(candidates))
    search = _Search(distance, centers, candidates)
    if len(centers) == 0:
        search.choose(torch.randint(len(candidates), (1,), generator=rng))
    search.refresh(torch.arange(len(candidates)))
    while search.num_picks < budget:
        search.pick_within_window(window, budget)
    return search.centers[len(centers) :]


class _Search:
    """The state of one greedy run; candidates are numbered 0 .. U-1 here.

    Attributes:
        centers: i64 [M], in the numbering of `distance`, the picks at the end.
        bound: f64 [U], at least the distance to the nearest centre; equal to it where `seen` is M; -1 for picks.
        seen: i64 [U], how many of the centres `bound` takes into account.
    """

    def __init__(self, distance: Distance, centers: Tensor, candidates: Tensor):
        self.distance = distance
        self.candidates = candidates
        self.centers = centers
        self.num_picks = 0
        self.bound = torch.full((len(candidates),), torch.inf, dtype=torch.float64)
        self.seen = torch.zeros(len(candidates), dtype=torch.int64)

    def choose(self, picks: Tensor) -> None:
        """Makes candidates i64 [n] centres."""
        self.centers = torch.cat([self.centers, self.candidates[picks]])
        self.bound[picks] = -1.0
        self.num_picks += len(picks)

    def refresh(self, members: Tensor) -> None:
        """Brings the bounds of i64 [n] candidates up to date with the centres that they have not seen."""
        if len(centers := self.centers[int(self.seen[members].min()) :]) == 0:
            return
        for part in members.split(max(1, BLOCK_ELEMENTS // len(centers))):
            rows = self.candidates[part]
            nearest = centers[self.distance.block(rows, centers).argmin(dim=1)]
            self.bound[part] = torch.minimum(self.bound[part], self.distance.direct(rows, nearest))
        self.seen[members] = len(self.centers)

    def farthest(self, count: int) -> Tensor:
        """i64 [<= count]: the candidates with the largest bounds, among equals the first, in ascending order."""
        if count >= len(self.bound):
            return torch.arange(len(self.bound))
        threshold = self.bound.topk(count).values[-1]
        above = (self.bound > threshold).nonzero().squeeze(1)
        level = (self.bound == threshold).nonzero().squeeze(1)[: count - len(above)]
        return torch.cat([above, level]).sort().values

    def pick_within_window(self, size: int, budget: int) -> None:
        """Picks as long as the next pick is certain to lie among the candidates with the largest bounds."""
        window = self.farthest(size)
        self.refresh(window)
        outside = self.bound.index_fill(0, window, -torch.inf)
        rival = int(outside.argmax())
        rival_bound = float(outside[rival])
        local = self.distance.subset(self.candidates[window])
        values = self.bound[window]
        picks: list[int] = []
        while self.num_picks + len(picks) < budget:
            best = int(values.argmax())
            if (float(values[best]), -int(window[best])) < (rival_bound, -rival):
                break
            picks.append(best)
            values[best] = -1.0
            closer = (local.lower_bounds(best) < values).nonzero().squeeze(1)
            values[closer] = torch.minimum(values[closer], local.direct(closer, closer.new_tensor([best])))
        self.bound[window] = values
        self.choose(window[torch.tensor(picks, dtype=torch.int64)])
        self.seen[window] = len(self.centers)

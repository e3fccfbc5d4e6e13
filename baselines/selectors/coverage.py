"""Greedy coverage by a Gaussian kernel: again and again the point that adds most to how well all points are covered.

How well x is covered by S is max over s in S of k(x, s), with k(x, y) = exp(-|x - y|^2 / radius^2). What a point would
add can only shrink as others are picked (the coverage is submodular), so that a gain that was not updated remains an
upper bound; only while the largest one is out of date are the `WINDOW` largest brought up to date, by one blocked
matrix product. The picks are those of the plain loop that updates all gains, up to rounding. Of few points all
distances are found once and kept from round to round; of many no N x N matrix is made.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from baselines.selectors.kcenter import BLOCK_ELEMENTS, filled
from baselines.selectors.kept import Kept

WINDOW = 16

FEW = 11_000
"""Points of which all squared distances are kept: half a GB."""


def check_num_targets(num_targets: int | None) -> None:
    """Refuses an impossible number of images that a coverage is the mean over; None is all of them."""
    if num_targets is not None and num_targets < 1:
        raise ValueError(f"num_targets = {num_targets} is not >= 1")


class Kernel:
    """k(x, y) = exp(-|x - y|^2 / radius^2) of any points to some of them.

    Args:
        points: f32 [N, D].
        targets: i64 [S], those of the points that are to be covered.
        radius: > 0.

    Attributes:
        step: rows whose values make one block.
    """

    def __init__(self, points: Tensor, targets: Tensor, radius: float):
        self.radius = radius
        few = len(points) <= FEW
        self.step = max(1, BLOCK_ELEMENTS // (len(points) if few else len(targets)))
        if few:
            between = kept_distances(points)
            self._squared = lambda rows: between[rows].index_select(1, targets)
        else:
            self._squared = squared_distances(points, points[targets])

    def __call__(self, rows: Tensor) -> Tensor:
        """f32 [n, S]: of the points i64 [n]."""
        return self._squared(rows).mul_(-1 / self.radius**2).exp_()


def squared_distances(points: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
    """Of the points i64 [n] of f32 [N, D] to the targets f32 [S, D]: f32 [n, S], >= 0."""
    middle = points.mean(dim=0)  # products round off less near the origin
    centered = targets - middle
    turned, target_squares = centered.T.contiguous(), centered.square().sum(dim=1)

    def of_rows(rows: Tensor) -> Tensor:
        part = points[rows] - middle
        squared = torch.addmm(target_squares, part, turned, alpha=-2)
        squared += part.square().sum(dim=1, keepdim=True)
        return squared.clamp_(min=0)

    return of_rows


def all_distances(points: Tensor, *, rng: torch.Generator) -> Tensor:
    """f32 [N, N]: squared, of any two points f32 [N, D]; nothing is drawn."""
    size, of_rows = len(points), squared_distances(points, points)
    every, result = torch.arange(size), points.new_empty(size, size)
    return filled(result, max(1, BLOCK_ELEMENTS // size), lambda part: of_rows(every[part]))


kept_distances = Kept(all_distances)


def greedy_coverage(kernel: Kernel, weights: Tensor, centers: Tensor, candidates: Tensor, budget: int) -> Tensor:
    """Picks, one after the other, the candidate that adds most to the weighted sum of how well targets are covered.

    Args:
        kernel: among the points.
        weights: f32 [S] >= 0, of the targets.
        centers: i64 [M], points that cover from the start.
        candidates: i64 [U], distinct, in random order: of equals the first is picked.
        budget: 1 .. U.

    Returns:
        i64 [budget], in the order of picking; once nothing is left to gain, the first of the other candidates.
    """
    assert 1 <= budget <= len(candidates), (budget, len(candidates))
    covered = torch.zeros_like(weights)
    for part in centers.split(kernel.step) if len(centers) else ():
        torch.maximum(covered, kernel(part).amax(dim=0), out=covered)

    def gains(rows: Tensor) -> Tensor:
        def of_block(part: slice) -> Tensor:
            return kernel(rows[part]).sub_(covered).clamp_(min=0) @ weights

        return filled(torch.empty(len(rows)), kernel.step, of_block)

    gain = gains(candidates)
    up_to_date = torch.ones(len(candidates), dtype=torch.bool)
    picks: list[int] = []
    while len(picks) < budget:
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        if up_to_date[best]:
            picks.append(best)
            torch.maximum(covered, kernel(candidates[best : best + 1])[0], out=covered)
            gain[best] = -1.0
            up_to_date.fill_(False)
        else:
            stale = gain.masked_fill(up_to_date, -1.0)
            stale[best] = torch.inf  # in the window, however many are its equals
            window = stale.topk(min(WINDOW, len(gain))).indices
            window = window[stale[window] > 0]
            gain[window] = gains(candidates[window])
            up_to_date[window] = True
    chosen = torch.tensor(picks, dtype=torch.int64)
    rest = torch.ones(len(candidates), dtype=torch.bool).index_fill(0, chosen, False).nonzero().squeeze(1)
    return candidates[torch.cat([chosen, rest])[:budget]]

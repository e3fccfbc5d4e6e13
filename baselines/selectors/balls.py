"""How many points not yet covered lie in the ball around each point, kept up to date as balls cover them.

Who lies in whose ball is found once and kept as bits. Up to `ALL_PAIRS` points every pair is looked at: N^2 / 8 bytes.
Of more points k-means makes cells of about `CELL_SIZE`, and a point's neighbours are sought in its own cell and in
those between which and its own a sample finds the most, `NUM_CELLS` for each in the mean: an eighth of a byte for each
pair looked at, whatever the radius. What lies in a ball outside of these is not counted as covered by it.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from baselines.selectors.lloyd import kmeans

ALL_PAIRS = 50_000
CELL_SIZE = 1_000
NUM_CELLS = 16
SAMPLE_OF_CELL = 32
"""Points of each cell by which it is known how many pairs within the radius it has with the others."""
BLOCK_ROWS = 255
"""Rows of pairs computed at once, and of bits unpacked at once: their sum fits in a byte."""


class Balls:
    """The balls around all points, and what is not covered yet.

    Args:
        points: f32 [N, D].
        radius: of each ball, > 0; a point at this distance lies in it.
        rng: draws the cells, where there are any.

    Attributes:
        uncovered: bool [N], all at first.
        gain: i64 [N], how many uncovered points lie in each ball.
    """

    def __init__(self, points: Tensor, radius: float, *, rng: torch.Generator):
        points = points - points.mean(dim=0)  # products round off less near the origin
        self._cell, self._members, self._near_cells = cells(points, radius, rng=rng)
        self._place = np.empty(len(points), dtype=np.int64)  # of each point among the members of its cell
        self._columns, self._bits = [], []
        self.uncovered = np.ones(len(points), dtype=bool)
        self.gain: np.ndarray = np.empty(len(points), dtype=np.int64)
        squares = points.square().sum(dim=1)
        for own, near in zip(self._members, self._near_cells, strict=True):
            self._place[own] = np.arange(len(own))
            columns = np.concatenate([self._members[cell] for cell in near])
            others, other_squares = points[torch.from_numpy(columns)].T, squares[torch.from_numpy(columns)]
            column = np.full(len(points), -1)
            column[columns] = np.arange(len(columns))
            rows = []
            for part in np.split(own, range(BLOCK_ROWS, len(own), BLOCK_ROWS)):
                rows_of = torch.from_numpy(part)
                beyond = torch.addmm(other_squares, points[rows_of], others, alpha=-2)
                inside = (beyond <= (radius**2 - squares[rows_of]).unsqueeze(1)).numpy()
                inside[np.arange(len(part)), column[part]] = True
                rows.append(np.packbits(inside, axis=1))
                self.gain[part] = np.bitwise_count(rows[-1]).sum(axis=1)
            self._columns.append(columns)
            self._bits.append(np.concatenate(rows))

    def fresh(self) -> Balls:
        """The same balls with nothing covered, if nothing is in these; who lies in whose is shared."""
        other = copy.copy(self)
        other.uncovered, other.gain = self.uncovered.copy(), self.gain.copy()
        return other

    def ball(self, point: int) -> np.ndarray:
        """i64 [n]: the uncovered points in a point's ball."""
        inside = self._columns[self._cell[point]][self._rows(np.array([point]))[0].view(bool)]
        return inside[self.uncovered[inside]]

    def cover(self, points: np.ndarray) -> None:
        """Marks i64 [n] uncovered points as covered."""
        self.uncovered[points] = False
        by_cell = points[np.argsort(self._cell[points], kind="stable")]
        for group in np.split(by_cell, np.flatnonzero(np.diff(self._cell[by_cell])) + 1):
            for part in np.split(group, range(BLOCK_ROWS, len(group), BLOCK_ROWS)):
                if len(part):
                    lost = self._rows(part).sum(axis=0, dtype=np.uint8)
                    self.gain[self._columns[self._cell[part[0]]]] -= lost

    def _rows(self, points: np.ndarray) -> np.ndarray:
        """u8 [n, columns], 0 or 1: the balls of i64 [n] points of one cell."""
        cell = self._cell[points[0]]
        return np.unpackbits(self._bits[cell][self._place[points]], axis=1, count=len(self._columns[cell]))


def cells(
    points: Tensor, radius: float, *, rng: torch.Generator
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Which cell each point is in, i64 [N], who is in each cell, and in which cells its neighbours are sought.

    The last is symmetric: a cell is among those of another if that is among its own, and among its own. A cell of
    k-means that is more than twice as large as it should be is cut up, so that copies of one image are no single cell.
    """
    if len(points) <= ALL_PAIRS:
        return np.zeros(len(points), dtype=np.int64), [np.arange(len(points))], [np.zeros(1, dtype=np.int64)]
    cluster = kmeans(points, -(-len(points) // CELL_SIZE), rng=rng)[0].numpy()
    groups = np.split(np.argsort(cluster, kind="stable"), np.bincount(cluster).cumsum()[:-1])
    members = [part for own in groups if len(own) for part in np.array_split(own, -(-len(own) // (2 * CELL_SIZE)))]
    cell = np.empty(len(points), dtype=np.int64)
    for number, own in enumerate(members):
        cell[own] = number
    return cell, members, near_cells(points, members, radius, rng=rng)


def near_cells(points: Tensor, members: list[np.ndarray], radius: float, *, rng: torch.Generator) -> list[np.ndarray]:
    """For each cell those in which its points' neighbours are sought, in all as many as `NUM_CELLS` for each cost.

    These are the pairs of cells between which the largest share of pairs of points lies within the radius, in a sample
    of each cell. Of pairs where that is equal, such as 0, those are first whose samples' middles are nearest.
    """
    some = [own[torch.randperm(len(own), generator=rng)[:SAMPLE_OF_CELL].numpy()] for own in members]
    size, number = np.array([len(own) for own in members]), np.array([len(own) for own in some])
    sample = points[torch.from_numpy(np.concatenate(some))]
    squares, transposed, starts = sample.square().sum(dim=1), sample.T.contiguous(), number.cumsum() - number
    share = np.empty((len(members), len(members)))
    for cell, start in enumerate(starts):
        own = slice(start, start + number[cell])
        beyond = torch.addmm(squares, sample[own], transposed, alpha=-2)
        inside = (beyond <= (radius**2 - squares[own]).unsqueeze(1)).numpy()
        share[cell] = np.add.reduceat(inside.sum(axis=0), starts) / (number[cell] * number)
    share = np.maximum(share, share.T)  # the two differ by rounding
    middles = torch.stack([part.mean(dim=0) for part in sample.split(number.tolist())])
    one, other = np.triu_indices(len(members), k=1)
    order = np.lexsort((torch.cdist(middles, middles).numpy()[one, other], -share[one, other]))
    one, other = one[order], other[order]
    looked_at = (size**2).sum() + (2 * size[one] * size[other]).cumsum()
    is_near = np.eye(len(members), dtype=bool)
    chosen = looked_at <= size.sum() * CELL_SIZE * NUM_CELLS
    is_near[one[chosen], other[chosen]] = is_near[other[chosen], one[chosen]] = True
    return [np.flatnonzero(row) for row in is_near]

"""Wishes beside the selector's own: a batch that is diverse, balanced over predicted classes, or free of duplicates.

The selector is asked for a shortlist C, longer than the batch, in its order of preference. Of it the batch S is chosen
that makes

    F(S) = preference(S) + diversity * coverage(S) + balance * evenness(S)

large, whose terms lie in [0, 1], so that weights of 1 count alike:

    preference(S) = 1/b sum_{i in S} (1 - rank_i / |C|), rank_i = 0, 1, ... in the selector's order
    coverage(S)   = 1/|C| sum_{c in C} max_{j in S + L} max(0, cos(c, j)), L the labelled images (facility location)
    evenness(S)   = sum_k sqrt(n_k + m_k(S)) / sqrt(K (n + b)), n_k the labels of class k, m_k(S) predicted to be of k

All three are monotone and submodular (Lin & Bilmes 2011, https://aclanthology.org/P11-1052), so is F, and taking again
and again the image that adds most reaches at least 1 - 1/e of the largest F (Nemhauser, Wolsey & Fisher 1978,
https://doi.org/10.1007/BF01588971). The first of equals is the one that the selector prefers. With both weights 0 that
is the selector's own order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.trial.selection import Bought

SHORTLIST = 5
"""Images on the shortlist for each of the batch."""

BLOCK = 1024
"""Rows of a block of cosines."""


@dataclass(frozen=True)
class Wishes:
    """What is wished.

    Attributes:
        diversity: weight of coverage, >= 0.
        balance: weight of evenness, >= 0.
        duplicates: cosine from which an image is left out for one that is labelled or in the batch; None: none is.
    """

    diversity: float = 0.0
    balance: float = 0.0
    duplicates: float | None = None

    def __post_init__(self) -> None:
        for name, weight in (("diversity", self.diversity), ("balance", self.balance)):
            if not 0 <= weight < math.inf:
                raise ValueError(f"--{name} {weight}: a weight is 0 or more")
        if self.duplicates is not None and not 0 < self.duplicates <= 1:
            raise ValueError(f"--exclude-duplicates {self.duplicates}: a cosine in (0, 1]")

    @property
    def reorder(self) -> bool:
        """Whether the selector's order is not all that counts."""
        return bool(self.diversity or self.balance)


@dataclass(frozen=True, eq=False)
class Shortlist:
    """What F is computed of.

    Attributes:
        points: f32 [C, D], unit vectors, in the selector's order.
        covered: f32 [C], the largest cosine of each with a labelled image, at least 0.
        predicted: i64 [C], their predicted classes; None where balance is no wish.
        counts: i64 [K], labels of each class.
        budget: b.
        wishes: the weights.
    """

    points: Tensor
    covered: Tensor
    predicted: Tensor | None
    counts: Tensor
    budget: int
    wishes: Wishes

    @classmethod
    def of(
        cls, features: Tensor, rows: Tensor, bought: Bought, predicted: Tensor | None, budget: int, wishes: Wishes
    ) -> Shortlist:
        """The shortlist i64 [C] of a pool f32 [N, D]."""
        points, known = normalize(features[rows], dim=1), normalize(features[bought.positions], dim=1)
        covered = torch.zeros(len(rows))
        for part in known.split(BLOCK):
            covered = torch.maximum(covered, (points @ part.T).amax(1).clamp(0, 1))
        counts = torch.bincount(bought.labels, minlength=bought.num_classes)
        return cls(points, covered, predicted, counts, budget, wishes)

    def cosines(self, rows: Tensor) -> Tensor:
        """f32 [n, C] in [0, 1]: of i64 [n] with all, 1 with themselves."""
        cosine = (self.points[rows] @ self.points.T).clamp(0, 1)
        cosine[torch.arange(len(rows)), rows] = 1.0
        return cosine

    def greedy(self) -> list[int]:
        """Positions on the shortlist: again and again the one that adds most to F, duplicates left out.

        What an image adds can only shrink as the batch grows, so only those are brought up to date whose last known
        gain is the largest (Minoux 1978, https://doi.org/10.1007/BFb0006528). Fewer than the budget where the shortlist
        has no more.
        """
        size, limit = len(self.covered), self.wishes.duplicates
        nearest, counts = self.covered.clone(), self.counts.double()
        known = torch.full((size,), math.inf, dtype=torch.float64)
        if limit is not None:
            known[self.covered >= limit] = -math.inf
        fresh = torch.zeros(size, dtype=torch.bool)
        chosen: list[int] = []
        while len(chosen) < self.budget:
            best = int(known.argmax())
            if known[best] == -math.inf:
                break
            if not fresh[best]:
                stale = (known == math.inf).nonzero().flatten()[:BLOCK] if known[best] == math.inf else None
                rows = torch.tensor([best]) if stale is None else stale
                known[rows] = self._gains(rows, nearest, counts)
                fresh[rows] = True
                continue
            cosine = self.cosines(torch.tensor([best]))[0]
            chosen.append(best)
            known[best] = -math.inf
            if limit is not None:
                known[cosine >= limit] = -math.inf
            nearest = torch.maximum(nearest, cosine)
            if self.predicted is not None:
                counts[self.predicted[best]] += 1
            fresh[:] = not self.wishes.reorder  # what each adds to the preference alone stays
        return chosen

    def _gains(self, rows: Tensor, nearest: Tensor, counts: Tensor) -> Tensor:
        """f64 [n]: what each of i64 [n] would add to F of a batch that covers f32 [C] and has f64 [K] labels."""
        size = len(self.covered)
        gain = (1 - rows.double() / size) / self.budget
        if self.wishes.diversity:
            gain += self.wishes.diversity * (self.cosines(rows) - nearest).clamp(min=0).double().mean(1)
        if self.predicted is not None:
            more = ((counts + 1).sqrt() - counts.sqrt()) / math.sqrt(
                len(counts) * (int(self.counts.sum()) + self.budget)
            )
            gain += self.wishes.balance * more[self.predicted[rows]]
        return gain

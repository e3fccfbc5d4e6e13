"""Selection by the Fisher information of the last layer."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.finite import require_finite
from baselines.selectors.kcenter import BLOCK_ELEMENTS
from baselines.selectors.log_odds import gaps, log_odds_against_top
from baselines.selectors.ranking import shuffled
from harness.api import Pool, Selector

MOST_CANDIDATES = 50_000

LEAST_REGULARIZATION = 1e-5
"""Of the largest |x|^2: below 1e-6 rank-one updates of M^-1 lose so many digits that other images are picked."""


class Bait(Selector):
    """BAIT, Ash et al. 2021, https://arxiv.org/abs/2106.09675, in the binary form of Huseljic et al. 2024.

    Picks a batch S that makes tr(M^-1 F) small: F is the Fisher information of the last layer's weights over all
    images, M = regularization I + that of the labelled images and of S. Images are added greedily, twice as many as are
    wanted, and then taken away greedily, both by rank-one updates of M^-1. With K classes F has D K rows; "BAIT Binary"
    (Fast Fishing, https://arxiv.org/abs/2404.08981) asks only whether the predicted class, of probability p, is
    right, so that an image's information is p (1 - p) h h^T of what the last layer reads of it, h, and F has D rows.
    Follows the code of the authors of both (JordanAsh/badge, dhuseljic/dal-toolbox; of the papers only the beginnings
    were at hand), also in its weights: with L labelled and B picks M is regularization I + L / (L + B) times the
    labelled images' mean + B / (L + B) times the sum over S. The bias takes no part. Heads whose last layer is not
    linear, of which this is not the information, are refused. Deviates: the regularization is at least 1e-5 of the
    largest |h|^2 p (1 - p), for the sake of rounding; of more than 50,000 unlabelled images a random 50,000, or four
    times the picks, are candidates, while F is that of all. Ties are broken at random. Costs candidates x D per pick,
    twice, and D^3 twice; float64 copies of [candidates, D] and [D, D].

    Args:
        regularization: lambda, > 0; in the authors' code 1, and 0.01 for CIFAR-10.
    """

    needs = frozenset({"probabilities", "linear_layer"})

    def __init__(self, *, regularization: float = 1.0):
        if not regularization > 0:
            raise ValueError(f"regularization = {regularization} is not > 0")
        self.regularization = regularization

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        s = log_odds_against_top(gaps(require_finite(pool.logits, "logits")))
        weight = (s.sigmoid() * (-s).sigmoid()).sqrt().unsqueeze(1)  # sqrt(p (1 - p))
        features = require_finite(pool.penultimate, "penultimate")

        def gradients(rows: Tensor) -> Tensor:
            return features[rows].double() * weight[rows]

        candidates = shuffled(pool, rng=rng)[: max(MOST_CANDIDATES, 4 * budget)]
        num_labeled, dims = len(pool.labeled), features.shape[1]
        fisher, longest = torch.zeros(dims, dims, dtype=torch.float64), 0.0
        for rows in torch.arange(len(features)).split(max(1, BLOCK_ELEMENTS // dims)):
            part = gradients(rows)
            fisher += part.T @ part / len(features)
            longest = max(longest, float(part.square().sum(dim=1).max()))
        known = gradients(pool.labeled)
        start = known.T @ known / (num_labeled + budget)
        start.diagonal().add_(max(self.regularization, LEAST_REGULARIZATION * longest))
        scale = (budget / (num_labeled + budget)) ** 0.5
        picks = forward_backward(gradients(candidates).mul_(scale), start, fisher, budget)
        return candidates[picks]


def forward_backward(x: Tensor, start: Tensor, fisher: Tensor, budget: int) -> Tensor:
    """Makes tr((start + sum over picks of x x^T)^-1 fisher) small.

    With M the sum so far and A = M^-1 fisher M^-1, adding x lowers the trace by x^T A x / (1 + x^T M^-1 x), and taking
    x away raises it by x^T A x / (1 - x^T M^-1 x). Both forms are kept for all rows and updated by two products.

    Args:
        x: f64 [U, D], in random order: of equals the first is picked.
        start: f64 [D, D], positive definite.
        fisher: f64 [D, D], positive semidefinite.
        budget: 1 .. U.

    Returns:
        i64 [budget] rows.
    """
    trace = _Trace(x, start, fisher)
    picks: list[int] = []
    left = torch.ones(len(x), dtype=torch.bool)
    for _ in range(min(2 * budget, len(x))):
        gain = trace.quadratic / (1 + trace.leverage)
        picks.append(int(gain.masked_fill(~left, -torch.inf).argmax()))
        left[picks[-1]] = False
        trace.update(picks[-1], sign=1)
    chosen = torch.tensor(picks)
    x = x[chosen]
    trace = _Trace(x, start + x.T @ x, fisher)
    kept = torch.arange(len(chosen))
    while len(kept) > budget:
        loss = trace.quadratic[kept] / (1 - trace.leverage[kept]).clamp(min=1e-12)
        worst = int(loss.argmin())
        trace.update(int(kept[worst]), sign=-1)
        kept = torch.cat([kept[:worst], kept[worst + 1 :]])
    return chosen[kept]


class _Trace:
    """M^-1 and A = M^-1 fisher M^-1, and their quadratic forms for all rows of x.

    Attributes:
        leverage: f64 [U], x^T M^-1 x.
        quadratic: f64 [U], x^T A x.
    """

    def __init__(self, x: Tensor, start: Tensor, fisher: Tensor):
        self._x = x
        self._fisher = fisher
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(start))
        self.leverage = (x @ self._inverse * x).sum(dim=1)
        self.quadratic = (x @ (self._inverse @ fisher @ self._inverse) * x).sum(dim=1)

    def update(self, row: int, *, sign: int) -> None:
        """Adds x x^T of a row to M, or takes it away (Sherman-Morrison)."""
        g = self._inverse @ self._x[row]  # M^-1 x
        f = self._fisher @ g
        w = self._inverse @ f  # A x
        step = sign / (1 + sign * float(self._x[row] @ g))
        by_g, by_w = (self._x @ torch.stack([g, w], dim=1)).T
        self.leverage -= step * by_g**2
        self.quadratic += by_g * (step**2 * (g @ f) * by_g - 2 * step * by_w)
        self._inverse.addr_(g, g, alpha=-step)

"""Diverse and uncertain batches by gradient embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.finite import require_finite
from baselines.selectors.kmeans_plus_plus import kmeans_plus_plus
from baselines.selectors.log_odds import gaps, log_odds_against_top
from harness.api import Pool, Selector


class Badge(Selector):
    """BADGE, Ash et al. 2020, https://arxiv.org/abs/1906.03671.

    The gradient of the loss at the predicted label with respect to the last layer's weights is the outer product of
    p - onehot(argmax p) and what that layer reads (section 3); k-means++ seeding on these picks a batch that is
    uncertain (long gradients) and diverse. As described, the first pick is uniform, where the authors' code takes the
    longest gradient. Labelled images play no part in the seeding, and the bias none in the gradient, as there. Heads
    whose last layer is not linear, of which this is not the gradient, are refused. The N x (K D) embedding is never
    formed: products of outer products are products of products.
    """

    needs = frozenset({"probabilities", "linear_layer"})

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        logits, inputs = require_finite(pool.logits, "logits"), require_finite(pool.penultimate, "penultimate")
        distance = GradientDistance(logits[pool.unlabeled], inputs[pool.unlabeled])
        return pool.unlabeled[kmeans_plus_plus(distance, torch.arange(len(pool.unlabeled)), budget, rng=rng)]


class GradientDistance:
    """Squared Euclidean distances between gradient embeddings error (x) input.

    Args:
        logits: f32 [U, K].
        inputs: f32 [U, D], of the last layer.
    """

    def __init__(self, logits: Tensor, inputs: Tensor):
        p = logits.double().softmax(dim=1)
        top = p.argmax(dim=1, keepdim=True)
        # p_1 - 1 without cancellation, so that confident predictions keep the direction of their gradient.
        self.error = p.scatter(1, top, -log_odds_against_top(gaps(logits)).sigmoid().unsqueeze(1))
        self.inputs = inputs
        self.norm = self.error.square().sum(dim=1) * inputs.double().square().sum(dim=1)

    def block(self, rows: Tensor, others: Tensor) -> Tensor:
        """See `kmeans_plus_plus.Blocks.block`."""
        product = (self.error[rows] @ self.error[others].T).mul_(self.inputs[rows] @ self.inputs[others].T)
        return product.mul_(-2).add_(self.norm[others]).add_(self.norm[rows].unsqueeze(1))

"""Selection of images whose predicted class dropout changes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from baselines.selectors.finite import require_finite
from baselines.selectors.kmeans import nearest_to_centroids
from baselines.selectors.ranking import shuffled
from harness.api import Pool, Selector

CANDIDATES_PER_PICK = 25
IMAGES_AT_ONCE = 65_536
"""Images that pass through dropout at once."""


class DropQuery(Selector):
    """DropQuery, Gupte et al. 2024, https://arxiv.org/abs/2401.14555.

    Candidates are images whose predicted class changes in more than half of `num_samples` passes with dropout before
    the last layer; k-means puts their L2-normalised features into as many clusters as there are picks, and the nearest
    to each centroid is picked. Before the first label all images are candidates (the paper's centroid start). Follows
    the authors' code (sanketx/AL-foundation-models; of the paper only the beginning was at hand): while there are fewer
    than 25 candidates per pick, fewer changes suffice, at last one; where even so there are fewer than picks, all are
    picked and the rest is drawn. Deviates: dropout acts on what the classifier's last layer reads, which under a hidden
    layer is not the encoder's features themselves, though these are what is clustered; k-means is `kmeans`', of one
    start as theirs, but of up to 25 iterations where theirs has 100. Ties are broken at random. No backbone with
    dropout is needed. Costs num_samples x U x D x K, and k-means of the candidates.

    Args:
        num_samples: passes, M in the paper, >= 1.
        dropout: share of the inputs that a pass drops, in (0, 1); what is left is scaled up.
    """

    supports_cold_start = True

    def __init__(self, *, num_samples: int = 3, dropout: float = 0.75):
        if num_samples < 1:
            raise ValueError(f"num_samples = {num_samples} is not >= 1")
        if not 0 < dropout < 1:
            raise ValueError(f"dropout = {dropout} is not in (0, 1)")
        self.num_samples = num_samples
        self.dropout = dropout

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        points = normalize(require_finite(pool.features, "features").float())
        order = shuffled(pool, rng=rng)
        if len(pool.labeled) == 0:
            return order[nearest_to_centroids(points[order], budget, rng=rng)[0]]
        changes = self._changes(pool, order, rng)
        threshold = self.num_samples // 2
        while threshold > 0 and int((changes > threshold).sum()) < CANDIDATES_PER_PICK * budget:
            threshold -= 1
        candidates, others = order[changes > threshold], order[changes <= threshold]
        if len(candidates) <= budget:
            return torch.cat([candidates, others])[:budget]
        return candidates[nearest_to_centroids(points[candidates], budget, rng=rng)[0]]

    def _changes(self, pool: Pool, order: Tensor, rng: torch.Generator) -> Tensor:
        """i64 [U]: in how many passes with dropout another class is predicted for images i64 [U]."""
        penultimate = require_finite(pool.penultimate, "penultimate")
        predicted = require_finite(pool.logits, "logits").argmax(dim=1)
        changes = []
        for part in order.split(IMAGES_AT_ONCE):
            inputs, changed = penultimate[part], torch.zeros(len(part), dtype=torch.int64)
            for _ in range(self.num_samples):
                kept = torch.rand(inputs.shape, generator=rng) >= self.dropout
                changed += pool.last_layer(inputs * kept / (1 - self.dropout)).argmax(dim=1) != predicted[part]
            changes.append(changed)
        return torch.cat(changes)

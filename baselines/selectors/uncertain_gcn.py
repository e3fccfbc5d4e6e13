"""Selection by how sure a graph network is that an image is unlabelled."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.gcn import check_gcn, train_gcn
from baselines.selectors.ranking import highest
from harness.api import Pool, Selector


class UncertainGCN(Selector):
    """UncertainGCN, Caramalau, Bhattarai & Kim 2021, https://arxiv.org/abs/2006.10219.

    A graph network learns to tell labelled images (1) from unlabelled ones (0); picked are the unlabelled images whose
    output is nearest to `margin`. Follows the released code
    (github.com/razvancaramalau/Sequential-GCN-for-Active-Learning) in the graph, the network and the training.
    Deviates: nodes are all images of the pool, where it takes a random 10,000 of the unlabelled (`pool_subset` does so
    here), but of more than 50,000 the network is trained on the labelled and random others; small column sums of the
    graph (see `gcn`). Ties are broken at random.

    Args:
        margin: s_margin, in [0, 1].
        num_steps: full-graph steps, >= 1.
        hidden_dim: >= 1.
        dropout: in [0, 1).
        unlabeled_weight: weight lambda of the unlabelled images' loss, > 0.
    """

    normalize = "none"

    def __init__(
        self,
        *,
        margin: float = 0.1,
        num_steps: int = 200,
        hidden_dim: int = 128,
        dropout: float = 0.3,
        unlabeled_weight: float = 1.2,
    ):
        if not 0 <= margin <= 1:
            raise ValueError(f"margin = {margin} is not in [0, 1]")
        check_gcn(num_steps, hidden_dim, dropout, unlabeled_weight)
        self.margin = margin
        self.num_steps = num_steps
        self.hidden_dim = hidden_dim
        self.dropout = dropout
        self.unlabeled_weight = unlabeled_weight

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        logit, _ = train_gcn(
            pool.penultimate,
            pool.labeled,
            rng=rng,
            hidden_dim=self.hidden_dim,
            dropout=self.dropout,
            unlabeled_weight=self.unlabeled_weight,
            num_steps=self.num_steps,
        )
        score = logit.sigmoid()
        return highest(pool, -(score[pool.unlabeled] - self.margin).abs(), budget, rng=rng)

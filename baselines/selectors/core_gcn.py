"""Core-set selection in the hidden space of a graph network."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.gcn import check_gcn, train_gcn
from baselines.selectors.kcenter import SquaredEuclidean, k_center_greedy
from baselines.selectors.ranking import shuffled
from harness.api import Pool, Selector


class CoreGCN(Selector):
    """CoreGCN, Caramalau, Bhattarai & Kim 2021, https://arxiv.org/abs/2006.10219.

    k-centre greedy on the hidden features of a graph network that learns to tell labelled images from unlabelled ones,
    and on its output, the logit of being labelled, as one more feature; the labelled images are the first centres. That
    logit is the released code's (github.com/razvancaramalau/Sequential-GCN-for-Active-Learning), the paper speaks of
    features alone; it varies more than all hidden features together. Follows the code in the graph, the network and the
    training. Deviates: nodes are all images of the pool, where it takes a random 10,000 of the unlabelled
    (`pool_subset` does so here), but of more than 50,000 the network is trained on the labelled and random others;
    small column sums of the graph (see `gcn`). Ties are broken at random.

    Args:
        num_steps: full-graph steps, >= 1.
        hidden_dim: >= 1.
        dropout: in [0, 1).
        unlabeled_weight: weight lambda of the unlabelled images' loss, > 0.
    """

    normalize = "none"

    def __init__(
        self,
        *,
        num_steps: int = 200,
        hidden_dim: int = 128,
        dropout: float = 0.3,
        unlabeled_weight: float = 1.2,
    ):
        check_gcn(num_steps, hidden_dim, dropout, unlabeled_weight)
        self.num_steps = num_steps
        self.hidden_dim = hidden_dim
        self.dropout = dropout
        self.unlabeled_weight = unlabeled_weight

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        logit, hidden = train_gcn(
            pool.penultimate,
            pool.labeled,
            rng=rng,
            hidden_dim=self.hidden_dim,
            dropout=self.dropout,
            unlabeled_weight=self.unlabeled_weight,
            num_steps=self.num_steps,
        )
        points = torch.cat([hidden, logit.unsqueeze(1)], dim=1)
        return k_center_greedy(SquaredEuclidean(points), pool.labeled, shuffled(pool, rng=rng), budget, rng=rng)

"""A graph network that tells labelled from unlabelled images, on the complete graph of cosine similarities.

Follows the released code of Caramalau et al. 2021 (https://arxiv.org/abs/2006.10219): with L2-normalised features X and
S = X X^T - I, the graph is A = S diag(1 / column sums of S) + I; the network is sigmoid(A drop(relu(A X W + b)) w + c),
trained on all nodes at once. There the graph is an N x N matrix; here it is never formed, because A V is the same as
X (X^T V') - V' + V with V' = diag(1 / column sums) V, in N D instead of N^2 operations per column of V. Deviates:
column sums below 1 count as 1. Those of features after a ReLU are in the hundreds; without one they can pass through 0,
where the released graph has entries without bound.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize, relu

from baselines.selectors.finite import require_finite
from harness.seeding import seeded

LARGEST_GRAPH = 50_000
"""Nodes that the network is trained on at most."""


class CosineGraph:
    """A = S diag(1 / column sums of S) + I with S = X X^T - I.

    Args:
        features: f32 [N, D]; normalised here.
    """

    def __init__(self, features: Tensor):
        self.x = normalize(features.float())
        sums = self.x @ self.x.sum(dim=0) - 1
        self.scale = 1 / sums.clamp(min=1.0).unsqueeze(1)

    def __matmul__(self, v: Tensor) -> Tensor:
        """A v for f32 [N, h]."""
        scaled = v * self.scale
        return (self.x @ (self.x.T @ scaled)).sub_(scaled).add_(v)


class GCN(nn.Module):
    """Two graph convolutions; the output's probability is that of being labelled.

    Weights and biases start uniform within 1 / sqrt(outputs), as released.

    Args:
        in_dim: D.
        hidden_dim: h.
        dropout: between the two, in [0, 1).
    """

    def __init__(self, in_dim: int, hidden_dim: int, dropout: float):
        super().__init__()
        self.first = nn.Linear(in_dim, hidden_dim)
        self.second = nn.Linear(hidden_dim, 1)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.first, self.second):
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -(layer.out_features**-0.5), layer.out_features**-0.5)

    def hidden(self, smoothed: Tensor) -> Tensor:
        """f32 [N, h] of A X, f32 [N, D]."""
        return relu(self.first(smoothed))

    def forward(self, graph: CosineGraph, smoothed: Tensor) -> Tensor:
        """f32 [N], the logit of being labelled."""
        kept = self.dropout(self.hidden(smoothed))
        return (graph @ (kept @ self.second.weight.T)).squeeze(1) + self.second.bias


def check_gcn(num_steps: int, hidden_dim: int, dropout: float, unlabeled_weight: float) -> None:
    """Raises ValueError for an impossible hyper-parameter of `train_gcn`."""
    if num_steps < 1:
        raise ValueError(f"num_steps = {num_steps} is not >= 1")
    if hidden_dim < 1:
        raise ValueError(f"hidden_dim = {hidden_dim} is not >= 1")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout = {dropout} is not in [0, 1)")
    if unlabeled_weight <= 0:
        raise ValueError(f"unlabeled_weight = {unlabeled_weight} is not > 0")


def training_nodes(is_labeled: Tensor, *, rng: torch.Generator) -> Tensor:
    """i64 [n]: all, or of more than `LARGEST_GRAPH` the labelled, bool [N], and others at random, one at least."""
    if len(is_labeled) <= LARGEST_GRAPH:
        return torch.arange(len(is_labeled))
    labeled, others = is_labeled.nonzero().squeeze(1), (~is_labeled).nonzero().squeeze(1)
    drawn = torch.randperm(len(others), generator=rng)[: max(1, LARGEST_GRAPH - len(labeled))]
    return torch.cat([labeled, others[drawn]])


def train_gcn(
    features: Tensor,
    labeled: Tensor,
    *,
    rng: torch.Generator,
    hidden_dim: int = 128,
    dropout: float = 0.3,
    unlabeled_weight: float = 1.2,
    num_steps: int = 200,
    lr: float = 1e-3,
    weight_decay: float = 5e-4,
) -> tuple[Tensor, Tensor]:
    """Trains the network on all nodes at once, of more than 50,000 on the labelled and random others, and evaluates it.

    What a node receives is a mean over the graph in which its size does not matter, so that a network that was trained
    on a part of the nodes is evaluated on the graph of all.

    Args:
        features: f32 [N, D].
        labeled: i64 [L], 0 < L < N.
        rng: seeds weights and dropout.
        hidden_dim: h.
        dropout: between the layers.
        unlabeled_weight: of the unlabelled nodes' loss.
        num_steps: of Adam.
        lr: of Adam.
        weight_decay: of Adam.

    Returns:
        f32 [N], the logit of being labelled, and f32 [N, h], the hidden features.
    """
    is_labeled = torch.zeros(len(require_finite(features, "features")), dtype=torch.bool).index_fill(0, labeled, True)
    nodes = training_nodes(is_labeled, rng=rng)
    graph = CosineGraph(features[nodes])
    smoothed = graph @ graph.x
    is_known = is_labeled[nodes]
    with seeded(int(torch.randint(2**31 - 1, (), generator=rng)), "gcn"):
        model = GCN(features.shape[1], hidden_dim, dropout)
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
        for _ in range(num_steps):
            logit = model(graph, smoothed)
            known, unknown = logsigmoid(logit[is_known]), logsigmoid(-logit[~is_known])
            loss = -known.mean() - unlabeled_weight * unknown.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        if len(nodes) < len(features):
            graph = CosineGraph(features)
            smoothed = graph @ graph.x
        return model(graph, smoothed), model.hidden(smoothed)

"""Weighted k-nearest-neighbour votes, for the `knn` head and for watching pre-training."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def votes(
    queries: Tensor,
    bank: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    neighbors: int,
    temperature: float,
    leave_one_out: bool = False,
) -> Tensor:
    """Each class's share of the neighbours' votes (Wu et al. 2018, https://arxiv.org/abs/1805.01978).

    Args:
        queries: f32 [n, D].
        bank: f32 [L, D].
        labels: i64 [L], of the bank.
        num_classes: K.
        neighbors: k; at most as many as there are.
        temperature: a neighbour votes with exp(cosine similarity / temperature).
        leave_one_out: the queries are the bank; none votes for itself.

    Returns:
        f32 [n, K], rows sum to 1.
    """
    bank = F.normalize(bank, dim=1)
    count = min(neighbors, len(bank) - leave_one_out)
    shares = []
    for rows in torch.arange(len(queries)).split(1024):
        similarity = F.normalize(queries[rows], dim=1) @ bank.T
        if leave_one_out:
            similarity[torch.arange(len(rows)), rows] = float("-inf")
        nearest, index = similarity.topk(count, dim=1)
        weight = (nearest / temperature).softmax(dim=1)
        shares.append(torch.zeros(len(rows), num_classes).scatter_add_(1, labels[index], weight))
    return torch.cat(shares)


def accuracy(features: Tensor, labels: Tensor, *, neighbors: int = 20, temperature: float = 0.1) -> float:
    """Leave-one-out k-NN accuracy in [0, 1] of f32 [N, D] features with i64 [N] labels; NaN of one image.

    Run over the validation images alone, it needs none of the labels that selectors compete for, and means
    the same for every method and budget. It is not the accuracy that papers publish: see `accuracy_by_bank`.
    """
    if len(features) == 1:
        return math.nan
    shares = votes(
        features,
        features,
        labels,
        int(labels.max()) + 1,
        neighbors=neighbors,
        temperature=temperature,
        leave_one_out=True,
    )
    return float((shares.argmax(1) == labels).float().mean())


def accuracy_by_bank(features: Tensor, labels: Tensor, bank: Tensor, known: Tensor) -> float:
    """k-NN accuracy in [0, 1] as self-supervised papers monitor it: 200 neighbours among the training images, tau 0.1.

    Args:
        features: f32 [n, D], of validation images.
        labels: i64 [n], of these.
        bank: f32 [L, D], of the training images.
        known: i64 [L], their labels.
    """
    num_classes = int(torch.cat([labels, known]).max()) + 1
    shares = votes(features, bank, known, num_classes, neighbors=200, temperature=0.1)
    return float((shares.argmax(1) == labels).float().mean())

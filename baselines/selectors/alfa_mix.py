"""Selection of images whose predicted class changes when their features are mixed with labelled ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from baselines.selectors.finite import require_finite
from baselines.selectors.kmeans import nearest_to_centroids
from baselines.selectors.lloyd import AUTHORS_STARTS
from baselines.selectors.ranking import shuffled
from harness.api import Pool, Selector


class AlfaMix(Selector):
    """ALFA-Mix, Parvaneh et al. 2022, https://arxiv.org/abs/2203.07034, with its closed form of the mixing.

    Candidates are images whose predicted class changes when their features z are mixed with the mean z* of a class's
    labelled features, alpha z* + (1 - alpha) z elementwise; k-means puts their L2-normalised features into as many
    clusters as there are picks, and the nearest to each centroid is picked. With g the gradient of the loss at the
    predicted class, alpha = e |z* - z| g / (|g| (z* - z)), so that the mixture is z + e |z* - z| g / |g|. Follows the
    authors' code (AminParvaneh/alpha_mix_active_learning, `--alpha_closed_form_approx --alpha_cap 0.2`; of the paper
    only the beginning was at hand): e is `epsilon` / sqrt(D), twice, three times that, ... to 1 / sqrt(D) while there
    are no more candidates than picks; a class without labels has the mean of all labelled; too few candidates are all
    picked and the rest is drawn. Features are what the last layer reads, which must be linear: logistic, ridge, linear
    and mlp heads and fine-tuned networks have one, and others are refused. Deviates: classes whose logits the head does
    not read from the features (those without labels, of most heads) take no part; k-means, the best of 10
    starts as there, is `kmeans`', which compares them on a part of the candidates. Ties are
    broken at random. Costs U x K x (D + K), and k-means of the candidates.

    Args:
        epsilon: step of the mixing's size, in (0, 1].
    """

    needs = frozenset({"linear_layer"})

    def __init__(self, *, epsilon: float = 0.2):
        if not 0 < epsilon <= 1:
            raise ValueError(f"epsilon = {epsilon} is not in (0, 1]")
        self.epsilon = epsilon

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        features = require_finite(pool.penultimate, "penultimate").float()
        logits = require_finite(pool.logits, "logits")
        order = shuffled(pool, rng=rng)
        weight = last_layer_weight(pool, features, logits)
        known = ~weight.isnan().any(dim=1)
        distance = distances_to_means(features, order, pool.labeled, pool.labels, pool.num_classes)
        changed = torch.zeros(len(order), dtype=torch.bool)
        size = 0.0
        while size < 1 and int(changed.sum()) <= budget:
            size = min(1.0, size + self.epsilon)
            steps = size / features.shape[1] ** 0.5 * distance
            changed |= class_changes(logits[order][:, known], weight[known], steps)
        candidates, others = order[changed], order[~changed]
        if len(candidates) <= budget:
            return torch.cat([candidates, others])[:budget]
        points = normalize(features[candidates])
        return candidates[nearest_to_centroids(points, budget, rng=rng, n_init=AUTHORS_STARTS)[0]]


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """f32 [K, D]: the mean of f32 [L, D] features of each class; of a class without labels, that of all."""
    means = features.mean(dim=0).repeat(num_classes, 1)
    for label in labels.unique().tolist():
        means[label] = features[labels == label].mean(dim=0)
    return means


def distances_to_means(features: Tensor, rows: Tensor, labeled: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """f32 [n, K]: of the rows i64 [n] of f32 [N, D] features from the mean of each class, as `class_means` has it."""
    centered = features - features.mean(dim=0)  # products round off less near the origin
    return torch.cdist(centered[rows], class_means(centered[labeled], labels, num_classes))


def class_changes(logits: Tensor, weight: Tensor, steps: Tensor) -> Tensor:
    """Which predicted classes change on a step along the gradient of the loss at them.

    Args:
        logits: f32 [U, C].
        weight: f32 [C, D] of the linear layer that gives them.
        steps: f32 [U, A], lengths of steps, each of which is tried.

    Returns:
        bool [U].
    """
    z, gram = logits.double(), (weight.double() @ weight.double().T)
    top = z.argmax(dim=1, keepdim=True)
    # p - onehot(top), divided by 1 - p_top, so that confident predictions keep their gradient's direction
    error = z.scatter(1, top, -torch.inf).softmax(dim=1).scatter(1, top, -1.0)
    slope = error @ gram  # of the logits along the gradient g = weight^T error
    length = (slope * error).sum(dim=1, keepdim=True).clamp(min=0).sqrt()
    slope = torch.where(length > 0, slope / length, 0.0)
    moved = torch.stack([(z + step.unsqueeze(1) * slope).argmax(dim=1) for step in steps.double().T])
    return (moved != top.squeeze(1)).any(dim=0)


def last_layer_weight(pool: Pool, features: Tensor, logits: Tensor) -> Tensor:
    """f32 [K, D], from what the last layer says of unit vectors; rows of NaN for logits that are not linear in them.

    Args:
        pool: its last layer is asked.
        features: f32 [N, D], what it reads of the pool.
        logits: f32 [N, K].

    Raises:
        ValueError: the logits of a class that has labels are not linear in the features.
    """
    dims = features.shape[1]
    offset = pool.last_layer(torch.zeros(1, dims))
    scale = features.abs().max().clamp(min=1e-6)  # as large as the features, for the sake of rounding
    weight = (pool.last_layer(scale * torch.eye(dims)) - offset).T / scale
    spread = logits.amax(dim=1) - logits.amin(dim=1)
    # a twentieth of the spread is far above what bfloat16 rounds, and far below what other heads are off
    allowed = 0.05 * torch.maximum(spread, spread.median()).unsqueeze(1) + 1e-4
    off = ((features @ weight.T + offset - logits).abs() > allowed).any(dim=0)
    if off[pool.labels].any():
        raise ValueError("alfa_mix needs a linear last layer: logistic, ridge, linear, mlp or finetune")
    return weight.masked_fill(off.unsqueeze(1), torch.nan)

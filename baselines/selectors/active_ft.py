"""Selection by points that are optimised to be distributed like the pool."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from baselines.selectors.finite import require_finite
from baselines.selectors.kcenter import BLOCK_ELEMENTS
from baselines.selectors.ranking import shuffled
from harness.api import Pool, Selector


class ActiveFT(Selector):
    """ActiveFT, Xie, Lu, Yan, Yang, Tomizuka & Zhan 2023, https://arxiv.org/abs/2303.14382.

    As many points as picks move over the unit sphere of L2-normalised features by gradient descent: every image draws
    the point nearest to it, so that the points are distributed like the pool, and the points repel each other. Then
    each in turn takes the nearest image that is left. The source of loss, optimizer and values is the released code
    (https://github.com/yichen928/ActiveFT), in which a point also meets itself in the repulsion; the paper's equations
    were not compared. Deviation: labelled images, which one-shot selection has not, are points that do not move, so
    that a later round fills up what earlier ones left. Ties are broken at random.
    Time O(num_iterations min(N, batch_size) P D + N M D) for P picks, M with the labels; memory O(P M) beyond features.

    Args:
        temperature: tau, > 0.
        balance: of repulsion against attraction, > 0.
        num_iterations: gradient steps, >= 0; 100 in the released code for ImageNet.
        lr: of Adam, > 0.
        batch_size: images per step, drawn anew where there are more, >= 1.
    """

    supports_cold_start = True
    normalize = "none"

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        balance: float = 1.0,
        num_iterations: int = 300,
        lr: float = 1e-3,
        batch_size: int = 100_000,
    ):
        for name, value in (("temperature", temperature), ("balance", balance), ("lr", lr)):
            if not value > 0:
                raise ValueError(f"{name} = {value} is not > 0")
        if num_iterations < 0:
            raise ValueError(f"num_iterations = {num_iterations} is not >= 0")
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size} is not >= 1")
        self.temperature = temperature
        self.balance = balance
        self.num_iterations = num_iterations
        self.lr = lr
        self.batch_size = batch_size

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        features = normalize(require_finite(pool.features, "features").float())
        unlabeled = shuffled(pool, rng=rng)
        fixed = features[pool.labeled]
        to_fixed = nearest_point(features, fixed)[0]
        points = features[unlabeled[:budget]].clone().requires_grad_()
        optimizer = torch.optim.Adam([points], lr=self.lr)
        for _ in range(self.num_iterations):
            rows: Tensor | slice = slice(None)
            if len(features) > self.batch_size:
                rows = torch.randperm(len(features), generator=rng)[: self.batch_size]
            optimizer.zero_grad()
            mismatch(
                features[rows], to_fixed[rows], fixed, normalize(points), self.temperature, self.balance
            ).backward()
            optimizer.step()
        return unlabeled[nearest_left(normalize(points.detach()), features[unlabeled])]


def nearest_point(features: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """The largest cosine f32 [N] of unit vectors f32 [N, D] with any of f32 [M, D], and i64 [N], with which of these.

    Where there are none, -inf and 0.
    """
    if len(points) == 0:
        return features.new_full((len(features),), -torch.inf), torch.zeros(len(features), dtype=torch.int64)
    cosine, nearest = features.new_empty(len(features)), torch.empty(len(features), dtype=torch.int64)
    step = max(1, BLOCK_ELEMENTS // len(points))
    for part, *of_part in zip(features.split(step), cosine.split(step), nearest.split(step), strict=True):
        torch.max(part @ points.T, dim=1, out=tuple(of_part))  # in place, as `filled` does and why
    return cosine, nearest


def mismatch(
    features: Tensor, to_fixed: Tensor, fixed: Tensor, points: Tensor, temperature: float, balance: float
) -> Tensor:
    """f32 []: the mean over images of -log(p / (p + balance r)), the loss of the released code, less a constant.

    p is exp(cos / temperature) of an image and its nearest point, r the sum of that of this point and all points. The
    gradient reaches a point through the images that it is nearest to alone; what images add that are nearest to a point
    that does not move is constant, and left out.

    Args:
        features: f32 [N, D], unit vectors.
        to_fixed: f32 [N], the cosine with the `nearest_point` of `fixed`; where a moving point is as near, an image
            draws the fixed one.
        fixed: f32 [L, D], unit vectors.
        points: f32 [P, D], unit vectors that move.
        temperature: > 0.
        balance: > 0.
    """
    with torch.no_grad():
        cosine, nearest = nearest_point(features, points)
        drawn = (cosine > to_fixed).nonzero().squeeze(1)
    nearest = nearest[drawn]
    attraction = (features[drawn] * points[nearest]).sum(dim=1) / temperature
    others = torch.cat([fixed, points.detach()])
    repulsion = (points @ others.T / temperature).logsumexp(dim=1)
    return softplus(math.log(balance) + repulsion[nearest] - attraction).sum() / len(features)


def nearest_left(points: Tensor, features: Tensor) -> Tensor:
    """i64 [M]: for each of f32 [M, D] in turn, the first of the most similar rows of f32 [U, D] that none took before.

    Args:
        points: unit vectors, M <= U.
        features: unit vectors.
    """
    taken = torch.zeros(len(features), dtype=torch.bool)
    picks = []
    for part in points.split(max(1, BLOCK_ELEMENTS // len(features))):
        for similarity in part @ features.T:
            pick = similarity.masked_fill_(taken, -torch.inf).argmax()
            taken[pick] = True
            picks.append(pick)
    return torch.stack(picks)

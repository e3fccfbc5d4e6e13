"""Selection that covers what is uncertain."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize, one_hot

from baselines.selectors.coverage import Kernel, check_num_targets, greedy_coverage
from baselines.selectors.finite import require_finite
from baselines.selectors.log_odds import gaps, log_entropy, log_odds_against_top, log_one_minus_margin
from baselines.selectors.ranking import shuffled
from harness.api import Pool, Selector

LARGEST_TEMPERATURE = 20.0
CLOSEST = 0.01
"""Unit vectors nearer than this are copies: float32 products tell their distances no better."""
MOST_LEFT_OUT = 2000
"""Labelled images that the accuracy is estimated on; that takes time cubic in their number."""
PENALTIES = (0.01, 0.1, 1.0)
"""Of the ridge regression, relative to the images' own products, which are 1."""

MEASURES = {
    "margin": log_one_minus_margin,
    "entropy": log_entropy,
    "least_confidence": lambda gap: logsigmoid(log_odds_against_top(gap)),
}
"""The logarithm of each measure, f64 [n] of the gaps between logits f64 [n, K]."""


class UncertaintyHerding(Selector):
    """Uncertainty Herding (UHerding), Bae, Oliveira & Sutherland 2025, https://arxiv.org/abs/2412.20644.

    Greedily picks the image that adds most to the uncertainty coverage, the mean over x of u(x) max over s in S of
    k(x, s), where S starts as the labelled images: MaxHerding while everything is uncertain, uncertainty sampling once
    the kernel is narrow. k is Gaussian on L2-normalised features, its radius the smallest distance of two labelled
    images (copies left out; 1 where there are no two); u is one minus the margin between probabilities at a
    calibrating temperature, and constant before the first label. Follows the authors' code
    (github.com/BorealisAI/uherding); of the paper only the beginning was at hand.
    Deviates: a selector cannot train the classifier anew on 70 % of the labels to find the temperature in 1 .. 20 with
    the least calibration error on the rest. Here it is the one in 1 .. 20 at which the mean confidence on unlabelled
    images equals the accuracy to be expected there: that of ridge regression on the features, each labelled image
    left out in turn (of at most 2,000). Where the authors draw at most 35,000 candidates, all remain candidates, and
    the mean is taken over at most `num_targets` unlabelled images. Ties are broken at random. Costs as `max_herding`.

    Args:
        uncertainty: "margin" (1 - p_1 + p_2), "entropy" or "least_confidence" (1 - p_1).
        temperature: of the softmax, > 0; None calibrates.
        radius: of the kernel, > 0; None adapts it to the labelled images.
        num_targets: unlabelled images that the mean is taken over, drawn anew in every round, >= 1; all if None.
    """

    needs = frozenset({"probabilities"})
    supports_cold_start = True
    normalize = "none"

    def __init__(
        self,
        *,
        uncertainty: str = "margin",
        temperature: float | None = None,
        radius: float | None = None,
        num_targets: int | None = 20_000,
    ):
        if uncertainty not in MEASURES:
            raise ValueError(f"uncertainty = {uncertainty!r} is none of {', '.join(map(repr, MEASURES))}")
        for name, value in (("temperature", temperature), ("radius", radius)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} = {value} is not > 0")
        check_num_targets(num_targets)
        self.uncertainty = uncertainty
        self.temperature = temperature
        self.radius = radius
        self.num_targets = num_targets

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        points = normalize(require_finite(pool.features, "features").float())
        candidates = shuffled(pool, rng=rng)
        targets = candidates[: self.num_targets]
        weights = torch.ones(len(targets))
        if len(pool.labeled):
            logits = require_finite(pool.logits, "logits")
            temperature = self.temperature
            if temperature is None:
                accuracy = left_out_accuracy(points[pool.labeled], pool.labels, pool.num_classes, rng=rng)
                temperature = calibrating_temperature(logits[targets], accuracy)
            weights = self._weights(logits[targets].double() / temperature)
        kernel = Kernel(points, targets, self.radius or smallest_distance(points[pool.labeled]))
        return greedy_coverage(kernel, weights, pool.labeled, candidates, budget)

    def _weights(self, logits: Tensor) -> Tensor:
        """f32 [S], the largest 1: the uncertainty of f64 [S, K]."""
        score = MEASURES[self.uncertainty](gaps(logits))
        return (score - score.max()).exp().float()


def smallest_distance(points: Tensor) -> float:
    """That of any two of the unit vectors f32 [L, D] that are no copies of each other; 1 if there are no such two."""
    least = torch.inf
    for part in torch.arange(len(points)).split(2048) if len(points) else ():
        squared = 2 - 2 * points[part] @ points.T
        least = min(least, float(squared.masked_fill_(squared < CLOSEST**2, torch.inf).min()))
    return least**0.5 if least < torch.inf else 1.0


def calibrating_temperature(logits: Tensor, accuracy: float) -> float:
    """The T in 1 .. 20 at which the mean of max softmax(logits / T) is `accuracy`, or the end that comes closest.

    Args:
        logits: f32 [n, K], n >= 1.
        accuracy: in [0, 1].
    """

    def confidence(temperature: float) -> float:
        return float((gaps(logits) / temperature).softmax(dim=1)[:, 0].mean())

    low, high = 1.0, LARGEST_TEMPERATURE
    if confidence(low) <= accuracy:
        return low
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if confidence(middle) <= accuracy else (middle, high)
    return (low + high) / 2


def left_out_accuracy(points: Tensor, labels: Tensor, num_classes: int, *, rng: torch.Generator) -> float:
    """How often ridge regression on the other points gives a point's own class the highest score.

    In closed form: with H = G (G + penalty)^-1 of the products G, the prediction without image i is
    (H y - H_ii y)_i / (1 - H_ii). The penalty is the one with the least squared error of these.

    Args:
        points: f32 [L, D], unit vectors, L >= 1.
        labels: i64 [L].
        num_classes: K.
        rng: draws the points that are used, where there are more than `MOST_LEFT_OUT`.
    """
    used = torch.randperm(len(points), generator=rng)[:MOST_LEFT_OUT]
    x, own = points[used].double(), one_hot(labels[used], num_classes).bool()
    y = own.double()
    values, vectors = torch.linalg.eigh(x @ x.T)
    fits = []
    for penalty in PENALTIES:
        shrunk = vectors * (values.clamp(min=0) / (values.clamp(min=0) + penalty))
        leverage = (shrunk * vectors).sum(dim=1, keepdim=True)
        fits.append((shrunk @ (vectors.T @ y) - leverage * y) / (1 - leverage))
    best = min(fits, key=lambda fit: float((fit - y).square().sum()))
    others = best.masked_fill(own, -torch.inf).amax(dim=1)
    return float((best[own] > others + 1e-9).double().mean())

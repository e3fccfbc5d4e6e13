"""Least-squares heads in closed form, linear and with an RBF kernel; leaving one image out at a time costs no refit.

Each class is regressed, 1 for its images and -1 for others, by weighted ridge regression with a free intercept. What
the images would score if left out follows from one decomposition (Rifkin & Lippert 2007, "Notes on regularized least
squares", section 4, with an intercept and weights). It chooses the penalty and the kernel's width, by the squared
error, and then the factor under which the scores, read as logits, have the lowest cross-entropy. So their softmax are
probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.trial.classes import draw_of

PENALTIES = tuple(10.0 ** (power / 2) for power in range(-10, 6))
"""lambda, in units of the centred kernel's mean diagonal (of a linear one: the mean squared length of the inputs)."""

RBF_WIDTHS = (0.1, 0.3, 1.0, 3.0)
"""gamma of exp(-gamma |a - b|^2), in units of 1 / the median squared distance of the labelled images."""

LEFT_OUT = 2_000
"""Labelled images by which the kernel's width and penalty are chosen, at most; a draw of them where there are more,
with images of every class."""

SCORES_AT_ONCE = 2**24
"""Scores of images left out that are held at a time: 128 MB."""

KERNEL_LIMIT = 10_000
"""Labelled images that kernel_ridge can learn from: its time grows with their cube, its memory with their square."""


@dataclass(frozen=True)
class Decomposition:
    """Of a centred, weighted kernel matrix, W^1/2 K W^1/2 = U diag(e) U^T.

    Attributes:
        vectors: U, f64 [L, r].
        values: e, f64 [r], >= 0.
        weights: of the images, f64 [L].
    """

    vectors: Tensor
    values: Tensor
    weights: Tensor

    @classmethod
    def of_inputs(cls, inputs: Tensor, weights: Tensor) -> Decomposition:
        """Of the linear kernel of f64 [L, D], whichever of L and D is smaller."""
        x = weights.sqrt()[:, None] * (inputs - weights @ inputs / weights.sum())
        if len(x) <= x.shape[1]:
            return cls._of(x @ x.T, weights)
        values, directions = torch.linalg.eigh(x.T @ x)
        kept = values > 1e-12 * values[-1]
        return cls(x @ directions[:, kept] / values[kept].sqrt(), values[kept], weights)

    @classmethod
    def of_kernel(cls, kernel: Tensor, weights: Tensor) -> Decomposition:
        """Of a kernel matrix f64 [L, L]."""
        share = weights / weights.sum()
        mean = kernel @ share
        centred = kernel - mean[:, None] - mean + share @ mean
        root = weights.sqrt()
        return cls._of(root[:, None] * centred * root, weights)

    @classmethod
    def _of(cls, matrix: Tensor, weights: Tensor) -> Decomposition:
        values, vectors = torch.linalg.eigh(matrix)
        return cls(vectors, values.clamp_min(0), weights)

    def unit(self) -> float:
        """The mean diagonal of the centred kernel, by which penalties are measured; 1 where it is 0."""
        return float(self.values.sum() / self.weights.sum()) or 1.0

    def left_out(self, targets: Tensor, penalties: Tensor) -> Tensor:
        """f64 [P, L, S]: what each image scores under the model that all others make, under each penalty.

        Args:
            targets: f64 [L, S].
            penalties: f64 [P].
        """
        root = self.weights.sqrt()[:, None]
        mean = self.weights @ targets / self.weights.sum()
        turned = self.vectors.T @ (root * (targets - mean))
        shrunk = self.values[:, None] / (self.values[:, None] + penalties)
        parts = (shrunk[:, :, None] * turned[:, None]).flatten(1)  # of all penalties: one product reads U once
        fitted = (self.vectors @ parts / root).view(len(targets), len(penalties), -1).transpose(0, 1) + mean
        leverage = (self.vectors.square() @ shrunk).T + self.weights / self.weights.sum()
        return targets - (targets - fitted) / (1 - leverage).clamp_min(1e-12)[:, :, None]

    def dual(self, targets: Tensor, penalty: float) -> Tensor:
        """f64 [L, S]: the coefficients of the images, which sum to 0."""
        root = self.weights.sqrt()[:, None]
        centred = root * (targets - self.weights @ targets / self.weights.sum())
        return root * (self.vectors @ ((self.vectors.T @ centred) / (self.values + penalty)[:, None]))


@dataclass(frozen=True)
class LeftOut:
    """A penalty, and what the images score when each is left out.

    Attributes:
        penalty: lambda.
        error: mean squared error of the images left out.
        scores: f64 [L, S].
    """

    penalty: float
    error: float
    scores: Tensor


def choose_penalty(decomposed: Decomposition, targets: Tensor) -> LeftOut:
    """The penalty of the lowest weighted squared error; of equals the first, of which the models are least shrunk."""
    penalties = decomposed.unit() * torch.tensor(PENALTIES, dtype=torch.float64)
    choices = []
    for some in penalties.split(max(1, SCORES_AT_ONCE // targets.numel())):
        scores = decomposed.left_out(targets, some)
        errors = (scores - targets).square().mean(2) @ decomposed.weights / len(targets)
        best = int(errors.argmin())
        choices.append(LeftOut(float(some[best]), float(errors[best]), scores[best]))
    return min(choices, key=lambda choice: choice.error)


def fit_ridge(inputs: Tensor, labels: Tensor, weights: Tensor) -> dict[str, Any]:
    """Ridge regression.

    Args:
        inputs: f32 [L, D].
        labels: i64 [L].
        weights: f32 [L], of the images.

    Returns:
        `weight` f32 [S, D] and `bias` f32 [S] of the S classes that occur, in order, and the `penalty`.
    """
    x, w, targets = inputs.double(), weights.double(), _targets(labels)
    decomposed = Decomposition.of_inputs(x, w)
    choice = choose_penalty(decomposed, targets)
    factor = sharpness(choice.scores, targets, w)
    weight = factor * decomposed.dual(targets, choice.penalty).T @ x
    bias = (factor * w @ targets - weight @ (w @ x)) / w.sum()
    return {"weight": weight.float(), "bias": bias.float(), "penalty": choice.penalty}


def ridge_of_penalty(inputs: Tensor, labels: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """The unweighted ridge regression of a penalty, by one solution of the smaller of two systems.

    Args:
        inputs: f64 [L, D].
        labels: i64 [L].
        penalty: lambda, > 0, as `fit_ridge` gives it.

    Returns:
        Weights f64 [S, D] and intercepts f64 [S] of the S classes that occur, in order.
    """
    targets = _targets(labels)
    middle, level = inputs.mean(0), targets.mean(0)
    x, wanted = inputs - middle, targets - level
    if len(x) <= x.shape[1]:
        weight = (x.T @ _positive(x @ x.T, wanted, penalty)).T
    else:
        weight = _positive(x.T @ x, x.T @ wanted, penalty).T
    return weight, level - weight @ middle


def _positive(matrix: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """Solves (matrix + penalty I) a = targets; matrix f64 [n, n], overwritten, has no negative eigenvalue."""
    matrix.diagonal().add_(penalty)
    return torch.cholesky_solve(targets, torch.linalg.cholesky(matrix))


def fit_kernel_ridge(inputs: Tensor, labels: Tensor, weights: Tensor, rng: torch.Generator) -> dict[str, Any]:
    """Ridge regression under the kernel exp(-gamma |a - b|^2).

    Args:
        inputs: f32 [L, D], L at most `KERNEL_LIMIT`.
        labels: i64 [L].
        weights: f32 [L], of the images.
        rng: draws the images by which width and penalty are chosen, where there are many.

    Returns:
        `dual` f32 [L, S] and `bias` f32 [S], `gamma` and `penalty`.
    """
    x, w, targets = inputs.double(), weights.double(), _targets(labels)
    drawn = draw_of(labels, LEFT_OUT, rng)
    distances = squared_distances(x[drawn], x[drawn])
    apart = distances[~torch.eye(len(drawn), dtype=torch.bool)]
    median = (float(apart.median()) if len(apart) else 0.0) or 1.0
    tried = []
    for width in RBF_WIDTHS:
        decomposed = Decomposition.of_kernel((-width / median * distances).exp(), w[drawn])
        tried.append((width / median, choose_penalty(decomposed, targets[drawn])))
    gamma, choice = min(tried, key=lambda pair: pair[1].error)
    factor = sharpness(choice.scores, targets[drawn], w[drawn])
    kernel = rbf(x, x, gamma)
    solution = _solve(kernel, targets, w, choice.penalty)
    dual, bias = (factor * part for part in (solution[:-1], solution[-1]))
    return {"dual": dual.float(), "bias": bias.float(), "gamma": gamma, "penalty": choice.penalty}


def rbf(first: Tensor, second: Tensor, gamma: float) -> Tensor:
    """exp(-gamma |a - b|^2), [n, m] of [n, D] and [m, D]."""
    return squared_distances(first, second).mul_(-gamma).exp_()


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """|a - b|^2, [n, m] of [n, D] and [m, D]."""
    middle = second.mean(dim=0)  # products round off less near the origin
    return torch.cdist(first - middle, second - middle).square()


def sharpness(scores: Tensor, targets: Tensor, weights: Tensor) -> float:
    """The factor, 0.01 to 1000, under which scores f64 [L, S] have the lowest cross-entropy as logits."""
    from scipy.optimize import minimize_scalar

    truth = targets.argmax(1)

    def loss(power: float) -> float:
        return float(weights @ F.cross_entropy(10**power * scores, truth, reduction="none"))

    return float(10 ** minimize_scalar(loss, bounds=(-2, 3), method="bounded").x)


def _targets(labels: Tensor) -> Tensor:
    """f64 [L, S]: 1 for the image's class, -1 for the others that occur."""
    _, places = labels.unique(return_inverse=True)
    return 2 * F.one_hot(places).double() - 1


def _solve(kernel: Tensor, targets: Tensor, weights: Tensor, penalty: float) -> Tensor:
    """f64 [L + 1, S]: the coefficients of the images, and the intercepts."""
    size = len(kernel)
    system = torch.ones(size + 1, size + 1, dtype=torch.float64)
    system[:size, :size] = kernel + torch.diag(penalty / weights)
    system[size, size] = 0
    return torch.linalg.solve(system, F.pad(targets, (0, 0, 0, 1)))

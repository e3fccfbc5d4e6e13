"""Logistic regression, the head of frozen encoders: regularised by as much as its own labels ask for."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.trial.classes import draw_of, folds_of

CHOICES = tuple(10.0**power for power in range(-4, 3))
"""C, the inverse strength of the penalty: the cross-entropy is summed over the images and |weights|^2 / (2 C) added."""

WORTHWHILE = 0.75
"""Images for each dimension up to which the basis costs less than it saves."""

FOLDS = 5
FOLDED = 10_000
"""Labelled images by which C is chosen, at most: a draw of them where there are more, with images of every class. C
depends little on their number, since it weighs the penalty against a sum."""


def fit_logistic(inputs: Tensor, labels: Tensor, weights: Tensor, rng: torch.Generator) -> dict[str, Any]:
    """Multinomial logistic regression with an L2 penalty, by scikit-learn's L-BFGS; the biases are not penalised.

    Args:
        inputs: f32 [L, D].
        labels: i64 [L].
        weights: f32 [L], of the images.
        rng: draws the folds by which C is chosen; no label is read but these.

    Returns:
        `weight` f32 [S, D] and `bias` f32 [S] of the S classes that occur, in order, and `C`.
    """
    seen = labels.unique()
    if len(seen) == 1:
        return {"weight": torch.zeros(1, inputs.shape[1]), "bias": torch.zeros(1), "C": CHOICES[0]}
    directions, coordinates = spanned(inputs)
    strength = choose_strength(coordinates.float(), labels, weights, rng)
    model = _solver(strength, tol=1e-6, max_iter=10_000)
    model.fit(coordinates.numpy(), labels.numpy(), sample_weight=weights.double().numpy())
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    weight = weight if directions is None else weight @ directions.T
    if len(seen) == 2:  # one column: the log-odds
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return {"weight": weight.float(), "bias": bias.float(), "C": strength}


def spanned(inputs: Tensor) -> tuple[Tensor | None, Tensor]:
    """Inputs in an orthonormal basis of what they span, where they are few: there the same solution costs less.

    A penalty on |weights|^2 alone leaves nothing of the weights outside of that, and a rotation changes neither it nor
    any score.

    Args:
        inputs: f32 [L, D].

    Returns:
        f64 [D, L] the basis, or None where there is little to save; f64 [L, L] the inputs in it, or themselves.
    """
    if len(inputs) > WORTHWHILE * inputs.shape[1]:
        return None, inputs.double()
    directions, coordinates = torch.linalg.qr(inputs.double().T)
    return directions, coordinates.T.contiguous()


def choose_strength(inputs: Tensor, labels: Tensor, weights: Tensor, rng: torch.Generator) -> float:
    """C of the lowest cross-entropy of images that are held out in turn, in `FOLDS` folds; 1 where none can be.

    From strong to weak penalties, each from the solution of the one before; it ends once two in a row were worse.
    """
    from sklearn.exceptions import ConvergenceWarning

    drawn = draw_of(labels, FOLDED, rng)
    x, y, w = inputs[drawn].numpy(), labels[drawn].numpy(), weights[drawn].numpy()
    folds = folds_of(labels[drawn], FOLDS, rng).numpy()
    models = {fold: _solver(CHOICES[0], tol=1e-3, max_iter=500) for fold in np.unique(folds[folds >= 0]).tolist()}
    if not models:
        return 1.0
    best, lowest, worse = CHOICES[0], math.inf, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak penalties are compared as far as they have come
        for strength in CHOICES:
            loss = 0.0
            for fold, model in models.items():
                train, held = folds != fold, folds == fold
                model.set_params(C=strength).fit(x[train], y[train], sample_weight=w[train])
                loss += _held_out_loss(model, x[held], y[held], w[held])
            worse = worse + 1 if loss >= lowest else 0
            if worse == 2:
                break
            if loss < lowest:
                best, lowest = strength, loss
    return best


def _held_out_loss(model: Any, x: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    scores = torch.from_numpy(model.decision_function(x)).double()
    if scores.ndim == 1:  # two classes: the log-odds
        scores = torch.stack([torch.zeros_like(scores), scores], dim=1)
    truth = torch.from_numpy(np.searchsorted(model.classes_, y))
    return float(torch.from_numpy(w).double() @ F.cross_entropy(scores, truth, reduction="none"))


def _solver(strength: float, *, tol: float, max_iter: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, tol=tol, max_iter=max_iter, warm_start=True)

"""What the next labels are worth: the learning curve of the labels so far, extrapolated, with its interval.

The labels are held out fold by fold. On nested random parts of the others the trial's head is trained, at several
sizes, and asked about those held out; each size is so measured on every labelled image. Through these accuracies goes
the inverse power law of Figueroa et al. 2012, https://doi.org/10.1186/1472-6947-12-8,

    accuracy(m) = a - b m^-c,    a <= 1, b >= 0, c > 0,

by least squares weighted towards the larger sizes, as there. The worth of a batch of B labels to those n that there are
is accuracy(n + B) - accuracy(n). Its interval is that of a bootstrap over the images, whose answers at all sizes stay
together (percentiles, Efron & Tibshirani 1993), and over the divisions into folds.

It speaks of labels chosen as those so far were, and of images like those: labels that a selector chose are harder, or
more diverse, than the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import beta
from torch import Tensor

from harness.config.trial import ClassifierConfig
from harness.progress import track
from harness.seeding import derive, generator
from harness.trial import heads
from harness.trial.selection import Bought

FOLDS, DIVISIONS, SIZES = 5, 2, 6
"""Folds, divisions into folds, and sizes of the parts that are learnt from."""

SMALLEST = 0.15
"""The smallest part, as a share of the labels."""

FEWEST = 40
"""Labels below which nothing is said: each fold has eight images or fewer."""

FEW_ERRORS = 5
"""Images taken for another class below which nothing is said: of none or a few a bootstrap knows no interval."""

DRAWS = 1000
"""Of the bootstrap."""

WIDE, NOTHING = 0.05, 0.0005
"""Width of an interval that helps nobody to decide, and a worth that is printed as 0.0 points."""

EXPONENTS = np.geomspace(0.05, 2.0, 120)
"""c, at which a and b follow in closed form."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Accuracies at several numbers of labels.

    Attributes:
        sizes: i64 [S], numbers of labels that were learnt from, rising.
        right: bool [R, S, L], whether an image that was held out was recognised, in each division into folds.
    """

    sizes: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class Worth:
    """What a batch is worth, as differences of accuracies in 0 .. 1.

    Attributes:
        low, high: the 95 % interval.
        middle: the best guess.
        now: the accuracy with the labels so far, by the curve.
    """

    low: float
    high: float
    middle: float
    now: float


def check_enough(bought: Bought, classes: Sequence[str]) -> None:
    """That the labels so far can tell what more of them are worth.

    Args:
        bought: the labels.
        classes: the names of K classes.

    Raises:
        ValueError: a class has no label, of which nothing can be told, or most have one alone, which cannot be both
            learnt from and held out.
    """
    count = len(bought.labels)
    if count < FEWEST:
        raise ValueError(f"{count} labels are too few for a learning curve; {FEWEST} or more are needed")
    sizes = torch.bincount(bought.labels, minlength=bought.num_classes)
    if without := [name for name, size in zip(classes, sizes.tolist(), strict=True) if not size]:
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        raise ValueError(
            f"--stop: class {without[0]!r}{more} has no label yet, and what it would take is not known; label some, "
            "or name by --classes those alone that there are"
        )
    if count < 2 * bought.num_classes:
        raise ValueError(
            f"--stop: {count} labels of {bought.num_classes} classes are too few for a learning curve; two of each "
            f"class, {2 * bought.num_classes} in all, are needed"
        )


def measure_curve(inputs: Tensor, labels: Tensor, num_classes: int, config: ClassifierConfig, seed: int) -> Curve:
    """The learning curve of the labels so far.

    Args:
        inputs: f32 [L, D].
        labels: i64 [L].
        num_classes: K.
        config: of the head.
        seed: of everything that is drawn.
    """
    count = len(labels)
    sizes = np.unique(np.geomspace(SMALLEST * count, (1 - 1 / FOLDS) * count, SIZES).astype(int))
    right = np.zeros((DIVISIONS, len(sizes), count), dtype=bool)
    with track(DIVISIONS * FOLDS * len(sizes), "Learning curve") as advance:
        for division in range(DIVISIONS):
            rng = generator(seed, f"pick/curve/{division}")
            fold = torch.arange(count) % FOLDS
            fold = fold[torch.randperm(count, generator=rng)]
            for number in range(FOLDS):
                held = fold == number
                others = (~held).nonzero().flatten()
                others = others[torch.randperm(len(others), generator=rng)]
                for place, size in enumerate(sizes.tolist()):
                    part = others[:size]
                    state = heads.fit(config, inputs[part], labels[part], num_classes, derive(seed, "pick/curve"))
                    predict = heads.predictor(config, state, inputs[part], labels[part], num_classes)
                    right[division, place, held.numpy()] = (predict(inputs[held]).argmax(1) == labels[held]).numpy()
                    advance(1)
    return Curve(sizes, right)


def worth_of(curve: Curve, batch: int, seed: int) -> Worth:
    """What a batch of so many labels adds."""
    divisions, _, count = curve.right.shape
    rng = np.random.default_rng(derive(seed, "pick/bootstrap"))
    # of each image how often it was right at each size, so that a draw of images is a weighted mean
    rows = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS) / count
    which = rng.multinomial(divisions, np.full(divisions, 1 / divisions), size=DRAWS) / divisions
    drawn = np.einsum("dn,dr,rsn->ds", rows, which, curve.right, optimize=True)
    (now,), (middle,) = extrapolate(curve.sizes, curve.right.mean((0, 2))[None], count, batch)
    low, high = np.quantile(extrapolate(curve.sizes, drawn, count, batch)[1], [0.025, 0.975])
    return Worth(float(low), float(high), float(middle), float(now))


def worth_in_words(worth: Worth, curve: Curve, batch: int, head: str) -> list[str]:
    """What is to be said of it, and where it cannot tell."""
    count = curve.right.shape[2]
    errors = int((~curve.right[:, -1]).any(0).sum())
    if errors < FEW_ERRORS:
        most = float(beta.ppf(0.975, errors + 1, count - errors))
        return [
            f"what the next {batch} labels are worth cannot be told: {errors} of the {count} labelled images "
            f"{'is' if errors == 1 else 'are'} taken for another class by {head}",
            f"that leaves up to {100 * most:.1f} points of accuracy to be gained (97.5 %, bound of Clopper & Pearson); "
            "it can tell more once there are more labels, or harder ones",
        ]
    low, high, middle = (f"{100 * value:.1f}" for value in (worth.low, worth.high, worth.middle))
    said = [
        f"the next {batch} labels are worth {low} to {high} points of accuracy (95 %), {middle} most likely",
        f"by an inverse power law through the accuracies of {head} with {curve.sizes[0]} .. {curve.sizes[-1]} of the "
        f"{count} labels, bootstrapped: {100 * worth.now:.1f} % with all of them, on images like those labelled so far",
    ]
    if worth.high - worth.low > WIDE:
        said.append("the curve is too uncertain to stop by: it can tell more once there are more labels")
    elif worth.low < NOTHING:
        said.append("that it is nothing cannot be excluded")
    return said


def extrapolate(sizes: np.ndarray, accuracies: np.ndarray, count: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Fits the law to each of f64 [B, S] accuracies at i64 [S] numbers of labels.

    Returns:
        accuracy(n) and accuracy(n + batch) - accuracy(n), f64 [B] each.
    """
    weight = np.arange(1, len(sizes) + 1) / len(sizes)
    weight = weight / weight.sum()
    x = sizes[None, :] ** -EXPONENTS[:, None]  # [E, S]
    mean_x, mean_y = x @ weight, accuracies @ weight
    centered = x - mean_x[:, None]
    slope = -(accuracies @ (centered * weight).T) / (centered**2 @ weight)
    slope = np.maximum(slope, 0)
    top = mean_y[:, None] + slope * mean_x
    capped = ((1 - accuracies) @ (x * weight).T) / (x**2 @ weight)
    slope, top = np.where(top > 1, np.maximum(capped, 0), slope), np.minimum(top, 1)
    error = ((accuracies[:, None, :] - top[..., None] + slope[..., None] * x) ** 2) @ weight
    best = error.argmin(1)[:, None]
    now, later = (
        np.take_along_axis(top - slope * float(n) ** -EXPONENTS, best, 1)[:, 0] for n in (count, count + batch)
    )
    return now, later - now

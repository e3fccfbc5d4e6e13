"""Softmax quantities of very confident predictions, where probabilities themselves round to 0 and 1.

After some epochs of training most of a pool is predicted with a probability that is 1.0 in floating point.
The scores below are increasing functions of the textbook ones, computed from differences of logits in float64,
so that they still rank such images, and logits of 1e4 neither overflow nor tie. Notation: z_1 >= z_2 >= ... are the
logits of one image, p = softmax(z), and s = log sum_{k > 1} exp(z_k - z_1), so that p_1 = 1 / (1 + e^s).

Scores are rounded to `DECIMALS`: vectorised kernels treat the last elements of an array apart, so that equal logits at
different positions can give results a bit apart, which would decide ties by position instead of at random.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

DECIMALS = 9
"""Finer differences mean nothing: logits are float32."""


def gaps(logits: Tensor) -> Tensor:
    """z_k - z_1 in descending order: f64 [..., K] <= 0, the first of each row 0."""
    ordered = logits.double().sort(dim=-1, descending=True).values
    return ordered - ordered[..., :1]


def log_odds_against_top(gap: Tensor) -> Tensor:
    """s = log((1 - p_1) / p_1), f64 [...] of `gaps` [..., K]: the higher, the less confident."""
    return _log_odds(gap).round(decimals=DECIMALS)


def log_one_minus_margin(gap: Tensor) -> Tensor:
    """log(1 - (p_1 - p_2)), f64 [...] of `gaps` [..., K]: the higher, the smaller the margin."""
    s = _log_odds(gap)
    return (torch.logaddexp(s, gap[..., 1]) - softplus(s)).round(decimals=DECIMALS)


def log_entropy(gap: Tensor) -> Tensor:
    """log(-sum_k p_k log p_k), f64 [...] of `gaps` [..., K]; at most log log K."""
    s = _log_odds(gap).unsqueeze(-1)
    normalizer = softplus(s)  # -log p_1
    # softplus(s) -> e^s for s -> -inf, whose logarithm is s; below -40 the two agree to the last bit.
    log_surprise_top = torch.where(s < -40, s, normalizer.log())
    log_surprise_rest = (normalizer - gap[..., 1:]).log()
    log_surprise = torch.cat([log_surprise_top, log_surprise_rest], dim=-1)
    return (gap - normalizer + log_surprise).logsumexp(dim=-1).round(decimals=DECIMALS)


def _log_odds(gap: Tensor) -> Tensor:
    return gap[..., 1:].logsumexp(dim=-1)

"""Uncertainty sampling by predictive entropy under dropout."""

from __future__ import annotations

import math

from torch import Tensor

from baselines.selectors.dropout_passes import DropoutPasses
from baselines.selectors.log_odds import gaps, log_entropy


class MCDropout(DropoutPasses):
    """MC-Dropout predictive entropy, Gal & Ghahramani 2016 (https://arxiv.org/abs/1506.02142), Gal et al. 2017.

    Picks the images with the highest entropy of the mean prediction over passes with dropout active. A backbone without
    dropout layers is refused by the harness: its passes are all alike. Ties are broken at random.
    """

    def score(self, logits: Tensor) -> Tensor:
        """The logarithm of the entropy of the mean prediction."""
        return log_entropy(gaps(logits.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(logits))))

"""Selection by what passes with dropout disagree about."""

from __future__ import annotations

import math

from torch import Tensor

from baselines.selectors.dropout_passes import DropoutPasses


class BALD(DropoutPasses):
    """BALD with dropout (DBAL), Houlsby et al. 2011, Gal et al. 2017, https://arxiv.org/abs/1703.02910.

    Picks the images with the highest mutual information between prediction and weights: the entropy of the mean
    prediction minus the mean entropy of the predictions, over passes with dropout active. A backbone without dropout
    layers is refused by the harness: its passes are all alike. Ties (to 1e-12) are broken at random.
    """

    def score(self, logits: Tensor) -> Tensor:
        """The mutual information, rounded."""
        return mutual_information(logits).round(decimals=12)


def mutual_information(logits: Tensor) -> Tensor:
    """f64 [U]: mutual information in nats of float [n, U, K] logits, >= 0 up to rounding."""
    log_p = logits.double().log_softmax(dim=-1)
    log_mean_p = log_p.logsumexp(dim=0) - math.log(len(log_p))
    # The mean Kullback-Leibler divergence from the mean prediction, which equals the difference of entropies.
    return (log_p.exp() * (log_p - log_mean_p)).sum(dim=-1).mean(dim=0)

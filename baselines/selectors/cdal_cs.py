"""Core-set selection under a divergence of predictions."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.finite import require_finite
from baselines.selectors.kcenter import Distance, k_center_greedy
from baselines.selectors.ranking import shuffled
from harness.api import Pool, Selector


class CDALCS(Selector):
    """CDAL-CS, Agarwal et al. 2020, https://arxiv.org/abs/2008.05723.

    k-centre greedy where the distance of two images is the symmetric Kullback-Leibler divergence of their softmax
    vectors, (KL(a|b) + KL(b|a)) / 2 (the paper's pairwise contextual diversity for classification). The labelled
    images are the first centres. Deviates from the released code (github.com/sharat29ag/CDAL), which is for pictures
    with a softmax vector of each class: the first pick of a batch is the farthest image from the labelled ones, as
    k-centre greedy has it, where there it is drawn at random; divergences that are infinite in float32 are finite here,
    by the logits, where there they are skipped. Ties are broken at random.
    """

    needs = frozenset({"probabilities"})

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        distance = SymmetricKL(require_finite(pool.logits, "logits"))
        return k_center_greedy(distance, pool.labeled, shuffled(pool, rng=rng), budget, rng=rng)


class SymmetricKL(Distance):
    """(KL(a|b) + KL(b|a)) / 2 = sum_k (a_k - b_k) (log a_k - log b_k) / 2, in float64.

    Args:
        logits: f32 [N, K].
    """

    def __init__(self, logits: Tensor):
        log_p = logits.double().log_softmax(dim=1)
        p = log_p.exp()
        left, right = torch.cat([p, log_p], dim=1), torch.cat([log_p, p], dim=1)
        super().__init__(left, right, offset=(p * log_p).sum(dim=1) / 2, scale=0.5)

    def direct(self, rows: Tensor, others: Tensor) -> Tensor:
        """See `Distance.direct`."""
        k = self.left.shape[1] // 2
        difference = self.left[rows] - self.left[others]
        return (difference[:, :k] * difference[:, k:]).sum(dim=1) / 2

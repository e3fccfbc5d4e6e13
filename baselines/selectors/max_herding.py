"""Selection that covers the pool smoothly."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.coverage import Kernel, check_num_targets, greedy_coverage
from baselines.selectors.finite import require_finite
from baselines.selectors.ranking import shuffled
from harness.api import Pool, Selector


class MaxHerding(Selector):
    """MaxHerding, Bae, Noh & Sutherland 2024, https://arxiv.org/abs/2407.12212.

    Greedily picks the image that adds most to the generalized coverage C(S) = mean over x of max over s in S of
    k(x, s), where S starts as the labelled images; k is Gaussian, exp(-|x - s|^2 / radius^2), on features
    that are L2-normalised unless `normalize` says otherwise.
    ProbCover is the same with a kernel that is 1 within a ball and 0 outside. Follows the authors' code
    (github.com/BorealisAI/uherding), its scale of the kernel too; of the paper only the beginning was at hand.
    Deviates: where that draws at most 35,000 candidates, all remain candidates, and the mean is taken over at most
    `num_targets` unlabelled images (what a labelled one would add is 0); ties are broken at random. Costs
    N x targets x D once and 16 x targets x D a few times per pick, without an N x N matrix; up to 11,000 images all
    distances are found once and kept from round to round, in 4 N^2 bytes.

    Args:
        radius: of the kernel, > 0; the paper's 1.
        num_targets: unlabelled images that the mean is taken over, drawn anew in every round, >= 1; all if None.
    """

    supports_cold_start = True
    normalize = "l2"

    def __init__(self, *, radius: float = 1.0, num_targets: int | None = 20_000):
        if not radius > 0:
            raise ValueError(f"radius = {radius} is not > 0")
        check_num_targets(num_targets)
        self.radius = radius
        self.num_targets = num_targets

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        points = require_finite(pool.features, "features").float()
        candidates = shuffled(pool, rng=rng)
        targets = candidates[: self.num_targets]
        kernel = Kernel(points, targets, self.radius)
        return greedy_coverage(kernel, torch.ones(len(targets)), pool.labeled, candidates, budget)

"""Selection by how much predictions change under augmentation."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.ranking import highest
from harness.api import Pool, Selector


class CSAL(Selector):
    """CSAL's consistency-based selection, Gao et al. 2020, https://arxiv.org/abs/1910.07153.

    Picks the images with the highest inconsistency: the variance over random augmentations of each class probability,
    summed over classes. With the `mixmatch` learner this is the paper's method; with another it ranks the predictions
    of the classifier that was trained. Ties are broken at random.

    Args:
        num_samples: augmentations per image, >= 2; the default is ours.
    """

    needs = frozenset({"probabilities"})
    reads = frozenset({"augmented_logits"})

    def __init__(self, *, num_samples: int = 10):
        if num_samples < 2:
            raise ValueError(f"num_samples = {num_samples} is not >= 2")
        self.num_samples = num_samples

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        p = pool.augmented_logits(self.num_samples)[:, pool.unlabeled].double().softmax(dim=-1)
        return highest(pool, p.var(dim=0).sum(dim=-1), budget, rng=rng)

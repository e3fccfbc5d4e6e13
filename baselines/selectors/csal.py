"""Selection by how much predictions change under augmentation."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.finite import require_finite
from baselines.selectors.ranking import highest
from harness.api import Augmentation, Pool, Selector


class CSAL(Selector):
    """CSAL's consistency-based selection, Gao et al. 2020, https://arxiv.org/abs/1910.07153.

    Picks the images with the highest inconsistency: the variance of each class probability over the image itself and
    randomly augmented copies of it, summed over classes. The copies are those of the selector's own `augmentation`,
    flips and shifts as the paper's, whatever the encoder was pre-trained with. With the `mixmatch` learner this is the
    paper's method; with another it ranks the predictions of the classifier that was trained. The authors released no
    code; of the paper only the beginning was at hand, what the variance is taken over is as others report it. Ties are
    broken at random.

    Args:
        num_samples: copies of each image, drawn one by one, >= 1; the default is ours.
        augmentation: which makes them.
    """

    needs = frozenset({"probabilities"})
    reads = frozenset({"augmented_logits"})

    def __init__(self, *, num_samples: int = 10, augmentation: Augmentation | str = "weak"):
        if num_samples < 1:
            raise ValueError(f"num_samples = {num_samples} is not >= 1")
        if not isinstance(augmentation, Augmentation):
            raise ValueError(f"augmentation = {augmentation!r} must be an Augmentation; a configuration names it")
        self.num_samples = num_samples
        self.augmentation = augmentation

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        logits = torch.cat([pool.logits[None], pool.augmented_logits(self.num_samples, self.augmentation)])
        p = require_finite(logits.transpose(0, 1), "logits")[pool.unlabeled].double().softmax(dim=-1)
        return highest(pool, p.var(dim=1).sum(dim=-1), budget, rng=rng)

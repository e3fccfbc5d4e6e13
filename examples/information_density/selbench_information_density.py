"""A selector in a package of its own."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize

from harness.api import Pool, Selector


class InformationDensity(Selector):
    """Information density, Settles & Craven 2008, https://aclanthology.org/D08-1112.

    Entropy times the mean cosine similarity to the unlabelled images to the power `beta` (the paper's section 3.2).
    That mean is one product with the mean of the normalised vectors. A negative one counts as 0.

    Args:
        beta: weight of the density, >= 0; 0 is plain entropy sampling.
    """

    needs = frozenset({"probabilities"})

    def __init__(self, *, beta: float = 1.0):
        if beta < 0:
            raise ValueError(f"beta = {beta} is not >= 0")
        self.beta = beta

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        log_p = log_softmax(pool.logits[pool.unlabeled].double(), dim=1)
        entropy = -(log_p.exp() * log_p).sum(dim=1)
        directions = normalize(pool.features[pool.unlabeled].double())
        density = (directions @ directions.mean(dim=0)).clamp(min=0)
        score = entropy * density**self.beta
        shuffle = torch.randperm(len(score), generator=rng)  # ties are drawn, not taken in the order of the data set
        return pool.unlabeled[shuffle[score[shuffle].argsort(descending=True, stable=True)[:budget]]]

"""Selection of a batch by what passes with dropout disagree about jointly."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.selectors.finite import require_finite
from baselines.selectors.kcenter import filled
from harness.api import Pool, Selector

PREDICTION_BLOCK_ELEMENTS = 1 << 22
"""Entries of one block of predictions given the labels so far."""


class BatchBALD(Selector):
    """BatchBALD, Kirsch, van Amersfoort & Gal 2019, https://arxiv.org/abs/1906.08158.

    Greedily picks the image that adds most to the mutual information between the weights and the labels of the whole
    batch, over passes with dropout active, so that near-duplicates add nothing. The gain is written as BALD under
    the posterior of the passes given the picked images' labels, averaged over those labels: all of them while there
    are at most `num_configurations` combinations, then that many drawn from their joint distribution. n passes can be
    told apart by log n nats at most: once the batch does, all gains are 0 (to 1e-9) and the rest is drawn at
    random. A backbone without dropout layers is refused by the harness: its passes are all alike. With the same
    combinations it picks what scikit-activeml's does (`skactiveml/BatchBALD`, after the authors' code).

    Args:
        num_samples: stochastic passes, >= 2; the default is ours, as that of num_configurations.
        num_configurations: label combinations of the batch that are kept, >= 1.
    """

    needs = frozenset({"probabilities"})
    reads = frozenset({"stochastic_logits"})

    def __init__(self, *, num_samples: int = 20, num_configurations: int = 200):
        if num_samples < 2:
            raise ValueError(f"num_samples = {num_samples} is not >= 2")
        if num_configurations < 1:
            raise ValueError(f"num_configurations = {num_configurations} is not >= 1")
        self.num_samples = num_samples
        self.num_configurations = num_configurations

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        logits = pool.stochastic_logits(self.num_samples)[:, pool.unlabeled].double()
        require_finite(logits.transpose(0, 1), "logits")
        p = logits.softmax(dim=-1).permute(1, 2, 0).contiguous()  # [U, K, n]
        known = entropy(p.transpose(1, 2)).mean(dim=1)  # what no knowledge of the weights can remove
        posterior = torch.full((1, self.num_samples), 1 / self.num_samples, dtype=torch.float64)
        weight = torch.ones(1, dtype=torch.float64)
        left = torch.randperm(len(p), generator=rng)  # argmax takes the first of equals: a random one
        picks: list[Tensor] = []
        for _ in range(budget):
            gain = (expected_entropy(p[left], posterior, weight) - known[left]).round(decimals=9)
            best = int(gain.argmax())
            picks.append(left[best])
            left = torch.cat([left[:best], left[best + 1 :]])
            posterior, weight = self._observe(p[picks[-1]], posterior, weight, rng)
        return pool.unlabeled[torch.stack(picks)]

    def _observe(self, p: Tensor, posterior: Tensor, weight: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Extends label combinations by the label of an image with predictions f64 [K, n].

        Args:
            p: class probabilities in each pass.
            posterior: f64 [M, n], the passes' probabilities given each combination.
            weight: f64 [M], the combinations' probabilities, or 1 / M each once they are drawn.
            rng: draws labels.

        Returns:
            The same for M' <= num_configurations combinations that include the new label.
        """
        label = posterior @ p.T  # [M, K], the new label's probabilities given each combination
        if label.numel() <= self.num_configurations:
            joint = posterior.unsqueeze(1) * p
            possible = label.flatten() > 0
            extended = joint.flatten(0, 1)[possible]
            new_weight = (weight.unsqueeze(1) * label).flatten()[possible]
        else:
            rows = torch.arange(len(weight))
            if len(rows) < self.num_configurations:
                rows = torch.multinomial(weight, self.num_configurations, replacement=True, generator=rng)
            drawn = torch.multinomial(label[rows], 1, generator=rng).squeeze(1)
            extended = posterior[rows] * p[drawn]
            new_weight = torch.full((len(rows),), 1 / len(rows), dtype=torch.float64)
        return extended / extended.sum(dim=1, keepdim=True), new_weight


def expected_entropy(p: Tensor, posterior: Tensor, weight: Tensor) -> Tensor:
    """f64 [U]: entropy of each image's label given the batch's labels, averaged over these.

    Args:
        p: f64 [U, K, n], class probabilities in each pass.
        posterior: f64 [M, n], the passes' probabilities given each combination of labels.
        weight: f64 [M], of sum 1.
    """
    size = max(1, PREDICTION_BLOCK_ELEMENTS // (p.shape[1] * len(posterior)))
    return filled(p.new_empty(len(p)), size, lambda part: entropy((p[part] @ posterior.T).transpose(1, 2)) @ weight)


def entropy(p: Tensor) -> Tensor:
    """f64 [...] in nats of probabilities f64 [..., K]."""
    return -torch.xlogy(p, p).sum(dim=-1)

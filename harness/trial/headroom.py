"""What a selection could have gained: in each round the best of many candidate batches, judged by their true labels.

No method, for it reads labels that nobody bought: an upper bound that selectors are measured by, after BoSS (Huseljic
et al. 2026, https://arxiv.org/abs/2603.13109), of which the summary was read: candidate batches come from an ensemble
of selectors, each is added to the bought labels, only the last layer is trained anew, and the batch that helps most on
held-out images is bought. Choices of this module, where the paper's may differ: half of the candidates are the
selectors' (the first of each is what it would pick from the whole pool, the further ones come from random parts of the
pool), a quarter are drawn at random, and a quarter mix two of these; all are screened by a linear ridge regression of
one penalty, and the trial's own head is trained with the best few. What helps is measured on the validation images;
the test set says, as for every selector, what came of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from harness.api import Selector
from harness.config.schema import as_dict
from harness.config.tasks import Bound
from harness.plugins import registry
from harness.plugins.registry import PluginSpec
from harness.seeding import derive, generator
from harness.trial.ridge import fit_ridge, ridge_of_penalty
from harness.trial.rounds import Rounds, Trained

FINALISTS = 5
"""Candidates that the trial's own head is trained with."""

SHARE_SHOWN = 4
"""A selector's further candidates come from a random part of the pool, a number of images divided by this each time."""


class BestOfMany(Rounds):
    """The rounds of a trial that buys the best candidate batch.

    Attributes:
        bound: how many candidates there are, and whose.
        looked_at: bool [N], images whose label was read, bought or not.
    """

    def __init__(self, *rounds: object, bound: Bound):
        super().__init__(*rounds)  # type: ignore[arg-type]
        self.bound = bound
        self.looked_at = torch.zeros(len(self.context.oracle), dtype=torch.bool)

    def _select(self, labeled: Tensor, last: Trained | None, number: int) -> tuple[Tensor, dict[str, float]]:
        about = {"classifier": self.context.config.classifier.as_read(), "bound": as_dict(self.bound)}
        compute = lambda _: self._best(labeled, last, number)  # noqa: E731
        stage = self._choosing("headroom", about, self.bound.selectors, compute, labeled, last, number)
        self.looked_at |= stage.value["looked_at"]
        looked_at = {"labels/looked_at": float(self.looked_at.sum())}
        return stage.value["picks"], self._cost("select", stage) | looked_at

    def _best(self, labeled: Tensor, last: Trained | None, number: int) -> dict[str, Tensor]:
        """The batch that helps most on the validation images, and whose labels were read to find it."""
        batches = self._candidates(labeled, last, number)
        looked_at = torch.zeros(len(self.context.oracle), dtype=torch.bool)
        looked_at[torch.cat([labeled, *batches])] = True
        order = self._screened(labeled, batches).argsort(descending=True, stable=True)
        finalists = [batches[place] for place in order[:FINALISTS].tolist()]
        accuracies = torch.tensor([self._accuracy(labeled, batch) for batch in finalists])
        return {"picks": finalists[int(accuracies.argmax())], "looked_at": looked_at}

    def _candidates(self, labeled: Tensor, last: Trained | None, number: int) -> list[Tensor]:
        """i64 [budget] each, `bound.batches` of them: of the selectors, at random, and mixed."""
        budget, rng = self.context.config.labels.budgets[number - 1], generator(self._seed(number), "candidates")
        unlabeled = self._is_unlabeled(labeled).nonzero().flatten()
        drawn = lambda: unlabeled[torch.randperm(len(unlabeled), generator=rng)[:budget]]  # noqa: E731
        selectors = [spec for spec in self.bound.selectors if len(labeled) or _starts_cold(spec)]
        batches = [self._picked(spec, labeled, last, number, 0, len(unlabeled)) for spec in selectors]
        turn, of_selectors = 1, self.bound.batches // 2
        while selectors and len(batches) < of_selectors:
            shown = max(2 * budget, len(unlabeled) // SHARE_SHOWN**turn)
            for spec in selectors[: of_selectors - len(batches)]:
                batches.append(self._picked(spec, labeled, last, number, turn, shown))
            turn += 1
        batches += [drawn() for _ in range(max(1, self.bound.batches // 4))]
        parents = len(batches)
        while len(batches) < self.bound.batches:
            first, second = torch.randperm(parents, generator=rng)[:2].tolist() if parents > 1 else (0, 0)
            union = torch.cat([batches[first], batches[second]]).unique()
            batches.append(union[torch.randperm(len(union), generator=rng)[:budget]])
        return batches

    def _seed(self, number: int) -> int:
        return derive(self.context.seed, f"headroom/{number}")

    def _picked(
        self, spec: PluginSpec, labeled: Tensor, last: Trained | None, number: int, turn: int, shown: int
    ) -> Tensor:
        """What a selector picks in this round, of so many images; the first time under the trial's own seed."""
        budget, seed = self.context.config.labels.budgets[number - 1], self.context.seed
        if turn:
            seed = derive(self._seed(number), f"{turn}")
            spec = replace(spec, hyperparameters={**spec.hyperparameters, "pool_subset": max(shown, budget)})
        return self._picks(spec, seed, labeled, last, number)

    def _screened(self, labeled: Tensor, batches: Sequence[Tensor]) -> Tensor:
        """f64 [batches]: the validation accuracy of a ridge regression on what is bought and each batch."""
        pool, val = self.encoder.inputs("pool"), self.encoder.inputs("val").double()
        mean, std = pool.double().mean(0), pool.double().std(0, correction=0)
        std = torch.where(std > 0, std, torch.ones_like(std))
        truth, penalty, accuracies = self.context.data.val_labels, None, []
        for batch in batches:
            rows = torch.cat([labeled, batch])
            inputs, labels = (pool[rows].double() - mean) / std, self.context.oracle.look_at(rows)
            if penalty is None:
                penalty = fit_ridge(inputs, labels, torch.ones(len(rows)))["penalty"]
            weight, bias = ridge_of_penalty(inputs, labels, penalty)
            predictions = labels.unique()[((val - mean) / std @ weight.T + bias).argmax(1)]
            accuracies.append((predictions == truth).double().mean())
        return torch.stack(accuracies)

    def _accuracy(self, labeled: Tensor, batch: Tensor) -> float:
        """The validation accuracy of the trial's head on what is bought and a batch."""
        rows = torch.cat([labeled, batch]).sort().values
        model, _ = self._fit(self.encoder, rows, self.context.oracle.look_at(rows), None)
        return float((model.logits("val").argmax(1) == self.context.data.val_labels).double().mean())


def _starts_cold(spec: PluginSpec) -> bool:
    selector: Selector = registry.build(spec)
    return selector.supports_cold_start

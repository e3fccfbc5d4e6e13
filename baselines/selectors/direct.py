"""Selection around the thresholds that separate each class from the others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from baselines.selectors.finite import require_finite
from baselines.selectors.log_odds import DECIMALS, log_odds_against_top
from harness.api import Pool, Selector


class DIRECT(Selector):
    """DIRECT, Nuggehalli, Zhang, Jain & Nowak 2023, https://arxiv.org/abs/2312.09196.

    For each class all images are put in order of how much they look like it: learning where it ends is a search for a
    threshold in one dimension, and labels near that threshold are bought for rare classes as often as for common ones.
    Half of the budget, equal shares for all classes, is drawn from the stretch in which the labels leave the threshold
    open; the other half are the images next to the threshold with which the labels agree best. The source is the
    authors' code (LabelBench, https://github.com/EfficientTraining/LabelBench).
    Deviations: a batch is labelled as a whole, so that the stretch does not shrink within it (in the authors' code it
    does when fewer annotators than images work in parallel), and the second half sees no label of the first; every
    class gets an equal share of the first half, where their code has a smallest share per class and its rule.
    Ties are broken at random. Time O(K N log N), memory O(N K).
    """

    needs = frozenset({"probabilities"})

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        shuffle = torch.randperm(len(pool.images), generator=rng)  # equal images are in random order
        kinds = torch.full((len(shuffle),), -1).index_put((pool.labeled,), pool.labels)[shuffle]
        logits = require_finite(pool.logits, "logits")[shuffle].double()
        gap = logits - logits.amax(dim=1, keepdim=True)
        doubt = log_odds_against_top(gap.sort(dim=1, descending=True).values)
        num_classes = gap.shape[1]
        is_open = kinds == -1  # neither labelled nor picked
        picks: list[Tensor] = []

        def pick(rows: Tensor) -> None:
            is_open[rows] = False
            picks.append(rows)

        for k in torch.randperm(num_classes, generator=rng).tolist():
            order = likeness_order(gap[:, k], doubt)
            start, end = open_stretch(votes(kinds, k)[order])
            stretch = order[start : end + 1]
            stretch = stretch[is_open[stretch]]
            pick(stretch[torch.randperm(len(stretch), generator=rng)[: budget // (2 * num_classes)]])
        left = budget - sum(map(len, picks))
        for turn, k in enumerate(torch.randperm(num_classes, generator=rng).tolist()):
            order = likeness_order(gap[:, k], doubt)
            around = order[outwards(best_threshold(votes(kinds, k)[order]), len(order))]
            pick(around[is_open[around]][: left * (turn + 1) // num_classes - left * turn // num_classes])
        return shuffle[torch.cat(picks)]


def likeness_order(gap: Tensor, doubt: Tensor) -> Tensor:
    """i64 [N]: images by p_k - max p of a class k, highest first, those predicted as k by p_k; equals keep their order.

    Args:
        gap: f64 [N], z_k - max z of the logits.
        doubt: f64 [N], `log_odds_against_top`.
    """
    # log(1 - (p_1 - p_k)) as in `log_one_minus_margin`, which ranks images of which p_1 is 1.0 in floating point too.
    likeness = (torch.logaddexp(doubt, gap) - softplus(doubt)).round(decimals=DECIMALS)
    is_predicted = gap == 0
    order = torch.where(is_predicted, -doubt, likeness).argsort(descending=True, stable=True)
    return torch.cat([order[is_predicted[order]], order[~is_predicted[order]]])


def votes(kinds: Tensor, k: int) -> Tensor:
    """i64 [N]: 1 where an image is of class k, -1 where of another, 0 where its kind, -1, says that none is known."""
    return torch.where(kinds == -1, 0, torch.where(kinds == k, 1, -1))


def open_stretch(vote: Tensor) -> tuple[int, int]:
    """The first and the last place between which the threshold may lie: outside, all labels agree.

    From the last of the class before any other to the first other after all of the class.

    Args:
        vote: i64 [N], `votes` in the order of likeness.
    """
    own, other = (vote == 1).nonzero().flatten(), (vote == -1).nonzero().flatten()
    before = own if len(other) == 0 else own[own < other[0]]
    after = other if len(own) == 0 else other[other > own[-1]]
    return int(before[-1]) if len(before) else 0, int(after[0]) if len(after) else len(vote) - 1


def best_threshold(vote: Tensor) -> int:
    """How many of the first places to call the class so that most labels are right; the least such number."""
    correct = torch.zeros(len(vote) + 1, dtype=torch.int64)
    correct[1:] = vote.cumsum(0)  # a label of the class gained, one of another lost
    return int(correct.argmax())


def outwards(threshold: int, size: int) -> Tensor:
    """i64 [size]: the places 0 .. size - 1 from the threshold outwards: before, behind, before, ..."""
    place = torch.arange(size)
    return torch.where(place < threshold, 2 * (threshold - 1 - place), 2 * (place - threshold) + 1).argsort()

"""Views of several sizes: two global ones, then any number of local ones."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor, nn

NUM_GLOBAL_VIEWS = 2


def forward_by_size(network: nn.Module, views: list[Tensor]) -> list[Tensor]:
    """The outputs [B, ...] of each view; neighbours of one size go through together, and are normalised together.

    As in the authors' code of SwAV and DINO.
    """
    outputs: list[Tensor] = []
    for _, same_size in groupby(views, key=lambda view: view.shape[-2:]):
        group = list(same_size)
        outputs += network(torch.cat(group)).chunk(len(group))
    return outputs


def cross_view_entropy(targets: Tensor, log_predictions: Tensor) -> Tensor:
    """The cross-entropy between each target and the prediction of every other view, averaged over those pairs.

    Args:
        targets: f32 [G, B, K], probabilities of the first G views.
        log_predictions: f32 [V, B, K], log-probabilities of all views, V >= G.

    Returns:
        f32 [B].
    """
    pairs = [(g, v) for g in range(len(targets)) for v in range(len(log_predictions)) if v != g]
    return torch.stack([-(targets[g] * log_predictions[v]).sum(dim=1) for g, v in pairs]).mean(dim=0)

"""The queue of negatives of MoCo and its descendants."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeyQueue(nn.Module):
    """The last keys of earlier batches, first in, first out; before there are any, random directions.

    A batch's own keys wait in `hold` while its loss is computed and enter with `advance`, after the optimizer's step.

    Args:
        size: Q, how many keys it holds, >= 1.
        dim: D, their length.

    Attributes:
        keys: f32 [Q, D], of unit length. Never written to between a loss and its backward pass.
        num_pushed: i64 [], how many keys ever entered. A tensor, so that a step waits for no accelerator.
    """

    keys: Tensor
    num_pushed: Tensor

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("num_pushed", torch.zeros((), dtype=torch.int64))
        self._held: Tensor | None = None

    def hold(self, keys: Tensor) -> None:
        """Remembers a batch's keys f32 [B, D] for the next `advance`, instead of those held before."""
        self._held = keys.detach()

    def advance(self) -> None:
        """Moves the held keys, if any, into the queue, over the oldest ones."""
        if self._held is None:
            return
        size, num_new = len(self.keys), len(self._held)
        skipped = max(0, num_new - size)  # of more keys than fit, the last ones stay
        places = (self.num_pushed + torch.arange(skipped, num_new, device=self.keys.device)) % size
        self.keys[places] = self._held[skipped:]
        self.num_pushed += num_new
        self._held = None

    @property
    def is_full(self) -> Tensor:
        """bool [], whether no random direction is left."""
        return self.num_pushed >= len(self.keys)


def info_nce(queries: Tensor, positives: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """InfoNCE of every image, Eq. (1) of MoCo (He et al. 2020, https://arxiv.org/abs/1911.05722).

    Args:
        queries: f32 [B, D], of unit length.
        positives: f32 [B, D], of unit length, one for each query.
        negatives: f32 [Q, D], of unit length, the same for all queries.
        temperature: > 0.

    Returns:
        f32 [B].
    """
    with torch.autocast(queries.device.type, enabled=False):
        positive = (queries * positives).sum(dim=1, keepdim=True)  # [B, 1]
        similarity = torch.cat([positive, queries @ negatives.T], dim=1) / temperature
        first = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
        return F.cross_entropy(similarity, first, reduction="none")

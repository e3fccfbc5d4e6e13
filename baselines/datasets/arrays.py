"""Arrays as splits: what the data sets that come as arrays have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harness.api import Split


def split_of(images: np.ndarray, labels: np.ndarray | Tensor | Sequence[int] | None) -> Split:
    """A split over u8 [M, C, H, W], a strided view or memory-mapped if need be; pieces are copied as they are read."""

    def read(start: int, stop: int) -> Tensor:
        return torch.from_numpy(np.array(images[start:stop]))

    return Split(len(images), read, None if labels is None else torch.as_tensor(labels, dtype=torch.int64))

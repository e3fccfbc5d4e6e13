"""Image files decoded on demand: what the data sets that come as files have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from harness.api import Split
from harness.image_file import decode


def split_of_files(paths: Sequence[Path], labels: Sequence[int] | None, image_shape: tuple[int, int, int]) -> Split:
    """A split whose images are decoded when they are read."""

    def read(start: int, stop: int) -> Tensor:
        return torch.stack([decode(path, image_shape) for path in paths[start:stop]])

    return Split(len(paths), read, None if labels is None else torch.tensor(labels))

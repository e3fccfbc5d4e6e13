"""Image files decoded on demand: what the data sets that come as files have in common."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from harness.api import Split
from harness.image_file import decode

log = logging.getLogger(__name__)


def split_of_files(
    paths: Sequence[Path], labels: Sequence[int] | None, image_shape: tuple[int, int, int], *, upright: bool = True
) -> Split:
    """A split whose images are decoded when they are read, as `decode` does; those of 16 bits are counted on stderr."""
    scaled: list[Path] = []
    unread = set(range(len(paths)))
    lock = threading.Lock()

    def read(start: int, stop: int) -> Tensor:
        images = [decode(path, image_shape, upright=upright, scaled=scaled) for path in paths[start:stop]]
        with lock:
            before = len(unread)
            unread.difference_update(range(start, stop))
        if scaled and before and not unread:
            log.warning(
                "%d of %d images have 16 bits a channel, which are scaled to 8 (65535 to 255), such as %s",
                len(set(scaled)), len(paths), min(scaled),
            )  # fmt: skip
        return torch.stack(images)

    return Split(len(paths), read, None if labels is None else torch.tensor(labels))

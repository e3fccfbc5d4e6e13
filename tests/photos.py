"""Digits as somebody's photographs: without a single label."""

from __future__ import annotations

import torch

from harness.api import Dataset, Source, Split


class Photos(Dataset):
    """The first digits, and nothing that is known of them.

    Args:
        count: how many.
    """

    has_labels = False

    def __init__(self, *, count: int = 200):
        self.count = count

    def identity(self) -> str:
        """They never change."""
        return f"the first {self.count} digits"

    def open(self) -> Source:
        """Reads them."""
        from sklearn.datasets import load_digits

        images = torch.from_numpy(load_digits().images[: self.count] * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        return Source((1, 8, 8), (), {"train": Split(len(images), lambda start, stop: images[start:stop])})

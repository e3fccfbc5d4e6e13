"""Digits: 1,797 handwritten digits in 8 x 8 grey pixels, Alpaydin & Kaynak 1998.

https://archive.ics.uci.edu/dataset/80
"""

from __future__ import annotations

import torch

from harness.api import Dataset, Source, Split


class Digits(Dataset):
    """Digits, Alpaydin & Kaynak 1998, https://archive.ics.uci.edu/dataset/80 (1,797 images of 1 x 8 x 8).

    The copy embedded in scikit-learn, which is the source's test part; its values 0 .. 16 are scaled to 0 .. 255.
    No test split.
    """

    def identity(self) -> str:
        """The images are part of scikit-learn and never change."""
        return "digits of scikit-learn, scaled to 0 .. 255"

    def open(self) -> Source:
        """Reads all images."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        split = Split(len(images), lambda start, stop: images[start:stop], torch.from_numpy(digits.target))
        return Source((1, 8, 8), tuple("0123456789"), {"train": split})

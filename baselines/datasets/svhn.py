"""SVHN, Netzer et al. 2011, http://ufldl.stanford.edu/housenumbers/."""

from __future__ import annotations

from pathlib import Path

from baselines.datasets.arrays import split_of
from baselines.datasets.torchvision_sets import TorchvisionSet
from harness.api import Source


class SVHN(TorchvisionSet):
    """Street View House Numbers, Netzer et al. 2011, http://ufldl.stanford.edu/housenumbers/ (3 x 32 x 32).

    The cropped digits: 73,257 training and 26,032 test images in 10 classes, label 0 for the digit 0. The 531,131
    easier extra images are left out.
    """

    title = "SVHN"
    urls = (
        "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
        "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
    )

    def read(self, root: Path) -> Source:
        """Opens the published .mat files."""
        from torchvision import datasets

        parts = {name: datasets.SVHN(root, split=name, download=True) for name in ("train", "test")}
        splits = {name: split_of(part.data, part.labels) for name, part in parts.items()}
        return Source((3, 32, 32), tuple("0123456789"), splits)

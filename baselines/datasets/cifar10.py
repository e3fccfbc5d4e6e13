"""CIFAR-10, Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from baselines.datasets.arrays import split_of
from baselines.datasets.torchvision_sets import TorchvisionSet
from harness.api import Source


class CIFAR10(TorchvisionSet):
    """CIFAR-10, Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html (3 x 32 x 32).

    50,000 training and 10,000 test images in 10 classes.
    """

    title = "CIFAR-10"
    urls = ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",)
    reader: ClassVar[str] = "CIFAR10"
    """The class of torchvision that reads it."""

    def read(self, root: Path) -> Source:
        """Opens the published pickles."""
        from torchvision import datasets

        reader = getattr(datasets, self.reader)
        parts = {name: reader(root, train=name == "train", download=True) for name in ("train", "test")}
        splits = {name: split_of(part.data.transpose(0, 3, 1, 2), part.targets) for name, part in parts.items()}
        return Source((3, 32, 32), tuple(parts["train"].classes), splits)

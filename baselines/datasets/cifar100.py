"""CIFAR-100, Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html."""

from __future__ import annotations

from baselines.datasets.cifar10 import CIFAR10


class CIFAR100(CIFAR10):
    """CIFAR-100, Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html (3 x 32 x 32).

    50,000 training and 10,000 test images in 100 classes, the fine labels.
    """

    title = "CIFAR-100"
    urls = ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",)
    reader = "CIFAR100"

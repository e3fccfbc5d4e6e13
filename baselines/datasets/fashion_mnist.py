"""Fashion-MNIST, Xiao et al. 2017, https://arxiv.org/abs/1708.07747."""

from __future__ import annotations

from pathlib import Path

from baselines.datasets.arrays import split_of
from baselines.datasets.torchvision_sets import TorchvisionSet
from harness.api import Source


class FashionMNIST(TorchvisionSet):
    """Fashion-MNIST, Xiao et al. 2017, https://arxiv.org/abs/1708.07747 (1 x 28 x 28).

    60,000 training and 10,000 test images in 10 classes.
    """

    title = "Fashion-MNIST"
    urls = tuple(
        f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{part}-ubyte.gz"
        for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    )
    folder = "FashionMNIST/raw"

    def read(self, root: Path) -> Source:
        """Opens the published idx files."""
        from torchvision import datasets

        parts = {name: datasets.FashionMNIST(root, train=name == "train", download=True) for name in ("train", "test")}
        splits = {name: split_of(part.data[:, None].numpy(), part.targets) for name, part in parts.items()}
        return Source((1, 28, 28), tuple(parts["train"].classes), splits)

"""STL-10, Coates et al. 2011, https://cs.stanford.edu/~acoates/stl10/."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from baselines.datasets.arrays import split_of
from baselines.datasets.torchvision_sets import TorchvisionSet
from harness.api import Source


class STL10(TorchvisionSet):
    """STL-10, Coates et al. 2011, https://cs.stanford.edu/~acoates/stl10/ (3 x 96 x 96).

    5,000 training and 8,000 test images in 10 classes, and 100,000 images without labels, some of other classes,
    for pre-training. The ten published folds are not used: start pools are drawn by the harness.
    """

    title = "STL-10"
    urls = ("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",)

    def read(self, root: Path) -> Source:
        """Opens the published binary files. torchvision checks them; the images are mapped, not read."""
        from torchvision import datasets

        train = datasets.STL10(root, split="train", download=True)
        folder = root / train.base_folder

        def images(part: str) -> np.ndarray:
            stored = np.memmap(folder / f"{part}_X.bin", dtype=np.uint8, mode="r").reshape(-1, 3, 96, 96)
            return stored.transpose(0, 1, 3, 2)  # stored column by column

        test_labels = np.fromfile(folder / "test_y.bin", dtype=np.uint8) - 1  # 1 .. 10 in the file
        splits = {
            "train": split_of(images("train"), train.labels),
            "test": split_of(images("test"), test_labels),
            "unlabeled": split_of(images("unlabeled"), None),
        }
        return Source((3, 96, 96), tuple(train.classes), splits)

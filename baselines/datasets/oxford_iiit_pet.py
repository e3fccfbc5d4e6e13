"""Oxford-IIIT Pet, Parkhi et al. 2012, https://www.robots.ox.ac.uk/~vgg/data/pets/."""

from __future__ import annotations

from pathlib import Path

from baselines.datasets.image_files import split_of_files
from baselines.datasets.torchvision_sets import TorchvisionSet
from harness.api import Source


class OxfordIIITPet(TorchvisionSet):
    """Oxford-IIIT Pet, Parkhi et al. 2012, https://www.robots.ox.ac.uk/~vgg/data/pets/ (3 x size x size).

    3,680 training (the published trainval) and 3,669 test photos of 37 breeds of cats and dogs.

    Args:
        root: the folder it is kept in, or looked for.
        size: H and W of the images, after a centre crop to a square and resizing.
    """

    title = "Oxford-IIIT Pet"
    urls = (
        "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
        "https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz",
    )
    folder = "oxford-iiit-pet"

    def __init__(self, *, root: str = "data", size: int = 128):
        if size < 1:
            raise ValueError(f"size: {size} is not at least 1")
        super().__init__(root=root)
        self.size = size

    def identity(self) -> str:
        """The published files, and the size they are brought to."""
        return f"{super().identity()} at {self.size}"

    def read(self, root: Path) -> Source:
        """Lists the published photos; they are decoded when they are read."""
        from torchvision import datasets

        shape = (3, self.size, self.size)
        named = {"train": "trainval", "test": "test"}
        parts = {name: datasets.OxfordIIITPet(root, split=theirs, download=True) for name, theirs in named.items()}
        # torchvision offers paths and labels without decoding under these names only
        splits = {name: split_of_files(part._images, part._labels, shape) for name, part in parts.items()}
        return Source(shape, tuple(parts["train"].classes), splits)

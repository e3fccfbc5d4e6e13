"""What the data sets that torchvision downloads and checks have in common."""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from harness.api import Dataset, Source


class TorchvisionSet(Dataset):
    """A published data set, downloaded by torchvision when it is opened for the first time.

    Args:
        root: the folder it is kept in, or looked for.

    Attributes:
        title: the data set's name.
        urls: the files it is published as.
        folder: where below `root` torchvision looks for these files.
    """

    downloads = True
    title: ClassVar[str]
    urls: ClassVar[tuple[str, ...]]
    folder: ClassVar[str] = ""

    def __init__(self, *, root: str = "data"):
        self.root = root

    def identity(self) -> str:
        """The published files never change, wherever they are kept."""
        return f"{self.title} as published"

    def open(self) -> Source:
        """Downloads the files if they are missing, and opens them.

        Raises:
            FileNotFoundError: they are missing and cannot be downloaded.
        """
        root = Path(os.path.expanduser(self.root))
        try:
            return self.read(root)
        except (OSError, RuntimeError) as error:  # torchvision raises either, without saying what to do
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise FileNotFoundError(
                f"{self.title} is not in {root.absolute()} and cannot be downloaded ({reason}); "
                f"put {' and '.join(self.urls)} into {(root / self.folder).absolute()}"
            ) from error

    @abstractmethod
    def read(self, root: Path) -> Source:
        """Opens the files below `root` through torchvision, with `download=True`."""

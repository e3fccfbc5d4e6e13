"""Many plugins by one line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self


class Family(ABC):
    """A class that makes plugins from names, such as one for each network of a library: `torchvision/resnet50`.

    It derives from this and from the contract of its kind, is registered under a name that ends in `/`, and has the
    hyper-parameters of all its members. Where they come from a library that may be missing, it imports that in its
    methods.
    """

    @classmethod
    @abstractmethod
    def members(cls) -> list[str]:
        """The members' names, without the prefix; none where an optional library is missing."""

    @classmethod
    @abstractmethod
    def member(cls, name: str) -> type[Self]:
        """The class of one of them: a subclass, the same for every call, with the family's `__module__`.

        Raises:
            ValueError: the library is missing; says what to install.
        """

    @classmethod
    def refused(cls) -> Mapping[str, str]:
        """Names that people will look for in vain, and why."""
        return {}

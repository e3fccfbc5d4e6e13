"""What is made of features alone, hence the same in every round of a trial, is made once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch
from torch import Tensor

SEED = 0

Made = TypeVar("Made")


class Kept(Generic[Made]):
    """A function of features that remembers its last result.

    Every round of a trial has a selector of its own, so that what is kept is kept by the module that makes it. A round
    that is resumed in another process makes it again, to the same result: what is drawn comes from a generator of a
    fixed seed.

    Args:
        make: takes f32 [N, D] features, hashable settings, and that generator as `rng`; its result is not to be
            modified.
    """

    def __init__(self, make: Callable[..., Made]):
        self._make = make
        self._last: tuple[Hashable, Made] | None = None

    def __call__(self, features: Tensor, *settings: Hashable) -> Made:
        """What `make` returns; made anew if it was last called with other values or settings."""
        contents = hashlib.sha256(features.contiguous().numpy().data).hexdigest()
        made_of = contents, tuple(features.shape), features.dtype, settings
        if self._last is None or self._last[0] != made_of:
            self._last = None  # frees the last one before the next is made
            self._last = made_of, self.made(features, *settings)
        return self._last[1]

    def made(self, features: Tensor, *settings: Hashable) -> Made:
        """The same, made now and not remembered."""
        return self._make(features, *settings, rng=torch.Generator().manual_seed(SEED))

    def forget(self) -> None:
        """Frees what is kept."""
        self._last = None

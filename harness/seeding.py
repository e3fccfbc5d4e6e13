"""One seed becomes named, independent random generators.

Every draw of a trial comes from `generator(seed, name)`. Adding a consumer under a new name changes no
other stream, and the order in which streams are used does not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, name: str) -> int:
    """A 63-bit seed for the stream called `name`, from SHA-256 of both."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of the stream called `name`, on `device`."""
    return torch.Generator(device).manual_seed(derive(seed, name))


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Seeds torch's global generators inside the block (weight initialisation, dropout), then restores them."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, name))
        yield

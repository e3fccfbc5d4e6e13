"""Images that are the same pixel for pixel: found once, when a data set is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np


def hashes_of(images: np.ndarray) -> np.ndarray:
    """i64 [B], a hash of each image of u8 [B, C, H, W]: of a million images two differ and agree with p < 1e-7."""
    rows = images.reshape(len(images), -1)
    return np.frombuffer(b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in rows), dtype=np.int64)


def twins_of(hashes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Finds images that are there more than once.

    Args:
        hashes: split -> i64 [M], of its images.

    Returns:
        split -> i64 [T, 2], the rows that have an equal one anywhere, ascending, and a number that equal ones share.
    """
    every = np.concatenate(list(hashes.values()))
    _, group, size = np.unique(every, return_inverse=True, return_counts=True)
    ends = np.cumsum([len(part) for part in hashes.values()])
    parts = np.split(np.where(size[group] > 1, group, -1), ends[:-1])
    doubled = [np.flatnonzero(part >= 0) for part in parts]
    return {
        split: np.stack([rows, part[rows]], axis=1) for split, part, rows in zip(hashes, parts, doubled, strict=True)
    }

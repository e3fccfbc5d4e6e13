"""Image files decoded on demand: what the data sets that come as files have in common."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import torch
from PIL import Image
from torch import Tensor

from harness.api import BrokenImagesError, Split
from harness.image_file import decode, size_of, undecodable

OWN_PIXELS = 256 * 256
"""Images of one size, and of at most so many pixels, keep it where no other is asked for."""

DEFAULT_SIDE = 128
"""Height and width of all others, or those of half of them, if these are smaller."""

LOOKED_AT = 200
"""So many files, evenly spread, tell what sizes there are."""


def split_of_files(
    paths: Sequence[str | Path],
    labels: Sequence[int] | None,
    image_shape: tuple[int, int, int],
    *,
    upright: bool = True,
) -> Split:
    """A split whose images are decoded when they are read, as `decode` does."""
    files = [os.fspath(path) for path in paths]
    return split_of_images(files, files.__getitem__, labels, image_shape, upright=upright)


def split_of_images(
    names: Sequence[str],
    opened: Callable[[int], str | Path | IO[bytes]],
    labels: Sequence[int] | Tensor | None,
    image_shape: tuple[int, int, int],
    *,
    upright: bool = True,
) -> Split:
    """A split of images that are decoded one by one, as `decode` does; all that are broken are named at once.

    Args:
        names: of the images.
        opened: position -> the image's file or a stream of it; raises ValueError where there is none.
        labels: as in `Split`.
        image_shape: (C, H, W).
        upright: whether they are turned as their EXIF orientation says.
    """
    converted: dict[str, list[str]] = {}

    def read(start: int, stop: int) -> Tensor:
        images, broken = [], {}
        for position in range(start, stop):
            try:
                image = opened(position)
                images.append(decode(image, image_shape, upright=upright, converted=converted, name=names[position]))
            except ValueError as error:
                broken[position] = str(error)
        if broken:
            raise BrokenImagesError(broken)
        return torch.stack(images)

    known = None if labels is None else torch.as_tensor(labels, dtype=torch.int64)
    return Split(len(names), read, known, names=names, converted=converted)


def looked_at(number: int) -> range:
    """The positions, among so many images, of those whose sizes are asked for."""
    return range(0, number, max(1, -(-number // LOOKED_AT)))


def sizes_of(paths: Sequence[str], *, upright: bool = True) -> list[tuple[int, int]]:
    """As `sizes_of_images`, of files."""
    return sizes_of_images(paths, paths.__getitem__, upright=upright)


def sizes_of_images(
    names: Sequence[object], opened: Callable[[int], str | Path | IO[bytes]], *, upright: bool = True
) -> list[tuple[int, int]]:
    """Width and height of some of the images; of broken ones, as long as not all are, none.

    Those that may keep their size are turned as their EXIF orientation says, if `upright`; of others the header tells.

    Args:
        names: of all images.
        opened: position -> the image's file, or a new stream of it.
        upright: whether they are turned.

    Raises:
        ValueError: all are broken; names the first.
    """
    sizes, problems = [], []
    for position in looked_at(len(names)):
        try:
            with Image.open(opened(position)) as image:
                width, height = image.size
            if width * height <= OWN_PIXELS:
                height, width = size_of(opened(position), upright=upright)
            sizes.append((width, height))
        except Exception as error:  # Pillow's readers raise many types for a damaged file
            problems.append(undecodable(names[position], error))
    if not sizes:
        raise problems[0]
    return sizes


def common_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int, str]:
    """The height and width that all images are brought to where nobody chose a size, and what is to be said of it.

    That of the images, if they have one and it is no photograph's; else a square of `DEFAULT_SIDE`: a photograph of 12
    megapixels is 36 MB decoded, and no encoder here is made for it.

    Args:
        sizes: width and height of some of them, at least one.

    Returns:
        Height, width, and a line, empty where every image keeps its size.
    """
    width, height = sizes[0]
    if len(set(sizes)) == 1 and width * height <= OWN_PIXELS:
        return height, width, ""
    side = int(min(DEFAULT_SIDE, statistics.median_low(min(size) for size in sizes)))
    (small_w, small_h), (large_w, large_h) = (
        choose(sizes, key=lambda one: (one[0] * one[1], one)) for choose in (min, max)
    )
    range_said = f"{small_w}x{small_h}" + (f" to {large_w}x{large_h}" if len(set(sizes)) > 1 else "")
    return side, side, f"images are {range_said} pixels; all become {side}x{side}, for `size` is not set"

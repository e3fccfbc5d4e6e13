"""Image files: how one is decoded, wherever that happens: in a data set, or when a trained encoder is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from harness.messages import message_of

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")

DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")
"""Pillow's modes with more than 8 bits a channel, which its conversion to 8 bits would clip without a word."""


def decode(path: Path, image_shape: tuple[int, int, int]) -> Tensor:
    """Decodes one file to u8 [C, H, W].

    An image of another size is cropped around its centre to the aspect ratio of H x W and resized (bicubic).

    Raises:
        ValueError: the file is not an image of 8 bits a channel; names it.
    """
    channels, height, width = image_shape
    try:
        with Image.open(path) as file:
            if file.mode in DEEP_MODES:
                raise ValueError("it has more than 8 bits a channel; convert it to 8 bits first")
            image: Image.Image = file.convert("RGB" if channels == 3 else "L")
    except Exception as error:  # Pillow's readers raise many types for a damaged file
        raise undecodable(path, error) from error
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image))
    return pixels.permute(2, 0, 1) if channels == 3 else pixels.unsqueeze(0)


def undecodable(path: Path, error: Exception) -> ValueError:
    """The error for a file that Pillow could not read, in one line."""
    return ValueError(f"cannot decode {path}: {message_of(error)}; mend or remove it")


def below(folder: Path) -> Iterator[Path]:
    """The images in a folder and its sub-folders, sorted by path; hidden files and other extensions are left out."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.name.lower().endswith(EXTENSIONS) and path.is_file() and not hidden:
            yield path

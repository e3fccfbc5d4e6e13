"""Image files, of data sets and for trained encoders: how one is decoded, and which lie in a tree of folders."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from harness.messages import count, message_of

# A photograph may have the 89 million pixels of which Pillow warns, naming no file; of twice as many it raises.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jfif", ".jpe",
    ".mpo", ".jp2", ".j2k", ".avif", ".apng", ".dib", ".tga", ".ico", ".pcx", ".sgi", ".qoi",
    ".j2c", ".jpc", ".jpf", ".jpx", ".avifs", ".icb", ".vda", ".vst", ".rgb", ".rgba", ".bw", ".ras", ".psd", ".dds",
    ".xbm", ".xpm", ".icns", ".im", ".cur", ".dcx", ".msp", ".pcd", ".pxr", ".blp", ".ftc", ".ftu", ".gbr", ".fli",
    ".flc",
)  # fmt: skip
"""Of what is taken for an image: all that torchvision's ImageFolder reads, and Pillow's other formats of pictures. Left
out are what it reads by another program or on one system alone (.eps .ps .emf .wmf), numbers that are no picture (.pfm
.fit .fits .h5 .hdf .grib .bufr), films (.mpg .mpeg) and a wrapping (.iim)."""

SOME_ENDINGS = " ".join([*EXTENSIONS[:8], "..."])
"""Some of them, for messages."""

CLUTTER = (
    "@eadir", "@tmp", "@sharebin", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@transcode",
    "@__thumb", "~snapshot", "__macosx", "temporary items", "network trash folder", "$recycle.bin", "recycler",
    "system volume information", "lost+found",
)  # fmt: skip
"""Folders that storage devices, archives and operating systems put beside images, for copies of their own."""

NAMED_BROKEN = 10
"""So many broken images are named in a message; of more, all stand in a file."""

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of 16 bits a channel, which its own conversion to 8 bits would clip."""

CONVERSIONS = {
    "scaled": "have 16 bits a channel, which are scaled to 8 (65535 to 255)",
    "frames": "have several frames or pages, of which the first is read",
    "transparent": "have transparent pixels, whose colours are read as they are",
}
"""What `decode` may do to an image that its user should know: in a word, and what is said of such images."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image the right way up, by its EXIF orientation (EXIF 2.32, tag 274); 1 is upright."""


def decode(
    path: str | Path | IO[bytes],
    image_shape: tuple[int, int, int],
    *,
    upright: bool = True,
    converted: dict[str, list[str]] | None = None,
    name: str | None = None,
) -> Tensor:
    """Decodes one file, or a stream that is called `name`, to u8 [C, H, W].

    An image of 16 bits a channel is scaled, 65535 to 255. One of another size is cropped around its centre to the
    aspect ratio of H x W and resized (bicubic).

    Args:
        path: the file, or a stream.
        image_shape: (C, H, W).
        upright: whether it is turned as its EXIF orientation says.
        converted: where the name is noted of an image to which one of `CONVERSIONS` was done.
        name: of the image; None: its path.

    Raises:
        ValueError: the file is not an image of 8 or 16 bits a channel; names it.
    """
    channels, height, width = image_shape
    try:
        with Image.open(path) as file:
            image: Image.Image = file
            if file.format != "JPEG":  # which has 8 bits, one frame and no transparency
                deep = is_deep(file) or _is_reduced(file)
                image = _in_eight_bits(file) if is_deep(file) else file
                if converted is not None:
                    for conversion in _conversions(file, deep):
                        converted.setdefault(conversion, []).append(name or str(path))
            image.load()  # by which some formats change their mode
            mode = "RGB" if channels == 3 else "L"
            image = image if image.mode == mode else image.convert(mode)
            image = _turned(image, file) if upright else image
            if image.size != (width, height):
                image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
            pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    except Exception as error:  # Pillow's readers raise many types for a damaged file
        raise undecodable(name or path, error) from error
    return pixels.view(height, width, channels).permute(2, 0, 1)


def is_deep(file: Image.Image) -> bool:
    """Whether an opened image has more than 8 bits a channel that Pillow would clip and not scale."""
    return file.mode in (*SIXTEEN_BITS, "I", "F")


def _is_reduced(file: Image.Image) -> bool:
    """Whether an image that was opened and not loaded has 16 bits in each of several channels: Pillow scales them."""
    for tile in getattr(file, "tile", ()):
        about = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        most = max((one for one in about if isinstance(one, int)), default=0)  # of a PPM's values
        if re.search(";16[BLN]", str(about[:1])) or (file.format == "PPM" and most > 255):
            return True
    return False


def _conversions(file: Image.Image, deep: bool) -> Iterator[str]:
    if deep:
        yield "scaled"
    if file.format != "MPO" and getattr(file, "n_frames", 1) > 1:  # the second of an MPO is a camera's own
        yield "frames"
    if file.has_transparency_data and file.convert("RGBA").getchannel("A").getextrema()[0] < 255:
        yield "transparent"


def _in_eight_bits(file: Image.Image) -> Image.Image:
    """The image, 0 .. 65535 as 0 .. 255."""
    if file.mode not in SIXTEEN_BITS and not (file.mode == "I" and file.format in ("PNG", "PPM")):
        raise ValueError("it has 32 bits a channel, whose range nothing says; convert it to 8 or 16 bits first")
    values = np.asarray(file).astype(np.int64)  # mode I of these two formats holds 16 bits
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def size_of(path: str | Path | IO[bytes], *, upright: bool = True) -> tuple[int, int]:
    """(H, W) of an image file, after turning.

    Raises:
        ValueError: the file is no image; names it.
    """
    try:
        with Image.open(path) as file:
            file.load()  # a file that is cut off says so only then
            image = _turned(file, file) if upright else file
            return image.height, image.width
    except Exception as error:
        raise undecodable(path, error) from error


def _turned(image: Image.Image, file: Image.Image) -> Image.Image:
    """`image`, which was made of an opened `file`, the right way up."""
    if file.format == "JPEG" and file.info.keys().isdisjoint(("exif", "xmp")):  # which says it nowhere else
        return image
    file.load()  # Pillow turns some formats as it loads them, and then their orientation is gone
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data beside good pixels
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def undecodable(path: object, error: Exception) -> ValueError:
    """The error for a file that Pillow could not read, in one line."""
    return ValueError(f"cannot decode {path}: {message_of(error)}")


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is nobody's data: hidden, or made by a storage device or an archive."""
    return name.startswith(".") or name.casefold() in CLUTTER


def broken_in_words(broken: Sequence[str], listing: Path) -> str:
    """How many images are broken and which: some of many, all of whom then stand in the file `listing`, a line each."""
    more = ""
    if len(broken) > NAMED_BROKEN:
        listing.write_text("".join(f"{line}\n" for line in broken), encoding="utf-8", errors="surrogateescape")
        more = f"; and {len(broken) - NAMED_BROKEN} more, all named in {listing}"
    return f"{count(len(broken), 'broken image')}: {'; '.join(broken[:NAMED_BROKEN])}{more}"


@dataclass(frozen=True)
class ImageFile:
    """An image by its name.

    Attributes:
        path: of the file.
        status: its size and times.
    """

    path: str
    status: os.stat_result


@dataclass(frozen=True)
class Folder:
    """A folder with all below it; links are followed.

    Attributes:
        path: of the folder.
        name: the last part of it, in Unicode's composed form (NFC), which is one for what looks the same.
        images: that lie in it directly.
        folders: that lie in it directly.
        others: paths of files in it that are no images by their name.
        clutter: paths of images in it that are hidden, or in folders that nobody made for their data.
    """

    path: str
    name: str
    images: tuple[ImageFile, ...]
    folders: tuple[Folder, ...]
    others: tuple[str, ...]
    clutter: tuple[str, ...]

    @cached_property
    def num_images(self) -> int:
        """In it and below."""
        return len(self.images) + sum(folder.num_images for folder in self.folders)

    @cached_property
    def filled(self) -> tuple[Folder, ...]:
        """The folders in it that hold images, themselves or below."""
        return tuple(folder for folder in self.folders if folder.num_images)

    @cached_property
    def all_images(self) -> list[ImageFile]:
        """In it and below, in order."""
        return in_order(image for folder in self.walk() for image in folder.images)

    def walk(self) -> Iterator[Folder]:
        """It and all folders below."""
        yield self
        for folder in self.folders:
            yield from folder.walk()


def in_order(images: Iterable[ImageFile]) -> list[ImageFile]:
    """Sorted by path, folder by folder as classes are: `cat/2.png` comes before `cat-big/1.png`."""
    return sorted(images, key=lambda image: image.path.split(os.sep))


def scan(path: str, above: tuple[str, ...] = ()) -> Folder:
    """Looks at a folder and all below it, sorted by name.

    Raises:
        ValueError: something cannot be read, an image by its name is no file, or a link leads to a folder that it
            lies in. (One that leads nowhere is an image that cannot be decoded.)
    """
    here = os.path.realpath(path)
    if here in above:
        raise ValueError(f"{path} is a link to a folder that it lies in; remove it")
    images, folders, others, clutter = [], [], [], []
    for entry in _entries(path):
        is_image = entry.name.lower().endswith(EXTENSIONS)
        if is_clutter(entry.name):
            clutter += list(_images_below(entry.path)) if entry.is_dir() else [entry.path] if is_image else []
        elif entry.is_dir():
            folders.append(scan(entry.path, (*above, here)))
        elif is_image:
            images.append(ImageFile(entry.path, file_status(entry.path)))
        else:
            others.append(entry.path)
    name = unicodedata.normalize("NFC", os.path.basename(os.path.abspath(path)))
    return Folder(path, name, tuple(images), tuple(folders), tuple(others), tuple(clutter))


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


def file_status(path: str) -> os.stat_result:
    """The status of an image's file; of a link that leads nowhere its own, for then the image is broken like others.

    Raises:
        ValueError: it cannot be had, or it is no file.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return os.lstat(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
        raise ValueError(f"{path} is not a file; remove it")
    return status


def leads_nowhere(path: str) -> bool:
    """Whether it is a link to what is not there, as where a file was not fetched (DVC, git-annex)."""
    return os.path.islink(path) and not os.path.exists(path)


def _images_below(path: str) -> Iterator[str]:
    """The images, by their names, of a folder that nobody asks for, as far as it can be read."""
    for folder, _, files in os.walk(path):
        yield from (os.path.join(folder, file) for file in files if file.lower().endswith(EXTENSIONS))

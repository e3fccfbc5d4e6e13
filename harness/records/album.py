"""The album of an encoder: the images of its portrait's map, for who looks at them: `trials/<trial>/album.npz`.

`harness.trial.album` makes one; the report shows it. Its thumbnails are one picture that a browser reads as it is.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields

import numpy as np

from harness.records.portrait import Portrait, jpeg_of

LARGEST_SHEET, TILE_BYTES = 7_000_000, 700
"""Of all thumbnails, and of one where they are fewer: a page that holds them stays below 15 MB."""

SHEET_COLUMNS = 64
"""Thumbnails in a row of the sheet."""


@dataclass(frozen=True, eq=False)
class Album:
    """What is known of mapped images: first the portrait's n validation images, then its m picks, then q others.

    Without labels the first n are images of the pool. N = n + m + q, and `api.UNKNOWN` (-1) is a class nobody knows.

    Attributes:
        other_points: f32 [q, 2], places on the map of images of the pool that nobody labelled.
        ranks: i64 [m], the place of each pick among those of its round, 0 for the most wanted.
        clusters: i64 [m + q], the nearest of the portrait's clusters.
        predicted: i64 [N], the class that the last model tells; unknown without a model.
        confidence: f32 [N], its probability; NaN where the classifier gives none.
        suspected: i64 [n], the class that a validation image seems to be of in spite of its label; else unknown.
        names: of the images, such as their files: N or none.
        tiles: i64 [N], the place of each image's thumbnail in the sheet, row by row; -1 without one.
        height: of a thumbnail in pixels.
        width: likewise.
        sheet: JPEG, `SHEET_COLUMNS` thumbnails in a row; empty without any.
    """

    other_points: np.ndarray
    ranks: np.ndarray
    clusters: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    suspected: np.ndarray
    names: tuple[str, ...]
    tiles: np.ndarray
    height: int
    width: int
    sheet: bytes

    def belongs_to(self, portrait: Portrait) -> bool:
        """Whether it holds as many images as the portrait's map, and as many facts of each."""
        mapped, picks, others = len(portrait.points), len(portrait.pick_points), len(self.other_points)
        count = mapped + picks + others
        lengths = (len(self.ranks), len(self.clusters), len(self.suspected), *map(len, (self.predicted, self.tiles)))
        return (
            lengths == (picks, picks + others, mapped, count, count)
            and len(self.confidence) == count
            and len(self.names) in (0, count)
        )

    def thumbnails(self, places: np.ndarray) -> list[np.ndarray | None]:
        """u8 [h, w, 3] of each of some of the N images; None where there is no picture."""
        from PIL import Image

        if not self.sheet:
            return [None] * len(places)
        pixels = np.asarray(Image.open(io.BytesIO(self.sheet)).convert("RGB"))
        numbers = self.tiles[places].tolist()
        corners = [(number // SHEET_COLUMNS * self.height, number % SHEET_COLUMNS * self.width) for number in numbers]
        return [
            pixels[top : top + self.height, left : left + self.width] if number >= 0 else None
            for number, (top, left) in zip(numbers, corners, strict=True)
        ]


def sheet_of(tiles: np.ndarray) -> bytes:
    """u8 [N, h, w, 3] as one JPEG, of a quality at which it is small."""
    count, height, width, _ = tiles.shape
    full = np.zeros((-(-count // SHEET_COLUMNS), SHEET_COLUMNS, height, width, 3), np.uint8)
    full.reshape(-1, height, width, 3)[:count] = tiles
    # Colours are halved: its blocks of 16 pixels are those of the tiles.
    return jpeg_of(full, (85, 70, 50, 30, 15), min(LARGEST_SHEET, TILE_BYTES * count), subsampling=2)


def pack_album(album: Album) -> bytes:
    """The content of its file."""
    content = {item.name: getattr(album, item.name) for item in fields(Album)}
    content |= {"names": np.array([name.encode(errors="surrogateescape") for name in album.names], dtype=np.bytes_)}
    content |= {"sheet": np.frombuffer(album.sheet, np.uint8)}
    file = io.BytesIO()
    np.savez_compressed(file, **content)
    return file.getvalue()


def unpack_album(content: bytes) -> Album:
    """The album in a file's content."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {item.name: file[item.name] for item in fields(Album)}
    names = tuple(name.decode(errors="replace") for name in arrays.pop("names").tolist())
    sheet, height, width = arrays.pop("sheet").tobytes(), int(arrays.pop("height")), int(arrays.pop("width"))
    return Album(**arrays, names=names, sheet=sheet, height=height, width=width)

"""The portrait of an encoder: what a report shows of it, in one small file, `trials/<trial>/portrait.npz`.

`harness.trial.portray` makes one, `harness.report.looks` show it; this module needs numpy and Pillow alone.
Thumbnails are kept as JPEG sheets, which keeps the file below 150 kB.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_SHEET_BYTES = 60_000
"""Of one sheet of thumbnails; noise, which hardly compresses, is kept at a lower quality."""


@dataclass(frozen=True, eq=False)
class Portrait:
    """Validation images on a map, their neighbours, the picks on the same map, and what the augmentation does.

    Only the classes of validation images and of labels that the trial had bought are in here. Where no image has a
    label it shows images of the pool, K = 0, and `api.UNKNOWN` stands for every class.
    Letters: n mapped validation images, m labelled pool images, Q queries, k neighbours, R rounds of picks, A images
    under P operations, thumbnails of h x w pixels.

    Attributes:
        class_names: K names, in label order.
        mapping: how the map was made: "t-SNE" or "PCA".
        points: f32 [n, 2], places of validation images on the map.
        classes: i64 [n], their classes.
        clusters: i64 [n], their k-means clusters in feature space; as many clusters as classes, or ten.
        same_class: share of the k nearest neighbours that are of the query's class, over the n images; NaN without.
        picked: i64 [R + 1], how many images of the pool were labelled: first the start pool, then in each round.
        pick_points: f32 [m, 2], places of some of them on the map.
        pick_rounds: i64 [m], 0 for the start pool, then 1, 2, ...
        pick_classes: i64 [m], their classes.
        neighbor_classes: i64 [Q, 1 + k]: of the query and of its neighbours, nearest first.
        neighbor_images: u8 [Q, 1 + k, h, w, 3]; h = w = 0 where there are features and no pictures.
        operations: P names: the parts of the augmentation, in their order, and "views", what training sees.
        views: u8 [A, 1 + 2 P, h, w, 3]: the image, then two draws of each operation; A = 0 without pre-training.
    """

    class_names: tuple[str, ...]
    mapping: str
    points: np.ndarray
    classes: np.ndarray
    clusters: np.ndarray
    same_class: float
    picked: np.ndarray
    pick_points: np.ndarray
    pick_rounds: np.ndarray
    pick_classes: np.ndarray
    neighbor_classes: np.ndarray
    neighbor_images: np.ndarray
    operations: tuple[str, ...]
    views: np.ndarray


def pack(portrait: Portrait) -> bytes:
    """The content of its file."""
    content: dict[str, Any] = {
        "class_names": np.array(portrait.class_names),
        "mapping": np.array(portrait.mapping),
        "points": portrait.points.astype(np.float32),
        "classes": portrait.classes.astype(np.int32),
        "clusters": portrait.clusters.astype(np.int32),
        "same_class": np.array(portrait.same_class),
        "picked": portrait.picked.astype(np.int32),
        "pick_points": portrait.pick_points.astype(np.float32),
        "pick_rounds": portrait.pick_rounds.astype(np.int32),
        "pick_classes": portrait.pick_classes.astype(np.int32),
        "neighbor_classes": portrait.neighbor_classes.astype(np.int32),
        "operations": np.array(portrait.operations, dtype=np.str_),
    }
    for name in ("neighbor_images", "views"):
        tiles: np.ndarray = getattr(portrait, name)
        jpeg = jpeg_of(tiles, (92, 80, 60, 30), MAX_SHEET_BYTES, subsampling=0)
        content |= {f"{name}_shape": np.array(tiles.shape), f"{name}_jpeg": np.frombuffer(jpeg, np.uint8)}
    file = io.BytesIO()
    np.savez_compressed(file, **content)
    return file.getvalue()


def unpack(content: bytes) -> Portrait:
    """The portrait in a file's content."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        tiles = {
            name: _decoded(file[f"{name}_jpeg"].tobytes(), tuple(file[f"{name}_shape"]))
            for name in ("neighbor_images", "views")
        }
        numbers = ("classes", "clusters", "picked", "pick_rounds", "pick_classes", "neighbor_classes")
        return Portrait(
            class_names=tuple(file["class_names"].tolist()),
            mapping=str(file["mapping"]),
            points=file["points"],
            same_class=float(file["same_class"]),
            pick_points=file["pick_points"],
            operations=tuple(file["operations"].tolist()),
            **{name: file[name].astype(np.int64) for name in numbers},
            **tiles,
        )


def tiled(tiles: np.ndarray) -> np.ndarray:
    """u8 [rows, columns, h, w, 3] as one picture u8 [rows h, columns w, 3]."""
    rows, columns, height, width, _ = tiles.shape
    return tiles.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)


def jpeg_of(tiles: np.ndarray, qualities: Iterable[int], most: int, subsampling: int) -> bytes:
    """`tiled` as a JPEG, of the first of these qualities that makes it small enough, else of the last.

    Args:
        tiles: u8 [rows, columns, h, w, 3]; of none the JPEG is empty.
        qualities: Pillow's, 0 .. 95.
        most: bytes.
        subsampling: of colours, Pillow's; 2 halves them in both directions.
    """
    from PIL import Image

    if not tiles.size:
        return b""
    picture = Image.fromarray(tiled(tiles))
    for quality in qualities:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, subsampling=subsampling)
        if file.tell() <= most:
            break
    return file.getvalue()


def _decoded(jpeg: bytes, shape: tuple[int, ...]) -> np.ndarray:
    from PIL import Image

    rows, columns, height, width, channels = shape
    if not jpeg:
        return np.zeros(shape, np.uint8)
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    return pixels.reshape(rows, height, columns, width, channels).transpose(0, 2, 1, 3, 4)

"""Which images a trial's models classified correctly, one bit an image: `trials/<trial>/hits.npz`.

With these two models are compared image by image, and it is known how much of an accuracy is owed to the test images.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Hits:
    """What the models of a trial's rounds got right, as one metric counts it.

    Attributes:
        images: names the images; models can be compared image by image where it is the same.
        count: m, how many images there are.
        bits: number of labels -> u8 [ceil(m / 8)], see `numpy.packbits`; in the order of the data set's rows, for the
            order of a split is its seed's own.
    """

    images: str
    count: int
    bits: dict[int, np.ndarray]

    def after(self, labels: int) -> np.ndarray:
        """bool [m]: the images that the model of so many labels classified correctly."""
        return np.unpackbits(self.bits[labels], count=self.count).astype(bool)


def pack_hits(hits: Mapping[str, Hits]) -> bytes:
    """The content of the file: metric, such as `test/accuracy`, -> hits."""
    about = {name: {"images": one.images, "count": one.count, "labels": list(one.bits)} for name, one in hits.items()}
    content: dict[str, Any] = {name: np.stack(list(one.bits.values())) for name, one in hits.items()}
    file = io.BytesIO()
    np.savez_compressed(file, **content | {"about": np.array(json.dumps(about))})
    return file.getvalue()


def unpack_hits(content: bytes) -> dict[str, Hits]:
    """What `pack_hits` packed.

    Raises:
        ValueError: it is none, or damaged; numpy and zipfile raise other types, too.
    """
    with np.load(io.BytesIO(content)) as file:
        about: dict[str, Any] = json.loads(str(file["about"]))
        hits = {}
        for name, one in about.items():
            bits = file[name]
            if bits.dtype != np.uint8 or bits.shape != (len(one["labels"]), -(-one["count"] // 8)):
                raise ValueError(f"{name}: not {one['count']} bits for each of {len(one['labels'])} models")
            hits[name] = Hits(one["images"], one["count"], dict(zip(one["labels"], bits, strict=True)))
    return hits

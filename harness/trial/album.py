"""Makes the album of a trial's encoder: the images behind its portrait's map, and what its last model says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.api import UNKNOWN, Images
from harness.data.splits import Data
from harness.image_file import decode
from harness.records.album import Album, sheet_of
from harness.trial.rounds import Rounds

THUMBNAIL = 32
"""Pixels of a thumbnail's longer side, at most."""

MANY, SMALL = 8_000, 16
"""More thumbnails than the first have no longer side than the second."""

READ = 300
"""Files of a data set of features that are opened for a thumbnail, at most: each is a whole photograph."""

SHRUNK = 2048


def album_of(
    rounds: Rounds, part: str, mapped: Tensor, labels: Tensor, picks: Tensor, ranks: Tensor, others: Tensor,
    clusters: np.ndarray, other_points: np.ndarray,
) -> Album:  # fmt: skip
    """Computes an album.

    Args:
        rounds: run to their end.
        part: of which the mapped images are: "val", or "pool" where no image has a label.
        mapped: i64 [n], their positions.
        labels: i64 [n], their classes.
        picks: i64 [m], positions in the pool.
        ranks: i64 [m], see `Album`.
        others: i64 [q], positions in the pool.
        clusters: i64 [m + q], see `Album`.
        other_points: f32 [q, 2].
    """
    data, of_pool = rounds.context.data, torch.cat([picks, others])
    probabilities, is_known = _probabilities(rounds, part, mapped, of_pool)
    confidence, predicted = probabilities.max(1) if probabilities.shape[1] else (probabilities.sum(1), None)
    unknown = torch.full((len(probabilities),), UNKNOWN)
    suspected = suspects(probabilities[: len(mapped)], labels) if is_known else unknown[: len(mapped)]
    predicted = unknown if predicted is None else predicted
    wrong = (predicted[: len(mapped)] != labels).nonzero().flatten()
    telling = torch.cat([
        len(mapped) + ranks.argsort(stable=True)[: READ // 3],
        (suspected >= 0).nonzero().flatten()[: READ // 3],
        wrong[confidence[wrong].argsort(descending=True)],
    ])  # fmt: skip
    images = [(part, mapped), ("pool", of_pool)]
    tiles, pictures = _pictures(data, images, telling)
    return Album(
        other_points=other_points,
        ranks=ranks.numpy(),
        clusters=clusters,
        predicted=predicted.numpy(),
        confidence=np.where(is_known, confidence.numpy(), np.float32(np.nan)),
        suspected=suspected.numpy(),
        names=tuple(_names(data, images)),
        tiles=tiles,
        height=pictures.shape[1],
        width=pictures.shape[2],
        sheet=sheet_of(pictures),
    )


def suspects(probabilities: Tensor, labels: Tensor) -> Tensor:
    """i64 [n]: the class that confident learning suspects behind a label, `UNKNOWN` where it trusts the label.

    Northcutt et al. 2021, "Confident Learning", J. Artif. Intell. Res. 70, https://doi.org/10.1613/jair.1.12125,
    equations 1 and 2: an image is confidently of the class j with the highest probability among those that reach
    their threshold, the mean probability of j over the images labelled j; it is suspected where j is not its label.

    Args:
        probabilities: f32 [n, K], of a model that did not see these images.
        labels: i64 [n], in 0 .. K-1.
    """
    kinds = F.one_hot(labels, probabilities.shape[1]).to(probabilities)
    thresholds = (kinds * probabilities).sum(0) / kinds.sum(0)  # NaN of a class without an image: nothing reaches it
    reached = torch.where(probabilities >= thresholds, probabilities, -1.0)
    best, place = reached.max(1)
    return torch.where((best >= 0) & (place != labels), place, UNKNOWN)


def _probabilities(rounds: Rounds, part: str, mapped: Tensor, of_pool: Tensor) -> tuple[Tensor, bool]:
    """f32 [N, K] of the last model, K = 0 without one, and whether its classifier gives probabilities."""
    if not rounds.last:
        return torch.zeros(len(mapped) + len(of_pool), 0), False
    model = rounds.last.model
    logits = torch.cat([model.logits(name, rows) for name, rows in ((part, mapped), ("pool", of_pool)) if len(rows)])
    return logits.float().softmax(1), rounds.context.config.classifier.gives_probabilities


def _names(data: Data, images: list[tuple[str, Tensor]]) -> list[str]:
    """Of all images, or none."""
    lists = [data.named(part, positions) for part, positions in images if len(positions)]
    return [name for names in lists if names is not None for name in names] if None not in lists else []


def _pictures(data: Data, images: list[tuple[str, Tensor]], telling: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """i64 [N], the number of each image's thumbnail, -1 without one, and u8 [T, h, w, 3]."""
    count = sum(len(positions) for _, positions in images)
    if data.gives_features:
        return _of_files(data, images, telling, count)
    size = thumbnail_size(data.pool, SMALL if count > MANY else THUMBNAIL)
    parts = {"pool": data.pool, "val": data.val}
    chunks = [(part, chunk) for part, positions in images for chunk in positions.split(SHRUNK) if len(chunk)]
    return np.arange(count), np.concatenate([tiles(parts[part][chunk].cpu(), size) for part, chunk in chunks])


def _of_files(
    data: Data, images: list[tuple[str, Tensor]], telling: Tensor, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same of features: thumbnails of the most telling images, where their files are known and can be read."""
    lists = [data.files_of(part, positions) for part, positions in images if len(positions)]
    numbers = np.full(count, -1)
    pictures: list[Tensor] = []
    if None not in lists:
        files = [file for names in lists if names is not None for file in names]
        for place in dict.fromkeys(telling.tolist()):
            if len(pictures) < READ:
                try:
                    pictures.append(decode(Path(files[place]), (3, THUMBNAIL, THUMBNAIL)))
                except ValueError:
                    continue  # a missing file has no picture; `neighbors` has said so
                numbers[place] = len(pictures) - 1
    size = (THUMBNAIL, THUMBNAIL)
    return numbers, tiles(torch.stack(pictures), size) if pictures else np.zeros((0, *size, 3), np.uint8)


def thumbnail_size(images: Images, longest: int = THUMBNAIL) -> tuple[int, int]:
    """Height and width of a thumbnail in pixels: the images' shape, no side longer than `longest`."""
    _, _, height, width = images.shape
    share = min(1.0, longest / max(height, width))
    return max(1, round(share * height)), max(1, round(share * width))


def tiles(images: Tensor, size: tuple[int, int]) -> np.ndarray:
    """u8 [B, h, w, 3] of u8, or f32 in [0, 1], [B, C, H, W]."""
    pixels = images.float().div(255) if images.dtype == torch.uint8 else images.float()
    if tuple(pixels.shape[2:]) != size:
        pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    pixels = pixels.expand(-1, 3, -1, -1).clamp(0, 1).mul(255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy()

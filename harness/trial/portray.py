"""Makes the portrait of a trial's encoder at the trial's end, for the report; measures nothing and changes nothing.

Which images are shown depends on the data alone, so that the portraits of a sweep show the same ones. The map is that
of the validation images; the picks are placed into it, so that selectors on one encoder share one map. Where no image
has a label there are none of either, and the pool's images are shown.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines import BUILTINS
from harness import files, messages
from harness.api import UNKNOWN, Augmentation, Images
from harness.config.tasks import MAPPED
from harness.image_file import decode
from harness.messages import printable
from harness.plugins import registry
from harness.records import portrait
from harness.records.album import Album, pack_album
from harness.records.portrait import Portrait
from harness.seeding import derive, generator
from harness.trial import represent, stages
from harness.trial.album import THUMBNAIL, album_of, thumbnail_size, tiles
from harness.trial.models import HeadModel
from harness.trial.rounds import Rounds

PICKED, SEARCHED = 500, 10_000
"""At most so many labelled images are on the map unless more are asked for, and validation images may be neighbours.
`MAPPED` validation images at most shape the map."""

FIRST = 24
"""Of the first selection so many are on the map in any case."""

CLUSTERS = 10
"""Of images without labels; of others as many as there are classes."""

QUERIES, NEIGHBORS = 8, 5
SHOWN, DRAWS = 6, 2
"""Images under each operation, and draws of each."""

SMALLEST_MAP = 30
"""Images below which a t-SNE map has no neighbourhoods to preserve; they are mapped by PCA."""

TSNE_DIMS = 50
Deliver = Callable[[Mapping[str, Any]], None]
"""Receives a portrait as JSON values: `portrait` and `album`, its files in base64, or `warning`, why there is none."""


def portray(rounds: Rounds, uses_views: bool, deliver: Deliver, count: int = MAPPED) -> float:
    """Makes a portrait, or takes it from the stage cache, and delivers it; an error is a warning, but for a full disk.

    Args:
        rounds: run to their end.
        uses_views: whether the augmentation took part in the training.
        deliver: is called once.
        count: images on the map, at most: validation images, then labelled ones, then others of the pool.

    Returns:
        The seconds that it took when it was computed.

    Raises:
        OSError: the disk is full.
    """
    views = rounds.context.config.augmentation
    key = {
        "model": rounds.last.digest if rounds.last else rounds.encoder.digest,  # also stands for seed and machine
        "data": rounds.context.data.fingerprint,
        "bought": files.digest_of({"positions": [positions.tolist() for positions in rounds.bought]}),
        "views": views.as_dict() if uses_views else None,
        "count": count,
        "pictures": _state_of(rounds),
    }

    def compute(_: stages.Checkpoint) -> dict[str, Any]:
        made, album = portrait_of(rounds, uses_views, count)
        files = {"portrait": portrait.pack(made), "album": pack_album(album)}
        return {name: torch.frombuffer(bytearray(content), dtype=torch.uint8) for name, content in files.items()}

    try:
        stage = rounds.context.stages.run("portrait", key, compute, registry.sources(views))
    except Exception as error:  # whatever it is, the trial has its results
        if files.no_space(error):
            raise
        deliver({"warning": f"no portrait of the encoder: {messages.cause_of(error)}"})
        return 0.0
    deliver({name: base64.b64encode(file.numpy().tobytes()).decode() for name, file in stage.value.items()})
    return stage.seconds


def portrait_of(rounds: Rounds, uses_views: bool, count: int) -> tuple[Portrait, Album]:
    """Computes a portrait and its album; see `portray`.

    Raises:
        ValueError: the features are not finite, or there are labels and no validation images.
    """
    data = rounds.context.data
    model = rounds.last.model if rounds.last else None
    part, images = ("val", data.val) if data.num_classes else ("pool", data.pool)
    if not len(images):
        raise ValueError("it shows validation images, and data.val is 0")
    everything = _some(len(images), max(SEARCHED, count), part)
    mapped = everything[:count]
    features = (model or rounds.encoder).features(part, everything)
    if not bool(features.isfinite().all()):
        raise ValueError("the encoder's features are not finite")
    labels = data.val_labels[everything] if data.num_classes else torch.full((len(everything),), UNKNOWN)
    places = map_of(features[: min(MAPPED, count)])
    chosen, number, ranks = _picks(rounds, max(PICKED, count - len(mapped)))
    others = _others(rounds, count - len(mapped) - len(chosen)) if part == "val" else chosen[:0]
    of_pool = _features_of_pool(rounds, torch.cat([chosen, others])) if len(chosen) + len(others) else features[:0]
    of_pool_points = places.of(of_pool).numpy()
    groups = clusters(features[: len(places.points)], data.num_classes or CLUSTERS,
                      torch.cat([features[len(places.points) : len(mapped)], of_pool]))  # fmt: skip
    nearest = _nearest(features)
    queries = _queries(labels)
    shown = torch.cat([queries[:, None], nearest[queries]], dim=1)
    same = (labels[nearest] == labels[: len(nearest), None]).double()
    operations, views = _views(rounds) if uses_views else ((), np.zeros((0, 1, 1, 1, 3), np.uint8))
    made = Portrait(
        class_names=data.class_names,
        mapping=places.name,
        points=torch.cat([places.points, places.of(features[len(places.points) : len(mapped)])]).numpy(),
        classes=labels[:count].numpy(),
        clusters=groups[: len(mapped)],
        same_class=float(same.mean()) if same.numel() and data.num_classes else float("nan"),
        picked=np.array([len(positions) for positions in _bought(rounds)]),
        pick_points=of_pool_points[: len(chosen)],
        pick_rounds=number.numpy(),
        pick_classes=rounds.context.oracle.reveal(chosen).numpy(),  # these are bought: it costs nothing
        neighbor_classes=labels[shown].numpy(),
        neighbor_images=_thumbnails(images, everything[shown], data.files_of(part, everything[shown].flatten())),
        operations=operations,
        views=views,
    )
    return made, album_of(rounds, part, mapped, labels[:count], chosen, ranks, others, groups[len(mapped) :],
                          of_pool_points[len(chosen) :])  # fmt: skip


def _features_of_pool(rounds: Rounds, chosen: Tensor) -> Tensor:
    """f32 [m, D], by the encoder of the last round."""
    if rounds.last is None:
        return rounds.encoder.features("pool", chosen)
    model = rounds.last.model
    backbone: Any = model.encoder.backbone if isinstance(model, HeadModel) else model.network.backbone
    return rounds.context.runtime.forward(backbone, rounds.context.data.pool.subset(chosen))


def _state_of(rounds: Rounds) -> str:
    """Of names and image files, which may come, go and change while what is learnt from them stays: a digest."""
    data = rounds.context.data
    every = {part: torch.arange(size) for part, size in (("val", len(data.val)), ("pool", data.counts["pool"]))}
    names = {part: data.named(part, rows) for part, rows in every.items()}
    listed = [name for part, rows in every.items() for name in data.files_of(part, rows[:SEARCHED]) or []]
    return files.digest_of({"names": names, "files": listed, "there": list(map(os.path.exists, listed))})


def _some(total: int, most: int, name: str) -> Tensor:
    """i64: all positions in a random order that depends on `name` alone, or the first of them."""
    return torch.randperm(total, generator=generator(0, f"portrait/{name}"))[:most]


class FeatureMap:
    """A 2-d map of features f32 [n, D], into which others are placed.

    Attributes:
        name: "t-SNE" or "PCA".
        points: f32 [n, 2].
    """

    def __init__(self, features: Tensor):
        seed = derive(0, "portrait/map")
        if len(features) < SMALLEST_MAP or not bool((features != features[0]).any()):
            self.name = "PCA"
            center = features.mean(0)
            _, _, directions = torch.linalg.svd(features - center, full_matrices=False)
            directions = F.pad(directions[:2], (0, 0, 0, 2 - min(2, len(directions))))
            self._place: represent.Mapper = lambda others: (others - center) @ directions.T
            self.points = self._place(features)
        else:
            self.name = "t-SNE"
            self.points, self._place = represent.fit_tsne(features, TSNE_DIMS, seed)

    def of(self, others: Tensor) -> Tensor:
        """f32 [m, 2]: the places of other images' features f32 [m, D]."""
        return self._place(others) if len(others) else self.points[:0]


_last: dict[str, tuple[str, Any]] = {}
"""What was made of features last, by what it is, and its name: the trials of one encoder show the same images."""


def _made(what: str, features: Tensor, settings: str, make: Callable[[], Any]) -> Any:
    """What `make` makes of features f32 [n, D]; where it was made of the same last, that."""
    name = f"{settings} {tuple(features.shape)} {files.digest(features.contiguous().numpy().tobytes())}"
    if _last.get(what, ("",))[0] != name:
        _last[what] = name, make()
    return _last[what][1]


def map_of(features: Tensor) -> FeatureMap:
    """The map of f32 [n, D], made once for trials that follow one another."""
    return _made("map", features, "", lambda: FeatureMap(features))


def clusters(features: Tensor, count: int, others: Tensor) -> np.ndarray:
    """i64 [n + m]: k-means clusters of f32 [n, D], and the nearest of them to each of f32 [m, D]."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    def fit() -> KMeans:
        with warnings.catch_warnings():  # fewer distinct points than clusters: some stay empty
            warnings.simplefilter("ignore", ConvergenceWarning)
            seed = derive(0, "portrait/clusters") % 2**32
            return KMeans(min(count, len(features)), n_init=4, random_state=seed).fit(features.numpy())

    fitted = _made("clusters", features, str(count), fit)
    return np.concatenate([fitted.labels_, fitted.predict(others.numpy()) if len(others) else fitted.labels_[:0]])


def _bought(rounds: Rounds) -> list[Tensor]:
    """The positions that were labelled, by round; none where all labels were bought at once."""
    return rounds.bought if rounds.context.config.labels.budgets else []


def _picks(rounds: Rounds, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Labelled images, where they are many the first of the first selection and a random part of the others.

    Returns:
        i64 [m] positions in the pool, i64 [m] their rounds, and i64 [m] their places in the selector's order.
    """
    bought = _bought(rounds)
    if not bought:
        return (torch.empty(0, dtype=torch.int64),) * 3
    number = torch.cat([torch.full((len(positions),), k) for k, positions in enumerate(bought)])
    rank = torch.cat([torch.arange(len(positions)) for positions in bought])
    is_first = (number == 1) & (rank < FIRST)
    order = _some(len(number), len(number), "picks")
    order = torch.cat([is_first.nonzero().flatten(), order[~is_first[order]]])
    chosen = order[:most].sort().values
    return torch.cat(bought)[chosen], number[chosen], rank[chosen]


def _others(rounds: Rounds, most: int) -> Tensor:
    """i64 [q]: images of the pool that nobody labelled."""
    order = _some(len(rounds.context.data.pool), len(rounds.context.data.pool), "pool")
    is_bought = torch.zeros(len(order), dtype=torch.bool).index_fill(0, torch.cat(rounds.bought), True)
    return order[~is_bought[order]][: max(0, most)]


def _nearest(features: Tensor) -> Tensor:
    """i64 [n, k]: the most similar (cosine, as k-NN votes) of f32 [N, D] for each of the first n, itself left out."""
    features = F.normalize(features, dim=1)
    similarity = features[:MAPPED] @ features.T
    similarity.fill_diagonal_(-torch.inf)
    return similarity.topk(min(NEIGHBORS, len(features) - 1), dim=1).indices


def _queries(labels: Tensor) -> Tensor:
    """i64 [Q]: of each class one in turn, until there are enough."""
    labels = labels[:MAPPED]
    seen = [int((labels[:place] == label).sum()) for place, label in enumerate(labels.tolist())]
    order = sorted(range(len(labels)), key=lambda place: (seen[place], int(labels[place])))
    return torch.tensor(order[:QUERIES], dtype=torch.int64)


def _thumbnails(images: Images, positions: Tensor, image_files: Sequence[str] | None) -> np.ndarray:
    """u8 [rows, columns, h, w, 3] of i64 [rows, columns]; of features those of their files, h = w = 0 without any."""
    if len(images.shape) == 2:
        return _of_files(image_files or [], positions)
    size = thumbnail_size(images)
    return tiles(images[positions.flatten()].cpu(), size).reshape(*positions.shape, *size, 3)


def _of_files(names: Sequence[str], positions: Tensor) -> np.ndarray:
    """u8 [rows, columns, h, w, 3] of image files, one for each of i64 [rows, columns]."""
    none = np.zeros((*positions.shape, 0, 0, 3), np.uint8)
    try:
        decoded = [decode(Path(name), (3, THUMBNAIL, THUMBNAIL)) for name in names]
    except ValueError as error:
        print(printable(f"no pictures of images in the report: {error}"), file=sys.stderr)
        return none
    if not decoded:
        return none
    size = (THUMBNAIL, THUMBNAIL)
    return tiles(torch.stack(decoded), size).reshape(*positions.shape, *size, 3)


def _views(rounds: Rounds) -> tuple[tuple[str, ...], np.ndarray]:
    """Images of the pool, whose classes nobody asks for, under each part of the augmentation and under all of it."""
    return sheet_of_views(rounds.context.data.pool, rounds.context.views)


def sheet_of_views(pool: Images, views: Augmentation) -> tuple[tuple[str, ...], np.ndarray]:
    """Some images under each part of an augmentation and under all of it.

    Returns:
        The names of the operations, the last of all of it; u8 [N, 1 + 2 operations, h, w, 3], the image first.
    """
    parts = views.parts()
    shown = list(zip(part_names(parts), parts, strict=True)) if len(parts) > 1 else []
    images = pool[_some(len(pool), SHOWN, "views")]
    size = thumbnail_size(pool)
    columns = [tiles(images.cpu(), size)]
    for number, (_, operation) in enumerate([*shown, ("", views)]):
        for view in range(DRAWS):
            rng = generator(0, f"portrait/views/{number}/{view}", images.device)
            columns.append(tiles(operation(images, view=view, rng=rng).cpu(), size))
    return (*(name for name, _ in shown), "views"), np.stack(columns, axis=1)


def part_names(parts: Sequence[Augmentation]) -> list[str]:
    """The name of each part; those that share one are numbered."""
    names = [operation_name(part) for part in parts]
    numbers = [names[:place].count(name) + 1 for place, name in enumerate(names)]
    return [f"{name} {number}" if names.count(name) > 1 else name for name, number in zip(names, numbers, strict=True)]


def operation_name(augmentation: Augmentation) -> str:
    """As in a configuration, or as its class is called where it has no name there."""
    kind = type(augmentation)
    place = f"{kind.__module__}:{kind.__name__}"
    known = {target: name for name, target in BUILTINS["augmentations"].items()}
    return known.get(place) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()

"""Small pools for the checks of selectors: ordinary and degenerate ones, parts of them, some that note what is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.api import UNKNOWN, Augmentation, Images, Pool
from harness.seeding import generator


class _LinearModel:
    """A `PoolModel` that is cheap and consistent: features are linear in the pixels, logits in the features."""

    def __init__(self, images: Tensor, num_classes: int, logit_scale: float, trained: bool):
        self._pixels = images.flatten(1).float() / 255 - 0.5
        rng = generator(0, "weights")
        size = self._pixels.shape[1]
        self._encoder = torch.randn(size, 16, generator=rng) / size**0.5
        self._head = torch.randn(16, num_classes, generator=rng) * logit_scale
        self._trained = trained

    def features(self) -> Tensor:
        return self._pixels @ self._encoder

    def penultimate(self) -> Tensor:
        return 2 * self.features()

    @torch.no_grad()  # as of every trained head
    def last_layer(self, penultimate: Tensor) -> Tensor:
        return self._classify(penultimate / 2)

    def logits(self) -> Tensor:
        return self._classify(self.features())

    def stochastic_logits(self, num_samples: int) -> Tensor:
        features = self.features().expand(num_samples, -1, -1)
        kept = torch.rand(features.shape, generator=generator(0, "dropout")) < 0.5
        return self._classify(features * kept * 2)

    def augmented_logits(self, num_samples: int, views: Augmentation | None = None) -> Tensor:
        pixels = self._pixels.expand(num_samples, -1, -1)
        noise = 0.1 * torch.randn(pixels.shape, generator=generator(0, "noise"))
        return self._classify((pixels + noise) @ self._encoder)

    def ssl_loss(self, num_draws: int) -> Tensor:
        return self.features().square().mean(1)

    def companion_outputs(self) -> Tensor:
        return self.logits().mean(1)

    def _classify(self, features: Tensor) -> Tensor:
        if not self._trained:
            raise ValueError("no classifier has been trained yet: the pool has no labels")
        return features @ self._head


def make_pool(
    images: Tensor | None = None,
    *,
    num_labeled: int = 8,
    labels: Tensor | None = None,
    num_classes: int = 4,
    logit_scale: float = 4.0,
    seed: int = 0,
) -> Pool:
    """A pool of small images with a linear model, for tests of selectors; equal arguments give equal pools.

    Args:
        images: u8 [N, C, H, W]; if None, 60 images of 3 x 8 x 8 in as many clusters as there are classes.
        num_labeled: L, at random positions. Without any the pool offers no logits.
        labels: i64 [N], the classes of all images, of which the pool gets those of the labelled; random if None.
        num_classes: K.
        logit_scale: the size of the logits.
        seed: of whatever is random.
    """
    rng = generator(seed, "pool")
    if images is None:
        centers = torch.randint(256, (num_classes, 3, 8, 8), generator=rng)
        noise = torch.randint(-40, 41, (60, 3, 8, 8), generator=rng)
        images = (centers[torch.arange(60) % num_classes] + noise).clamp(0, 255).to(torch.uint8)
    if labels is None:
        labels = torch.randint(num_classes, (len(images),), generator=rng)
    is_labeled = torch.zeros(len(images), dtype=torch.bool)
    is_labeled[torch.randperm(len(images), generator=rng)[:num_labeled]] = True
    labeled, unlabeled = is_labeled.nonzero().squeeze(1), (~is_labeled).nonzero().squeeze(1)
    model = _LinearModel(images, num_classes, logit_scale, trained=num_labeled > 0)
    return Pool(Images(images), labeled, unlabeled, labels[labeled], num_classes, model)


def degenerate_pools() -> dict[str, Pool]:
    """Pools that happen: what is peculiar -> the pool."""
    rng = generator(0, "degenerate")
    constant = torch.full((40, 3, 8, 8), 128, dtype=torch.uint8)
    few = torch.randint(256, (4, 3, 8, 8), generator=rng).to(torch.uint8)
    return {
        "all images equal": make_pool(constant),
        "few distinct images, many duplicates": make_pool(few.repeat(10, 1, 1, 1)),
        "logits of 1e4": make_pool(logit_scale=1e4),
        "all labels of one class": make_pool(labels=torch.zeros(60, dtype=torch.int64)),
        "one labelled image": make_pool(num_labeled=1),
        "three images, one labelled": make_pool(few[:3], num_labeled=1),
        "one unlabelled image": make_pool(num_labeled=59),
        "one channel, 9 x 11 pixels": make_pool(torch.randint(256, (40, 1, 9, 11), generator=rng).to(torch.uint8)),
    }


class _Rows:
    """A `PoolModel` that knows some rows of another's answers."""

    def __init__(self, model: Any, rows: Tensor):
        self._model = model
        self._rows = rows

    def features(self) -> Tensor:
        return self._model.features()[self._rows]

    def penultimate(self) -> Tensor:
        return self._model.penultimate()[self._rows]

    def last_layer(self, penultimate: Tensor) -> Tensor:
        return self._model.last_layer(penultimate)

    def logits(self) -> Tensor:
        return self._model.logits()[self._rows]

    def stochastic_logits(self, num_samples: int) -> Tensor:
        return self._model.stochastic_logits(num_samples)[:, self._rows]

    def augmented_logits(self, num_samples: int, views: Augmentation | None = None) -> Tensor:
        return self._model.augmented_logits(num_samples, views)[:, self._rows]

    def ssl_loss(self, num_draws: int) -> Tensor:
        return self._model.ssl_loss(num_draws)[self._rows]

    def companion_outputs(self) -> Tensor:
        return self._model.companion_outputs()[self._rows]


def rows_of(whole: Pool, rows: Tensor) -> Pool:
    """The pool that holds the distinct rows i64 [n] of another, in their order."""
    known = torch.full((len(whole.images),), UNKNOWN).index_put((whole.labeled,), whole.labels)[rows]
    return replace(
        whole,
        images=whole.images.subset(rows),
        labeled=(known != UNKNOWN).nonzero().flatten(),
        unlabeled=(known == UNKNOWN).nonzero().flatten(),
        labels=known[known != UNKNOWN],
        model=_Rows(whole.model, rows),
    )


class _RecordingImages(Images):
    """Images that note whether their pixels are asked for, or the pixels' number; those of a subset note it too."""

    def __init__(self, images: Images, asked: set[str]):
        super().__init__(images[torch.arange(len(images))])
        self._asked = asked

    @property
    def shape(self) -> tuple[int, ...]:
        self._asked.add("images")
        return super().shape

    def __getitem__(self, index: Tensor) -> Tensor:
        self._asked.add("images")
        return super().__getitem__(index)

    def subset(self, index: Tensor) -> Images:
        return _RecordingImages(super().subset(index), self._asked)


class _Recording:
    """A `PoolModel` that notes which parts it is asked for."""

    def __init__(self, model: Any, asked: set[str]):
        self._model = model
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        self._asked.add(name)
        return getattr(self._model, name)


def recording(pool: Pool) -> tuple[Pool, set[str]]:
    """The same pool, and the names of those of its parts that it has been asked for since, pixels as `images`."""
    asked: set[str] = set()
    model: Any = _Recording(pool.model, asked)
    return replace(pool, model=model, images=_RecordingImages(pool.images, asked)), asked


class _Votes:
    """A `PoolModel` whose logits say nothing but the order of the classes, as votes do."""

    def __init__(self, model: Any):
        self._model = model

    def __getattr__(self, name: str) -> Any:
        answer = getattr(self._model, name)
        if name not in ("logits", "last_layer", "stochastic_logits", "augmented_logits"):
            return answer
        return lambda *arguments: answer(*arguments).argsort(dim=-1).argsort(dim=-1).float()


def voting(pool: Pool) -> Pool:
    """The same pool under a classifier of votes."""
    model: Any = _Votes(pool.model)
    return replace(pool, model=model)

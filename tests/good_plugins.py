"""Plugins that keep every promise, and the means to break one."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
from torch import nn

from harness import testing
from harness.api import Augmentation, Backbone, Companion, Dataset, Selector, Source, Split, SSLMethod
from harness.testing.common import COMMON_CHECKS, when


class GoodSelector(Selector):
    """Random picks."""

    supports_cold_start = True

    def select(self, pool, budget, *, rng):
        return pool.unlabeled[torch.randperm(len(pool.unlabeled), generator=rng)[:budget]]


class GoodCompanion(Companion):
    """Predicts each image's loss from the sizes of its features."""

    def __init__(self, num_stages):
        super().__init__()
        self.score = nn.Linear(num_stages, 1)

    def forward(self, stages):
        sizes = torch.stack([stage.flatten(1).square().mean(1) for stage in stages], dim=1)
        return self.score(sizes).squeeze(1)

    def loss(self, stages, task_losses, progress):
        return (self(stages) - task_losses).square().mean()


class GoodAccompanied(Selector):
    """Highest predicted loss."""

    companion_class = GoodCompanion
    reads = frozenset({"companion_outputs"})

    def companion(self, stage_shapes):
        return self.companion_class(len(stage_shapes))

    def select(self, pool, budget, *, rng):
        shuffled = pool.unlabeled[torch.randperm(len(pool.unlabeled), generator=rng)]
        return shuffled[pool.companion_outputs[shuffled].argsort(descending=True)[:budget]]


class GoodAugmentation(Augmentation):
    """Another brightness for each image.

    Args:
        strength: at most this is taken away, in [0, 1].
    """

    def __init__(self, *, strength: float = 0.5):
        self.strength = strength

    def __call__(self, images, *, view, rng):
        unit = images / 255 if images.dtype == torch.uint8 else images
        return unit * (1 - self.strength * self.draw(images, rng))

    def draw(self, images, rng):
        return torch.rand(len(images), 1, 1, 1, generator=rng, device=images.device)


class GoodBackbone(Backbone):
    """Convolution, normalisation, average."""

    def __init__(self, image_shape):
        super().__init__()
        self.conv = nn.Conv2d(image_shape[0], 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.feature_dim = 6

    def forward(self, images):
        return self.norm(self.conv(images)).relu().mean((2, 3))


class GoodMethod(SSLMethod):
    """Views of an image get equal projections.

    Args:
        dim: of the projections, >= 1.
    """

    def __init__(self, backbone, *, dim: int = 8):
        super().__init__(backbone)
        self.dim = dim
        self.head = nn.Linear(backbone.feature_dim, dim)

    def sample_loss(self, views):
        a, b = (self.head(self.backbone(view)) for view in views)
        return (a - b).square().mean(1)

    def loss(self, views):
        return {"loss": self.sample_loss(views).mean()}


class GoodQueue(GoodMethod):
    """Also repels the projections of earlier batches, which a queue remembers."""

    def __init__(self, backbone, *, dim: int = 8):
        super().__init__(backbone, dim=dim)
        self.register_buffer("queue", torch.randn(64, dim))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def loss(self, views):
        projections = self.head(self.backbone(views[0]))
        repulsion = torch.exp(-torch.cdist(projections, self.queue)).mean()
        self.latest = projections.detach().float()
        return {"loss": GoodMethod.sample_loss(self, views).mean() + repulsion, "repulsion": repulsion}

    def after_step(self, progress):
        self.queue[(int(self.filled) + torch.arange(len(self.latest))) % 64] = self.latest
        self.filled += len(self.latest)

    sample_loss = SSLMethod.sample_loss  # with a repulsion it is no mean over images


class GoodDataset(Dataset):
    """Twelve images of noise."""

    image_shape = (3, 8, 8)
    class_names = ("cat", "dog")

    def identity(self):
        return "noise, version 1"

    def open(self):
        return Source(self.image_shape, self.class_names, {"train": self.train()})

    def train(self):
        return Split(12, self.read, torch.arange(12) % 2)

    def read(self, start, stop):
        return torch.stack([torch.full((3, 8, 8), index, dtype=torch.uint8) for index in range(start, stop)])


def broken(base, **members):
    """A copy of a good plugin with some members replaced."""
    return type(f"Broken{base.__name__}", (base,), {"__doc__": "One promise is broken.", **members})


def checks_of(kind):
    """The checks of a kind alone, by name."""
    checks = getattr(testing, f"{kind[:-1].upper()}_CHECKS")
    options = {"device": torch.device("cpu")} if kind == "augmentations" else {}
    return {check.__name__: partial(check, **options) for check in checks}


def assert_found(kind, name, plugin, words):
    """The check of that name fails for a plugin and says so, and so do all checks of its kind."""
    common = {check.__name__: partial(check, kind=kind) for check in COMMON_CHECKS}
    with pytest.raises(AssertionError, match=re.escape(words)), when("alone"):
        (common | checks_of(kind))[name](plugin)
    with pytest.raises(AssertionError):
        getattr(testing, f"check_{kind[:-1]}")(plugin)

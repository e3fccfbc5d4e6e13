"""The contracts between the harness and its plugins. Imports torch only.

Shape letters used everywhere: N images of the pool, L labelled, U unlabelled, B batch, V views,
C channels, H height, W width, D features, K classes.

A plugin is a class whose hyper-parameters are keyword-only constructor arguments with defaults, kept
under their own names; those are exactly what a search space may set. A plugin takes randomness only
from the generator that is handed to it, and never sees a label that the oracle has not revealed.
`harness.testing` holds the checks that every plugin must pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn


class Images:
    """Rows of a uint8 image store [*, C, H, W], gathered on demand.

    The store may be memory-mapped and far larger than memory, so only the rows asked for are read. It may hold further
    images, which are not for those who are handed these: no attribute leads to it, and what is gathered is a copy.

    Args:
        store: u8 [M, C, H, W], in memory, memory-mapped or on an accelerator.
        rows: i64 [N], which rows of the store these images are; all of them if None.
        device: where gathered batches are put; the store's own device if None.
    """

    def __init__(self, store: Tensor, rows: Tensor | None = None, device: torch.device | None = None):
        _stored[self] = store, torch.arange(len(store)) if rows is None else rows
        self.device = device or store.device

    def __len__(self) -> int:
        return len(_stored[self][1])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        channels, height, width = _stored[self][0].shape[1:]
        return len(self), channels, height, width

    def __getitem__(self, index: Tensor) -> Tensor:
        """Gathers u8 [B, C, H, W] for i64 [B] positions in 0 .. N-1."""
        store, rows = _stored[self]
        return store[rows[index.to(rows.device)].to(store.device)].to(self.device, non_blocking=True)

    def subset(self, index: Tensor) -> Images:
        """The images at i64 [n] positions, without reading any of them."""
        store, rows = _stored[self]
        return Images(store, rows[index.to(rows.device)], self.device)


_stored: WeakKeyDictionary[Images, tuple[Tensor, Tensor]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Split:
    """One part of a data source, readable in pieces.

    Attributes:
        num_images: how many images it has.
        read: `read(start, stop)` decodes u8 [stop - start, C, H, W]; called from several threads at once.
        labels: i64 [num_images] in 0 .. K-1, or None where there are none.
    """

    num_images: int
    read: Callable[[int, int], Tensor]
    labels: Tensor | None = None


@dataclass(frozen=True)
class Source:
    """An opened data set: what the harness decodes once into its cache.

    Attributes:
        image_shape: (C, H, W) of every image, after any resizing the data set does.
        class_names: K names, in label order.
        splits: `train` (required), and where the source has them `test` and `unlabeled`.
            Without `test` the harness carves one from `train`.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    splits: Mapping[str, Split]


class Dataset(ABC):
    """Where images come from. Downloads, if any, happen in `open`, never in the constructor."""

    @abstractmethod
    def identity(self) -> str:
        """What determines the images, found without decoding them: names, sizes and times of files.

        Two equal identities share one decoded cache. Called before `open`, on every run.
        """

    @abstractmethod
    def open(self) -> Source:
        """Opens the source for decoding. Called only when the cache does not hold this identity.

        Raises:
            FileNotFoundError: in one line, what is missing and where to put it.
        """


class Augmentation(ABC):
    """A random image operation, batched, with a fresh draw for every image.

    Example:
        >>> class Dim(Augmentation):
        ...     def __call__(self, images, *, view, rng):
        ...         return images / 255 * torch.rand(len(images), 1, 1, 1, generator=rng)
        >>> dimmed = Dim()(torch.full((2, 3, 8, 8), 255), view=0, rng=torch.Generator())
        >>> dimmed.shape, bool((dimmed[0] != dimmed[1]).all())
        (torch.Size([2, 3, 8, 8]), True)
    """

    @abstractmethod
    def __call__(self, images: Tensor, *, view: int, rng: torch.Generator) -> Tensor:
        """Transforms a batch.

        Args:
            images: [B, C, H, W], u8 in 0 .. 255 or f32 in [0, 1]; never modified; C is 1 or 3.
            view: which view of the image is being made, 0 .. V-1, for asymmetric recipes.
            rng: the only source of randomness, on the images' device.

        Returns:
            f32 [B, C, H, W] in [0, 1], on the images' device; H and W are those of the input unless
            the operation is asked for another size.
        """

    def parts(self) -> Sequence[Augmentation]:
        """The augmentations that this one is made of, for reports, which show what each does; none of a single one."""
        return ()


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that a backbone offers under a name.

    Attributes:
        identity: what determines their values, such as the name of the published file.
        load: fetches them as a state dict, which may hold more than the backbone, such as a classifier. Raises
            FileNotFoundError: in one line, what is missing and where to put it.
    """

    identity: str
    load: Callable[[], Mapping[str, Tensor]]


class Backbone(nn.Module, ABC):
    """An encoder. `__init__(self, image_shape, *, hyper_parameters...)` with image_shape = (C, H, W).

    Attributes:
        feature_dim: D, the length of a feature vector.
    """

    channels_last: ClassVar[bool] = False
    """Whether the stages' outputs are [B, h, w, c] instead of [B, c, h, w], as in Swin transformers."""

    feature_dim: int
    _frozen: tuple[nn.Module, ...] = ()

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised images f32 [B, C, H, W] to features f32 [B, D]."""

    def stages(self) -> list[nn.Module]:
        """The network's parts in order of depth, without repetition.

        The output of each is an intermediate feature, [B, ...] and [B, c, h, w] in convolutional networks (see
        `channels_last`), to be read with a forward hook. All that a stage's output depends on is registered in the
        network before what follows it.
        """
        return [self]

    def dropouts(self) -> list[nn.Module]:
        """The layers that stochastic passes draw from: dropout of a rate above 0."""
        return [m for m in self.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]

    @classmethod
    def published_weights(cls) -> Mapping[str, PublishedWeights]:
        """The weights that can be loaded by name; nothing is fetched."""
        return {}

    def freeze(self, depth: bool | int) -> None:
        """Keeps parts of the network as they are; called once, after weights were loaded.

        Their parameters require no gradient, and their batch normalisation and dropout stay in evaluation mode.

        Args:
            depth: how many of the `stages`, in order of depth, with all that is registered before them; true for the
                whole network, false for none of it.

        Raises:
            ValueError: there are not so many stages.
        """
        stages = self.stages()
        if not isinstance(depth, bool) and not 1 <= depth <= len(stages):
            raise ValueError(f"freeze = {depth} is neither true nor false nor in 1 .. {len(stages)}, its stages")
        if depth:
            self._freeze(self if depth is True else stages[depth - 1])

    def _freeze(self, last: nn.Module) -> None:
        modules = list(self.modules())  # in order of registration
        parts = set(last.modules())
        end = max(position for position, module in enumerate(modules) if module in parts) + 1
        for module in modules[:end]:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
        frozen = set(modules[:end])
        self._frozen = tuple(module for module in modules[:end] if frozen.issuperset(module.modules()))
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode of all but the frozen parts, which stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.training = False
        return self


class SSLMethod(nn.Module, ABC):
    """A self-supervised objective on top of a backbone.

    The harness owns the loop, the optimizer, the precision and the checkpoints; a method owns its heads
    and its loss. `__init__(self, backbone, *, hyper_parameters...)` must keep the encoder that is used
    after pre-training as `self.backbone`.

    Attributes:
        num_views: V, how many views of each image `loss` receives; 0: the encoder keeps its initial weights.
        num_local_views: how many of these, the last, show small parts and must have fewer pixels than the others.

    Example:
        >>> class Attract(SSLMethod):
        ...     def loss(self, views):
        ...         a, b = map(self.backbone, views)  # [B, D] each
        ...         return {"loss": (a - b).square().mean()}
        >>> Attract(nn.Flatten()).loss([torch.zeros(4, 3, 8, 8)] * 2)
        {'loss': tensor(0.)}
    """

    num_views: int = 2
    num_local_views: int = 0
    backbone: Backbone

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone

    @abstractmethod
    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """The training loss of one batch.

        Args:
            views: V tensors f32 [B, C, H, W], normalised, H and W each its own; row i of each shows the same image.

        Returns:
            `{"loss": []}` to back-propagate, plus any scalars to log under `pretrain/<name>`.
        """

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B], the loss of each image, for selectors that rank by it.

        Raises:
            NotImplementedError: the method's loss is not a mean over images.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no loss per image")

    @classmethod
    def has_sample_loss(cls) -> bool:
        """Whether `sample_loss` is defined."""
        return cls.sample_loss is not SSLMethod.sample_loss

    def after_step(self, progress: float) -> None:
        """Called after every optimizer step, for momentum encoders and queues; progress in (0, 1]."""


UNKNOWN = -1
"""Stands for the label of an image whose label has not been bought."""


class SupervisedMethod(SSLMethod):
    """An objective that also reads the labels bought so far, such as SupCon's; the harness hands it no others.

    `__init__(self, backbone, num_classes, *, hyper_parameters...)` with num_classes = K.

    Attributes:
        labeled_only: it learns from labelled images alone, and `labels` holds no UNKNOWN. Otherwise it learns from
            the whole pool.
    """

    labeled_only: ClassVar[bool] = False

    @abstractmethod
    def labeled_loss(self, views: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The training loss of one batch, in place of `loss`.

        Args:
            views: V tensors f32 [B, C, H, W], normalised; row i of each shows the same image.
            labels: i64 [B] in 0 .. K-1, UNKNOWN where the label has not been bought.

        Returns:
            As `loss`.
        """

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """The loss of a batch without any label."""
        return self.labeled_loss(views, torch.full((len(views[0]),), UNKNOWN, device=views[0].device))


class SemiSupervisedMethod(SSLMethod):
    """A learner that trains classifier and encoder together, from labelled and unlabelled images: `mode: joint` only.

    `num_views` counts the views of unlabelled images, made by the trial's augmentation. Labelled images are seen in one
    view, made by the classifier's augmentation.
    """

    @abstractmethod
    def joint_loss(
        self, classifier: nn.Module, labeled: Tensor, labels: Tensor, unlabeled: list[Tensor]
    ) -> dict[str, Tensor]:
        """The training loss of one step.

        Args:
            classifier: normalised images f32 [B, C, H, W] -> logits f32 [B, K], through `self.backbone`.
            labeled: f32 [B, C, H, W], normalised.
            labels: i64 [B] in 0 .. K-1.
            unlabeled: V tensors f32 [M, C, H, W], normalised; row i of each shows the same image.

        Returns:
            `{"loss": []}` to back-propagate, plus any scalars to log.
        """

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """There is none without a classifier.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{type(self).__name__} trains a classifier: use it in mode joint")


class PoolModel(Protocol):
    """What the harness computes for a pool on request, in evaluation mode unless said otherwise."""

    def features(self) -> Tensor:
        """f32 [N, D]."""

    def logits(self) -> Tensor:
        """f32 [N, K]."""

    def stochastic_logits(self, num_samples: int) -> Tensor:
        """f32 [num_samples, N, K]."""

    def augmented_logits(self, num_samples: int) -> Tensor:
        """f32 [num_samples, N, K]."""

    def ssl_loss(self, num_draws: int) -> Tensor:
        """f32 [N]."""

    def companion_outputs(self) -> Tensor:
        """f32 [N, ...]."""


@dataclass(frozen=True, eq=False)
class Pool:
    """All that a selector may know. The lazy parts cost nothing unless they are read.

    Its images are in a random order: a position says nothing of a label. No attribute leads to a validation or test
    image, nor to a label that has not been bought.

    Attributes:
        images: N images, indexed like every other part of the pool.
        labeled: i64 [L], sorted positions whose labels are known.
        unlabeled: i64 [U], sorted positions to choose from; L + U = N.
        labels: i64 [L], the classes of `labeled`, in its order. There are no others in here.
        num_classes: K.
        model: computes the lazy parts.
    """

    images: Images
    labeled: Tensor
    unlabeled: Tensor
    labels: Tensor
    num_classes: int
    model: PoolModel

    @cached_property
    def features(self) -> Tensor:
        """f32 [N, D]: the encoder's features of every image, on the CPU."""
        return self.model.features()

    @cached_property
    def logits(self) -> Tensor:
        """f32 [N, K]: the current classifier's outputs before softmax, on the CPU.

        Raises:
            ValueError: no classifier has been trained yet (L = 0).
        """
        return self.model.logits()

    @cached_property
    def companion_outputs(self) -> Tensor:
        """f32 [N, ...]: what the selector's `companion` says of every image, on the CPU."""
        return self.model.companion_outputs()

    def ssl_loss(self, num_draws: int = 8) -> Tensor:
        """f32 [N]: the SSL method's loss of every image, the mean over draws of views and batches, on the CPU."""
        return self.model.ssl_loss(num_draws)

    def stochastic_logits(self, num_samples: int) -> Tensor:
        """f32 [num_samples, N, K]: forward passes with dropout active."""
        return self.model.stochastic_logits(num_samples)

    def augmented_logits(self, num_samples: int) -> Tensor:
        """f32 [num_samples, N, K]: forward passes under fresh augmentations."""
        return self.model.augmented_logits(num_samples)


class Companion(nn.Module, ABC):
    """A module trained beside a classifier that is fine-tuned, such as one that predicts its loss.

    It reads the outputs of the backbone's `stages`. The harness hooks them, adds `loss` to that of the classifier in
    every step, and trains both with one optimizer. Its initial weights come from a random stream of their own.
    """

    @abstractmethod
    def forward(self, stages: list[Tensor]) -> Tensor:
        """What it says of each image, f32 [B, ...].

        Args:
            stages: the output of each stage, [B, ...], in order of depth.
        """

    @abstractmethod
    def loss(self, stages: list[Tensor], task_losses: Tensor, progress: float) -> Tensor:
        """The companion's training loss of one batch, [], to be added to the mean of the task losses.

        Args:
            stages: as in `forward`. Gradients flow through them into the backbone unless they are detached.
            task_losses: f32 [B], the classifier's loss of each image, detached.
            progress: the share of the training that is done before this step, in [0, 1).
        """


CONDITIONAL_PARTS = frozenset({"stochastic_logits", "ssl_loss", "companion_outputs"})
"""The parts of a pool that not every trial can give: they need a backbone with dropout, an SSL method with a loss per
image, a classifier that a companion can be trained beside."""


class Selector(ABC):
    """Chooses which unlabelled images a person should label next.

    Example:
        >>> class Guess(Selector):
        ...     def select(self, pool, budget, *, rng):
        ...         return pool.unlabeled[torch.randperm(len(pool.unlabeled), generator=rng)[:budget]]
        >>> from harness.testing import make_pool
        >>> Guess().select(make_pool(), 3, rng=torch.Generator()).shape
        torch.Size([3])
    """

    supports_cold_start: ClassVar[bool] = False
    """Whether `select` may be called with L = 0 (then it must not read `pool.logits`)."""

    reads: ClassVar[frozenset[str]] = frozenset()
    """Those of `CONDITIONAL_PARTS` that `select` reads; a trial that cannot give them is refused before it starts."""

    pool_subset: int | None = None
    """How many unlabelled images the harness shows it in each round, drawn anew; all of them if None."""

    def companion(self, stage_shapes: list[tuple[int, ...]]) -> Companion | None:
        """A fresh module to be trained beside the classifier; asked for if `reads` has `companion_outputs`.

        Args:
            stage_shapes: the shape of each stage's output for one image, without the batch.
        """
        return None

    @abstractmethod
    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """Chooses `budget` images; between equal ones by `rng`, and never by their positions.

        Args:
            pool: what may be known.
            budget: 1 .. U.
            rng: the only source of randomness, on the CPU.

        Returns:
            i64 [budget], distinct positions, all in `pool.unlabeled`, in order of preference.
        """

"""Which images are labelled next, and all that may be known in order to choose them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.api.augmentations import Augmentation
from harness.api.data import Images

FeatureForm = Literal["none", "l2", "standardize"]
"""How features are shown: as they are; each image's divided by their length; each dimension with mean 0 and deviation 1
over the images that are shown."""


class PoolModel(Protocol):
    """What the harness computes for a pool on request, in evaluation mode unless said otherwise."""

    def features(self) -> Tensor:
        """f32 [N, D]."""

    def penultimate(self) -> Tensor:
        """f32 [N, D']."""

    def last_layer(self, penultimate: Tensor) -> Tensor:
        """f32 [n, K] of f32 [n, D']."""

    def logits(self) -> Tensor:
        """f32 [N, K]."""

    def stochastic_logits(self, num_samples: int) -> Tensor:
        """f32 [num_samples, N, K]."""

    def augmented_logits(self, num_samples: int, views: Augmentation | None = None) -> Tensor:
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
        images: N images, indexed like every other part of the pool. Their number and device are there for everybody;
            a selector that reads pixels says so in `reads`, for a data set of features has none.
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
        """f32 [N, D]: features of every image by the pre-trained encoder, the same in every round, on the CPU.

        By that of `selection`, if the trial names another one to choose by.
        Where nothing was pre-trained (`ssl_method: none` without weights, joint training), they are of the network that
        the last round trained, and before the first round of a random one.
        """
        return self.model.features()

    @cached_property
    def penultimate(self) -> Tensor:
        """f32 [N, D']: what the last layer of the current classifier reads of every image, on the CPU.

        Under a fixed head its inputs as they are, whether it standardises them or not; under `mlp` its hidden layer; of
        a network that was fine-tuned or jointly trained, its own features. Before the first training, `features`.
        """
        return self.model.penultimate()

    def last_layer(self, penultimate: Tensor) -> Tensor:
        """f32 [n, K]: the logits that the current classifier has for f32 [n, D'] in the place of `penultimate`.

        Raises:
            ValueError: no classifier has been trained yet (L = 0).
        """
        return self.model.last_layer(penultimate)

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

    def augmented_logits(self, num_samples: int, views: Augmentation | None = None) -> Tensor:
        """f32 [num_samples, N, K]: forward passes under fresh augmentations: `views`, or if None the trial's."""
        return self.model.augmented_logits(num_samples, views)

    def normalized(self, form: FeatureForm) -> Pool:
        """This pool with `features` and `penultimate` in another form; `last_layer` fails, for it needs raw ones."""
        return self if form == "none" else replace(self, model=_Normalized(self, form))


class _Normalized:
    """A `PoolModel` that says what a pool says, features in another form."""

    def __init__(self, pool: Pool, form: FeatureForm):
        self._pool = pool
        self._form = form

    def features(self) -> Tensor:
        return normalized(self._pool.features, self._form)

    def penultimate(self) -> Tensor:
        return normalized(self._pool.penultimate, self._form)

    def last_layer(self, penultimate: Tensor) -> Tensor:
        raise ValueError(f"the last layer reads `penultimate` as it is, and here it is shown as {self._form} makes it")

    def logits(self) -> Tensor:
        return self._pool.logits

    def stochastic_logits(self, num_samples: int) -> Tensor:
        return self._pool.stochastic_logits(num_samples)

    def augmented_logits(self, num_samples: int, views: Augmentation | None = None) -> Tensor:
        return self._pool.augmented_logits(num_samples, views)

    def ssl_loss(self, num_draws: int) -> Tensor:
        return self._pool.ssl_loss(num_draws)

    def companion_outputs(self) -> Tensor:
        return self._pool.companion_outputs


BLOCK_ROWS = 65536
"""Rows that are normalised at a time: in float64 some hundred megabytes."""


def normalized(values: Tensor, form: FeatureForm) -> Tensor:
    """f32 [N, D] in that form; a row of length 0 stays 0, and so becomes a dimension that is constant in float32.

    Args:
        values: f32 [N, D].
        form: see `FeatureForm`.
    """
    if form == "none":
        return values
    if form == "l2":
        return F.normalize(values.float(), dim=1)
    blocks = values.split(BLOCK_ROWS)
    mean = sum(block.sum(0, dtype=torch.float64) for block in blocks) / len(values)
    square = sum((block.double() - mean).square_().sum(0) for block in blocks) / len(values)
    largest = torch.stack([block.abs().amax(0) for block in blocks]).amax(0)
    factor = torch.where(square.sqrt() > 1e-6 * largest, square.rsqrt(), 0.0)
    result = torch.empty_like(values, dtype=torch.float32)
    for block, place in zip(blocks, result.split(BLOCK_ROWS), strict=True):
        place.copy_((block.double() - mean) * factor)
    return result


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


CONDITIONAL_PARTS = frozenset({"images", "augmented_logits", "stochastic_logits", "ssl_loss", "companion_outputs"})
"""The parts of a pool that not every trial can give: the first two need pixels, the others a backbone with dropout, an
SSL method with a loss per image, a classifier that a companion can be trained beside."""


CLASSIFIER_TRAITS = frozenset({"probabilities", "linear_layer"})
"""What not every classifier has: logits whose softmax says how probable the classes are (an SVM's are votes), and a
last layer that is linear in what it reads (`knn`, `svm` and `kernel_ridge` have none)."""


@dataclass(frozen=True)
class Reason:
    """Why one image was picked, for the person who labels it.

    Attributes:
        why: a few words, such as `margin 0.02 between {} and {}`; each `{}` stands for the name of a class.
        score: the number by which it was ranked, if there is one that means something on its own.
        classes: the labels in 0 .. K-1 whose names `why` needs, in order.
    """

    why: str
    score: float | None = None
    classes: tuple[int, ...] = ()

    def naming(self, classes: Sequence[str]) -> str:
        """`why` with the names of its classes, of all K names; other braces stay as they are.

        Raises:
            ValueError: `why` does not have one `{}` for each class.
        """
        parts = self.why.split("{}")
        if len(parts) != len(self.classes) + 1:
            raise ValueError(f"{self}: one class for each {{}} of why")
        return "".join(part + name for part, name in zip(parts, [*(classes[k] for k in self.classes), ""], strict=True))


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

    supports_cold_start: bool = False
    """Whether `select` may be called with L = 0 (then it must not read `pool.logits`)."""

    reads: frozenset[str] = frozenset()
    """Those of `CONDITIONAL_PARTS` that `select` reads; a trial that cannot give them is refused before it starts."""

    needs: frozenset[str] = frozenset()
    """Those of `CLASSIFIER_TRAITS` that `select` relies on; a trial whose classifier lacks one is refused likewise."""

    pool_subset: int | None = None
    """How many unlabelled images the harness shows it in each round, drawn anew; all of them if None."""

    normalize: FeatureForm | None = None
    """In which form it is shown `features` and `penultimate`, unless a configuration says another one.

    None: it takes no other than they are, because it measures no distances between them, or also reads `last_layer`
    (or multiplies `penultimate` by its gradient), to which a vector of another length is another image.
    """

    def as_shown(self, pool: Pool) -> Pool:
        """The pool in that form: what `select` and `explain` are to be given by everybody who asks this selector."""
        return pool.normalized(self.normalize or "none")

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

    def explain(self, pool: Pool, picks: Tensor) -> Sequence[Reason]:
        """Why each pick was chosen, in their order; empty, as here, where nothing can be said of a single image.

        Called by those who hand the picks to people, and not in trials.

        Args:
            pool: of the last call of `select`.
            picks: i64 [budget], its answer.
        """
        return ()

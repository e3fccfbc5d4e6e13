"""Networks that turn images into features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from harness.api.data import Images


@dataclass(frozen=True)
class ImageForm:
    """How images were when some weights were trained on them.

    Attributes:
        size: pixels of a side.
        mean: of each channel, subtracted from values in [0, 1].
        std: of each channel, divides what is left.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that a backbone offers under a name.

    Attributes:
        identity: what determines their values, such as the name of the published file.
        load: fetches them as a state dict, which may hold more than the backbone, such as a classifier. Raises
            FileNotFoundError: in one line, what is missing and where to put it.
        form: of the images that they expect, if that is known; they are then shown such.
    """

    identity: str
    load: Callable[[], Mapping[str, Tensor]]
    form: ImageForm | None = None


class Backbone(nn.Module, ABC):
    """An encoder. `__init__(self, image_shape, *, hyper_parameters...)` with image_shape = (C, H, W).

    Attributes:
        feature_dim: D, the length of a feature vector.
    """

    takes_features: bool = False
    """Whether it is for a data set of features: `image_shape` is (D,), and `forward` maps f32 [B, D]."""

    channels_last: bool = False
    """Whether the stages' outputs are [B, h, w, c] instead of [B, c, h, w], as in Swin transformers."""

    feature_dim: int
    _frozen: tuple[nn.Module, ...] = ()

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised images f32 [B, C, H, W] to features f32 [B, D]."""

    def fit(self, images: Images, shown: Callable[[Tensor], Tensor]) -> None:
        """Sets the weights in closed form by images without labels, where a network learns so; most do not.

        Called once, before anything else is done with the network, unless its weights are given. It then is in no need
        of pre-training, and no SSL method trains it. What is drawn comes from torch's global generator, as initial
        weights do.

        Args:
            images: N, of the pool, u8 [N, C, H, W]; a batch is read at a time, as they may not fit into memory.
            shown: u8 [B, C, H, W] of these -> f32 [B, C, H, W], normalised, as `forward` takes them.
        """

    @classmethod
    def is_fitted(cls) -> bool:
        """Whether `fit` is defined."""
        return cls.fit is not Backbone.fit

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

    @classmethod
    def own_form(cls) -> ImageForm | None:
        """Of the images for which the network is known, if it is: that of the first published weights."""
        return next((weights.form for weights in cls.published_weights().values()), None)

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


class PatchBackbone(Backbone):
    """An encoder of patches that can be shown some of them alone, such as a vision transformer.

    Attributes:
        patch_shape: (C, h, w) of a patch. Patches are numbered row by row.
    """

    patch_shape: tuple[int, int, int]

    @abstractmethod
    def encode(self, images: Tensor, shown: Tensor | None = None) -> Tensor:
        """Tokens f32 [B, 1 + k, D]: that of the whole image, which makes `forward`'s features, and those of patches.

        Args:
            images: normalised, f32 [B, C, H, W], H and W multiples of a patch's.
            shown: i64 [B, k], the patches of each image that the encoder sees, k >= 1; None for all, in order.
        """

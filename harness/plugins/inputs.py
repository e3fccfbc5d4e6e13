"""What an encoder is shown: the size and the normalisation of its images, as `input_size` and `normalize` ask.

Published weights say how their images were; so images are brought to that form, unless settings say otherwise. The
form that weights of a file expect is not in the file: they are shown images as the data have them, until the settings
name a form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from harness.api import Backbone, ImageForm
from harness.plugins.registry import PluginSpec, defaults, find_plugin
from harness.plugins.shared import IMAGENET, own_form

Floats = tuple[float, ...]


class Described(Protocol):
    """Images of which the shape and the statistics are known, such as `harness.data.splits.Data`."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W); (D,) of features."""

    @property
    def mean(self) -> Floats:
        """C means, in [0, 1]."""

    @property
    def std(self) -> Floats:
        """C standard deviations, above 0."""


@dataclass(frozen=True)
class Inputs:
    """What an encoder is shown.

    Attributes:
        shape: (C, H, W) of an image of the data when the encoder sees it; (D,) of features, which nothing changes.
        scale: factors of height and width that lead there; other views are scaled by the same.
        mean: C values, subtracted from images in [0, 1].
        std: C values that divide them then.
        normalized_by: whose these are: `own`, `imagenet`, `data`, `settings`, or `nothing`.
    """

    shape: tuple[int, ...]
    scale: tuple[float, float]
    mean: Floats
    std: Floats
    normalized_by: str

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Inputs:
        """From what `as_dict` gave."""
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)

    def as_dict(self) -> dict[str, Any]:
        """As records and saved encoders have it, JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def __str__(self) -> str:
        numbers = [" ".join(f"{value:.3f}" for value in values) for values in (self.mean, self.std)]
        return (
            f"images of {self.shape[1]}x{self.shape[2]} pixels, normalised by {self.normalized_by} "
            f"(mean {numbers[0]}, deviation {numbers[1]})"
        )


def inputs_of(spec: PluginSpec, images: Described, *, by_data: bool) -> Inputs:
    """What a backbone is shown of some images.

    Grey images become equal channels where the normalisation is one of three colours.

    Args:
        spec: of the backbone; its settings `weights`, `input_size` and `normalize` decide.
        images: of the data.
        by_data: whether the data's own statistics normalise where the backbone has none to prefer; else nothing does.

    Raises:
        ValueError: the colours of data and normalisation differ.
    """
    if len(images.image_shape) == 1:
        return Inputs(images.image_shape, (1.0, 1.0), (), (), "nothing")
    plugin: type[Backbone] = find_plugin(spec.kind, spec.name)
    settings = {**defaults(plugin), **spec.hyperparameters}
    form, published = own_form(plugin, settings["weights"])
    size, how = settings["input_size"], settings["normalize"]
    if size == "auto":
        size = "own" if published else "data"
    if how == "auto":
        how = "own" if published and by_data else "data"
    channels, height, width = images.image_shape
    if size == "own":
        assert form is not None, "prepare_backbone refuses it"
        size = form.size
    sides = (height, width) if size == "data" else (size, size)
    mean, std, name = _normalization(how, form, images, by_data)
    if len(mean) not in (1, channels) and channels != 1:
        raise ValueError(f"backbone.normalize: {len(mean)} means for images of {channels} channels")
    shape = (max(channels, len(mean)), *sides)
    return Inputs(shape, (sides[0] / height, sides[1] / width), mean, std, name)


def _normalization(how: Any, form: ImageForm | None, images: Described, by_data: bool) -> tuple[Floats, Floats, str]:
    if how == "own":
        assert form is not None, "prepare_backbone refuses it"
        return tuple(form.mean), tuple(form.std), "own"
    if how == "imagenet":
        return *IMAGENET, "imagenet"
    if how == "data":
        plain = (0.0,) * len(images.mean), (1.0,) * len(images.std), "nothing"
        return (images.mean, images.std, "data") if by_data else plain
    mean, std = how
    return tuple(mean), tuple(std), "settings"

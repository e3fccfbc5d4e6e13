"""The sizes of the images that a trial shows its encoder, and whether it takes them: known before anything runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from harness.api import Backbone, SemiSupervisedMethod
from harness.config.checks import Tried, try_method
from harness.config.trial import TrialConfig
from harness.messages import cause_of, printable, public
from harness.plugins import registry
from harness.plugins.inputs import Described, Inputs, inputs_of
from harness.plugins.outline import in_outline, with_values, without_values
from harness.plugins.registry import PluginSpec
from harness.trial import runtime
from harness.trial.pretraining import pretrains
from harness.trial.resolutions import scaled

Size = tuple[int, int]
"""Height and width in pixels."""

MOST_WEIGHTS, MOST_WORK = 12_500_000, 2e10
"""Weights, and weights times pixels, up to which a network is tried on the CPU: a ResNet-18 at 32 x 32 in 0.3 s."""


def check_sizes(config: TrialConfig, images: Described) -> None:
    """Tries the backbone at the size of the images and of every view, mostly without memory or arithmetic.

    Args:
        config: of the trial.
        images: of the data, none where these are features.

    Raises:
        ValueError: in one line, a size that does not fit, with its place in the trial.
    """
    image_shape = images.image_shape
    if len(image_shape) == 1:
        return
    for section, other in config.encoders().items():
        try:
            if section:
                check_sizes(other, images)
        except ValueError as error:
            raise ValueError(f"{section}.{error}") from error
    inputs = inputs_of(config.backbone, images, by_data=config.data.normalize)
    num_views, num_local = try_method(Tried.of(config.ssl_method), Tried.of(config.backbone))
    views = view_sizes(config.augmentation, max(1, num_views), image_shape, "augmentation")
    _check_local(views, num_local)
    for size in dict.fromkeys(views):
        place = f"augmentation: view {views.index(size)}"
        _check_taken(config.backbone, inputs, size, f"{place} is {_said(size)}", "its size")
        for share in config.pretrain.resolutions if pretrains(config) else ():
            small: Size = scaled(size, share)
            said = f"pretrain.resolutions: {share} of {_said(size)} is {_said(small)}"
            _check_taken(config.backbone, inputs, small, said, "the shares")
    for number, head in enumerate((config.classifier, *config.beside)):
        if head.name != "finetune":
            continue
        place = f"{f'beside[{number - 1}]' if number else 'classifier'}.augmentation"
        (size,) = view_sizes(head.augmentation, 1, image_shape, place)
        _check_taken(config.backbone, inputs, size, f"{place}: the images are {_said(size)}", "its size")
        if issubclass(registry.find_plugin("ssl_methods", config.ssl_method.name), SemiSupervisedMethod):
            _check_alike(config.ssl_method.name, [size, *views])


def view_sizes(spec: PluginSpec, num_views: int, image_shape: tuple[int, ...], place: str) -> list[Size]:
    """The size of each view that an augmentation makes.

    Args:
        spec: of the augmentation.
        num_views: V, >= 1.
        image_shape: (C, H, W) of the data.
        place: of the augmentation in the trial, for messages.

    Raises:
        ValueError: it does not take such images.
    """
    augmentation = registry.build(spec)
    sizes = []
    for view in range(num_views):
        for batch in (0, 1):  # of no image: its size is all that is asked; one is for those that refuse an empty batch
            try:
                images = torch.zeros(batch, *image_shape, dtype=torch.uint8)
                made = augmentation(images, view=view, rng=torch.Generator())
                break
            except Exception as error:  # a plugin may fail in any way
                if batch:
                    raise ValueError(f"{place}: view {view}: {cause_of(error)}") from error
        sizes.append((made.shape[2], made.shape[3]))
    return sizes


def _check_local(views: Sequence[Size], num_local: int) -> None:
    pixels = [height * width for height, width in views]
    large = len(views) - num_local
    if num_local and max(pixels[large:]) >= min(pixels[:large]):
        raise ValueError(
            f"ssl_method.num_local_views: {num_local} views are to be small crops, and the augmentation makes them "
            f"{_said(views[-1])}, the global ones {_said(views[0])}; use 0, or multi_crop as the augmentation"
        )


def _check_alike(method: str, sizes: Sequence[Size]) -> None:
    for view, size in enumerate(sizes[1:]):
        if size != sizes[0]:
            raise ValueError(
                f"augmentation: view {view} is {_said(size)}, and {method} needs views of the size of the labelled "
                f"images, {_said(sizes[0])}"
            )


def _check_taken(spec: PluginSpec, inputs: Inputs, size: Size, what: str, advice: str) -> None:
    plugin = Tried.of(spec)
    kind = type(_backbone(plugin, inputs.shape)).__name__  # which may refuse the images of the data
    seen = runtime.shown_size(size, inputs.scale)
    if problem := _problem(plugin, inputs.shape, inputs.shape):
        raise ValueError(f"backbone: {kind} does not take images of {_said(inputs.shape[1:])} ({problem}); change it")
    if problem := _problem(plugin, inputs.shape, (inputs.shape[0], *seen)):
        what += f", {_said(seen)} to the encoder" if seen != size else ""
        raise ValueError(f"{what}, which {kind} does not take ({problem}); change {advice} or the backbone")


@lru_cache(maxsize=1)  # the trials of a search mostly share it
def _backbone(plugin: Tried, image_shape: tuple[int, ...]) -> Backbone:
    backbone: Backbone = in_outline(lambda: registry.build(plugin.spec, image_shape))
    return backbone.eval()


@lru_cache(maxsize=64)  # the sizes of all views of a trial, and of those that share its backbone
def _problem(plugin: Tried, image_shape: tuple[int, ...], shown: tuple[int, ...]) -> str | None:
    """Why a backbone for images of one shape does not take those of another, or of the same; None where it does."""
    outline = _backbone(plugin, image_shape)
    weights = sum(weight.numel() for weight in outline.parameters())
    is_small = weights <= MOST_WEIGHTS and weights * math.prod(shown[1:]) <= MOST_WORK

    def forward() -> Tensor:
        network = outline if without_values() else registry.build(plugin.spec, image_shape).eval()
        with torch.no_grad():
            features: Tensor = network(torch.zeros(2, *shown))
        return features

    try:
        shape = tuple((with_values if is_small else in_outline)(forward).shape)
    except Exception as error:  # a plugin may fail in any way
        said = printable(public(str(error).strip().partition("\n")[0]))  # torch adds lines about the device
        return said if said and isinstance(error, RuntimeError | ValueError) else cause_of(error)
    if len(shape) != 2:
        return f"its output for 2 images is {list(shape)} instead of [2, {outline.feature_dim}]"
    return None if shape[1] == outline.feature_dim else f"{shape[1]} features instead of {outline.feature_dim}"


def _said(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"

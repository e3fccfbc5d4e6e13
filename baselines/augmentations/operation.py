"""What every augmentation here is made of: an operation draws parameters for each image, then applies them.

`draw` and `apply` are separate so that an operation can be compared, parameter by parameter, with another
implementation. `apply` is batched torch: the reference, and what runs on an accelerator. An operation that
names a kernel has the same arithmetic as a compiled loop in `kernels`, which runs on the CPU instead.
"""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.api import Augmentation


class Operation(Augmentation):
    """A random image operation with one draw of parameters per image."""

    kernel: str | None = None
    """The function of `kernels` that does what `apply` does, if there is one; it takes `draw`'s values in order."""

    def __call__(self, images: Tensor, *, view: int, rng: torch.Generator) -> Tensor:
        """Draws and applies; see `Augmentation`."""
        return _run([self], images, rng)

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Draws `apply`'s keyword arguments, each [B, ...]; none for an operation without randomness.

        Reads the shape and the device of the images, never their values.
        """
        return {}

    @abstractmethod
    def apply(self, images: Tensor, *args: Any, **parameters: Any) -> Tensor:
        """Applies drawn parameters.

        Args:
            images: f32 [B, C, H, W] in [0, 1], contiguous; may be overwritten.
            args: none; they let subclasses name their parameters.
            parameters: what `draw` returned.

        Returns:
            f32 [B, C, H, W] in [0, 1], contiguous.
        """

    def kernel_output(self, images: Tensor) -> Tensor:
        """Where the kernel writes: over its input, unless the shape changes."""
        return images


class Chain(Augmentation):
    """Operations one after another, on one working copy of the images. Recipes set `self.steps`."""

    steps: Sequence[Operation]

    def __call__(self, images: Tensor, *, view: int, rng: torch.Generator) -> Tensor:
        """Does every step; see `Augmentation`."""
        return _run(self.steps, images, rng)

    def parts(self) -> Sequence[Augmentation]:
        """The steps."""
        return self.steps


_NUMBA_INSTALLED = importlib.util.find_spec("numba") is not None


def _run(steps: Sequence[Operation], images: Tensor, rng: torch.Generator) -> Tensor:
    """Draws and applies every step in turn, on a copy of the images."""
    _check_images(images)
    images = images.contiguous()
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        if images.device.type == "cpu" and len(images) and _NUMBA_INSTALLED:  # to know a size, nothing is compiled
            return _run_compiled(steps, images, rng)
        images = images / 255 if images.dtype == torch.uint8 else images.clone()
        for step in steps:
            images = step.apply(images, **step.draw(images, rng))
        return images


def _run_compiled(steps: Sequence[Operation], images: Tensor, rng: torch.Generator) -> Tensor:
    """Like `_run`, with kernels for the steps that have one.

    Kernels in a row wait and are run together, so that threads split a batch once. Until then their outputs hold no
    values: `draw` reads shapes alone.
    """
    from baselines.augmentations import kernels  # slow to import, and compiles on first use

    out = torch.empty_like(images, dtype=torch.float32)
    waiting = [kernels.Call("unit" if images.dtype == torch.uint8 else "copy", images, out)]
    images = out
    for step in steps:
        parameters = step.draw(images, rng)
        if step.kernel is None:
            kernels.run(waiting)
            waiting = []
            images = step.apply(images, **parameters)
        else:
            out = step.kernel_output(images)
            waiting.append(kernels.Call(step.kernel, images, out, tuple(parameters.values())))
            images = out
    kernels.run(waiting)
    return images


def _check_images(images: Tensor) -> None:
    """Checks a batch.

    Raises:
        ValueError: the images are not [B, C, H, W] with C of 1 or 3, or neither u8 nor f32.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images of shape {tuple(images.shape)}; expected [B, C, H, W] with C = 1 or 3")
    if images.dtype not in (torch.uint8, torch.float32):
        raise ValueError(f"images of type {images.dtype}; expected torch.uint8 or torch.float32")


def uniform(images: Tensor, rng: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """f32 [B]: a draw from [low, high] for every image."""
    return torch.rand(len(images), generator=rng, device=images.device) * (high - low) + low


def chance(images: Tensor, rng: torch.Generator, probability: float) -> Tensor:
    """bool [B]: whether each image is chosen."""
    return uniform(images, rng) < probability


def integer(images: Tensor, rng: torch.Generator, count: Tensor | int) -> Tensor:
    """i64 [B]: a draw from 0 .. count - 1 for every image, where count may be i64 [B]."""
    # The product may round up to `count` itself.
    return (uniform(images, rng) * count).long().clamp(max=count - 1)


def per_image(values: Tensor) -> Tensor:
    """[B] as [B, 1, 1, 1], to be broadcast over the pixels."""
    return values[:, None, None, None]


def check_number(name: str, value: float, low: float, high: float) -> None:
    """Checks a hyper-parameter.

    Raises:
        ValueError: it is no number in [low, high].
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} = {value!r} must be a number in [{low:g}, {high:g}]")


def check_range(name: str, value: Sequence[float], low: float, high: float) -> None:
    """Checks a hyper-parameter that is a range.

    Raises:
        ValueError: it is no pair of numbers with low <= first <= second <= high.
    """
    numbers = isinstance(value, list | tuple) and all(isinstance(end, int | float) for end in value)
    if not numbers or len(value) != 2 or not low <= value[0] <= value[1] <= high:
        raise ValueError(f"{name} = {value!r} must be two ascending numbers in [{low:g}, {high:g}]")


def check_augmentations(**values: Any) -> tuple[Augmentation, ...]:
    """The hyper-parameters that are augmentations themselves.

    Raises:
        ValueError: one is none.
    """
    for name, value in values.items():
        if not isinstance(value, Augmentation):
            raise ValueError(
                f"{name} = {value!r} must be an Augmentation; the builder in harness.plugins resolves names"
            )
    return tuple(values.values())

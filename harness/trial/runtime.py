"""Where numbers are computed: device, precision, memory layout, and what goes into an encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.api import Backbone, Images
from harness.config.trial import ComputeConfig
from harness.plugins.inputs import Inputs

EVALUATION_BATCH = 512
"""Images per forward pass outside training, at most."""

EVALUATION_PIXELS = 64 * 112 * 112
"""Pixels per forward pass outside training, at most, but for a single image."""


@dataclass(frozen=True)
class Runtime:
    """A resolved ComputeConfig together with the data's normalisation.

    Attributes:
        device: where modules and batches live.
        precision: "float32" or "bfloat16" (autocast; weights stay float32).
        channels_last: memory layout of images and convolutions.
        mean: f32 [C, 1, 1], subtracted from images in [0, 1].
        std: f32 [C, 1, 1], divides them.
        compile: whether backbones are compiled while they are trained.
        scale: factors by which images are enlarged in height and width before an encoder sees them.
    """

    device: torch.device
    precision: str
    channels_last: bool
    mean: Tensor
    std: Tensor
    compile: bool = False
    scale: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(cls, compute: ComputeConfig, mean: Tensor, std: Tensor, scale: tuple[float, float] = (1.0, 1.0)) -> Runtime:
        """From a configuration, per-channel statistics f32 [C] and the factors of the images' sides."""
        resolved = compute.resolved()
        device = torch.device(resolved.device)
        mean, std = (value.view(len(value), 1, 1).to(device) for value in (mean, std))
        return cls(device, resolved.precision, bool(resolved.channels_last), mean, std, resolved.compile, scale)

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of forward passes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def place(self, module: nn.Module) -> nn.Module:
        """Moves a module to the device and layout."""
        module.to(self.device)
        if self.channels_last:
            module.to(memory_format=torch.channels_last)
        return module

    @contextmanager
    def compiled(self, network: nn.Module) -> Iterator[None]:
        """Inside the block the backbones within `network`, momentum copies too, run compiled if `compile` says so.

        In place: names and values of the state dict are the same. For training only: evaluation would be compiled a
        second time. Every size is compiled for itself, so that results do not depend on the sizes seen before.
        """
        backbones = [module for module in network.modules() if isinstance(module, Backbone)] if self.compile else []
        for backbone in backbones:
            backbone.compile(dynamic=False)
        try:
            yield
        finally:
            for backbone in backbones:
                backbone._compiled_call_impl = None

    def inputs(self, images: Tensor) -> Tensor:
        """Encoder inputs f32 [B, C, H, W] from u8 or from f32 in [0, 1]; f32 [B, D] from floats [B, D], as they are."""
        if images.ndim == 2:
            return images.float()
        if images.dtype == torch.uint8:
            images = images.float().div_(255)
        if self.scale != (1.0, 1.0):
            images = resized(images, shown_size(images.shape[2:], self.scale))
        images = (images - self.mean).div_(self.std)
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def batch_size(self, images: Images) -> int:
        """How many of such images an encoder sees at a time outside training.

        Of large ones fewer, for a network's intermediate maps grow with the pixels and more at a time is no faster.
        """
        if len(images.shape) != 4:
            return EVALUATION_BATCH
        height, width = shown_size(images.shape[2:], self.scale)
        return max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // (height * width)))

    @torch.no_grad()
    def forward(
        self, module: nn.Module, images: Images, view: Callable[[Tensor], Tensor] = lambda images: images
    ) -> Tensor:
        """f32 [N, ...] on the CPU: `module` in evaluation mode over all images, or a view of each, in batches."""
        training = module.training
        module.eval()
        whole: Tensor | None = None
        with self.autocast():
            for index in torch.arange(len(images)).split(self.batch_size(images)):
                output = module(self.inputs(view(images[index].to(self.device)))).float().cpu()
                if whole is None:  # parts that are joined in the end would need the memory twice
                    whole = output.new_empty(len(images), *output.shape[1:])
                whole[index] = output
        module.train(training)
        assert whole is not None
        return whole


def runtime_of(compute: ComputeConfig, inputs: Inputs) -> Runtime:
    """The runtime that shows an encoder such images."""
    return Runtime.of(compute, torch.tensor(inputs.mean), torch.tensor(inputs.std), inputs.scale)


def shown_size(size: Sequence[int], scale: tuple[float, float]) -> tuple[int, int]:
    """Height and width in pixels when an encoder sees an image of this size."""
    return max(1, round(size[0] * scale[0])), max(1, round(size[1] * scale[1]))


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """f32 [B, C, *size] in [0, 1], bicubic and antialiased as Pillow does it, whose images networks are known for.

    The width first, then the height, each rounded to 256 levels.
    """
    for sides in ((images.shape[2], size[1]), size):
        images = F.interpolate(images, sides, mode="bicubic", antialias=True)
        images = images.clamp_(0, 1).mul_(255).round_().div_(255)
    return images

"""Modules trained beside the classifier, and how they read the stages of its backbone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harness.api import Backbone, Companion, Images, Selector
from harness.seeding import seeded
from harness.trial.runtime import Runtime


@contextmanager
def stage_outputs(backbone: Backbone) -> Iterator[list[Tensor]]:
    """Inside the block, the output of each stage in the latest forward pass, in order of depth; empty before the first.

    One list, which every pass changes. Outputs with channels and places are [B, c, h, w], whatever the backbone has.
    """
    stages = backbone.stages()
    outputs: list[Tensor] = []

    def keep(stage: nn.Module, _: object, output: Tensor) -> None:
        if stage is stages[0]:
            outputs.clear()
        outputs.append(output.movedim(-1, 1) if backbone.channels_last and output.ndim == 4 else output)

    hooks = [stage.register_forward_hook(keep) for stage in stages]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def build_companion(selector: Selector, backbone: Backbone, images: Images, runtime: Runtime, seed: int) -> Companion:
    """The selector's companion for this backbone, with fresh weights from a random stream of its own.

    Args:
        selector: one that `reads` the outputs of a companion.
        backbone: on the runtime's device; not changed.
        images: of the data set; one of them is passed through the backbone to know the shapes of its stages.
        runtime: device and precision.
        seed: of the trial.
    """
    with stage_outputs(backbone) as outputs:
        runtime.forward(backbone, images.subset(torch.tensor([0])))
    shapes = [tuple(output.shape[1:]) for output in outputs]
    with seeded(seed, "companion/init"):
        companion = selector.companion(shapes)
    if companion is None:
        raise ValueError(f"{type(selector).__name__} reads the outputs of a companion, but offers none")
    runtime.place(companion)
    return companion


class Accompanied(nn.Module):
    """A backbone whose stages a companion reads: images f32 [B, C, H, W], normalised, to its outputs [B, ...]."""

    def __init__(self, backbone: Backbone, companion: Companion):
        super().__init__()
        self.backbone = backbone
        self.companion = companion

    def forward(self, images: Tensor) -> Tensor:
        """What the companion says of each image."""
        with stage_outputs(self.backbone) as stages:
            self.backbone(images)
            return self.companion(stages)

"""The classifiers of torchvision, each without its last layer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from baselines.backbones.hyperparameters import check_dropout
from baselines.backbones.torchvision_weights import published
from harness.api import Backbone, Family, PublishedWeights

TRUNKS = ("features", "layers", "trunk_output", "blocks", "encoder.layers")
"""Where torchvision's networks keep their stages; the others, such as ResNets, at the top."""


class TorchvisionModel(Family, Backbone):
    """A classifier of torchvision without its last layer: `torchvision/resnet50`, `torchvision/convnext_tiny`, ...

    The features are what the last layer read. Networks are as torchvision builds them, stem included: for images of
    32 px prefer `resnet18` and its siblings, whose stem fits. The dropout in front of the classifier gives way to
    `dropout`; the auxiliary classifiers of googlenet and inception_v3 are left out; vision transformers and maxvit are
    built for the size of the images. For grey images the first convolution is summed over its colours, which is the
    same network on the image in three equal channels.

    Args:
        image_shape: (C, H, W), of a size that the network takes.
        dropout: share of the features that are zeroed in training, in [0, 1).

    Attributes:
        model: torchvision's name of the network.
    """

    model: ClassVar[str]

    def __init__(self, image_shape: tuple[int, int, int], *, dropout: float = 0.0):
        super().__init__()
        check_dropout(dropout)
        _check_size(self.model, tuple(image_shape))
        self.dropout = dropout
        self.layers, self.feature_dim = _without_classifier(self.model, image_shape)
        self.drop = nn.Dropout(dropout)

    @classmethod
    def members(cls) -> list[str]:
        """The names of all classifiers."""
        from torchvision import models

        return models.list_models(module=models)

    @classmethod
    @cache
    def member(cls, name: str) -> type[TorchvisionModel]:
        """The backbone of one of `members`."""
        about = {"__doc__": f"torchvision's {name} without its last layer.", "__module__": __name__, "model": name}
        return type(name, (cls,), about | {"channels_last": name.startswith("swin")})

    @classmethod
    def published_weights(cls) -> Mapping[str, PublishedWeights]:
        """torchvision's."""
        return published(cls.model)

    def stages(self) -> list[nn.Module]:
        """The blocks of the trunk, the stem left out; where it is a plain stack of layers, as in VGG, its max-poolings.

        ResNets and RegNets have 4, as have the maxvits; vision transformers one per attention block, [B, T, D]; swin
        transformers 8 with patch merging, [B, h, w, c].
        """
        trunk = self.layers
        for path in TRUNKS:
            try:
                trunk = self.layers.get_submodule(path)
                break
            except AttributeError:
                continue
        children = list(trunk.children())
        blocks = [child for child in children if any(child.children()) and any(True for _ in child.parameters())]
        return blocks or [child for child in children if isinstance(child, nn.MaxPool2d)]

    def forward(self, images: Tensor) -> Tensor:
        """Features f32 [B, D]."""
        return self.drop(self.layers(images))


def _without_classifier(model: str, image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    """The network for (C, H, W) with the identity as its last layer, and the number of its features."""
    network = _build(model, _settings(model, image_shape))
    layers = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    name, last = layers[-1]
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if image_shape[0] == 1:
        first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
        first.in_channels = 1
        first.weight = nn.Parameter(first.weight.detach().sum(1, keepdim=True))
    return network, last.in_features if isinstance(last, nn.Linear) else last.in_channels


def _settings(model: str, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    _, height, width = image_shape
    if model in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": True}
    if model.startswith("vit_"):
        return {"image_size": height}
    return {"input_size": (height, width)} if model.startswith("maxvit") else {}


def _build(model: str, settings: dict[str, Any]) -> nn.Module:
    from torchvision.models import get_model

    try:
        return get_model(model, weights=None, **settings)
    except NotImplementedError:  # on torch's meta device: RegNets compute their widths with tensors
        with torch.device("cpu"):
            return get_model(model, weights=None, **settings).to("meta")


@cache
def _check_size(model: str, image_shape: tuple[int, int, int]) -> None:
    """Tries the network once on the meta device.

    Raises:
        ValueError: it does not take images of (C, H, W).
    """
    channels, height, width = image_shape
    if channels not in (1, 3):
        raise ValueError(f"images have 1 or 3 channels, not {channels}")
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
            network, feature_dim = _without_classifier(model, image_shape)
            features = network.eval()(torch.empty(2, *image_shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(f"it cannot take images of {height}x{width}; torchvision says: {error}") from error
    assert features.shape == (2, feature_dim)

"""The networks of timm, each without its classifier."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from baselines.backbones.hyperparameters import check_dropout
from harness.api import Backbone, Family, ImageForm, PublishedWeights

Shape = tuple[int, int, int]
"""(C, H, W)."""


class TimmModel(Family, Backbone):
    """A network of timm without its classifier: `timm/vit_small_patch14_dinov2`, `timm/efficientnet_lite0`, ...

    The features are what timm calls pre-logits: pooled, and passed through what hidden layers the classifier has
    before its last. Networks are as timm builds them, stem included: for images of 32 px prefer `resnet18` and its
    siblings, whose stem fits. Those that take images of one size are built for that of the images. The names of
    `weights` are timm's tags, such as `a1_in1k` of `resnet50.a1_in1k`.

    Args:
        image_shape: (C, H, W), of a size that the network takes.
        dropout: share of the features that are zeroed in training, in [0, 1).

    Attributes:
        model: timm's name of the network.
    """

    model: ClassVar[str]

    def __init__(self, image_shape: Shape, *, dropout: float = 0.0):
        super().__init__()
        check_dropout(dropout)
        self.feature_dim, self._stages, self.channels_last = _tried(self.model, tuple(image_shape))
        self.dropout = dropout
        self.layers = _build(self.model, image_shape)
        self.drop = nn.Dropout(dropout)

    @classmethod
    def members(cls) -> list[str]:
        """The names of all networks; none where timm is not installed."""
        if find_spec("timm") is None:
            return []
        import timm

        return timm.list_models()

    @classmethod
    @cache
    def member(cls, name: str) -> type[TimmModel]:
        """The backbone of one of `members`.

        Raises:
            ValueError: timm is not installed.
        """
        if find_spec("timm") is None:
            raise ValueError("timm is not installed: pip install 'selbench[timm]'")
        about = {"__doc__": f"timm's {name} without its classifier.", "__module__": __name__, "model": name}
        return type(name, (cls,), about)

    @classmethod
    def published_weights(cls) -> Mapping[str, PublishedWeights]:
        """timm's, by their tags; `DEFAULT` are those of its own choice."""
        return _published(cls.model)

    def stages(self) -> list[nn.Module]:
        """The modules at which timm reads features of growing depth; of transformers every block."""
        return [self.layers.get_submodule(name) for name in self._stages]

    def forward(self, images: Tensor) -> Tensor:
        """Features f32 [B, D]."""
        return self.drop(self.layers(images))


def _build(model: str, image_shape: Shape) -> Any:
    import timm

    channels, height, width = image_shape
    sized = {"img_size": (height, width)} if timm.models.get_pretrained_cfg(model).fixed_input_size else {}
    return timm.create_model(model, pretrained=False, num_classes=0, in_chans=channels, **sized)


@cache
def _tried(model: str, image_shape: Shape) -> tuple[int, tuple[str, ...], bool]:
    """Tries the network once on the meta device: features, names of its stages, whether these end with channels.

    Raises:
        ValueError: it does not take images of (C, H, W).
    """
    size = f"{image_shape[1]}x{image_shape[2]}"
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
            network = _build(model, image_shape).eval()
            called = _calls(network, torch.empty(2, *image_shape))
            features = network(torch.empty(2, *image_shape))
    except Exception as error:  # each network of timm refuses in its own way
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"it cannot take images of {size}; timm says: {reason}") from error
    if features.ndim != 2:
        raise ValueError(f"it gives no vector for an image of {size}, but {list(features.shape[1:])}")
    return features.shape[1], _stage_names(network, called), getattr(network, "output_fmt", "NCHW") == "NHWC"


def _calls(network: nn.Module, images: Tensor) -> list[tuple[str, bool]]:
    """The names of the modules in the order in which they answer, and whether each with a tensor [B, ...]."""
    called: list[tuple[str, bool]] = []
    hooks = [
        module.register_forward_hook(
            lambda _, __, output, name=name: called.append((name, isinstance(output, Tensor) and len(output) == 2))
        )
        for name, module in network.named_modules()
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return called


def _stage_names(network: nn.Module, called: list[tuple[str, bool]]) -> tuple[str, ...]:
    """Of timm's places of features those that hold weights, answer once, and then with a tensor of the batch."""
    places = {str(info["module"]) for info in getattr(network, "feature_info", [])} - {""}
    modules = dict(network.named_modules())
    names = [name for name, _ in called]
    return tuple(
        name
        for name, answers in called
        if name in places and answers and names.count(name) == 1 and any(True for _ in modules[name].parameters())
    ) or ("",)


@cache
def _published(model: str) -> Mapping[str, PublishedWeights]:
    from timm.models import get_arch_pretrained_cfgs

    weights = {}
    for name, about in get_arch_pretrained_cfgs(model).items():
        if about.has_weights:
            place, form = about.hf_hub_id or about.url, ImageForm(about.input_size[1], about.mean, about.std)
            weights[name.partition(".")[2]] = PublishedWeights(str(place), partial(_fetch, name, place), form)
    first = list(weights.values())[:1]
    return {"DEFAULT": first[0], **weights} if first else {}


def _fetch(name: str, place: str) -> Mapping[str, Tensor]:
    """The state of the network with its classifier."""
    import timm

    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # of the network, the hub's client or the file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileNotFoundError(
            f"timm's weights {name} are not on this machine and cannot be downloaded from {place} ({reason}); "
            "fetch the file elsewhere and give its path as `weights`"
        ) from error

"""The weights that torchvision publishes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.api import ImageForm, PublishedWeights


def published(model: str) -> dict[str, PublishedWeights]:
    """The weights of torchvision's `model` by name: `DEFAULT`, `IMAGENET1K_V1`, ..."""
    from torchvision.models import get_model_weights

    members = get_model_weights(model).__members__
    return {
        name: PublishedWeights(Path(w.url).name, partial(_fetch, model, w), _form(w.transforms()))
        for name, w in members.items()
    }


def _form(evaluation: Any) -> ImageForm:
    """Of the images that the weights were evaluated on."""
    return ImageForm(evaluation.crop_size[0], tuple(evaluation.mean), tuple(evaluation.std))


def _fetch(model: str, weights: Any) -> Mapping[str, Tensor]:
    """The state of the whole classifier, built by torchvision, which knows the files of its older versions."""
    from torchvision.models import get_model

    try:
        return get_model(model, weights=weights, progress=False).state_dict()
    except (OSError, RuntimeError) as error:  # torchvision raises either, without saying what to do
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileNotFoundError(
            f"torchvision's weights {weights.name} of {model} are not in {folder} and cannot be downloaded ({reason}); "
            f"put {weights.url} there"
        ) from error

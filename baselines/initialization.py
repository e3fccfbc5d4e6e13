"""How weights start, where a source's library does it otherwise than torch."""

from __future__ import annotations

from typing import Literal

from torch import nn

Initialization = Literal["torch", "glorot"]


def check_initialization(init: str) -> None:
    """Checks a hyper-parameter.

    Raises:
        ValueError: no such initialisation.
    """
    if init not in ("torch", "glorot"):
        raise ValueError(f"init = {init!r} is neither torch nor glorot")


def initialize(network: nn.Module, init: Initialization) -> None:
    """Draws the weights of linear and convolutional layers anew, in place; `torch` leaves them as torch has drawn them.

    Args:
        network: to be changed.
        init: glorot, as Keras does: uniform in +- sqrt(6 / (inputs + outputs)), Glorot & Bengio 2010, Eq. (16), and
            zero biases.
    """
    if init == "torch":
        return
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

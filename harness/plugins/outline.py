"""Networks in outline: constructed on torch's meta device, where tensors have shapes and take no memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

MOST_PARAMETERS = 5_000
"""Tensors of weights in one network, at most; the largest of torchvision and timm have some 2,000."""


@contextmanager
def in_outline() -> Iterator[None]:
    """What is constructed within takes no memory for its weights, and little for itself.

    Raises:
        ValueError: it has more than `MOST_PARAMETERS` tensors of weights, as a network of a billion layers would.
    """
    number = count(1)

    def counted(*_: Any) -> None:
        if next(number) > MOST_PARAMETERS:
            raise ValueError(f"its network has more than {MOST_PARAMETERS:,} tensors of weights; make it less deep")

    hook = register_module_parameter_registration_hook(counted)
    try:
        with torch.device("meta"):
            yield
    finally:
        hook.remove()

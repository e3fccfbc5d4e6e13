"""Networks in outline: constructed on torch's meta device, where tensors have shapes and take no memory.

A constructor or a forward pass that asks for a value, such as `x.item()`, works on no meta device: it runs on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

MOST_PARAMETERS = 5_000
"""Tensors of weights in one network, at most; the largest of torchvision and timm have some 2,000."""

T = TypeVar("T")
_outlining: ContextVar[bool] = ContextVar("outlining", default=False)


def outlining() -> bool:
    """Whether networks are constructed for their shapes alone, so that no weights need be loaded."""
    return _outlining.get()


def without_values() -> bool:
    """Whether tensors that are made now have none."""
    return torch.get_default_device().type == "meta"


def in_outline(construct: Callable[[], T]) -> T:
    """What `construct` gives on the meta device, or on the CPU if it asks for values (its network in outline then).

    Raises:
        ValueError: it has more than `MOST_PARAMETERS` tensors of weights, as a network of a billion layers would.
    """
    try:
        with _tried_on("meta"):
            return construct()
    except (RuntimeError, TypeError) as error:
        if "meta" not in str(error).lower():
            raise
        made = with_values(construct)
        return made.to("meta") if isinstance(made, nn.Module) else made


def with_values(construct: Callable[[], T]) -> T:
    """What `construct` gives on the CPU, of any weights: for a small network, faster than in outline.

    Torch imports its compiler, which takes a second, for the first activation on the meta device.

    Raises:
        ValueError: as `in_outline`.
    """
    with torch.random.fork_rng(devices=[]), _tried_on("cpu"):
        return construct()


@contextmanager
def _tried_on(device: str) -> Iterator[None]:
    number = count(1)

    def counted(*_: object) -> None:
        if next(number) > MOST_PARAMETERS:
            raise ValueError(f"its network has more than {MOST_PARAMETERS:,} tensors of weights; make it less deep")

    outer, hook = _outlining.set(True), register_module_parameter_registration_hook(counted)
    try:
        with torch.device(device):
            yield
    finally:
        hook.remove()
        _outlining.reset(outer)

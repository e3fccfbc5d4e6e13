"""Optimizers and learning-rate schedules, shared by pre-training and the task heads."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from harness.config import ClassifierConfig, PretrainConfig


class DivergedError(RuntimeError):
    """The loss is not finite."""


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: PretrainConfig | ClassifierConfig
) -> torch.optim.Optimizer:
    """The configured optimizer over the parameters that require gradients.

    Raises:
        ValueError: none does.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise ValueError("nothing is left to train: the backbone is frozen, and no head has parameters of its own")
    if config.optimizer == "sgd":
        return torch.optim.SGD(trained, config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    cls = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return cls(trained, config.lr, weight_decay=config.weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def scheduled(lr: float, schedule: str, progress: float, warmup: float = 0.0) -> float:
    """The learning rate at `progress` in [0, 1) of the training, the first `warmup` share of it rising linearly."""
    if progress < warmup:
        return lr * progress / warmup
    if schedule == "constant":
        return lr
    return lr * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))

"""LARS, You, Gitman & Ginsburg 2017, https://arxiv.org/abs/1708.03888."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose steps are proportional to the norm of each layer's weights.

    Algorithm 1 with the changes of SimCLR's code (Chen et al. 2020, https://arxiv.org/abs/2002.05709), which BYOL and
    its successors share: the weight decay is added to the gradient before the norms are taken, eta |w| / |g + beta w|
    instead of eta |w| / (|g| + beta |w|); biases and the weights of norms, all one-dimensional, are neither decayed nor
    scaled; a layer whose weights or gradients are all 0 is not scaled either. The learning rate enters the velocity, as
    in both, so that a falling rate takes effect with the momentum's delay.

    Args:
        params: parameters or groups of them.
        lr: gamma, >= 0.
        momentum: m, in [0, 1].
        weight_decay: beta, >= 0.
        trust_coefficient: eta, >= 0.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
    ):
        settings = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
        }
        for name, value in settings.items():
            if not value >= 0:
                raise ValueError(f"{name} = {value} is not >= 0")
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Moves every parameter that has a gradient; returns the closure's loss if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self._move(weights, weights.grad, group)
        return loss

    def _move(self, weights: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        scale = torch.ones((), device=weights.device)  # a tensor: nothing here waits for an accelerator
        if weights.ndim > 1:
            gradient = gradient.add(weights, alpha=group["weight_decay"])
            scale = _trust_ratio(weights, gradient, group["trust_coefficient"])
        state = self.state[weights]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weights)
        state["velocity"].mul_(group["momentum"]).add_(gradient * (group["lr"] * scale))
        weights.sub_(state["velocity"])


def _trust_ratio(weights: Tensor, gradient: Tensor, coefficient: float) -> Tensor:
    """f32 []: the layer's share of the learning rate, Eq. (6)."""
    weight_norm, gradient_norm = torch.linalg.vector_norm(weights), torch.linalg.vector_norm(gradient)
    both = (weight_norm > 0) & (gradient_norm > 0)
    return torch.where(both, coefficient * weight_norm / gradient_norm, 1.0)

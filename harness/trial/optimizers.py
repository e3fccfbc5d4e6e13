"""Gradient descent, shared by pre-training and the task heads: optimizers, learning rates, one step, divergence."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.api import Backbone
from harness.config.trial import Optimization

PLATEAU_THRESHOLD = 1e-4
"""A loss is lower than another if it is so by this share of it; torch's default for ReduceLROnPlateau."""


class DivergedError(RuntimeError):
    """The loss or the weights are not finite."""


Shares = Mapping[nn.Parameter, float]
"""Parameter -> its share of the learning rate; 1 for those that are not in it."""


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: Optimization, shares: Shares | None = None
) -> torch.optim.Optimizer:
    """The configured optimizer over the parameters that require gradients.

    Args:
        parameters: of all that is trained.
        config: optimizer, learning rate, momentum, weight decay.
        shares: of the learning rate, see `encoder_shares`; whole ones if None.

    Raises:
        ValueError: none does.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise ValueError("nothing is left to train: the backbone is frozen, and no head has parameters of its own")
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in trained:
        decayed = config.decay_norms or parameter.ndim > 1 or config.optimizer == "lars"  # which decays no norms
        groups.setdefault(((shares or {}).get(parameter, 1.0), decayed), []).append(parameter)
    settings = [
        {"params": members, "lr_share": share, "lr": config.rate * share} | ({} if decayed else {"weight_decay": 0.0})
        for (share, decayed), members in sorted(groups.items(), key=lambda group: group[0], reverse=True)
    ]
    if config.optimizer == "lars":
        return LARS(settings, config.rate, momentum=config.momentum, weight_decay=config.weight_decay)
    if config.optimizer == "sgd":
        return torch.optim.SGD(settings, config.rate, momentum=config.momentum, weight_decay=config.weight_decay)
    cls = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return cls(settings, config.rate, weight_decay=config.weight_decay)


def encoder_shares(backbone: Backbone, backbone_lr: float, layer_decay: float) -> Shares:
    """The share of the learning rate that each parameter of an encoder gets under a head that gets all of it.

    Layer-wise decay as of BEiT (Bao et al. 2022, https://arxiv.org/abs/2106.08254), after ELECTRA (Clark et al. 2020),
    https://arxiv.org/abs/2003.10555: of n stages what follows the last has the share `backbone_lr`, stage k that times
    `layer_decay ** (n + 1 - k)`, and what comes before the first, the stem, is stage 0. What lies between two stages
    belongs to the second.

    Args:
        backbone: lists its stages.
        backbone_lr: of all of it, >= 0.
        layer_decay: of each stage against what follows it, in (0, 1].
    """
    stages = backbone.stages()
    modules = list(backbone.modules())  # in order of registration
    place = {module: position for position, module in enumerate(modules)}
    ends = [max(place[module] for module in stage.modules()) for stage in stages]
    first = place[stages[0]]
    shares = {}
    for position, module in enumerate(modules):
        depth = bisect_left(ends, position) + 1  # n + 1 after the last stage
        if position < first and stages[0] is not backbone:
            depth = 0
        for parameter in module.parameters(recurse=False):
            shares[parameter] = backbone_lr * layer_decay ** (len(stages) + 1 - depth)
    return shares


def learning_rate(config: Optimization, progress: float, losses: Sequence[float] = ()) -> float:
    """The learning rate of a step, from the settings and the past alone: a resumed training goes on with the same.

    Args:
        config: schedule and warm-up, which comes before any schedule.
        progress: the share of the training that is done before this step, in [0, 1): with e epochs behind and step s
            of S in the running one, (e + s / S) / config.epochs.
        losses: the mean training loss of each epoch behind; read by `plateau` alone.
    """
    lr = scheduled(config.rate, config.schedule, progress, config.warmup_epochs / config.epochs)
    if config.schedule == "step":
        return lr * config.gamma ** sum(progress >= milestone for milestone in config.milestones)
    if config.schedule == "plateau":
        return lr * plateau_factor(losses, config.patience, config.gamma)
    return lr


def scheduled(lr: float, schedule: str, progress: float, warmup: float = 0.0) -> float:
    """The learning rate at `progress` in [0, 1) of the training, the first `warmup` share of it rising linearly.

    Without the reductions of `step` and `plateau`, which `learning_rate` makes.
    """
    if progress < warmup:
        return lr * progress / warmup
    if schedule != "cosine":
        return lr
    return lr * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def plateau_factor(losses: Sequence[float], patience: int, gamma: float) -> float:
    """What the learning rate is multiplied by after these epochs: gamma for each plateau.

    A plateau is more than `patience` epochs in a row whose loss is not lower than the lowest before, as in torch's
    ReduceLROnPlateau; then the count starts anew. Torch shrinks the lowest loss towards 0 to compare with it, which
    takes a negative loss that stands still for an improvement; here it is lowered whatever its sign.

    Args:
        losses: one for each epoch; those of a warm-up count too.
        patience: >= 0.
        gamma: in (0, 1].
    """
    lowest, waited, factor = math.inf, 0, 1.0
    for loss in losses:
        if loss < lowest * (1 - math.copysign(PLATEAU_THRESHOLD, lowest)):
            lowest, waited = loss, 0
        else:
            waited += 1
        if waited > patience:
            factor, waited = factor * gamma, 0
    return factor


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every parameter group: its share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_share", 1.0)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, clip_norm: float | None = None) -> None:
    """One step of the optimizer against the gradient of `loss` [], clipped to `clip_norm` over all parameters."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if clip_norm is not None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip_norm)
    optimizer.step()


@torch.no_grad()
def check_finite(network: nn.Module, loss: float, epoch: int, *, name: str, key: str) -> None:
    """Ends a training that has diverged. Called once an epoch, because it waits for the accelerator.

    Args:
        network: its weights are looked at, too: the last step may have spoilt them after a finite loss.
        loss: the epoch's mean; one bad step makes it bad.
        epoch: the epoch's number.
        name: of the loss, for the message.
        key: of the learning rate in the configuration.

    Raises:
        DivergedError: with the loss, the epoch and the key.
    """
    if not math.isfinite(loss):
        raise DivergedError(f"the {name} loss is {loss} in epoch {epoch}; try a smaller {key}")
    weights = torch.stack([parameter.sum() for parameter in network.parameters()]).sum()  # keeps any NaN or infinity
    if not math.isfinite(float(weights)):
        raise DivergedError(
            f"the weights are not finite after epoch {epoch}, whose {name} loss was {loss}; try a smaller {key}"
        )


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose steps are proportional to the norm of each layer's weights.

    Algorithm 1 of You, Gitman & Ginsburg 2017, https://arxiv.org/abs/1708.03888, with the changes of SimCLR's code
    (Chen et al. 2020, https://arxiv.org/abs/2002.05709), which BYOL and its successors share: the weight decay is
    added to the gradient before the norms are taken, eta |w| / |g + beta w| instead of eta |w| / (|g| + beta |w|);
    biases and the weights of norms, all one-dimensional, are neither decayed nor scaled; a layer whose weights or
    gradients are all 0 is not scaled either. The learning rate enters the velocity, as in both, so that a falling
    rate takes effect with the momentum's delay.

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

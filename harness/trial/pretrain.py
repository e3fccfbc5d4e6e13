"""The self-supervised loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.api import Augmentation, Images, SSLMethod, SupervisedMethod
from harness.config.trial import PretrainConfig
from harness.seeding import generator, seeded
from harness.trial import resolutions
from harness.trial.optimizers import build_optimizer, check_finite, descend, learning_rate, set_learning_rate
from harness.trial.runtime import Runtime
from harness.trial.stages import Checkpoint

Metrics = dict[str, float]
MEASURED = ("pretrain/knn_accuracy", "pretrain/embedding_std")
"""What is known of the encoder after the epochs at which it is measured."""


def is_complete(history: Sequence[Metrics], config: PretrainConfig) -> bool:
    """Whether the metrics of each epoch hold what `config` has measured; they may be of more frequent measurements."""
    return all(set(MEASURED) <= row.keys() for epoch, row in enumerate(history, 1) if config.measures(epoch))


def pretrain(
    method: SSLMethod,
    images: Images,
    augmentation: Augmentation,
    config: PretrainConfig,
    runtime: Runtime,
    seed: int,
    *,
    labels: Tensor | None = None,
    checkpoint: Checkpoint,
    validate: Callable[[], Metrics],
    on_epoch: Callable[[int, Metrics], None],
) -> dict[str, Any]:
    """Trains `method` in place; a loop that was killed goes on at its last checkpoint with the same result.

    Args:
        method: already on the runtime's device.
        images: what it learns from.
        augmentation: makes each view.
        config: epochs, batch size, optimizer, schedule, resolutions.
        runtime: device and precision.
        seed: of the trial.
        labels: i64 [N] for a supervised method, UNKNOWN where the label has not been bought; None for all others.
        checkpoint: where the state is saved between epochs.
        validate: measures the encoder after an epoch; its time is not counted as pre-training.
        on_epoch: called after every epoch with the epoch's number, from 1, and its metrics.

    Returns:
        {"method": state dict, "history": metrics per epoch, "seconds": training time, "images_per_second"}.

    Raises:
        DivergedError: the loss or the weights became NaN or infinite.
        ValueError: fewer images than one batch, or a backbone that does not take one of the resolutions.
    """
    batch_size = config.batch_size
    if len(images) < batch_size:
        raise ValueError(f"pretrain.batch_size {batch_size} is larger than the pool; use at most {len(images)}")
    resolutions.check(method.backbone, images.shape[1:], config.resolutions)
    optimizer = build_optimizer(method.parameters(), config)
    history: list[Metrics] = []
    seconds = 0.0
    state = checkpoint.load()
    if state and is_complete(state["history"], config):
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        history, seconds = state["history"], state["seconds"]
    for epoch, metrics in enumerate(history, start=1):
        on_epoch(epoch, metrics)

    for epoch in range(len(history) + 1, config.epochs + 1):
        started = time.perf_counter()
        losses = [row["pretrain/loss"] for row in history]
        with runtime.compiled(method):
            metrics = _train_epoch(method, images, labels, augmentation, config, runtime, seed, optimizer, losses)
        epoch_seconds = time.perf_counter() - started
        seconds += epoch_seconds
        metrics["throughput/pretrain_images_per_second"] = len(images) // batch_size * batch_size / epoch_seconds
        if config.measures(epoch):
            metrics |= validate()
        history.append(metrics)
        on_epoch(epoch, metrics)
        if checkpoint.due:
            progress = {"history": history, "seconds": seconds}
            checkpoint.save({"method": method.state_dict(), "optimizer": optimizer.state_dict(), **progress})
    seen = config.epochs * (len(images) // batch_size) * batch_size
    rate = seen / seconds if seconds else 0.0
    return {"method": method.state_dict(), "history": history, "seconds": seconds, "images_per_second": rate}


def _train_epoch(
    method: SSLMethod,
    images: Images,
    labels: Tensor | None,
    augmentation: Augmentation,
    config: PretrainConfig,
    runtime: Runtime,
    seed: int,
    optimizer: torch.optim.Optimizer,
    losses: Sequence[float],
) -> Metrics:
    """One pass after those with `losses`; every random stream starts anew, so that a resumed run draws the same."""
    epoch = len(losses) + 1
    order = torch.randperm(len(images), generator=generator(seed, f"pretrain/order/{epoch}"))
    batches = order[: len(order) // config.batch_size * config.batch_size].split(config.batch_size)
    rng = generator(seed, f"pretrain/augmentation/{epoch}", runtime.device)
    share = resolutions.share_of(config.resolutions, epoch, config.epochs)
    totals: dict[str, Tensor] = {}
    method.train()
    with seeded(seed, f"pretrain/epoch/{epoch}"):
        for step, index in enumerate(batches):
            progress = (epoch - 1 + step / len(batches)) / config.epochs
            lr = learning_rate(config, progress, losses)
            set_learning_rate(optimizer, lr)
            batch = images[index].to(runtime.device, non_blocking=True)
            views = [augmentation(batch, view=v, rng=rng) for v in range(method.num_views)]
            views = [runtime.inputs(resolutions.resize(view, share)) for view in views]
            with runtime.autocast():
                logged = _loss(method, views, None if labels is None else labels[index].to(runtime.device))
            descend(optimizer, logged["loss"], config.clip_norm)
            method.after_step(progress + 1 / (len(batches) * config.epochs))
            for name, value in logged.items():
                totals[name] = totals.get(name, torch.zeros((), device=value.device)) + value.detach()
    metrics = {f"pretrain/{name}": float(total) / len(batches) for name, total in totals.items()}
    check_finite(method, metrics["pretrain/loss"], epoch, name="pre-training", key="pretrain.lr")
    return metrics | {"pretrain/learning_rate": lr}


def _loss(method: SSLMethod, views: list[Tensor], labels: Tensor | None) -> dict[str, Tensor]:
    if labels is None:
        return method.loss(views)
    assert isinstance(method, SupervisedMethod)
    return method.labeled_loss(views, labels)


def embedding_std(features: Tensor) -> float:
    """How spread the L2-normalised features are: 1 when isotropic, near 0 when collapsed.

    The mean over dimensions of their standard deviation, times sqrt(D) (Chen & He 2021, section 4.1,
    https://arxiv.org/abs/2011.10566).
    """
    return float(F.normalize(features, dim=1).std(dim=0).mean()) * features.shape[1] ** 0.5

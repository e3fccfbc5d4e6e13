"""The self-supervised loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.api import Augmentation, Images, SSLMethod, SupervisedMethod
from harness.code import load_module
from harness.config.trial import PretrainConfig
from harness.seeding import derive, generator, seeded
from harness.trial import resolutions
from harness.trial.batches import apart_batches, even_batches
from harness.trial.epochs import Epochs, Metrics, Watch
from harness.trial.optimizers import build_optimizer, check_finite, descend, learning_rate, set_learning_rate
from harness.trial.runtime import Runtime

APART = "harness.trial.apart"
"""The module of `likely_positives`, loaded by its name: of a pre-training that does not ask for it, it is no part."""


def is_complete(history: Sequence[Metrics], config: PretrainConfig, names: Sequence[str]) -> bool:
    """Whether each epoch holds the metrics `names` where `config` measures; it may hold more."""
    return all(set(names) <= row.keys() for epoch, row in enumerate(history, 1) if config.measures(epoch))


@dataclass(frozen=True)
class Examples:
    """What a pre-training learns from.

    Attributes:
        images: N.
        views: the augmentation that makes each view.
        labels: i64 [N] for a supervised method, UNKNOWN where the label has not been bought; None for all others.
    """

    images: Images
    views: Augmentation
    labels: Tensor | None = None


def pretrain(
    method: SSLMethod, examples: Examples, config: PretrainConfig, runtime: Runtime, seed: int, watch: Watch
) -> dict[str, Any]:
    """Trains `method` in place; a loop that was killed goes on at its last checkpoint with the same result.

    Args:
        method: already on the runtime's device.
        examples: what it learns from.
        config: epochs, batch size, optimizer, schedule, resolutions.
        runtime: device and precision.
        seed: of the trial.
        watch: measures the encoder after every `knn_every` epochs and after the last.

    Returns:
        {"method": state dict, "history": metrics per epoch}.

    Raises:
        DivergedError: the loss or the weights became NaN or infinite.
        ValueError: fewer images than one batch.
    """
    images = examples.images
    if len(images) < config.batch_size:
        raise ValueError(f"pretrain.batch_size {config.batch_size} is larger than the pool; use at most {len(images)}")
    optimizer = build_optimizer(method.parameters(), config)
    trainer = Trainer(method, examples, config, runtime, seed, optimizer)
    method.before_training()
    epochs = Epochs(
        config.epochs,
        {"method": method, "optimizer": optimizer},
        watch,
        rate="throughput/pretrain_images_per_second",
        validates=config.measures,
        is_complete=lambda history: is_complete(history, config, watch.names),
    )
    for epoch in epochs:
        with runtime.compiled(method):
            epoch.metrics = trainer.epoch([metrics["pretrain/loss"] for metrics in epochs.history])
        epoch.images = len(images)
    return {"method": method.state_dict(), "history": epochs.history}


@dataclass
class Trainer:
    """The loop over an epoch; every random stream starts anew each epoch, so that a resumed run draws the same."""

    method: SSLMethod
    examples: Examples
    config: PretrainConfig
    runtime: Runtime
    seed: int
    optimizer: torch.optim.Optimizer

    def epoch(self, losses: Sequence[float]) -> Metrics:
        """One pass after those with `losses`; the means of what the method logs, and the last learning rate."""
        config, epoch = self.config, len(losses) + 1
        order = generator(self.seed, f"pretrain/order/{epoch}")
        batches = self._batches(order, epoch)
        rng = generator(self.seed, f"pretrain/augmentation/{epoch}", self.runtime.device)
        share = resolutions.share_of(config.resolutions, epoch, config.epochs)
        totals: dict[str, Tensor] = {}
        self.method.train()
        with seeded(self.seed, f"pretrain/epoch/{epoch}"):
            for step, index in enumerate(batches):
                progress = (epoch - 1 + step / len(batches)) / config.epochs
                lr = learning_rate(config, progress, losses)
                set_learning_rate(self.optimizer, lr)
                logged = self._losses(index, share, rng)
                descend(self.optimizer, logged["loss"], config.clip_norm)
                self.method.after_step(progress + 1 / (len(batches) * config.epochs))
                for name, value in logged.items():
                    totals[name] = totals.get(name, torch.zeros((), device=value.device)) + value.detach()
        metrics = {f"pretrain/{name}": float(total) / len(batches) for name, total in totals.items()}
        check_finite(self.method, metrics["pretrain/loss"], epoch, name="pre-training", key="pretrain.lr")
        return metrics | {"pretrain/learning_rate": lr, "pretrain/steps": float(epoch * len(batches))}

    def _batches(self, order: torch.Generator, epoch: int) -> Sequence[Tensor]:
        """The images of each step, i64 [B]."""
        images, config = self.examples.images, self.config
        if not config.apart:
            return even_batches(len(images), config.batch_size, order)
        features = self.runtime.forward(self.method.backbone, images)
        seed = derive(self.seed, f"pretrain/apart/{epoch}") % 2**32
        groups = load_module(APART).likely_positives(features, config.apart, seed)
        return apart_batches(groups, config.batch_size, order)

    def _losses(self, index: Tensor, share: float, rng: torch.Generator) -> dict[str, Tensor]:
        """What the method says of the views of i64 [B] images, their sides multiplied by `share`."""
        method, examples, runtime = self.method, self.examples, self.runtime
        batch = examples.images[index].to(runtime.device, non_blocking=True)
        views = [examples.views(batch, view=v, rng=rng) for v in range(method.num_views)]
        views = [runtime.inputs(resolutions.resize(view, share)) for view in views]
        with runtime.autocast():
            if examples.labels is None:
                return method.loss(views)
            assert isinstance(method, SupervisedMethod)
            return method.labeled_loss(views, examples.labels[index].to(runtime.device))

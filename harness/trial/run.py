"""One configuration and one seed become records."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.api import SemiSupervisedMethod
from harness.config.trial import ExponentialImbalance, StepImbalance, TrialConfig
from harness.data import splits
from harness.data.oracle import Oracle
from harness.metrics import area_under_curve
from harness.plugins import registry
from harness.trial import portray
from harness.trial.memory import PeakMemory
from harness.trial.models import Encoder
from harness.trial.pretraining import build_method, normalization, pretrained, pretrains
from harness.trial.rounds import Costs, Report, Rounds, start_pool
from harness.trial.runtime import Runtime
from harness.trial.stages import StageCache, machine


@dataclass(frozen=True)
class Folders:
    """Where a trial finds and leaves files.

    Attributes:
        cache: decoded data sets.
        stages: results of stages.
    """

    cache: Path
    stages: Path


def run(
    config: TrialConfig,
    seed: int,
    folders: Folders,
    report: Report,
    *,
    with_test: bool,
    deliver: portray.Deliver | None = None,
) -> dict[str, float]:
    """Runs one trial.

    Args:
        config: what to do.
        seed: all randomness of the trial comes from it.
        folders: caches.
        report: receives a record after each epoch of training the encoder and after each round.
        with_test: whether the test set is read, once for each round's model.
        deliver: receives a portrait of the encoder at the end; None: none is made.

    Returns:
        The totals of the trial: labels, times, memory and the last round's accuracies.
    """
    started = time.perf_counter()
    memory = PeakMemory()
    images, oracle = load_data(config, folders.cache, with_test=with_test)
    oracle.with_budget(label_budget(config, len(images.pool)))
    where = Runtime.of(config.compute, *normalization(config, images))
    stages = StageCache(folders.stages, machine(where.device.type))
    method = build_method(config, images, seed, where)
    start = start_pool(config.labels, seed, oracle)
    about = {"training": "pretrain", "epochs": config.pretrain.epochs}
    on_epoch: Any = lambda epoch, metrics: report("epoch", epoch, metrics, about | {"epoch": epoch})  # noqa: E731
    stage = pretrained(config, seed, method, images, oracle, start, where, stages, on_epoch)
    costs = Costs(pretrain=stage.seconds, pretrain_cached=stage.cached)
    method.eval()
    parts = {"pool": images.pool, "val": images.val} | ({"test": images.test} if images.test is not None else {})
    encoder = Encoder(method.backbone, stage.digest, where, parts, config.classifier, seed)
    rounds = Rounds(
        config,
        seed,
        images,
        oracle,
        start,
        where,
        encoder,
        method,
        registry.build(config.augmentation),
        stages,
        costs,
        report,
        config.pretrain.epochs if pretrains(config) else 0,
    )
    rounds.run()
    wall = {"time/wall_seconds": time.perf_counter() - started}
    totals = _totals(rounds) | costs.metrics() | wall | {"memory/peak_bytes": memory.peak(where.device)}
    if deliver:
        uses_views = method.num_views > 0 and (config.mode == "joint" or pretrains(config))
        totals["time/portrait_seconds"] = portray.portray(rounds, uses_views, deliver)
    return totals


def load_data(config: TrialConfig, cache: Path, *, with_test: bool, verify: bool = False) -> tuple[splits.Data, Oracle]:
    """The trial's images and the oracle of its pool, decoded on first use; `verify` as in `data.load`."""
    settings = config.data
    imbalance: splits.Step | splits.Exponential | None = None
    if isinstance(settings.imbalance, StepImbalance):
        imbalance = splits.Step(settings.imbalance.classes, settings.imbalance.keep)
    elif isinstance(settings.imbalance, ExponentialImbalance):
        imbalance = splits.Exponential(settings.imbalance.ratio)
    return splits.load(
        registry.build(config.dataset),
        config.dataset.name,
        cache=cache,
        fraction=settings.fraction,
        imbalance=imbalance,
        val=settings.val,
        test=settings.test,
        split_seed=settings.split_seed,
        with_test=with_test,
        device=config.compute.resolved().device,
        verify=verify,
    )


def label_budget(config: TrialConfig, pool_size: int) -> int:
    """How many labels the whole trial may see.

    Raises:
        ValueError: more than the pool has, or all of it where some must stay unlabelled.
    """
    labels = config.labels
    if labels.start == "all":
        return pool_size
    total = labels.start + labels.budget * labels.rounds
    if total == pool_size and issubclass(registry.find("ssl_methods", config.ssl_method.name), SemiSupervisedMethod):
        raise ValueError(
            f"labels: {total} of {pool_size} images leave {config.ssl_method.name} no unlabelled one; "
            f"use at most {pool_size - 1}"
        )
    if total > pool_size:
        raise ValueError(
            f"labels: start {labels.start} + {labels.rounds} rounds x budget {labels.budget} = {total} labels, "
            f"but the pool has {pool_size}; use at most {pool_size}"
        )
    return total


def _totals(rounds: Rounds) -> dict[str, float]:
    """The last round's metrics, and the area under each accuracy curve where there are several rounds."""
    _, last = rounds.curve[-1]
    totals = {name: value for name, value in last.items() if not name.startswith(("time/", "stage/"))}
    if len(rounds.curve) > 1:
        for split in ("val", "test"):
            if f"{split}/accuracy" in last:
                points = [(labels, found[f"{split}/accuracy"]) for labels, found in rounds.curve]
                totals[f"{split}/aubc"] = area_under_curve(points)
    return totals

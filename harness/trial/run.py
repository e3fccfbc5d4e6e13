"""One configuration and one seed become records."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import api, seeding
from harness.api import UNKNOWN, Backbone, Images, SemiSupervisedMethod, SSLMethod, SupervisedMethod
from harness.config.schema import as_dict
from harness.config.trial import ExponentialImbalance, StepImbalance, TrialConfig, method_arguments
from harness.data import oracle, splits
from harness.data.oracle import Oracle
from harness.files import digest_of
from harness.metrics import area_under_curve
from harness.plugins import registry, weights
from harness.plugins.registry import PluginSpec
from harness.seeding import seeded
from harness.trial import knn, lars, optimizers, portray, pretrain, resolutions, runtime
from harness.trial.code import code_digest
from harness.trial.memory import PeakMemory
from harness.trial.models import Encoder
from harness.trial.rounds import Costs, Report, Rounds, start_pool
from harness.trial.runtime import Runtime
from harness.trial.stages import Checkpoint, StageCache


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
    stages = StageCache(folders.stages)
    costs = Costs()
    method = _build_method(config, images, seed, where)
    start = start_pool(config.labels, seed, oracle)
    encoder_digest = _pretrain(config, seed, method, images, oracle, start, where, stages, costs, report)
    method.eval()
    parts = {"pool": images.pool, "val": images.val} | ({"test": images.test} if images.test is not None else {})
    encoder = Encoder(method.backbone, encoder_digest, where, parts, config.classifier, seed)
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


def normalization(config: TrialConfig, images: splits.Data) -> tuple[Tensor, Tensor]:
    """f32 [C] each: what is subtracted from pixels in [0, 1], and what divides them then."""
    mean, std = torch.tensor(images.mean), torch.tensor(images.std)
    return (mean, std) if config.data.normalize else (torch.zeros_like(mean), torch.ones_like(std))


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


def _build_method(config: TrialConfig, images: splits.Data, seed: int, where: Runtime) -> SSLMethod:
    """The SSL method with its backbone."""
    backbone = untrained_encoder(config, images, seed)
    with seeded(seed, "ssl_method/init"):
        method = registry.build(config.ssl_method, backbone, *method_arguments(config.ssl_method, images.num_classes))
    where.place(method)
    return method


def untrained_encoder(config: TrialConfig, images: splits.Data, seed: int) -> Backbone:
    """The backbone with its initial weights, which depend on it and the seed alone."""
    with seeded(seed, "backbone/init"):
        return registry.build(config.backbone, images.image_shape)


def pretrains(config: TrialConfig) -> bool:
    """Whether the encoder is trained before the rounds; else it keeps its initial weights."""
    trainable = registry.find("ssl_methods", config.ssl_method.name).num_views > 0  # type: ignore[attr-defined]
    return config.mode == "pretrain" and trainable and config.pretrain.epochs > 0


def pretrain_key(config: TrialConfig, seed: int, fingerprint: str) -> dict[str, Any]:
    """Everything that determines a pre-trained encoder."""
    trained = pretrains(config)
    backbone, backbone_code = _initial_encoder(config.backbone)
    key = {
        "seed": seed,
        "backbone": backbone,
        "compute": as_dict(config.compute.resolved()),
        "trained": trained,
    }
    code: list[Any] = [runtime, seeding, *backbone_code]
    if trained:
        key |= {
            "data": fingerprint,
            "normalize": config.data.normalize,
            "ssl_method": config.ssl_method.as_dict(),
            "augmentation": config.augmentation.as_dict(),
            "pretrain": as_dict(config.pretrain),
        }
        if issubclass(registry.find("ssl_methods", config.ssl_method.name), SupervisedMethod):
            key["start"] = [config.labels.start, config.labels.stratified]  # with data and seed, the labels it reads
            code += [api, oracle]
        code += [pretrain, optimizers, lars, resolutions, knn]
        code += [*registry.classes(config.ssl_method), *registry.classes(config.augmentation)]
    return key | {"code": code_digest(*code)}


def _initial_encoder(spec: PluginSpec) -> tuple[dict[str, Any], list[Any]]:
    """What determines an encoder before any training, but for the seed: its settings and the code that it runs.

    Weights count by their content, wherever their file is.
    """
    settings, code = spec.as_dict(), list[Any](registry.classes(spec))
    if settings["weights"] is not None:
        settings["weights"] = weights.identity(code[0], settings["weights"])
        code.append(weights)
    if settings["freeze"]:
        code.append(api)
    return settings, code


def _pretrain(
    config: TrialConfig,
    seed: int,
    method: SSLMethod,
    images: splits.Data,
    oracle: Oracle,
    start: Tensor,
    where: Runtime,
    stages: StageCache,
    costs: Costs,
    report: Report,
) -> str:
    """Pre-trains the method in place, or loads what an earlier trial trained; returns the encoder's digest."""
    key = pretrain_key(config, seed, images.fingerprint)
    if not key["trained"]:
        return digest_of(key)

    def validate() -> dict[str, float]:
        features = where.forward(method.backbone, images.val)
        return {
            "pretrain/knn_accuracy": knn.accuracy(features, images.val_labels),
            "pretrain/embedding_std": pretrain.embedding_std(features),
        }

    reported = 0
    about = {"training": "pretrain", "epochs": config.pretrain.epochs}

    def on_epoch(epoch: int, found: Mapping[str, float]) -> None:
        nonlocal reported
        reported = epoch
        report("epoch", epoch, found, about | {"epoch": epoch})

    def compute(checkpoint: Checkpoint) -> dict[str, Any]:
        learnt, labels = _learnt_from(method, images, oracle, start)
        settings, views = config.pretrain, registry.build(config.augmentation)
        if isinstance(method, SupervisedMethod) and method.labeled_only:  # however few
            settings = replace(settings, batch_size=min(settings.batch_size, len(learnt)))
        return pretrain.pretrain(
            method,
            learnt,
            views,
            settings,
            where,
            seed,
            labels=labels,
            checkpoint=checkpoint,
            validate=validate,
            on_epoch=on_epoch,
        )

    stage = stages.run("pretrain", key, compute)
    method.load_state_dict(stage.value["method"])
    for epoch, found in enumerate(stage.value["history"][reported:], start=reported + 1):
        report("epoch", epoch, found, about | {"epoch": epoch})  # of a stage that was found, not computed
    costs.pretrain, costs.pretrain_cached = stage.seconds, stage.cached
    return stage.digest


def _learnt_from(method: SSLMethod, images: splits.Data, oracle: Oracle, start: Tensor) -> tuple[Images, Tensor | None]:
    """The images of the pre-training and, for a supervised method alone, what is known of their labels."""
    if isinstance(method, SupervisedMethod) and method.labeled_only:
        return images.pool.subset(start), oracle.reveal(start)
    extra = images.unlabeled_extra
    everything = images.pool if extra is None else splits.joined(images.pool, extra)
    if not isinstance(method, SupervisedMethod):
        return everything, None
    labels = torch.full((len(everything),), UNKNOWN)
    labels[start] = oracle.reveal(start)
    return everything, labels


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

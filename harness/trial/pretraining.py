"""The encoder before the rounds: built, then pre-trained or taken from the stage cache.

What trains classifiers is not imported here: it is no part of the stage's code, so a change there leaves pre-trained
encoders valid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.api import UNKNOWN, Backbone, Images, SSLMethod, SupervisedMethod
from harness.config.schema import as_dict
from harness.config.trial import TrialConfig, method_arguments
from harness.data import splits
from harness.data.oracle import Oracle
from harness.files import digest_of
from harness.metrics import LABEL_FREE
from harness.plugins import registry, weights
from harness.plugins.inputs import Inputs, inputs_of
from harness.plugins.registry import PluginSpec
from harness.seeding import generator, seeded
from harness.trial import knn, measures, pretrain
from harness.trial.context import Context
from harness.trial.epochs import Metrics, Watch
from harness.trial.runtime import Runtime
from harness.trial.stages import Checkpoint, Stage

NO_NETWORK = "given"
"""The backbone that gives features as they are: its scores need no seed."""


def encoder_inputs(config: TrialConfig, images: splits.Data) -> Inputs:
    """What the encoder is shown of the trial's images.

    Raises:
        ValueError: as of `inputs_of`.
    """
    return inputs_of(config.backbone, images, by_data=config.data.normalize)


def build_method(config: TrialConfig, images: splits.Data, seed: int, where: Runtime) -> SSLMethod:
    """The SSL method with its backbone."""
    backbone = untrained_encoder(config, images, seed)
    with seeded(seed, "ssl_method/init"):
        method = registry.build(config.ssl_method, backbone, *method_arguments(config.ssl_method, images.num_classes))
    where.place(method)
    return method


def untrained_encoder(config: TrialConfig, images: splits.Data, seed: int) -> Backbone:
    """The backbone with its initial weights, which depend on it and the seed alone."""
    with seeded(seed, "backbone/init"):
        return registry.build(config.backbone, encoder_inputs(config, images).shape)


def pretrains(config: TrialConfig) -> bool:
    """Whether the encoder is trained before the rounds; else it keeps its initial weights."""
    trainable = registry.find_plugin("ssl_methods", config.ssl_method.name).num_views > 0  # type: ignore[attr-defined]
    return config.mode == "pretrain" and trainable and config.pretrain.epochs != 0


def is_fitted(config: TrialConfig) -> bool:
    """Whether the encoder's weights follow from the pool in closed form, see `Backbone.fit`."""
    plugin: type[Backbone] = registry.find_plugin("backbones", config.backbone.name)
    return plugin.is_fitted() and config.backbone.hyperparameters.get("weights") is None


def pretrain_key(config: TrialConfig, seed: int, fingerprint: str) -> dict[str, Any]:
    """Everything that determines a pre-trained encoder."""
    trained = pretrains(config)
    key = {
        "seed": seed,
        "backbone": _initial_encoder(config.backbone),
        "compute": as_dict(config.compute.resolved()),
        "trained": trained,
    }
    if trained or is_fitted(config):
        key |= {"data": fingerprint, "normalize": config.data.normalize}
    if trained:
        key |= {
            "ssl_method": config.ssl_method.as_dict(),
            "augmentation": config.augmentation.as_dict(),
            "pretrain": config.pretrain.as_read(),
        }
        if issubclass(registry.find_plugin("ssl_methods", config.ssl_method.name), SupervisedMethod):
            key["start"] = [config.labels.start, config.labels.stratified]  # with data and seed, the labels it reads
    return key


def _initial_encoder(spec: PluginSpec) -> dict[str, Any]:
    """The settings of an encoder before any training; weights count by their content, wherever their file is."""
    settings = spec.as_dict()
    if settings["weights"] is not None:
        settings["weights"] = weights.identity(registry.find_plugin(spec.kind, spec.name), settings["weights"])
    return settings


def pretrained(context: Context, method: SSLMethod, group: str = "pretrain") -> Stage:
    """Pre-trains or fits the encoder in place, or loads what an earlier trial made; names the encoder in any case.

    Args:
        context: of the trial.
        method: holds the encoder.
        group: of the metrics that are reported, in place of `pretrain/`.
    """
    config, data, stages = context.config, context.data, context.stages
    key = pretrain_key(config, context.seed, data.fingerprint)
    if is_fitted(config):
        return _fitted(context, method, key)
    if not key["trained"]:
        name = stages.name("pretrain", key, [untrained_encoder, *registry.sources(config.backbone)])
        return Stage({}, name, 0.0, cached=False)
    if "start" in key:
        key["start"] = digest_of({"positions": context.start.tolist()})
    report = context.reporter.training(group, config.pretrain.epochs)

    names = measured_names(config, data)

    def asked(epoch: int, metrics: Metrics) -> Metrics:
        wanted = names if config.pretrain.measures(epoch) else ()  # a trial that asked for more may have trained it
        said = {name: value for name, value in metrics.items() if name in wanted or name not in ALL_MEASURED}
        return {name.replace("pretrain/", f"{group}/"): value for name, value in said.items()}

    def compute(checkpoint: Checkpoint) -> dict[str, Any]:
        images, labels = learnt_from(method, data, context.oracle, context.start)
        settings, examples = config.pretrain, pretrain.Examples(images, context.views, labels)
        if isinstance(method, SupervisedMethod) and method.labeled_only:  # however few
            settings = replace(settings, lr=settings.rate, batch_size=min(settings.batch_size, len(images)))
        tell = lambda epoch, metrics: report.epoch(epoch, asked(epoch, metrics))  # noqa: E731
        watch = Watch(checkpoint, tell, lambda: measure(context, method), names)
        return pretrain.pretrain(method, examples, settings, context.runtime, context.seed, watch)

    plugins = registry.sources(config.backbone, config.ssl_method, config.augmentation)
    plugins += [pretrain.APART] if config.pretrain.apart else []
    is_complete = lambda value: pretrain.is_complete(value["history"], config.pretrain, names)  # noqa: E731
    stage = stages.run("pretrain", key, compute, plugins, is_complete)
    method.load_state_dict(stage.value["method"])
    report.rest([asked(epoch, metrics) for epoch, metrics in enumerate(stage.value["history"], start=1)])
    return stage


def _fitted(context: Context, method: SSLMethod, key: dict[str, Any]) -> Stage:
    """Fits the encoder, see `Backbone.fit`, or loads what an earlier trial fitted."""

    def compute(_: Checkpoint) -> dict[str, Any]:
        images = learnt_from(method, context.data, context.oracle, context.start)[0]
        shown = lambda batch: context.runtime.inputs(batch.to(context.runtime.device))  # noqa: E731
        with seeded(context.seed, "backbone/fit"):
            method.backbone.fit(images, shown)
        return {"method": method.state_dict()}

    stage = context.stages.run("pretrain", key, compute, registry.sources(context.config.backbone))
    method.load_state_dict(stage.value["method"])
    return stage


ALL_MEASURED = (measures.KNN, measures.KNN_OF_POOL, *LABEL_FREE)


def measured_names(config: TrialConfig, data: splits.Data) -> tuple[str, ...]:
    """What a trial measures of its encoder after an epoch."""
    unasked = set() if len(data.val) else {measures.KNN}
    unasked |= set() if config.pretrain.knn_of_pool else {measures.KNN_OF_POOL}
    return tuple(name for name in ALL_MEASURED if name not in unasked)


def measure(context: Context, method: SSLMethod) -> dict[str, float]:
    """The values of `measured_names` of the encoder as it is."""
    data, runtime = context.data, context.runtime
    names = measured_names(context.config, data)
    measured: dict[str, float] = {}
    if measures.KNN in names:
        features = runtime.forward(method.backbone, data.val)
        measured[measures.KNN] = knn.accuracy(features, data.val_labels)
        if measures.KNN_OF_POOL in names:
            bank, known = runtime.forward(method.backbone, data.pool), context.oracle.reveal(context.start)
            measured[measures.KNN_OF_POOL] = knn.accuracy_by_bank(features, data.val_labels, bank, known)
    return measured | measure_without_labels(context, method)


def measure_without_labels(context: Context, method: SSLMethod) -> dict[str, float]:
    """The values of `LABEL_FREE` of the encoder as it is; the images and their two views are always the same."""
    pool, forward = context.data.pool, context.runtime.forward
    sample = pool.subset(measures.sample_rows(len(pool)))
    features = forward(method.backbone, sample)
    if context.data.gives_features:
        return measures.label_free(features, None)
    first, second = (forward(method.backbone, sample, _view(context, method, number)) for number in (0, 1))
    return measures.label_free(features, (first, second))


def _view(context: Context, method: SSLMethod, number: int) -> Callable[[Tensor], Tensor]:
    rng = generator(context.seed, f"measures/view/{number}", context.runtime.device)
    view = min(number, max(method.num_views, 1) - 1)
    return lambda images: context.views(images, view=view, rng=rng)


def label_free_scores(context: Context, method: SSLMethod, stage: Stage) -> dict[str, float]:
    """`LABEL_FREE` of the encoder under the first classifier, pre-trained or not; none where both are trained jointly.

    Args:
        context: of the trial.
        method: holds the encoder.
        stage: from `pretrained`.
    """
    if context.config.mode == "joint":
        return {}
    if "history" in stage.value:
        return {name: stage.value["history"][-1][name] for name in LABEL_FREE}
    # The encoder is as it was: measured once for all selectors, as it takes longer than a round.
    config = context.config
    key: dict[str, Any] = {"data": context.data.fingerprint}
    if config.backbone.name != NO_NETWORK:
        key |= {"encoder": stage.digest, "normalize": config.data.normalize, "seed": context.seed}
        key |= {"views": config.augmentation.as_dict(), "ssl_method": config.ssl_method.as_dict()}
    plugins = registry.sources(config.backbone, config.augmentation, config.ssl_method)
    return context.stages.run("scores", key, lambda _: measure_without_labels(context, method), plugins).value


def learnt_from(method: SSLMethod, data: splits.Data, oracle: Oracle, start: Tensor) -> tuple[Images, Tensor | None]:
    """The images of the pre-training and, for a supervised method alone, what is known of their labels."""
    if isinstance(method, SupervisedMethod) and method.labeled_only:
        return data.pool.subset(start), oracle.reveal(start)
    extra = data.unlabeled_extra
    everything = data.pool if extra is None else splits.joined(data.pool, extra)
    if not isinstance(method, SupervisedMethod):
        return everything, None
    labels = torch.full((len(everything),), UNKNOWN)
    labels[start] = oracle.reveal(start)
    return everything, labels

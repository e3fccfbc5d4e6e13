"""The fixed encoders of a trial: under its classifiers, the one that a selector sees the pool by, and the teacher's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from harness.api import Augmentation, Backbone, Images, SSLMethod
from harness.config.trial import TrialConfig
from harness.plugins import registry
from harness.trial.context import Context
from harness.trial.features import kept_features
from harness.trial.models import Encoder, PoolOutputs
from harness.trial.pretraining import build_method, encoder_inputs, is_fitted, pretrained, pretrains
from harness.trial.runtime import runtime_of
from harness.trial.stages import Stage


def encoder_of(context: Context, backbone: Backbone, digest: str) -> Encoder:
    """The encoder under the first classifier; where its weights are those that were given, its features are kept."""
    config = context.config
    given = config.backbone.hyperparameters.get("weights") is not None
    trained = pretrains(config) or is_fitted(config)
    kept = kept_features(context, backbone) if given and not trained and config.mode == "pretrain" else None
    parts, pretrained = _parts(context), (trained or given) and config.mode == "pretrain"
    return Encoder(backbone, digest, context.runtime, parts, config.classifier, context.seed, pretrained, kept)


def _parts(context: Context) -> dict[str, Images]:
    """The images that there are, by the name of their part."""
    parts = {"pool": context.data.pool, "val": context.data.val, "test": context.data.test}
    return {name: images for name, images in parts.items() if images is not None and len(images)}


@dataclass(frozen=True, eq=False)
class Chooser:
    """The encoder of `selection`, which is trained once for all trials that choose by it.

    Attributes:
        config: of a trial that trains it.
        encoder: says what the features are; nothing is trained on them.
        method: that pre-trained it.
        views: of its pre-training.
        cached: whether another trial had pre-trained it.
    """

    config: TrialConfig
    encoder: Encoder
    method: SSLMethod
    views: Augmentation
    cached: bool

    @property
    def key(self) -> dict[str, Any]:
        """What determines what it says."""
        config = self.config
        learner = {"ssl_method": config.ssl_method.as_dict(), "views": config.augmentation.as_dict()}
        return {"encoder": self.encoder.digest, **learner}

    def outputs(self, seed: int, rows: Tensor | None) -> PoolOutputs:
        """What it says of the pool, see `PoolOutputs`."""
        return PoolOutputs(self.encoder, None, self.method, self.views, seed, rows)


def chooser_of(context: Context) -> Chooser | None:
    """That of a trial, pre-trained if need be, at the trial's cost; None where the trial's own encoder chooses."""
    config = context.config.of_selection()
    if config is None:
        return None
    context, method, stage = _other(context, config, "selection", "selection_encoder")
    encoder = encoder_of(context, method.backbone, stage.digest)
    return Chooser(config, encoder, method, context.views, stage.cached)


def teacher_of(context: Context) -> Encoder | None:
    """The encoder of a trial's teacher under its head, pre-trained if need be; None where nothing learns from one."""
    config = context.config.of_teacher()
    if config is None:
        return None
    context, method, stage = _other(context, config, "teacher", "teacher")
    return encoder_of(context, method.backbone, stage.digest)


def _other(context: Context, config: TrialConfig, group: str, purpose: str) -> tuple[Context, SSLMethod, Stage]:
    """The surroundings of another encoder, and what pre-trained it at the trial's cost."""
    inputs = encoder_inputs(config, context.data)
    runtime, views = runtime_of(config.compute, inputs), registry.build(config.augmentation)
    context = replace(context, config=config, inputs=inputs, runtime=runtime, views=views)
    method = build_method(config, context.data, context.seed, runtime)
    stage = pretrained(context, method, group)
    context.costs.add(purpose, stage.seconds, cached=stage.cached)
    return context, method.eval(), stage

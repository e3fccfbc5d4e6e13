"""How long a pre-training is: the numbers that stand for `auto`, and the steps that they make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.config.checks import trains_encoder, warmup_too_long
from harness.config.trial import AUTO_EPOCHS, AUTO_STEPS, PretrainConfig, TrialConfig
from harness.data.splits import Data
from harness.plugins import registry
from harness.trial.batches import num_batches

LARGEST_BATCH = 256
"""Of those that stand for `auto`."""


def settled(config: TrialConfig, data: Data) -> TrialConfig:
    """The trial with numbers in place of every `auto` of its pre-trainings, which its data decide.

    Raises:
        ValueError: with so many epochs one never comes to its learning rate.
    """
    for section, other in config.encoders().items():
        settings = for_images(other.pretrain, images_learnt_from(other, data))
        if trains_encoder(other) and (why := warmup_too_long(settings)):
            raise ValueError(f"{f'{section}.' if section else ''}pretrain.warmup_epochs: {why}")
        if section:
            config = replace(config, **{section: replace(getattr(config, section), pretrain=settings)})
        else:
            config = replace(config, pretrain=settings)
    return config


def for_images(settings: PretrainConfig, images: int) -> PretrainConfig:
    """With numbers in place of `auto`, for a pre-training on so many images.

    Example:
        >>> chosen = for_images(PretrainConfig(), 432)
        >>> chosen.batch_size, chosen.epochs, steps(chosen, 432)
        (32, 72, 1008)
    """
    asked: Any = settings
    if asked.batch_size == "auto":
        size = 1 << max(1, (images // 8).bit_length() - 1)  # the largest power of two up to an eighth, 2 at least
        settings = replace(settings, batch_size=min(LARGEST_BATCH, size))
    if asked.epochs == "auto":
        enough = -(-AUTO_STEPS // num_batches(images, settings.batch_size))
        settings = replace(settings, epochs=max(AUTO_EPOCHS, enough))
    return settings


def steps(settings: PretrainConfig, images: int) -> int:
    """Gradient steps of a pre-training on so many images; `settings` without `auto`."""
    return settings.epochs * num_batches(images, settings.batch_size)


def images_learnt_from(config: TrialConfig, data: Data) -> int:
    """How many images a trial's pre-training sees in an epoch."""
    method: Any = registry.find_plugin("ssl_methods", config.ssl_method.name)
    if getattr(method, "labeled_only", False) and config.labels.start != "all":
        return config.labels.start
    return data.counts["pool"] + data.counts.get("unlabeled_extra", 0)

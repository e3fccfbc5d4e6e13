"""What a sweep will cost, before anything is decoded or trained: images, bytes, and hours by a few measured steps."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from harness.config.plan import Plan
from harness.config.schema import ConfigError, as_dict
from harness.config.tasks import Task
from harness.config.trial import TrialConfig
from harness.data.decode import peek
from harness.data.pixels import Form
from harness.data.splits import CARVED
from harness.files import digest_of
from harness.messages import cause_of, count, in_bytes, message_of
from harness.plugins import registry
from harness.sweep.placement import place, this_machine
from harness.sweep.preflight import data_name
from harness.trial.measures import SAMPLE
from harness.trial.pace import Pace, measure_pace
from harness.trial.pretraining import pretrain_key, pretrains

MEASURED_SECONDS = 10.0
"""All that is measured takes about so long; what is then left takes the mean of the others."""


@dataclass(frozen=True)
class Sizes:
    """The images of a trial, known before they are decoded.

    Attributes:
        image_shape: (C, H, W), or (D,) in a data set of features.
        num_classes: K.
        pool, val, test: images in each part, but for a few where parts are carved; `unlabeled` beside the pool.
        num_bytes: of all of the data set's images, decoded.
        decoded: whether they are.
    """

    image_shape: tuple[int, ...]
    num_classes: int
    pool: int
    val: int
    test: int
    unlabeled: int
    num_bytes: int
    decoded: bool


def expected_costs(plan: Plan, cache: Path) -> str:
    """What the plan's trials will cost on this machine, as lines; also what is not known, and why."""
    sizes: dict[str, Sizes] = {}
    lines: list[str] = []
    for candidate in plan.some_candidates():
        config, name = candidate.trial, data_name(candidate.trial)
        if name in sizes:
            continue
        try:
            sizes[name] = sizes_of(config, cache)
        except (ValueError, OSError) as error:
            return "\n".join([*lines, f"data: {config.dataset.name}: {message_of(error)}; so no estimate of time"])
        lines.append(f"data: {_said(config, sizes[name])}")
    return "\n".join([*dict.fromkeys(lines), *_times(plan, sizes)])


def sizes_of(config: TrialConfig, cache: Path) -> Sizes:
    """Of a trial's data, which are neither decoded for it nor downloaded.

    Raises:
        ValueError, FileNotFoundError: they are not known.
    """
    dataset = registry.build(config.dataset)
    skip = config.data.on_broken == "skip"
    prepared = peek(dataset, config.dataset.name, cache, settings=config.dataset.as_dict(), skip_broken=skip)
    if prepared is not None:
        numbers = {split: len(images) for split, images in prepared.images.items()}
        form = Form(prepared.image_shape, prepared.images["train"].dtype)
        return _divided(config, form, len(prepared.class_names), numbers, decoded=True)
    if dataset.downloads:
        raise ValueError("not decoded yet, and to open it may download it")
    source = dataset.open()
    numbers = {split: part.num_images for split, part in source.splits.items()}
    form = Form(source.image_shape, source.dtype)
    return _divided(config, form, len(source.class_names), numbers, decoded=False)


def _divided(config: TrialConfig, form: Form, num_classes: int, numbers: Mapping[str, int], *, decoded: bool) -> Sizes:
    rest, parts = numbers["train"], {"test": numbers.get("test", 0), "val": numbers.get("val", 0)}
    asked: dict[Literal["test", "val"], int | float | None] = {"test": config.data.test, "val": config.data.val}
    for part, size in asked.items():
        if part == "val" and size == 0:
            parts[part] = 0
        elif not parts[part] and num_classes:
            size = CARVED[part] if size is None else size
            parts[part] = size if isinstance(size, int) else round(size * rest)
            rest -= parts[part]
    pool, total = round(config.data.fraction * rest), sum(numbers.values()) * form.num_bytes
    extra = numbers.get("unlabeled", 0)
    return Sizes(form.shape, num_classes, pool, parts["val"], parts["test"], extra, total, decoded)


def _said(config: TrialConfig, sizes: Sizes) -> str:
    parts = {"pool": sizes.pool, "validation": sizes.val, "test": sizes.test, "unlabelled": sizes.unlabeled}
    numbers = ", ".join(f"{number:,} {part}" for part, number in parts.items() if number or part == "pool")
    shape = "x".join(map(str, sizes.image_shape))
    state = "decoded" if sizes.decoded else "to be decoded"
    return f"{config.dataset.name}: about {numbers} images of {shape}, {in_bytes(sizes.num_bytes)} {state}"


def _times(plan: Plan, sizes: Mapping[str, Sizes]) -> list[str]:
    """The lines on time and memory."""
    try:
        concurrent = place(plan.resources, [this_machine()], plan.name).concurrent
    except ConfigError as error:
        return [f"time: {message_of(error)}; so no estimate"]
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(plan.resources.cpus)))
    try:
        paces, kinds, problem = _measured(plan, sizes)
    finally:
        torch.set_num_threads(threads)
    if not paces:
        return [f"time: no estimate: {problem}"]
    first = plan.first_tasks()
    times = 1.0
    if plan.method == "bayes":  # some configurations stand for those that Optuna will choose
        first = [plan.task(one, seed, "search") for one in plan.some_candidates() for seed in plan.seeds]
        times = (plan.run_cap or 0) * len(plan.seeds) / len(first)
    top = plan.some_candidates()[: plan.confirm.top] if plan.confirm else ()
    confirmed = plan.confirm_tasks([candidate.parameters for candidate in top])
    seconds = times * _seconds(first, sizes, paces) + _seconds(confirmed, sizes, paces)
    steps = min(pace.steps for pace in paces.values())
    of = f" of {len(paces)} of {kinds} kinds of trials" if kinds > len(paces) else ""
    measured = f"measured on {count(steps, 'step')}{of}" if steps else f"measured on an encoder that nothing trains{of}"
    side = f" with {concurrent} trials at a time" if concurrent > 1 else ""
    tuned = any(pretrains(task.trial) and task.trial.classifier.name == "finetune" for task in first)
    without = ["selection", "heads on a fixed encoder", *(["fine-tuning"] if tuned else [])]
    peak = max(pace.peak for pace in paces.values())
    return [
        f"time: about {_clock(seconds / min(concurrent, max(1, len(first))))} on this machine{side}, {measured}; "
        f"without {', '.join(without)}; what is in the cache of stages is saved",
        f"memory: about {in_bytes(peak)} a trial, and what its selector and heads hold",
    ]


def _seconds(tasks: Sequence[Task], sizes: Mapping[str, Sizes], paces: Mapping[str, Pace]) -> float:
    """Of all tasks one after the other, each pre-training once."""
    mean = sum(pace.step or 0.0 for pace in paces.values()) / len(paces)
    image = sum(pace.image for pace in paces.values()) / len(paces)
    typical = Pace(mean, max(pace.batch for pace in paces.values()), 0, image, 0.0)
    total, seen = 0.0, set()
    for task in tasks:
        config = task.trial
        of, pace = sizes[data_name(config)], paces.get(_kind(config, sizes), typical)
        key = digest_of(pretrain_key(config, task.seed, data_name(config)))
        if pretrains(config) and key not in seen:
            total += _pretraining(config, of, pace)
            seen.add(key)
        total += _rounds(config, of, pace)
    return total


def _pretraining(config: TrialConfig, of: Sizes, pace: Pace) -> float:
    settings, images = config.pretrain, of.pool + of.unlabeled
    method = registry.find_plugin("ssl_methods", config.ssl_method.name)
    if getattr(method, "labeled_only", False) and config.labels.start != "all":
        images = config.labels.start
    measured = sum(settings.measures(epoch) for epoch in range(1, settings.epochs + 1))
    looked_at = measured * (of.val + 3 * min(SAMPLE, of.pool))
    return _steps(images, settings.batch_size, pace) * settings.epochs + looked_at * pace.image


def _rounds(config: TrialConfig, of: Sizes, pace: Pace) -> float:
    """Of training the encoder further in each round, where it is, and of encoding all images."""
    head, encoded = config.classifier, (of.pool + of.val + of.test) * pace.image
    if not of.num_classes or pretrains(config) or (config.mode != "joint" and head.name != "finetune"):
        return encoded
    start = of.pool if config.labels.start == "all" else config.labels.start
    total = 0.0
    for labels in itertools.accumulate(config.labels.budgets, initial=start):
        images = max(labels, of.pool - labels) if config.mode == "joint" and labels else labels
        total += _steps(images, min(head.batch_size, max(1, labels)), pace) * head.epochs + encoded
    return total


def _steps(images: int, batch_size: int, pace: Pace) -> float:
    """Seconds of an epoch."""
    return math.ceil(images / batch_size) * (pace.step or 0.0) * min(batch_size, images) / pace.batch


def _measured(plan: Plan, sizes: Mapping[str, Sizes]) -> tuple[dict[str, Pace], int, str]:
    """Kind of trial -> its pace, as far as there was time; how many kinds there are; why one could not be measured."""
    trials = [one.trial for one in plan.some_candidates()]
    kinds = {_kind(trial, sizes): trial for trial in trials if len(sizes[data_name(trial)].image_shape) == 3}
    paces: dict[str, Pace] = {}
    problem = "features are encoded already, and selection and heads are not measured"
    deadline = time.monotonic() + MEASURED_SECONDS
    for kind, config in kinds.items():
        if paces and time.monotonic() > deadline:
            break
        of = sizes[data_name(config)]
        try:
            channels, height, width = of.image_shape
            shape = channels, height, width
            paces[kind] = measure_pace(config, shape, of.num_classes, MEASURED_SECONDS / len(kinds))
        except Exception as error:  # a plugin may fail in any way, and the sweep's own checks say it better
            problem = cause_of(error, 200)
    return paces, len(kinds), problem


def _kind(config: TrialConfig, sizes: Mapping[str, Sizes]) -> str:
    """Trials of one kind take equally long steps."""
    parts = {"backbone": config.backbone, "ssl_method": config.ssl_method, "augmentation": config.augmentation}
    described: dict[str, Any] = {name: spec.as_dict() for name, spec in parts.items()}
    described |= {"shape": sizes[data_name(config)].image_shape, "mode": config.mode}
    described |= {"trained": pretrains(config), "head": config.classifier.name, "compute": as_dict(config.compute)}
    settings = config.pretrain if pretrains(config) else config.classifier
    return digest_of(described | {"batch_size": settings.batch_size, "resolutions": config.pretrain.resolutions})


def _clock(seconds: float) -> str:
    """`40 s`, `25 min`, `3 h 20 min`: no finer than it is known."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60:,} h {minutes % 60} min"

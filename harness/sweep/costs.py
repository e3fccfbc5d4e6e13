"""What a sweep is made of and will cost, before anything is trained: its data, and hours by a few measured steps."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from harness.config.plan import Plan
from harness.config.schema import ConfigError, as_dict
from harness.config.tasks import Task
from harness.config.trial import TrialConfig
from harness.data.overlaps import PARTS
from harness.data.splits import Data
from harness.files import digest_of
from harness.messages import cause_of, count, duration, in_bytes, message_of
from harness.metrics import FEW_STEPS
from harness.records.names import called
from harness.sweep.placement import place, this_machine
from harness.sweep.preflight import check_data, data_name
from harness.trial.lengths import images_learnt_from, settled
from harness.trial.lengths import steps as steps_of
from harness.trial.measures import SAMPLE
from harness.trial.pace import Pace, RoundPace, StepFailedError, measure_pace, measure_some_rounds
from harness.trial.pretraining import pretrain_key, pretrains

CLASSES_SHOWN = 10
"""So many classes are named."""

MEASURED_SECONDS = 10.0
"""All steps that are measured take about so long; what is then left takes the mean of the others."""

ROUNDS_SECONDS = 20.0
"""The same of rounds on features, at most so long: a round of one selector takes a thousand times that of another."""


def expected_costs(plan: Plan, cache: Path) -> str:
    """What the plan's trials will cost on this machine, and what their data are, as lines; also what is not known.

    Data sets are decoded into the cache, where the sweep will find them, and checked as it does; those that might have
    to be downloaded for that are not looked at.

    Raises:
        ConfigError, FileNotFoundError: as of `check_data`; a trial fails in its first step.
    """
    prepared = check_data(plan, cache, download=False)
    known = {_data_of(config): data for config, data in prepared}
    away = dict.fromkeys(one.trial.dataset.name for one in plan.some_candidates() if _data_of(one.trial) not in known)
    lines = list(dict.fromkeys(_said(config, data) for config, data in prepared))
    lines += [f"data: {name}: not decoded yet, and to open it may download it; so it is not looked at" for name in away]
    if away:
        return "\n".join([*lines, "time: no estimate without these data"])
    return "\n".join([*lines, *_lengths(plan, known), *_times(plan, known, cache)])


def _data_of(config: TrialConfig) -> str:
    """Names a trial's data, but for the seed of their split: what that draws has the same size."""
    return data_name(replace(config, data=replace(config.data, split_seed=0)))


def _said(config: TrialConfig, data: Data) -> str:
    """The data set, its parts and where these come from, and what became of its images, a line each."""
    shape, classes = "x".join(map(str, data.image_shape)), ", ".join(data.class_names[:CLASSES_SHOWN])
    more = ", ..." if data.num_classes > CLASSES_SHOWN else ""
    labels = f"{data.num_classes} classes ({classes}{more})" if data.num_classes else "no labels"
    kind = "features" if data.gives_features else "images"
    lines = [
        f"data: {called(config.dataset.as_dict())}: {labels}, {kind} of {shape}, {in_bytes(data.num_bytes)} decoded"
    ]
    for part, number in data.counts.items():
        origin = ", carved from the training images" if data.is_carved(part) else ", the data set's own"
        lines.append(
            f"{PARTS[part.removesuffix('_extra')]}: {number:,}{origin if number and part in data.homes else ''}"
        )
    if not {"skipped", "dropped", "doubled"} & data.tally.keys():
        lines.append("no image is broken, and none is in two parts")
    return "\n  ".join([*lines, *data.notes])


def _encoders(trial: TrialConfig, known: Mapping[str, Data]) -> tuple[TrialConfig, ...]:
    """As `TrialConfig.encoders`, with numbers in place of every `auto`."""
    return tuple(settled(trial, known[_data_of(trial)]).encoders().values())


def _lengths(plan: Plan, known: Mapping[str, Data]) -> list[str]:
    """The line on the gradient steps of pre-trainings; none where there are none."""
    made: dict[int, str] = {}
    for one in plan.some_candidates():
        for config in _encoders(one.trial, known):
            if pretrains(config):
                images, settings = images_learnt_from(config, known[_data_of(one.trial)]), config.pretrain
                size = f"at most {min(settings.batch_size, images):,} of {images:,} images each"
                made[steps_of(settings, images)] = f"{count(settings.epochs, 'epoch')}, {size}"
    if not made:
        return []
    least, most = min(made), max(made)
    said = f"{least:,} to {most:,} gradient steps" if least < most else f"{least:,} gradient steps ({made[least]})"
    few = f"; under {FEW_STEPS} say little about a method" if least < FEW_STEPS else ""
    return [f"pre-training: {said}{few}"]


@dataclass(frozen=True)
class _Measured:
    """What was measured in the time that there was.

    Attributes:
        paces: kind of trial -> how fast it trains and encodes.
        rounds: kind of trial on features -> what it takes.
        slow: those of them on features whose round was ended before it was done.
        kinds: how many kinds there are.
        problem: why one could not be measured.
    """

    paces: dict[str, Pace]
    rounds: dict[str, RoundPace]
    slow: dict[str, TrialConfig]
    kinds: int
    problem: str

    def on_what(self) -> str:
        """`measured on 5 steps of 2 of 6 kinds of trials`."""
        some, parts = len(self.paces) + len(self.rounds), []
        steps = min((pace.steps for pace in self.paces.values() if pace.step is not None), default=0)
        if self.paces:
            parts.append(count(steps, "step") if steps else "an encoder that nothing trains")
        if self.rounds:
            parts.append("a round on features")
        of = f" of {some} of {self.kinds} kinds of trials" if some < self.kinds else ""
        return f"measured on {' and '.join(parts)}{of}"

    def left_out(self, plan: Plan, tasks: Sequence[Task]) -> str:
        """What the figure is without, with a semicolon before it."""
        tuned = any(pretrains(task.trial) and task.trial.classifier.name == "finetune" for task in tasks)
        of = " of the trials on images" if self.rounds else ""
        parts = (
            [f"selection{of}", "heads on a fixed encoder", *(["fine-tuning"] if tuned else [])] if self.paces else []
        )
        parts += ["portraits"] if any(task.portrait for task in tasks) else []
        parts += ["upper bounds"] if plan.headroom_tasks() else []
        return f"; without {', '.join(parts)}" if parts else ""


def _times(plan: Plan, known: Mapping[str, Data], cache: Path) -> list[str]:
    """The lines on time and memory."""
    try:
        concurrent = place(plan.resources, [this_machine()], plan.name).concurrent
    except ConfigError as error:
        return [f"time: {message_of(error)}; so no estimate"]
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(plan.resources.cpus)))
    try:
        measured = _measured(plan, known, cache)
    finally:
        torch.set_num_threads(threads)
    if not measured.paces and not measured.rounds:
        return [f"time: no estimate: {measured.problem}"]
    first = plan.first_tasks()
    times = 1.0
    if plan.method == "bayes":  # some configurations stand for those that Optuna will choose
        first = [plan.task(one, seed, "search") for one in plan.some_candidates() for seed in plan.seeds]
        times = (plan.run_cap or 0) * len(plan.seeds) / len(first)
    top = plan.some_candidates()[: plan.confirm.top] if plan.confirm else ()
    confirmed = plan.confirm_tasks([candidate.parameters for candidate in top])
    seconds = times * _seconds(first, known, measured) + _seconds(confirmed, known, measured)
    side = f" with {concurrent} trials at a time" if concurrent > 1 else ""
    peaks = [pace.peak for pace in measured.paces.values()] + [pace.peak for pace in measured.rounds.values()]
    more = ", and what its selector and heads hold" if measured.paces else ""
    expected = duration(max(1, seconds / min(concurrent, max(1, len(first)))))
    slow = list(dict.fromkeys(config.selector.name for config in measured.slow.values()))
    took = f"about {expected}"
    if slow:
        named = ", ".join(slow[:CLASSES_SHOWN])
        took = f"at least {expected} (a round takes more than {ROUNDS_SECONDS / 4:.0f} s: {named})"
    return [
        f"time: {took} on this machine{side}, {measured.on_what()}{measured.left_out(plan, [*first, *confirmed])}; "
        "what is in the cache of stages is saved",
        *([f"memory: about {in_bytes(max(peaks))} a trial{more}"] if any(peaks) else []),
    ]


def _seconds(tasks: Sequence[Task], known: Mapping[str, Data], measured: _Measured) -> float:
    """Of all tasks one after the other, each pre-training once; what was not measured takes the mean of the others."""
    paces, rounds = measured.paces.values(), measured.rounds.values()
    each = sum(pace.seconds for pace in rounds) / max(1, len(rounds))
    mean = sum(pace.step or 0.0 for pace in paces) / max(1, len(paces))
    image = sum(pace.image for pace in paces) / max(1, len(paces))
    typical = Pace(mean, max((pace.batch for pace in paces), default=1), 0, image, 0.0)
    total, seen = 0.0, set()
    for task in tasks:
        of = known[_data_of(task.trial)]
        if of.gives_features:
            one = measured.rounds.get(_kind(task.trial, known))
            total += one.seconds if one else each
            continue
        for chooses, config in enumerate(_encoders(task.trial, known)):
            pace = measured.paces.get(_kind(config, known), typical)
            key = digest_of(pretrain_key(config, task.seed, data_name(config)))
            if pretrains(config) and key not in seen:
                total += _pretraining(config, of, pace)
                seen.add(key)
            total += of.counts["pool"] * pace.image if chooses else _rounds(config, of, pace)
    return total


def _pretraining(config: TrialConfig, data: Data, pace: Pace) -> float:
    images = images_learnt_from(config, data)
    settings = config.pretrain
    measured = sum(settings.measures(epoch) for epoch in range(1, settings.epochs + 1))
    looked_at = measured * (data.counts["val"] + 3 * min(SAMPLE, data.counts["pool"]))
    return _steps(images, settings.batch_size, pace) * settings.epochs + looked_at * pace.image


def _rounds(config: TrialConfig, data: Data, pace: Pace) -> float:
    """Of training the encoder further in each round, where it is, and of encoding all images."""
    head, pool = config.classifier, data.counts["pool"]
    encoded = sum(data.counts[part] for part in ("pool", "val", "test")) * pace.image
    if not data.num_classes or pretrains(config) or (config.mode != "joint" and head.name != "finetune"):
        return encoded
    start = pool if config.labels.start == "all" else config.labels.start
    total = 0.0
    for labels in itertools.accumulate(config.labels.budgets, initial=start):
        images = max(labels, pool - labels) if config.mode == "joint" and labels else labels
        batch = head.batch_size if config.teacher else min(head.batch_size, max(1, labels))
        total += _steps(pool if config.teacher else images, batch, pace) * head.epochs + encoded
    return total


def _steps(images: int, batch_size: int, pace: Pace) -> float:
    """Seconds of an epoch."""
    return math.ceil(images / batch_size) * (pace.step or 0.0) * min(batch_size, images) / pace.batch


def _measured(plan: Plan, known: Mapping[str, Data], cache: Path) -> _Measured:
    """Measures one trial of each kind, as far as there is time."""
    kinds: dict[str, TrialConfig] = {}
    for one in plan.some_candidates():
        shown = known[_data_of(one.trial)].gives_features
        kinds |= {_kind(trial, known): trial for trial in ([one.trial] if shown else _encoders(one.trial, known))}
    on_features = {kind: config for kind, config in kinds.items() if known[_data_of(config)].gives_features}
    rounds: dict[str, RoundPace] = {}
    problems: dict[str, str] = {}
    if on_features:
        rounds, problems = measure_some_rounds(on_features, plan.seeds[0], cache, ROUNDS_SECONDS)
    paces: dict[str, Pace] = {}
    deadline = time.monotonic() + MEASURED_SECONDS
    for kind, config in kinds.items():
        if kind in on_features or (paces and time.monotonic() > deadline):
            continue
        data = known[_data_of(config)]
        try:
            channels, height, width = data.image_shape
            shape = channels, height, width
            paces[kind] = measure_pace(config, shape, data.num_classes, MEASURED_SECONDS / len(kinds))
        except StepFailedError as error:
            names = f"{config.ssl_method.name} with {config.backbone.name}"
            raise ConfigError([f"trial: the first step of training ({names}) fails: {error}"]) from error
        except Exception as error:  # a plugin may fail in any way, and the sweep's own checks say it better
            problems[kind] = cause_of(error, 200)
    slow = {kind: on_features[kind] for kind, pace in rounds.items() if pace.is_least}
    return _Measured(paces, rounds, slow, len(kinds), next(iter(problems.values()), ""))


def _kind(config: TrialConfig, known: Mapping[str, Data]) -> str:
    """Trials of one kind take equally long steps; on features, equally long rounds."""
    parts = {"backbone": config.backbone, "ssl_method": config.ssl_method, "augmentation": config.augmentation}
    described: dict[str, Any] = {name: spec.as_dict() for name, spec in parts.items()}
    described |= {"shape": known[_data_of(config)].image_shape, "mode": config.mode}
    described |= {"trained": pretrains(config), "head": config.classifier.name, "compute": as_dict(config.compute)}
    if known[_data_of(config)].gives_features:
        heads = [head.as_read() for head in (config.classifier, *config.beside)]
        described |= {"selector": config.selector.as_dict(), "labels": as_dict(config.labels), "heads": heads}
        return digest_of(described | {"data": _data_of(config)})
    settings = config.pretrain if pretrains(config) else config.classifier
    return digest_of(described | {"batch_size": settings.batch_size, "resolutions": config.pretrain.resolutions})

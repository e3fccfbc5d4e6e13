"""How fast a trial would be: a few steps of its own training, on made-up images of the data's shape; of one that trains
nothing but heads on features, one of its own rounds.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from harness.api import Images, SupervisedMethod, TaughtMethod
from harness.config.trial import Optimization, TrialConfig
from harness.data.splits import Data
from harness.messages import cause_of
from harness.plugins import registry
from harness.plugins.registry import PluginSpec
from harness.trial import heads, joint, pretrain
from harness.trial.epochs import Metrics, Watch
from harness.trial.memory import PeakMemory
from harness.trial.optimizers import DivergedError
from harness.trial.pretraining import build_method, pretrains
from harness.trial.run import Folders, run
from harness.trial.runtime import Runtime

STEPS = 5
"""So many steps are measured, after one that is not: the first sets up what later ones use."""


@dataclass(frozen=True)
class Pace:
    """What was measured.

    Attributes:
        step: seconds of a training step of the encoder, a mean; None where nothing trains it.
        batch: images in such a step.
        steps: that were measured.
        image: seconds of an image's way through the encoder, outside training.
        peak: memory at most, in bytes.
    """

    step: float | None
    batch: int
    steps: int
    image: float
    peak: float


@dataclass(frozen=True)
class RoundPace:
    """What a trial on features would take, by one of its rounds that was really done.

    Attributes:
        seconds: of all its selections, trainings and evaluations.
        peak: memory at most, in bytes; 0 where that is not known.
        is_least: whether the round was not done when its time was up, so that it takes longer.
    """

    seconds: float
    peak: float
    is_least: bool = False


def measure_rounds(config: TrialConfig, seed: int, cache: Path, stages: Path) -> RoundPace:
    """Runs the middle round of a trial on features: selects, trains and evaluates as the trial does, on its own data.

    Args:
        config: of the trial; its labels up to that round are drawn at random.
        seed: of the trial.
        cache: decoded data sets.
        stages: an empty folder.
    """
    labels = config.labels
    budgets, rounds = labels.budgets, []
    if budgets and labels.start != "all":
        middle = len(budgets) // 2
        before = labels.start + sum(budgets[:middle])
        config = replace(config, labels=replace(labels, start=before, budget=budgets[middle : middle + 1], rounds=0))
    told = lambda kind, step, metrics, *_: rounds.append(metrics)  # noqa: E731
    totals = run(config, seed, Folders(cache, stages), told, with_test=False)
    took = {name: rounds[-1].get(f"time/round_{name}_seconds", 0.0) for name in ("select", "train", "evaluate")}
    trained = took["train"] + took["evaluate"]
    seconds = len(budgets) * (took["select"] + trained) + (trained if labels.start else 0.0)
    return RoundPace(seconds, totals["memory/peak_bytes"])


def measure_some_rounds(
    configs: Mapping[str, TrialConfig], seed: int, cache: Path, seconds: float
) -> tuple[dict[str, RoundPace], dict[str, str]]:
    """Rounds of several trials on features, one after the other, in a process that is ended where one takes too long.

    Args:
        configs: name -> trial.
        seed: of each.
        cache: decoded data sets.
        seconds: no round is begun when the others took so long; each has a quarter of it.

    Returns:
        Name -> what was measured, of a round that was ended what it takes at least; name -> why there is nothing.
    """
    paces: dict[str, RoundPace] = {}
    problems: dict[str, str] = {}
    limit, spent = seconds / 4, 0.0
    with tempfile.TemporaryDirectory() as folder:
        left = dict(configs)
        while left and (not paces or spent < seconds):
            with _measuring(left, seed, cache, Path(folder)) as answers:
                for name, config in list(left.items()):
                    if paces and spent >= seconds:
                        return paces, problems
                    del left[name]
                    started = time.monotonic()
                    try:
                        told = answers.recv() if answers.poll(limit) else None
                    except EOFError:  # too much memory, perhaps
                        problems[name] = f"{config.selector.name}: the process that measured a round died"
                        break
                    spent += time.monotonic() - started
                    if told is None:
                        paces[name] = RoundPace(limit * max(1, len(config.labels.budgets)), 0.0, is_least=True)
                        break
                    (paces if isinstance(told, RoundPace) else problems)[name] = told
    return paces, problems


@contextlib.contextmanager
def _measuring(configs: Mapping[str, TrialConfig], seed: int, cache: Path, folder: Path) -> Iterator[Connection]:
    """A process that sends a `RoundPace` of each trial, or why there is none; whatever ends this one ends it, too."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    lifeline, held = context.Pipe(duplex=False)
    what = configs, seed, cache, folder, torch.get_num_threads()
    process = context.Process(target=_measure_all, args=(theirs, lifeline, *what))
    process.start()
    theirs.close()
    lifeline.close()
    try:
        with contextlib.suppress(EOFError):
            ours.recv()  # it is ready
        yield ours
    finally:
        process.kill()
        process.join()
        held.close()


def _measure_all(
    answers: Connection,
    lifeline: Connection,
    configs: Mapping[str, TrialConfig],
    seed: int,
    cache: Path,
    folder: Path,
    threads: int,
) -> None:
    def end() -> None:
        with contextlib.suppress(EOFError, OSError):
            lifeline.recv()  # until the other end is closed
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
    torch.set_num_threads(threads)
    with contextlib.suppress(Exception), tempfile.TemporaryDirectory(dir=folder) as stages:  # what the first one loads
        first = next(iter(configs.values()))
        measure_rounds(replace(first, selector=PluginSpec("selectors", "random")), seed, cache, Path(stages))
    answers.send("ready")
    for config in configs.values():
        try:
            with tempfile.TemporaryDirectory(dir=folder) as stages:
                answers.send(measure_rounds(config, seed, cache, Path(stages)))
        except Exception as error:  # a plugin may fail in any way, and the sweep's own checks say it better
            answers.send(cause_of(error, 200))


class StepFailedError(RuntimeError):
    """A training step that a trial would take fails: the trial would, too. Says why."""


class _EnoughError(Exception):
    """The time is up."""


def measure_pace(config: TrialConfig, image_shape: tuple[int, int, int], num_classes: int, seconds: float) -> Pace:
    """Measures a trial's own pre-training, fine-tuning or joint training, in that order the first that it has.

    Args:
        config: of the trial.
        image_shape: (C, H, W) of its images.
        num_classes: K.
        seconds: no step is begun so long after the first, but for the second.

    Raises:
        StepFailedError: the first step fails, for no want of memory. Later ones, on noise and without the warm-up of
            the trial, may well diverge: those before them are measured.
    """
    memory = PeakMemory()
    settings: Optimization = config.pretrain if pretrains(config) else config.classifier
    data = _made_up(image_shape, max(2, num_classes), settings.batch_size)
    runtime = Runtime.of(config.compute, torch.tensor(data.mean), torch.tensor(data.std))
    ends: list[float] = []

    def on_epoch(number: int, metrics: Metrics) -> None:
        ends.append(time.perf_counter())
        if number > 1 and ends[-1] - ends[0] > seconds:
            raise _EnoughError

    train = _training(config, data, runtime, Watch(on_epoch=on_epoch))
    if train:
        try:
            train()
        except _EnoughError:
            pass
        except Exception as error:  # a plugin may fail in any way
            if not ends:
                if _is_of_the_machine(error) or isinstance(error, DivergedError):
                    raise
                raise StepFailedError(cause_of(error, 200)) from error
    method = build_method(config, data, 0, runtime)
    started = time.perf_counter()
    runtime.forward(method.backbone, data.pool)
    image = (time.perf_counter() - started) / len(data.pool)
    steps = max(0, len(ends) - 1)
    mean = (ends[-1] - ends[0]) / steps if steps else None
    return Pace(mean, len(data.pool), steps, image, memory.peak(runtime.device))


def _is_of_the_machine(error: Exception) -> bool:
    """Whether another machine might not fail so: there is no more memory, or no such device."""
    return isinstance(error, MemoryError | OSError | torch.OutOfMemoryError | torch.AcceleratorError) or (
        "alloc" in str(error)
    )


def _training(config: TrialConfig, data: Data, runtime: Runtime, watch: Watch) -> Callable[[], object] | None:
    """The training of the encoder, each epoch of which is one step; None where the encoder is not trained."""
    views = registry.build(config.augmentation)
    epochs, batch, labels = STEPS + 1, len(data.pool), data.val_labels
    if pretrains(config):
        method = build_method(config, data, 0, runtime)
        settings = replace(config.pretrain, epochs=epochs, batch_size=batch, warmup_epochs=0.0, knn_every=0)
        known = labels if isinstance(method, SupervisedMethod) else None
        examples = pretrain.Examples(data.pool, views, known)
        return lambda: pretrain.pretrain(method, examples, settings, runtime, 0, watch)
    head = replace(config.classifier, epochs=epochs, batch_size=batch, warmup_epochs=0.0)
    labeled = heads.Labeled(data.pool, labels, registry.build(head.augmentation))
    method = build_method(config, data, 0, runtime)
    if config.mode == "joint":
        model = joint.JointModel(method, data.num_classes)
        runtime.place(model)
        others = data.pool.subset(torch.arange(batch * config.joint.unlabeled_ratio) % batch)
        material: joint.Material | joint.Lesson = joint.Material(labeled, others, views)
        if isinstance(method, TaughtMethod):
            material = joint.Lesson(data.pool, torch.zeros(batch, data.num_classes), labels, views)
        return lambda: joint.train(model, material, head, config.joint, runtime, 0, watch)
    if head.name == "finetune":
        network = heads.finetuned_model(method.backbone, data.num_classes, runtime, 0)
        return lambda: heads.finetune(network, labeled, head, runtime, 0, watch)
    return None


def _made_up(image_shape: tuple[int, int, int], num_classes: int, number: int) -> Data:
    """Noise in place of a trial's images, with a label for each."""
    rng = torch.Generator().manual_seed(0)
    store = torch.randint(256, (number, *image_shape), generator=rng, dtype=torch.uint8)
    channels = image_shape[0]
    return Data(
        pool=Images(store),
        val=Images(store),
        val_labels=torch.arange(number) % num_classes,
        test=None,
        test_labels=None,
        homes={},
        unlabeled_extra=None,
        class_names=tuple(f"class {label}" for label in range(num_classes)),
        image_shape=image_shape,
        mean=(0.5,) * channels,
        std=(math.sqrt(1 / 12),) * channels,
        fingerprint="made up",
        places={},
        counts={"pool": number, "val": number, "test": 0},
        num_bytes=store.nbytes,
    )

"""How fast a trial would be: a few steps of its own training, on made-up images of the data's shape; of one that trains
nothing but heads on features, one of its own rounds.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from harness.api import Images, SupervisedMethod, TaughtMethod
from harness.config.trial import Optimization, TrialConfig
from harness.data.splits import Data
from harness.messages import cause_of
from harness.plugins import registry
from harness.trial import heads, joint, pretrain
from harness.trial.epochs import Metrics, Watch
from harness.trial.memory import PeakMemory
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
        seconds: of the whole trial.
        peak: memory at most, in bytes.
    """

    seconds: float
    peak: float


def measure_rounds(config: TrialConfig, seed: int, cache: Path) -> RoundPace:
    """Runs the middle round of a trial on features: selects, trains and evaluates as the trial does, on its own data.

    Args:
        config: of the trial; its labels up to that round are drawn at random.
        seed: of the trial.
        cache: decoded data sets.
    """
    labels = config.labels
    budgets, rounds = labels.budgets, []
    if budgets and labels.start != "all":
        middle = len(budgets) // 2
        before = labels.start + sum(budgets[:middle])
        config = replace(config, labels=replace(labels, start=before, budget=budgets[middle : middle + 1], rounds=0))
    with tempfile.TemporaryDirectory() as stages:
        folders = Folders(cache, Path(stages))
        totals = run(config, seed, folders, lambda kind, step, told, *_: rounds.append(told), with_test=False)
    took = {name: rounds[-1].get(f"time/round_{name}_seconds", 0.0) for name in ("select", "train", "evaluate")}
    trained = took["train"] + took["evaluate"]
    seconds = len(budgets) * (took["select"] + trained) + (trained if labels.start else 0.0)
    return RoundPace(seconds, totals["memory/peak_bytes"])


def measure_some_rounds(
    configs: Mapping[str, TrialConfig], seed: int, cache: Path, seconds: float
) -> tuple[dict[str, RoundPace], dict[str, str]]:
    """Rounds of several trials on features in turn, in a process of its own that is ended when the time is up.

    Args:
        configs: name -> trial.
        seed: of each.
        cache: decoded data sets.
        seconds: from when that process is ready.

    Returns:
        Name -> what was measured; name -> why there is nothing of it, of those that failed, and of that which was
        in its round when the time was up.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure_all, args=(theirs, configs, seed, cache, torch.get_num_threads()))
    process.start()
    theirs.close()
    paces: dict[str, RoundPace] = {}
    problems: dict[str, str] = {}
    try:
        ours.recv()  # it is ready
        deadline = time.monotonic() + seconds
        for name in configs:
            if not ours.poll(max(0.0, deadline - time.monotonic())):
                problems[name] = f"a round takes more than {seconds:.0f} s"
                break
            told = ours.recv()
            if isinstance(told, RoundPace):
                paces[name] = told
            else:
                problems[name] = told
    except EOFError:  # it died, of too much memory perhaps
        problems |= dict.fromkeys(configs.keys() - paces.keys(), "the process that measured it died")
    finally:
        process.kill()
        process.join()
    return paces, problems


def _measure_all(answers: Connection, configs: Mapping[str, TrialConfig], seed: int, cache: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    answers.send("ready")
    for config in configs.values():
        try:
            answers.send(measure_rounds(config, seed, cache))
        except Exception as error:  # a plugin may fail in any way, and the sweep's own checks say it better
            answers.send(cause_of(error, 200))


class _EnoughError(Exception):
    """The time is up."""


def measure_pace(config: TrialConfig, image_shape: tuple[int, int, int], num_classes: int, seconds: float) -> Pace:
    """Measures a trial's own pre-training, fine-tuning or joint training, in that order the first that it has.

    Args:
        config: of the trial.
        image_shape: (C, H, W) of its images.
        num_classes: K.
        seconds: no step is begun so long after the first, but for the second.
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
        with contextlib.suppress(_EnoughError):
            train()
    method = build_method(config, data, 0, runtime)
    started = time.perf_counter()
    runtime.forward(method.backbone, data.pool)
    image = (time.perf_counter() - started) / len(data.pool)
    steps = max(0, len(ends) - 1)
    mean = (ends[-1] - ends[0]) / steps if steps else None
    return Pace(mean, len(data.pool), steps, image, memory.peak(runtime.device))


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

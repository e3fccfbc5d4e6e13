"""What a machine with CUDA does, in ten minutes and one JSON: the `gpu` tests, SimCLR on CIFAR-10, selection.

    python -m benchmarks.gpu --pack data/cifar10 cifar10.npz    # where the images are: the files' own bytes, 55 MB
    python -m benchmarks.gpu cifar10.npz --output gpu.json      # where CUDA is; needs torch, no Ray, no MLflow

In this order, each part within its share of the time, and none keeps another from running:

- SimCLR with `dcnn3` and with ResNet-18, batches of 512, by the recipe `simclr`, up to 200 epochs as the time allows:
  images a second, the share of a step that augmentation takes, peak memory, and k-NN accuracy as papers have it (200
  neighbours, test images against training images) after 10, 50 and the last epoch; the encoders, with `--weights`;
- five epochs of ResNet-18 with `compute.compile` and without;
- k-centre (`coreset`, 2,500 picks beside 2,500 labelled) and k-means with 100 clusters on 50,000 and 1,000,000 random
  vectors, on the CPU, where selectors run;
- `pytest -m gpu`, where pytest is installed.

Anchors for ResNet-18: 11.9 s an epoch on an A100 and 90 % k-NN after 99 minutes, a public record attempt; on an H200
arithmetic alone would take 0.21 s an epoch. `--toy` is a try on any machine: few images, two epochs, small pools.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from baselines.selectors.kcenter import SquaredEuclidean, k_center_greedy
from baselines.selectors.lloyd import kmeans
from harness.api import Images
from harness.config.recipes import find_recipe
from harness.config.trial import ComputeConfig, PretrainConfig, ScaledRate
from harness.files import replace_text
from harness.plugins import registry
from harness.plugins.registry import PluginSpec, as_spec
from harness.trial import knn
from harness.trial.memory import PeakMemory, keep_freed_memory
from harness.trial.optimizers import build_optimizer
from harness.trial.pretrain import Examples, Trainer
from harness.trial.runtime import Runtime

MILESTONES = (10, 50, 200)
"""Epochs after which k-NN accuracy is measured, and at most so many."""

BATCH = 512
SHARES = {"dcnn3": 0.15, "resnet18": 0.55, "compiled": 0.1, "selection": 0.12}
"""Of the time; what is left over is for the tests."""

TESTS = ("tests/baselines/test_conformance.py", "tests/data/test_splits.py", "tests/trial/test_on_cuda.py")
"""The files with `gpu` tests; others may need what such a machine does not have."""

Log = dict[str, Any]
Data = dict[str, tuple[Images, Tensor]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archive", type=Path, nargs="?", help="of --pack; random images if left out")
    parser.add_argument("--pack", type=Path, nargs=2, metavar=("FOLDER", "FILE"), help="an image folder into one file")
    parser.add_argument("--output", type=Path, metavar="FILE", help="of the JSON, which is printed if left out")
    parser.add_argument("--minutes", type=float, default=9.5)
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="for the encoders that were trained")
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    if options.pack:
        pack(*options.pack)
        return 0
    keep_freed_memory()
    seconds = 60 * options.minutes
    started = time.monotonic()
    data = unpack(options.archive) if options.archive else made_up(64 if options.toy else 50_000)
    log: Log = {"machine": machine(), "archive": str(options.archive), "toy": options.toy}
    parts: dict[str, Callable[[float], Any]] = {
        "dcnn3": lambda until: simclr("dcnn3", data, until, options),
        "resnet18": lambda until: simclr("resnet18", data, until, options),
        "compiled": lambda _: compiled("resnet18", data, options.toy),
        "selection": lambda until: selection((500, 1000) if options.toy else (50_000, 1_000_000), until),
    }
    for name, part in parts.items():
        attempt(log, name, part, time.monotonic() + seconds * SHARES[name])
    if not options.toy:
        attempt(log, "tests", tests, started + seconds)
    log["seconds"] = round(time.monotonic() - started, 1)
    if options.output:
        replace_text(options.output, json.dumps(log, indent=1))
    else:
        print(json.dumps(log))
    for name, value in figures(log).items():
        print(f"figure {name} {value:.4g}" if abs(value) < 1000 else f"figure {name} {value:.0f}")
    return int(any("failed" in value for value in log.values() if isinstance(value, dict)))


def attempt(log: Log, name: str, part: Callable[[float], Any], until: float) -> None:
    """Runs a part and notes what it gave, or how it failed."""
    begun = time.monotonic()
    try:
        log[name] = part(until)
    except Exception as error:  # one part that fails is a result, too
        log[name] = {"failed": f"{type(error).__name__}: {error}", "where": traceback.format_exc(limit=-3)}
    print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)


def machine() -> Log:
    """What was measured on."""
    about = {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        about |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        about["gpu_bytes"] = torch.cuda.get_device_properties(0).total_memory
    return about | {"compute": vars(ComputeConfig().resolved())}


# Images --------------------------------------------------------------------------------------------------------------


def pack(folder: Path, file: Path) -> None:
    """Writes the bytes of `folder/train/<class>/*` and `folder/test/<class>/*`, with labels, into one file."""
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    packed: dict[str, np.ndarray] = {"classes": np.array(classes)}
    for split in ("train", "test"):
        files = [sorted((folder / split / name).iterdir()) for name in classes]
        contents = [path.read_bytes() for some in files for path in some]
        packed[f"{split}_labels"] = np.repeat(np.arange(len(classes), dtype=np.uint8), [len(some) for some in files])
        packed[f"{split}_ends"] = np.cumsum([len(content) for content in contents])
        packed[f"{split}_bytes"] = np.frombuffer(b"".join(contents), np.uint8)
    np.savez(file, **packed)  # type: ignore[arg-type]
    print(f"{file}: {file.stat().st_size / 1e6:.0f} MB, {len(classes)} classes")


def unpack(file: Path) -> Data:
    """Split -> its images and labels i64 [N], decoded."""
    data: Data = {}
    with np.load(file) as packed:
        for split in ("train", "test"):
            content, ends = packed[f"{split}_bytes"], packed[f"{split}_ends"]
            starts = np.concatenate([[0], ends[:-1]])
            pixels = [
                np.asarray(Image.open(io.BytesIO(content[start:end].tobytes())).convert("RGB"))
                for start, end in zip(starts, ends, strict=True)
            ]
            store = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
            data[split] = Images(store), torch.from_numpy(packed[f"{split}_labels"].astype(np.int64))
    return data


def made_up(count: int) -> Data:
    """The same of noise, whose accuracy is chance."""
    rng = torch.Generator().manual_seed(0)
    sizes = {"train": count, "test": max(20, count // 5)}
    draw = lambda size: torch.randint(256, (size, 3, 32, 32), generator=rng, dtype=torch.uint8)  # noqa: E731
    return {split: (Images(draw(size)), torch.arange(size) % 10) for split, size in sizes.items()}


# What is measured ----------------------------------------------------------------------------------------------------


def simclr(backbone: str, data: Data, until: float, options: argparse.Namespace) -> Log:
    """SimCLR's pace, memory and k-NN accuracy, in the trial's own loop.

    Three epochs say how many there is time for, up to the last milestone; then it begins anew with a schedule of those.
    """
    (train, known), (test, labels) = data["train"], data["test"]
    memory = PeakMemory()
    runtime = Runtime.of(ComputeConfig(), torch.full((3,), 0.5), torch.full((3,), 0.25))
    store = Images(train[torch.arange(len(train))].to(runtime.device))
    milestones = (1, 2) if options.toy else MILESTONES
    pace = sum(epochs(trainer_of(backbone, store, 3, runtime, options.toy), 3)[1:]) / 2
    evaluations = 1.2  # the rest of an epoch's time: k-NN, and a machine that is slower later
    count = max(1, min(milestones[-1], int((until - time.monotonic()) / (evaluations * pace))))
    trainer = trainer_of(backbone, store, count, runtime, options.toy)
    config, log = trainer.config, Log(batch=trainer.config.batch_size, epochs=count, epoch_seconds=[], loss=[], knn={})
    for epoch in range(1, count + 1):
        log["epoch_seconds"] += epochs(trainer, 1, log["loss"])
        if epoch in milestones or epoch == count:
            bank, features = (runtime.forward(trainer.method.backbone, images) for images in (train, test))
            log["knn"][epoch] = knn.accuracy_by_bank(features, labels, bank, known)
    log["images_per_second"] = len(train) * count / sum(log["epoch_seconds"])
    log["augmentation_share"] = augmentation(trainer, store, runtime, config)
    log["peak_bytes"] = memory.peak(runtime.device)
    if options.weights:
        options.weights.mkdir(parents=True, exist_ok=True)
        torch.save(trainer.method.backbone.state_dict(), options.weights / f"{backbone}.pt")
    return log


def compiled(backbone: str, data: Data, toy: bool) -> Log:
    """The pace with `compute.compile` over the pace without, and what the first epoch takes to compile."""
    if toy:
        return {"skipped": "compiling takes longer than all the rest"}
    train = data["train"][0]
    log: Log = {}
    for name, compiles in (("plain", False), ("compiled", True)):
        runtime = Runtime.of(ComputeConfig(compile=compiles), torch.full((3,), 0.5), torch.full((3,), 0.25))
        store = Images(train[torch.arange(len(train))].to(runtime.device))
        trainer = trainer_of(backbone, store, 5, runtime, toy)
        with runtime.compiled(trainer.method):
            log[f"{name}_epoch_seconds"] = epochs(trainer, 5)
    log["ratio"] = min(log["plain_epoch_seconds"]) / min(log["compiled_epoch_seconds"])
    return log


def trainer_of(backbone: str, store: Images, count: int, runtime: Runtime, toy: bool) -> Trainer:
    """The recipe `simclr` for another encoder, schedule and batch size, its learning rate scaled as it says."""
    recipe = find_recipe("simclr")[1].trial
    torch.manual_seed(0)
    encoder = registry.build(PluginSpec("backbones", backbone), (3, 32, 32))
    method = registry.build(as_spec("ssl_methods", recipe["ssl_method"]), encoder)
    runtime.place(method)
    views = registry.build(as_spec("augmentations", recipe["augmentation"]))
    batch = 32 if toy else BATCH
    rate = ScaledRate(**recipe["pretrain"]["lr"])
    config = PretrainConfig(**recipe["pretrain"] | {"epochs": count, "batch_size": batch, "lr": rate})
    return Trainer(method, Examples(store, views), config, runtime, 0, build_optimizer(method.parameters(), config))


def epochs(trainer: Trainer, count: int, losses: list[float] | None = None) -> list[float]:
    """Seconds of each of so many further epochs; their losses join those of the epochs before."""
    losses, seconds = [] if losses is None else losses, []
    for _ in range(count):
        started = time.perf_counter()
        losses.append(trainer.epoch(losses)["pretrain/loss"])
        wait(trainer.runtime.device)
        seconds.append(round(time.perf_counter() - started, 3))
    return seconds


def augmentation(trainer: Trainer, store: Images, runtime: Runtime, config: PretrainConfig) -> float:
    """The share of a step's time that making its views takes, each measured by itself, ten times."""
    index = torch.arange(min(config.batch_size, len(store)))
    rng = torch.Generator(runtime.device).manual_seed(0)
    batch = store[index].to(runtime.device)

    def make() -> list[Tensor]:
        return [runtime.inputs(trainer.examples.views(batch, view=view, rng=rng)) for view in range(2)]

    made = make()

    def learn() -> None:
        with runtime.autocast():
            loss = trainer.method.loss(made)["loss"]
        trainer.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trainer.optimizer.step()

    taken = {}
    for name, step in (("make", make), ("learn", learn)):
        wait(runtime.device)
        started = time.perf_counter()
        for _ in range(10):
            step()
        wait(runtime.device)
        taken[name] = time.perf_counter() - started
    return taken["make"] / sum(taken.values())


def selection(sizes: tuple[int, int], until: float) -> Log:
    """Seconds of k-centre and k-means on random vectors of 512 numbers."""
    log: Log = {}
    for size in sizes:
        rng = torch.Generator().manual_seed(0)
        points = torch.randn(size, 512, generator=rng)
        labeled = min(2500, size // 20)
        centers, candidates = torch.arange(labeled), torch.arange(labeled, size)
        distances, budget = SquaredEuclidean(points), max(10, labeled)
        jobs: dict[str, Callable[[], object]] = {
            "kmeans": lambda: kmeans(points, min(100, size // 10), rng=rng),  # noqa: B023
            "kcenter": lambda: k_center_greedy(distances, centers, candidates, budget, rng=rng),  # noqa: B023
        }
        for name, job in jobs.items():
            if time.monotonic() > until:
                log[f"{name}_{size}"] = None  # the smaller pool took all the time
                continue
            started = time.perf_counter()
            job()
            log[f"{name}_{size}"] = time.perf_counter() - started
    return log


def tests(until: float) -> Log:
    """`pytest -m gpu`: its last line and exit status."""
    if find_spec("pytest") is None:
        return {"skipped": "pytest is not installed"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *TESTS]
    left = max(30.0, until - time.monotonic())
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=left, cwd=Path(__file__).parents[1], encoding="utf-8"
        )
    except subprocess.TimeoutExpired:
        return {"status": None, "said": f"not done after {left:.0f} s"}
    return {"status": done.returncode, "said": "\n".join(done.stdout.strip().splitlines()[-15:])}


def wait(device: torch.device) -> None:
    """Until an accelerator has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def figures(log: Log) -> dict[str, float]:
    """The numbers that are quoted."""
    numbers = {f"gpu_{name}": value for name, value in log["selection"].items() if isinstance(value, float)}
    if "ratio" in log["compiled"]:
        numbers["gpu_compiled_ratio"] = log["compiled"]["ratio"]
    for backbone in ("dcnn3", "resnet18"):
        part = log[backbone]
        for name in ("images_per_second", "augmentation_share", "peak_bytes"):
            if name in part:
                numbers[f"gpu_{backbone}_{name}"] = part[name]
        numbers |= {f"gpu_{backbone}_knn_{epoch}": value for epoch, value in part.get("knn", {}).items()}
    return numbers


if __name__ == "__main__":
    sys.exit(main())

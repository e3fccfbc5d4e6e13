"""From a question to its answer: a search for an augmentation, as somebody would write it, against a sweep.

    python -m benchmarks.end_to_end --images data/cifar10/train [--configurations 30] [--epochs 10] [--rounds 1]

The question: how strong is SimCLR's jitter to be, how often is to be blurred, at which temperature? Images: 9,000 to
train on and 1,000 to validate, dcnn3, batches of 256, Adam. The sides alternate, each in processes of its own:

by_hand      torchvision's ImageFolder, lightly's SimCLRTransform, head and NTXentLoss, a DataLoader with two workers,
             scikit-learn's k-NN and logistic regression; Ray Tune's defaults with its Optuna search and MLflow callback
sweep        the same question as a search space: nothing else than the harness' defaults, so no trial is stopped early
sweep_early  the same with `early_terminate: asha`, which the script has not

Wall seconds are from the start of the process to its end; CPU seconds are those of all its descendants, looked at twice
a second, so that the last half second of each is missing. Where they went is printed, by kind of process and by stage.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

SIDES = ("by_hand", "sweep", "sweep_early")
EVERY = 0.5
SPACE = """
name: {name}
method: bayes
run_cap: {configurations}
early_terminate: {{type: {stopping}, min_iter: 2, eta: 2}}
metric: {{name: val/accuracy, goal: maximize}}
seeds: [0]
trial:
  dataset: {{name: image_folder, path: {images}}}
  backbone: dcnn3
  ssl_method: {{name: simclr, hidden_dim: 512, projection_dim: 128, batch_norm: true, output_norm: true}}
  augmentation: simclr
  pretrain: {{epochs: {epochs}, batch_size: {batch}, optimizer: adam, lr: 1e-3, weight_decay: 0, schedule: constant}}
  labels: {{start: all}}
  classifier: [logistic, knn]
parameters:
  augmentation.strength:  {{min: 0.1, max: 1.0}}
  augmentation.blur:      {{values: [0.0, 0.5]}}
  ssl_method.temperature: {{distribution: log_uniform_values, min: 0.05, max: 1.0}}
"""


def trial_by_hand(config: dict[str, float], images: str, epochs: int, batch: int) -> None:
    """A trainable of Ray Tune's, as examples write it."""
    import torch
    from lightly.loss import NTXentLoss
    from lightly.models.modules.heads import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from lightly.transforms.utils import IMAGENET_NORMALIZE
    from ray import tune
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    started = time.perf_counter()
    torch.manual_seed(0)
    views = SimCLRTransform(input_size=32, cj_strength=config["strength"], gaussian_blur=config["blur"])
    loader = DataLoader(
        ImageFolder(f"{images}/train", views),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        persistent_workers=True,
    )
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    encoder = nn.Sequential(*layers, nn.Flatten())
    head = SimCLRProjectionHead(2048, 512, 128)
    criterion = NTXentLoss(temperature=config["temperature"])
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=1e-3)
    waited = 0.0
    for _ in range(epochs):
        asked = time.perf_counter()
        for (one, other), _ in loader:
            waited += time.perf_counter() - asked
            loss = criterion(head(encoder(one)), head(encoder(other)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            asked = time.perf_counter()
        waited += time.perf_counter() - asked
    trained = time.perf_counter()

    plain = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(IMAGENET_NORMALIZE["mean"], IMAGENET_NORMALIZE["std"])]
    )
    encoder.eval()
    features, labels = {}, {}
    for split in ("train", "val"):
        with torch.no_grad():
            seen = [(encoder(x), y) for x, y in DataLoader(ImageFolder(f"{images}/{split}", plain), 512)]
        features[split] = torch.cat([x for x, _ in seen]).numpy()
        labels[split] = torch.cat([y for _, y in seen]).numpy()
    encoded = time.perf_counter()
    knn = KNeighborsClassifier(min(20, len(labels["train"]))).fit(features["train"], labels["train"])
    near = knn.score(features["val"], labels["val"])
    probe = LogisticRegression().fit(features["train"], labels["train"])
    tune.report(
        {
            "accuracy": probe.score(features["val"], labels["val"]),
            "knn_accuracy": near,
            "waiting for views": waited,
            "forward and backward pass": trained - started - waited,
            "embedding": encoded - trained,
            "k-NN and probe": time.perf_counter() - encoded,
        }
    )


def run_by_hand(folder: Path, images: str, configurations: int, epochs: int, batch: int) -> dict[str, Any]:
    """The script's main part: the best accuracy, and seconds of all trials by stage."""
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    uri = f"sqlite:///{folder}/mlflow.db"
    results = tune.Tuner(
        tune.with_parameters(trial_by_hand, images=images, epochs=epochs, batch=batch),
        param_space={
            "strength": tune.uniform(0.1, 1.0),
            "blur": tune.choice([0.0, 0.5]),
            "temperature": tune.loguniform(0.05, 1.0),
        },
        tune_config=tune.TuneConfig(
            metric="accuracy", mode="max", search_alg=OptunaSearch(seed=0), num_samples=configurations
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder / "ray"), callbacks=[MLflowLoggerCallback(uri, experiment_name="by_hand")]
        ),
    ).fit()
    stages = ("waiting for views", "forward and backward pass", "embedding", "k-NN and probe")
    found = [result.metrics for result in results if result.metrics and "accuracy" in result.metrics]
    assert len(found) == configurations
    best = max(found, key=lambda metrics: metrics["accuracy"])
    seconds = {stage: sum(metrics[stage] for metrics in found) for stage in stages}
    return {"accuracy": best["accuracy"], "knn_accuracy": best["knn_accuracy"], "seconds": seconds}


def run_sweep(folder: Path, images: str, side: str, configurations: int, epochs: int, batch: int) -> dict[str, Any]:
    """The same by the harness, which is asked as on the command line."""
    from harness.records.rows import by_trial, last, read_rows

    file, stopping = folder / "space.yaml", "asha" if side == "sweep_early" else "none"
    about = {"name": side, "images": images, "configurations": configurations, "epochs": epochs, "batch": batch}
    file.write_text(SPACE.format(**about, stopping=stopping), encoding="utf-8")
    places = ["--results", f"{folder}/runs", "--stages", f"{folder}/stages", "--cache", f"{folder}/data", "--quiet"]
    subprocess.run([sys.executable, "-m", "harness.sweep", str(file), *places], check=True, stdout=subprocess.DEVNULL)
    endings = [last(history) for history in by_trial(read_rows(folder / "runs" / side)[0]).values()]
    assert len(endings) == configurations
    finished = [ending["metrics"] for ending in endings if ending["status"] == "finished"]
    best = max(finished, key=lambda metrics: metrics["val/accuracy"])
    stages = ("pretrain", "encode", "train", "evaluate")
    seconds = {stage: sum(m.get(f"time/{stage}_seconds", 0.0) for m in finished) for stage in stages}
    stopped = {"stopped early (trials)": float(len(endings) - len(finished))}
    return {"accuracy": best["val/accuracy"], "knn_accuracy": best["val/accuracy/knn"], "seconds": seconds | stopped}


def measured(command: list[str]) -> tuple[float, Counter[str], dict[str, Any]]:
    """Wall seconds of a process, CPU seconds of it and all its descendants by kind, and what it printed last."""
    started, spent, kinds = time.perf_counter(), Counter[int](), dict[int, str]()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdout=out, env=os.environ | {"OMP_NUM_THREADS": "1"})
        wall = 0.0
        while (seen := _descendants()) and time.perf_counter() - started < 24 * 3600:
            for pid, (parent, name, seconds) in seen.items():
                spent[pid] = max(spent[pid], seconds)
                kinds[pid] = _kind(name, seen.get(parent, (0, "", 0.0))[1])
            if process.poll() is not None and not wall:
                wall = time.perf_counter() - started
            if wall and time.perf_counter() - started > wall + 10:
                break  # servers that are still about
            if wall:
                _reap()
            time.sleep(EVERY)
        wall = wall or time.perf_counter() - started
        assert process.wait() == 0
        out.seek(0)
        told = json.loads(out.read().splitlines()[-1])
    by_kind = Counter[str]()
    for pid, seconds in spent.items():
        by_kind[kinds[pid]] += seconds
    return wall, by_kind, told


def _kind(name: str, parent: str) -> str:
    if "ray::" in name and "IDLE" not in name:
        return "loader workers" if "ray::" in parent and "IDLE" not in parent else "trials"
    ours = any(
        word in name for word in ("raylet", "gcs_server", "ray/_private", "ray/dashboard", "ray::IDLE", "ray/core")
    )
    return "Ray's own processes" if ours else "driver"


def _descendants() -> dict[int, tuple[int, str, float]]:
    """Process -> its parent, command and CPU seconds, of all that descend from this one."""
    every: dict[int, tuple[int, str, float]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            name = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if fields[0] != "Z":
            every[int(folder.name)] = int(fields[1]), name, seconds
    family = {os.getpid()}
    while more := {pid for pid, (parent, _, _) in every.items() if parent in family} - family:
        family |= more
    return {pid: every[pid] for pid in family - {os.getpid()} if pid in every}


def _reap() -> None:
    """Takes note of orphans that have ended, which are this process' own since `main`."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def prepare(folder: Path, images: Path | None, train: int, val: int) -> Path:
    """A folder with so many images to train on and to validate: links to those of a folder of classes, or noise."""
    rng = random.Random(0)
    if images is None:
        for split, number in (("train", train), ("val", val)):
            for k in range(number):
                file = folder / split / f"class{k % 2}" / f"{k}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                shift = 128 * (k % 2)
                pixels = np.random.default_rng([k, number]).integers(shift, shift + 128, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(file)
        return folder
    files = sorted(images.glob("*/*.jpg"))
    assert len(files) >= train + val, f"{images} has {len(files)} images */*.jpg, not {train + val}"
    for k, file in enumerate(rng.sample(files, train + val)):
        link = folder / ("train" if k < train else "val") / file.parent.name / file.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.resolve())
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, help="folder with one folder of JPEG files per class; noise if left out")
    parser.add_argument("--train", type=int, default=9000)
    parser.add_argument("--val", type=int, default=1000)
    parser.add_argument("--configurations", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--toy", action="store_true", help="60 images of noise, 2 configurations, 1 epoch")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        asked = options.configurations, options.epochs, options.batch
        if options.side == "by_hand":
            print(json.dumps(run_by_hand(options.folder, str(options.images), *asked)))
        else:
            print(json.dumps(run_sweep(options.folder, str(options.images), options.side, *asked)))
        return
    if options.toy:
        options.train, options.val, options.configurations, options.epochs, options.batch = 60, 20, 2, 1, 20
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become children of this process
    sides = SIDES[:2] if options.toy else SIDES
    wall: dict[str, list[float]] = {side: [] for side in sides}
    cpu: dict[str, list[float]] = {side: [] for side in sides}
    accuracy: dict[str, list[float]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as temporary:
        images = prepare(Path(temporary) / "images", options.images, options.train, options.val)
        shared = [f"--{name}={getattr(options, name)}" for name in ("configurations", "epochs", "batch")]
        for number in range(options.rounds):
            for side in sides:
                folder = Path(temporary) / f"{side}-{number}"
                folder.mkdir()
                command = [sys.executable, "-m", "benchmarks.end_to_end", f"--side={side}", *shared]
                seconds, kinds, told = measured([*command, f"--images={images}", f"--folder={folder}"])
                wall[side].append(seconds)
                cpu[side].append(kinds.total())
                accuracy[side].append(told["accuracy"])
                _tell(side, seconds, kinds, told)
    for side in sides:
        print(f"figure end_to_end_{side}_wall_seconds {median(wall[side]):.1f}")
        print(f"figure end_to_end_{side}_cpu_seconds {median(cpu[side]):.1f}")
        print(f"figure end_to_end_{side}_accuracy {median(accuracy[side]):.4f}")
    for side in sides[1:]:
        for what, spent in (("wall", wall), ("cpu", cpu)):
            ratio = median(a / b for a, b in zip(spent["by_hand"], spent[side], strict=True))
            print(f"figure end_to_end_{side}_{what}_ratio {ratio:.2f}")


def _tell(side: str, seconds: float, kinds: Counter[str], told: dict[str, Any]) -> None:
    accuracy = f"probe {100 * told['accuracy']:.1f} %, k-NN {100 * told['knn_accuracy']:.1f} %"
    print(f"{side}: {seconds:.1f} s, {kinds.total():.1f} CPU s; {accuracy}", flush=True)
    print("  CPU seconds: " + ", ".join(f"{kind} {spent:.1f}" for kind, spent in kinds.most_common()))
    print("  in trials:   " + ", ".join(f"{stage} {spent:.1f}" for stage, spent in told["seconds"].items()), flush=True)


if __name__ == "__main__":
    # as __main__, its functions would be sent to the workers by value
    from benchmarks.end_to_end import main as run_main

    run_main()

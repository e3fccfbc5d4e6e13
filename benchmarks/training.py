"""What progressive resolutions and compilation save in pre-training: SimCLR with resnet18 on random 32-px images.

    python -m benchmarks.training

A round trains three epochs each way: at full resolution, at 0.5, 0.75 and 1 of the side, and at full resolution
compiled. The three alternate; a ratio is the full, eager time over the other, above 1 is better. One thread, default
precision and layout, as a trial runs. Times are of the processor on a CPU, so that its other users matter less, and of
the wall on a GPU. The first round warms up; what compilation adds to it, in seconds of the wall, is a figure of its
own. Two to three minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch

from harness.api import Images
from harness.config.trial import ComputeConfig, PretrainConfig
from harness.plugins import registry
from harness.plugins.registry import PluginSpec
from harness.trial.memory import keep_freed_memory
from harness.trial.optimizers import build_optimizer
from harness.trial.pretrain import Examples, Trainer
from harness.trial.runtime import Runtime

EPOCHS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=32, help="in an epoch, one batch")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(0)
    images = Images(torch.randint(256, (options.images, 3, 32, 32), dtype=torch.uint8, generator=rng))
    full = PretrainConfig(epochs=EPOCHS, batch_size=options.images)
    ways = {
        "full": _trainer(full, images, compile=False),
        "resolutions": _trainer(replace(full, resolutions=(0.5, 0.75, 1.0)), images, compile=False),
        "compile": _trainer(full, images, compile=True),
    }
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    times: dict[str, list[float]] = {name: [] for name in ways}
    walls: list[float] = []
    for _ in range(options.rounds + 1):
        for name, train in ways.items():
            started, wall = clock(), time.perf_counter()
            train()
            times[name].append(clock() - started)
            if name == "compile":
                walls.append(time.perf_counter() - wall)
    print(f"figure compile_seconds {walls[0] - median(walls[1:]):.1f}")
    for name in ("resolutions", "compile"):
        ratios = [a / b for a, b in zip(times["full"][1:], times[name][1:], strict=True)]
        print(f"{name}: ratios {', '.join(f'{ratio:.3f}' for ratio in ratios)}")
        print(f"figure {name}_ratio {median(ratios):.3f}")


def _trainer(config: PretrainConfig, images: Images, *, compile: bool) -> Callable[[], None]:
    """A function that trains all epochs of `config`."""
    runtime = Runtime.of(ComputeConfig(compile=compile), torch.full((3,), 0.5), torch.full((3,), 0.25))
    encoder = registry.build(PluginSpec("backbones", "resnet18"), images.shape[1:])
    method = registry.build(PluginSpec("ssl_methods", "simclr"), encoder)
    runtime.place(method)
    examples = Examples(images, registry.build(PluginSpec("augmentations", "simclr")))
    trainer = Trainer(method, examples, config, runtime, 0, build_optimizer(method.parameters(), config))

    def train() -> None:
        for epoch in range(config.epochs):
            with runtime.compiled(method):
                trainer.epoch([1.0] * epoch)
        if runtime.device.type == "cuda":
            torch.cuda.synchronize()

    return train


if __name__ == "__main__":
    main()

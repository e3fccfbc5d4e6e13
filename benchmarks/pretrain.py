"""Pre-training, all included, against the bare forward and backward pass on tensors that are already there.

    python -m benchmarks.pretrain [--images FOLDER]

Ours: gathering from the store, two-view augmentation, normalisation, NT-Xent, optimizer, bookkeeping. Bare: the same
network and loss, forward and backward only, on one prepared batch. Both in the default precision and layout, with one
thread, as a trial runs. The two alternate; the ratio is ours over bare, in images a second.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import torch

from harness.api import Images
from harness.config.trial import ComputeConfig, PretrainConfig
from harness.data.splits import Splitting, open_data
from harness.plugins import registry
from harness.plugins.registry import PluginSpec
from harness.trial.memory import keep_freed_memory
from harness.trial.optimizers import build_optimizer
from harness.trial.pretrain import Examples, Trainer
from harness.trial.runtime import Runtime

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, help="an image folder; random images if left out")
    parser.add_argument("--cache", type=Path, default=Path("results/runs/data"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, default=8, help="of 256 images, in each of the rounds")
    parser.add_argument("backbones", nargs="*", default=["dcnn3", "resnet18"])
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    images = _images(options)
    figures = {name: _measure(name, images, options.batches) for name in options.backbones}
    for name, (ours, bare, ratio) in figures.items():
        print(f"figure pretrain_{name}_images_per_second {ours:.0f}")
        print(f"figure pretrain_{name}_bare_images_per_second {bare:.0f}")
        print(f"figure pretrain_{name}_ratio_vs_bare {ratio:.3f}")


def _images(options: argparse.Namespace) -> Images:
    if options.images is None:
        print("random images: no --images given")
        return Images(torch.randint(0, 256, (10_000, 3, 32, 32), dtype=torch.uint8))
    dataset = registry.build(PluginSpec("datasets", "image_folder", {"path": str(options.images)}))
    return open_data(dataset, "image_folder", Splitting(), cache=options.cache, with_test=False, device="cpu")[0].pool


def _measure(backbone: str, images: Images, batches: int) -> tuple[float, float, float]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    runtime = Runtime.of(ComputeConfig(), torch.full((3,), 0.5), torch.full((3,), 0.25))
    encoder = registry.build(PluginSpec("backbones", backbone), images.shape[1:])
    method = registry.build(PluginSpec("ssl_methods", "simclr"), encoder)
    runtime.place(method)
    augmentation = registry.build(PluginSpec("augmentations", "simclr"))
    config = PretrainConfig(epochs=1000, batch_size=256)
    optimizer = build_optimizer(method.parameters(), config)
    some = images.subset(torch.arange(batches * config.batch_size))
    trainer = Trainer(method, Examples(some, augmentation), config, runtime, 0, optimizer)
    rng = torch.Generator(device).manual_seed(0)
    batch = some[torch.arange(config.batch_size)].to(device)
    views = [runtime.inputs(augmentation(batch, view=v, rng=rng)) for v in range(2)]

    def ours(epoch: int) -> None:
        trainer.epoch([1.0] * epoch)

    def bare(_: int) -> None:
        for _step in range(batches):
            with runtime.autocast():
                loss = method.loss(views)["loss"]
            method.zero_grad(set_to_none=True)
            loss.backward()

    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for number in range(ROUNDS + 1):
        for name, run in (("ours", ours), ("bare", bare)):
            started = time.perf_counter()
            run(number + 1)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    ratios = [b / o for o, b in zip(times["ours"], times["bare"], strict=True)]
    seen = batches * config.batch_size
    print(f"{backbone}: ratios {', '.join(f'{ratio:.3f}' for ratio in ratios)}")
    return seen / median(times["ours"]), seen / median(times["bare"]), median(ratios)


if __name__ == "__main__":
    main()

"""At how many images at a time a frozen encoder is fastest: EfficientNet-Lite0 at 224 px and dcnn3 at 32 px.

    python -m benchmarks.encoding

Random images through an encoder of random weights, as `harness.trial.features` encodes them: one thread, float32 unless
the machine's default is another. Batch sizes take turns; a figure is the median of images a second. Times are of the
processor on a CPU, so that its other users matter less, and of the wall on a GPU. What a batch holds in memory is that
of its inputs and the largest maps, and grows with its pixels. Two to three minutes.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch

from harness.api import Backbone, Images
from harness.config.trial import ComputeConfig
from harness.plugins import registry
from harness.plugins.registry import PluginSpec
from harness.trial.memory import keep_freed_memory
from harness.trial.runtime import Runtime

ENCODERS = {
    "lite0_224px": ("examples.efficientnet_lite0:EfficientNetLite0", 224, (1, 2, 4, 8, 16, 32, 64, 128)),
    "dcnn3_32px": ("dcnn3", 32, (8, 32, 64, 128, 256, 512, 1024, 2048)),
}
"""Name -> backbone, side of the images, batch sizes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("encoders", nargs="*", default=list(ENCODERS), help=", ".join(ENCODERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, help="images in a batch")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    for name in options.encoders:
        plugin, side, sizes = ENCODERS[name]
        sizes = tuple(size for size in sizes if options.most is None or size <= options.most)
        measure(name, plugin, side, sizes, options.rounds)


def measure(name: str, plugin: str, side: int, sizes: tuple[int, ...], rounds: int) -> None:
    """Prints the figures of one encoder."""
    runtime = Runtime.of(ComputeConfig(), torch.full((3,), 0.5), torch.full((3,), 0.25))
    backbone = registry.build(PluginSpec("backbones", plugin), (3, side, side))
    runtime.place(backbone).eval()
    rng = torch.Generator().manual_seed(0)
    images = Images(torch.randint(256, (max(sizes), 3, side, side), dtype=torch.uint8, generator=rng))
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(rounds + 1):
        for size in sizes:
            taken = _seconds(backbone, runtime, images, size)
            if number:  # the first sets up what later ones use
                seconds[size].append(taken)
    default = runtime.batch_size(images)
    best = max(max(sizes) / median(taken) for taken in seconds.values())
    for size, taken in seconds.items():
        speed = max(sizes) / median(taken)
        mark = ", the default" if size == default else ""
        print(f"{name}: {size} images at a time: {speed / best:.0%} of the fastest{mark}")
        print(f"figure {name}_batch_{size} {speed:.1f}")


@torch.no_grad()
def _seconds(backbone: Backbone, runtime: Runtime, images: Images, size: int) -> float:
    """Of all images, in batches of one size."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    started = clock()
    with runtime.autocast():
        for index in torch.arange(len(images)).split(size):
            backbone(runtime.inputs(images[index].to(runtime.device))).float().cpu()
    return clock() - started


if __name__ == "__main__":
    main()

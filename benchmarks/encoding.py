"""At how many images at a time a frozen encoder is fastest: EfficientNet-Lite0 at 224 px and dcnn3 at 32 px.

    python -m benchmarks.encoding
    python -m benchmarks.encoding --stored 1000000   # instead: the memory that so many 32-px images on the disk take

Random images through an encoder of random weights, as `harness.trial.features` encodes them: one thread, float32 unless
the machine's default is another. Batch sizes take turns; a figure is the median of images a second. Times are of the
processor on a CPU, so that its other users matter less, and of the wall on a GPU. What a batch holds in memory is that
of its inputs and the largest maps, and grows with its pixels. Two to three minutes. With `--stored` the images lie in a
mapped file, which is a hole and takes no space; memory is what the process holds of its own at most beyond what it held
before, read after every batch, and the largest resident set, of which the mapped pages are the system's to take back.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from harness.api import Backbone, Images
from harness.config.trial import ComputeConfig
from harness.plugins import registry
from harness.plugins.registry import PluginSpec
from harness.trial.features import encode
from harness.trial.memory import keep_freed_memory, own_memory
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
    parser.add_argument("--stored", type=int, help="measure that many images in a file instead")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    if options.stored:
        stored(options.stored)
        return
    for name in options.encoders:
        plugin, side, sizes = ENCODERS[name]
        sizes = tuple(size for size in sizes if options.most is None or size <= options.most)
        measure(name, plugin, side, sizes, options.rounds)


def stored(count: int) -> None:
    """Prints what it takes to encode so many 32-px images, which lie on the disk, by dcnn3."""
    runtime = Runtime.of(ComputeConfig(), torch.full((3,), 0.5), torch.full((3,), 0.25))
    backbone = runtime.place(registry.build(PluginSpec("backbones", "dcnn3"), (3, 32, 32)))
    with tempfile.TemporaryDirectory() as folder:
        shape = (count, 3, 32, 32)
        store = np.lib.format.open_memmap(Path(folder) / "images.npy", "w+", dtype=np.uint8, shape=shape)
        images = Images(torch.from_numpy(store))
        encode(backbone, runtime, images, torch.arange(runtime.batch_size(images)))
        before, held = own_memory() or 0, []
        started = time.process_time()
        features = encode(
            backbone, runtime, images, torch.arange(count), advance=lambda _: held.append(own_memory() or 0)
        )
        seconds = time.process_time() - started
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"figure stored_images {count}")
    print(f"figure stored_megabytes {store.nbytes / 1e6:.1f}")
    print(f"figure stored_features_megabytes {features.nbytes / 1e6:.1f}")
    print(f"figure stored_own_megabytes {(max(held) - before) / 1e6:.1f}")
    print(f"figure stored_peak_resident_megabytes {resident / 1e6:.1f}")
    print(f"figure stored_cpu_seconds {seconds:.2f}")


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

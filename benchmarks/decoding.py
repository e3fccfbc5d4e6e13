"""How fast a folder of small image files is decoded, against Pillow alone; and what memory many images take.

    python -m benchmarks.decoding [--files 20000] [--side 32]
    python -m benchmarks.decoding --stored 512000 [--side 96]   # instead: a stand-in of so many images

The files are JPEG images of their own, a quarter of them in each of four folders of ten classes. Of each folder Pillow
alone opens every file, whose names it is given, converts it to RGB and makes an array of it, one after the other in one
thread; then the folder is opened as a sweep opens it: files are looked for, their sizes and dates read, decoded under a
bar, hashed, compared with each other and written. A ratio is of images a second, all four folders together: ours over
Pillow's, of the processor's time, so that its other users matter less, and of the wall's. Of the folders' memory the
largest is told that the process held of its own beyond what it held before.

A stand-in needs no files: each image is a stripe of noise that its number begins. It is decoded to the disk, where it
takes its full size (14 GB for 512,000 images of 96 pixels), and read again, once, in random order, in batches of 256.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from baselines.datasets.image_folder import ImageFolder
from harness.api import Dataset, Images, Source, Split
from harness.data.decode import prepare
from harness.trial.memory import own_memory, return_freed_memory

FOLDERS, CLASSES, BATCH = 4, 10, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--stored", type=int, help="so many images of a stand-in instead")
    parser.add_argument("--folder", type=Path, help="where files are written, and removed; by default a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.stored:
            measure_memory(Path(folder), options.stored, options.side)
        else:
            measure_rates(Path(folder), options.files // FOLDERS, options.side)


def measure_rates(folder: Path, number: int, side: int) -> None:
    """Prints how fast Pillow alone and we decode four folders of so many files."""
    prepare(Stripes(number=CLASSES, side=side), "first", folder)  # what a first time sets up is not theirs
    seconds: dict[str, np.ndarray] = {"ours": np.zeros(2), "pillow": np.zeros(2)}
    most = 0
    for place in range(FOLDERS):
        files = write_files(folder / f"part{place}", number, side, seed=place)
        with timed(seconds["pillow"]):
            for file in files:
                with Image.open(file) as image:
                    np.asarray(image.convert("RGB"))
        with largest_memory() as held, timed(seconds["ours"]):
            prepare(ImageFolder(path=str(folder / f"part{place}")), f"part{place}", folder / "data")
        most = max(most, held())
    ratio = seconds["pillow"] / seconds["ours"]
    for what, taken in seconds.items():
        print(f"figure decoding_{what}_images_per_cpu_second {FOLDERS * number / taken[0]:.0f}")
        print(f"figure decoding_{what}_images_per_second {FOLDERS * number / taken[1]:.0f}")
    print(f"figure decoding_files {FOLDERS * number}")
    print(f"figure decoding_cpu_ratio {ratio[0]:.2f}")
    print(f"figure decoding_wall_ratio {ratio[1]:.2f}")
    print(f"figure decoding_own_megabytes {most / 1e6:.1f}")


def write_files(folder: Path, number: int, side: int, seed: int) -> list[Path]:
    """Images that all differ, as JPEG files in folders of ten classes."""
    rng = np.random.default_rng(seed)
    files = [folder / str(place % CLASSES) / f"{place:06d}.jpg" for place in range(number)]
    for made in {file.parent for file in files}:
        made.mkdir(parents=True)
    for file in files:
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(file, quality=90)
    return files


class Stripes(Dataset):
    """So many images, each of them another one, which exist only while they are read.

    Args:
        number: of them.
        side: in pixels.
    """

    def __init__(self, *, number: int = 1000, side: int = 96):
        self.number = number
        self.side = side

    def identity(self) -> str:
        """They never change."""
        return f"{self.number} {self.side}"

    def open(self) -> Source:
        """Makes nothing yet."""
        shape = (3, self.side, self.side)
        noise = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

        def read(start: int, stop: int) -> torch.Tensor:
            images = noise.expand(stop - start, *shape).clone()
            images.flatten(1)[:, :8] = torch.arange(start, stop).view(-1, 1).view(torch.uint8)
            return images

        labels = torch.arange(self.number) % CLASSES
        return Source(shape, tuple(map(str, range(CLASSES))), {"train": Split(self.number, read, labels)})


def measure_memory(folder: Path, number: int, side: int) -> None:
    """Prints the memory that so many images take while they are decoded, and while they are read in random order."""
    dataset = Stripes(number=number, side=side)
    prepare(Stripes(number=BATCH, side=side), "first", folder)  # what a first time sets up is not theirs
    seconds = np.zeros(2)
    with largest_memory() as decoding, timed(seconds):
        prepared = prepare(dataset, "stripes", folder)
    images, total = Images(prepared.images["train"]), 0
    with largest_memory() as reading:
        for batch in torch.randperm(number).split(BATCH):
            total += int(images[batch][:, 0, 0, 0].sum())
    assert total == int((torch.arange(number) % 256).sum()), "each image was read once"
    print(f"figure stored_images {number}")
    print(f"figure stored_megabytes {prepared.num_bytes / 1e6:.1f}")
    print(f"figure stored_decoding_own_megabytes {decoding() / 1e6:.1f}")
    print(f"figure stored_reading_own_megabytes {reading() / 1e6:.1f}")
    print(f"figure stored_cpu_seconds {seconds[0]:.1f}")
    print(f"figure stored_seconds {seconds[1]:.1f}")


@contextlib.contextmanager
def timed(seconds: np.ndarray) -> Iterator[None]:
    """Adds the processor's and the wall's seconds that the block takes."""
    before = time.process_time(), time.perf_counter()
    yield
    seconds += time.process_time() - before[0], time.perf_counter() - before[1]


@contextlib.contextmanager
def largest_memory() -> Iterator[Callable[[], int]]:
    """Yields what tells, after the block, the most bytes of its own that this process held beyond those before it."""
    return_freed_memory()
    before, held, over = own_memory() or 0, [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            held[0] = max(held[0], (own_memory() or 0) - before)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: held[0]
    finally:
        over.set()
        thread.join()
        held[0] = max(held[0], (own_memory() or 0) - before)


if __name__ == "__main__":
    main()

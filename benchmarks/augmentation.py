"""Two SimCLR views of CIFAR-sized images: ours against lightly's transform in a DataLoader.

Question: how many images a second, each in two views, do the two produce on this machine's CPU?
Run:      python -m benchmarks.augmentation --images data/cifar10/train
Expect:   about a minute on two cores.

Both crop, flip, jitter colours (strength 0.5), turn grey and convert to f32 in [0, 1]; neither blurs nor normalises.
Ours starts from decoded u8 tensors, lightly from decoded PIL images in memory. The two alternate in one run, after
a warm-up of each (compiling, starting workers) that is not timed; figures are medians over the repeats.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from baselines.augmentations.simclr import SimCLR

BATCH_SIZE = 256


class Views(Dataset[list[Tensor]]):
    """Images in memory, transformed when they are read."""

    def __init__(self, images: list[Image.Image]):
        self.images = images
        self.transform = SimCLRTransform(
            input_size=images[0].height, cj_strength=0.5, gaussian_blur=0.0, normalize=None
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(self.images[index])


def load(folder: Path | None, num_images: int) -> list[Image.Image]:
    """A random sample of a folder's JPEG images, or random pixels without a folder."""
    if folder is None:
        print("no --images: random pixels of CIFAR's size")
        pixels = np.random.default_rng(0).integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8)
        return [Image.fromarray(image) for image in pixels]
    paths = sorted(folder.glob("*/*.jpg"))
    if not paths:
        raise SystemExit(f"no */*.jpg in {folder}")
    sample = random.Random(0).sample(paths, min(num_images, len(paths)))
    return [Image.open(path).convert("RGB") for path in sample]


def ours_rate(images: Tensor, threads: int, passes: int) -> float:
    """Images a second through our recipe, two views each, in shuffled batches."""
    torch.set_num_threads(threads)
    augment = SimCLR()
    rng = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    for _ in range(passes):
        for batch in torch.randperm(len(images), generator=rng).split(BATCH_SIZE):
            # Gathered by numpy: torch would wake a second set of threads, which hurts where cores are shared.
            chosen = torch.from_numpy(images.numpy()[batch.numpy()])
            views = [augment(chosen, view=view, rng=rng) for view in range(2)]
            assert len(views[0]) == len(views[1]) == len(batch)
    return passes * len(images) / (time.perf_counter() - start)


def lightly_rate(loader: DataLoader[list[Tensor]], num_images: int) -> float:
    """Images a second through lightly's transform, two views each."""
    start = time.perf_counter()
    for _ in loader:
        pass
    return num_images / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder with one folder of JPEG files per class")
    parser.add_argument("--num-images", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    pictures = load(arguments.images, arguments.num_images)
    images = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).contiguous()
    print(f"torch {torch.__version__}, {len(images)} images, batches of {BATCH_SIZE}, {arguments.repeats} repeats")
    figures = {}
    for count, threads, workers in ((1, "1_thread", "1_worker"), (2, "2_threads", "2_workers")):
        ours, peer = compare(images, pictures, count, arguments.repeats)
        ratios = [mine / its for mine, its in zip(ours, peer, strict=True)]
        print(f"{threads}: ratio {min(ratios):.1f} .. {max(ratios):.1f} over the repeats")
        figures[f"augmentation_ours_images_per_second_{threads}"] = statistics.median(ours)
        figures[f"augmentation_lightly_images_per_second_{workers}"] = statistics.median(peer)
        figures[f"augmentation_ratio_vs_lightly_{threads}"] = statistics.median(ratios)
    figures["augmentation_ratio_vs_lightly"] = figures["augmentation_ratio_vs_lightly_2_threads"]
    for name, value in figures.items():
        print(f"figure {name} {value:.1f}")


def compare(images: Tensor, pictures: list[Image.Image], count: int, repeats: int) -> tuple[list[float], list[float]]:
    """Rates of ours with `count` threads and of lightly with `count` worker processes, alternating."""
    loader = DataLoader(Views(pictures), BATCH_SIZE, shuffle=True, num_workers=count, persistent_workers=True)
    lightly_rate(loader, len(images))
    ours_rate(images, count, passes=1)
    ours, peer = [], []
    for repeat in range(repeats):
        peer.append(lightly_rate(loader, len(images)))
        ours.append(ours_rate(images, count, passes=20))
        print(f"{count} threads / workers, repeat {repeat}: ours {ours[-1]:.0f}, lightly {peer[-1]:.0f} images/s")
    return ours, peer


if __name__ == "__main__":
    main()

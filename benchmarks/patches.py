"""Images a second through random whitened patches: as `baselines.backbones.patches` computes them, and in plain torch.

    python -m benchmarks.patches

640 patches of 6x6 on images of 32 pixels, one thread, in float32 and in the machine's fastest precision. The plain form
is the textbook's: a convolution over a whole batch, divided by the contrast of each place, thresholded, pooled. Both
take turns; a figure is the median. Times are of the processor, so that its other users matter less. Half a minute.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.backbones.patches import Patches
from harness.config.trial import ComputeConfig

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patches", type=int, default=640)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randn(BATCH, 3, 32, 32)
    for stride in (1, 2):
        backbone = Patches((3, 32, 32), num_patches=options.patches, stride=stride).eval()
        for precision in dict.fromkeys(("float32", ComputeConfig(device="cpu").resolved().precision)):
            report(f"stride_{stride}_{precision}", backbone, images, precision, options.rounds)


@torch.no_grad()
def report(name: str, backbone: Patches, images: Tensor, precision: str, rounds: int) -> None:
    """Prints images a second of both forms, their ratio, and how far their features are apart."""
    forms: dict[str, Callable[[Tensor], Tensor]] = {"ours": backbone, "plain": lambda x: plain(backbone, x)}
    seconds: dict[str, list[float]] = {form: [] for form in forms}
    features = {}
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        for number in range(rounds + 1):
            for form, compute in forms.items():
                started = time.process_time()
                features[form] = compute(images)
                if number:  # the first sets up what later ones use
                    seconds[form].append(time.process_time() - started)
    speed = {form: len(images) / median(taken) for form, taken in seconds.items()}
    apart = float((features["ours"] - features["plain"]).abs().max())
    print(f"{name}: ours {speed['ours']:.0f} images a second, plain {speed['plain']:.0f}; {apart:.1e} apart at most")
    print(f"figure patches_{name} {speed['ours']:.0f}")
    print(f"figure patches_{name}_ratio {speed['ours'] / speed['plain']:.2f}")


def plain(backbone: Patches, images: Tensor) -> Tensor:
    """f32 [B, D]: the same features by a convolution of the whole batch."""
    size, stride = backbone.size, backbone.stride
    kernels = backbone.filters.weight.view(-1, images.shape[1], size, size)
    responses = F.conv2d(images, kernels, stride=stride)
    mean, square = (F.avg_pool2d(values.mean(1, keepdim=True), size, stride) for values in (images, images.square()))
    contrast = ((square - mean.square()).clamp_min(0) + backbone.contrast).sqrt()
    above = F.relu(responses / contrast + backbone.filters.bias[:, None, None])
    return F.adaptive_avg_pool2d(above, backbone.grid).flatten(1)


if __name__ == "__main__":
    main()

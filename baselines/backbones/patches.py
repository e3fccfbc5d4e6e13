"""Random whitened patches."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.api import Backbone, Images

DRAWN_FROM = 10_000
"""Images from which patches are drawn, at most."""

AT_A_TIME = 256
"""Images that are held in memory while patches are drawn from them."""

CACHED = 1 << 20
"""Numbers of a map that a processor's cache holds: so many are thresholded and pooled before the next are computed."""

HELD = 1 << 28
"""The same of a map in the memory of an accelerator."""


class Patches(Backbone):
    """Random whitened patches, Coates, Lee & Ng 2011, https://proceedings.mlr.press/v15/coates11a.html.

    Every place of an image is compared with patches of the pool's images; how alike they are, above a threshold, is
    averaged over a grid. Nothing is trained: patches are normalised by their contrast and whitened (ZCA), in closed
    form and without labels. As described in section 3 of the paper, with random patches as the dictionary and the soft
    threshold max(0, d'z - alpha), of one sign, of Coates & Ng 2011, "The importance of encoding versus training". The
    grid is 2 x 2 quadrants there; it is finer here, and places lie two pixels apart, which costs nothing where it was
    tried (validation images of CIFAR-10, 2,560 labels, `kernel_ridge`: 62.7 %, every pixel a place: 62.3 %).
    Normalisation and whitening are folded into the filters, so that a map is one matrix product.

    Args:
        image_shape: (C, H, W), H and W at least `size`.
        num_patches: d in the dictionary, >= 1.
        size: pixels of a patch's side, >= 2.
        stride: pixels between places, >= 1; the paper's best is 1, four times the work of 2.
        threshold: alpha, in deviations of a whitened patch along one direction, >= 0.
        grid: cells of a side over which the map is averaged, >= 1; 2 for the quadrants of the paper.
        epsilon: added to the variances that whitening divides by, > 0.
        contrast: added to the variance of each patch, in that of normalised pixels, > 0; the paper's 10 of 255^2 is
            0.0025 where the pixels' deviation is a quarter.
        num_samples: patches that the whitening is measured on, >= 2.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        num_patches: int = 640,
        size: int = 6,
        stride: int = 2,
        threshold: float = 0.5,
        grid: int = 3,
        epsilon: float = 0.1,
        contrast: float = 0.0025,
        num_samples: int = 50_000,
    ):
        super().__init__()
        lowest = {"num_patches": 1, "size": 2, "stride": 1, "grid": 1, "num_samples": 2}
        given = {"num_patches": num_patches, "size": size, "stride": stride, "grid": grid, "num_samples": num_samples}
        for name, low in lowest.items():
            if given[name] < low:
                raise ValueError(f"{name} = {given[name]} is not >= {low}")
        if not threshold >= 0:
            raise ValueError(f"threshold = {threshold} is not >= 0")
        for name, value in (("epsilon", epsilon), ("contrast", contrast)):
            if not value > 0:
                raise ValueError(f"{name} = {value} is not > 0")
        channels, height, width = image_shape
        if min(height, width) < size:
            raise ValueError(f"patches of {size}x{size} pixels are larger than images of {height}x{width}")
        self.num_patches = num_patches
        self.size = size
        self.stride = stride
        self.threshold = threshold
        self.grid = grid
        self.epsilon = epsilon
        self.contrast = contrast
        self.num_samples = num_samples
        self.filters = nn.Linear(channels * size * size, num_patches)  # of a patch that is divided by its contrast
        self.feature_dim = num_patches * grid * grid

    @torch.no_grad()
    def fit(self, images: Images, shown: Callable[[Tensor], Tensor]) -> None:
        """Draws the dictionary and measures the whitening; see `Backbone.fit`."""
        patches = self._drawn(images, shown).double()
        patches -= patches.mean(1, keepdim=True)
        patches /= (patches.square().mean(1, keepdim=True) + self.contrast).sqrt()
        mean = patches.mean(0)
        values, directions = torch.linalg.eigh(torch.cov(patches.T))
        whitening = directions / (values.clamp_min(0) + self.epsilon).sqrt() @ directions.T  # ZCA
        chosen = patches[torch.randint(len(patches), (self.num_patches,)).to(patches.device)]
        dictionary = F.normalize((chosen - mean) @ whitening, dim=1)
        weight = dictionary @ whitening
        # What a patch x becomes, d' W ((x - mean of x) / contrast - M) - alpha, is linear in x / contrast.
        self.filters.weight.copy_(weight - weight.mean(1, keepdim=True))
        self.filters.bias.copy_(-weight @ mean - self.threshold)

    def _drawn(self, images: Images, shown: Callable[[Tensor], Tensor]) -> Tensor:
        """f32 [n, C x size x size] patches at random places of random images."""
        looked_at = torch.randperm(len(images))[:DRAWN_FROM]
        each = -(-self.num_samples // len(looked_at))
        patches = []
        for index in looked_at.split(AT_A_TIME):
            batch = shown(images[index])
            rows, columns = (torch.randint(side - self.size + 1, (len(index), each, 1)) for side in batch.shape[2:])
            steps = torch.arange(self.size)
            of = torch.arange(len(index))[:, None, None, None]
            places = of, slice(None), (rows + steps)[:, :, :, None], (columns + steps)[:, :, None, :]
            patches.append(batch.contiguous()[places].permute(0, 1, 4, 2, 3).flatten(2).flatten(0, 1))
        return torch.cat(patches)

    def forward(self, images: Tensor) -> Tensor:
        """Features f32 [B, num_patches * grid * grid]."""
        height, width = ((side - self.size) // self.stride + 1 for side in images.shape[2:])
        numbers = CACHED if images.device.type == "cpu" else HELD
        batch = max(1, numbers // (height * width * self.num_patches))
        return torch.cat([self._features(some) for some in images.split(batch)])

    def _features(self, images: Tensor) -> Tensor:
        patches = images.contiguous().unfold(2, self.size, self.stride).unfold(3, self.size, self.stride)
        patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3)  # [B, h, w, C x size x size]
        mean, square = (
            F.avg_pool2d(values.mean(1, keepdim=True), self.size, self.stride) for values in (images, images.square())
        )
        contrast = ((square - mean.square()).clamp_min(0) + self.contrast).sqrt()
        above = F.relu(self.filters(patches / contrast[:, 0, :, :, None]), inplace=True).permute(0, 3, 1, 2)
        return F.adaptive_avg_pool2d(above, self.grid).flatten(1).float()

"""What methods put on top of an encoder."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mlp(
    *widths: int, batch_norm: bool = True, activation: type[nn.Module] = nn.ReLU, normalize_output: bool = False
) -> nn.Sequential:
    """Linear layers, with batch normalisation and a non-linearity between them.

    Args:
        widths: of the input, of each hidden layer, of the output; the input's alone makes the identity.
        batch_norm: normalise the hidden layers.
        activation: the non-linearity.
        normalize_output: end with a batch normalisation that has no weights.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if batch_norm else []), activation()]
    if len(widths) > 1:
        layers.append(nn.Linear(widths[-2], widths[-1]))
    if normalize_output:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


class CosineLayer(nn.Module):
    """Cosines between vectors and learnt prototypes, in single precision.

    The same as a weight-normalised linear layer without bias whose gains stay 1, on L2-normalised inputs.

    Args:
        dim: D, length of the vectors, >= 1.
        num_prototypes: K, >= 1.
    """

    def __init__(self, dim: int, num_prototypes: int):
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, dim) * dim**-0.5)

    def forward(self, vectors: Tensor) -> Tensor:
        """Cosines f32 [B, K] of vectors [B, D]."""
        with torch.autocast(vectors.device.type, enabled=False):
            return F.normalize(vectors.float(), dim=1) @ F.normalize(self.prototypes, dim=1).T

"""Vision transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.backbones.hyperparameters import check_dropout
from baselines.backbones.stem import is_small
from harness.api import PatchBackbone


def _block(dim: int, heads: int, dropout: float) -> nn.Module:
    return nn.TransformerEncoderLayer(
        dim, heads, 4 * dim, dropout, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )


class ViT(PatchBackbone):
    """Vision transformer (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929).

    Patches become tokens; pre-normalised attention blocks with GELU; the class token is the feature vector. As
    described, without the classifier. Images of another size than `image_shape` get interpolated positions, as in the
    paper's section 3.2.

    Args:
        image_shape: (C, H, W).
        patch: pixels of a patch's side, dividing H and W; None: 4 for images below 64 px, else 16.
        dim: D, length of tokens and features, a multiple of `heads`.
        depth: attention blocks, >= 1.
        heads: of each attention, >= 1.
        dropout: share of values zeroed in training, of the tokens and within each block, in [0, 1).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        patch: int | None = None,
        dim: int = 192,
        depth: int = 6,
        heads: int = 6,
        dropout: float = 0.0,
    ):
        super().__init__()
        check_dropout(dropout)
        for name, value in (("dim", dim), ("depth", depth), ("heads", heads)):
            if value < 1:
                raise ValueError(f"{name} = {value} is not >= 1")
        if dim % heads:
            raise ValueError(f"dim = {dim} is no multiple of heads = {heads}; use {-(-dim // heads) * heads}")
        channels, height, width = image_shape
        side = patch if patch is not None else 4 if is_small(image_shape) else 16
        if side < 1 or height % side or width % side:
            raise ValueError(f"patch = {side} does not divide the image, {height}x{width}")
        self.patch, self.dim, self.depth, self.heads, self.dropout = patch, dim, depth, heads, dropout
        self.feature_dim = dim
        self.patch_shape = (channels, side, side)
        self.embed = nn.Conv2d(channels, dim, kernel_size=side, stride=side)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.class_position = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, dim, height // side, width // side) * 0.02)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(_block(dim, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def stages(self) -> list[nn.Module]:
        """The attention blocks: tokens [B, 1 + patches, D], the class token first."""
        return list(self.blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Features f32 [B, D]: the class token after the last block."""
        return self.encode(images)[:, 0]

    def encode(self, images: Tensor, shown: Tensor | None = None) -> Tensor:
        """See `PatchBackbone.encode`."""
        side = self.patch_shape[1]
        if images.shape[2] % side or images.shape[3] % side:
            raise ValueError(f"patch = {side} does not divide the image, {images.shape[2]}x{images.shape[3]}")
        patches = self.embed(images)  # [B, D, H / patch, W / patch]
        positions: Tensor = self.positions
        if positions.shape[2:] != patches.shape[2:]:
            positions = F.interpolate(positions, patches.shape[2:], mode="bicubic", align_corners=False)
        tokens = (patches + positions).flatten(2).transpose(1, 2)
        if shown is not None:
            tokens = tokens.gather(1, shown.unsqueeze(2).expand(-1, -1, self.dim))
        first = (self.class_token + self.class_position).expand(images.shape[0], -1, -1)
        return self.norm(self.blocks(self.drop(torch.cat([first, tokens], dim=1))))

"""Masked autoencoding: the patches that an image lacks are painted from those that it has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.hyperparameters import check_at_least
from harness.api import PatchBackbone, SSLMethod


class MAE(SSLMethod):
    """Masked autoencoder, He, Chen, Xie, Li, Dollar & Girshick 2022, https://arxiv.org/abs/2111.06377.

    The encoder sees a random quarter of the patches. A light transformer is given its tokens and, in the place of each
    other patch, one and the same learnt token, and predicts the pixels of the hidden patches, each of which is
    standardised (with the n - 1 variance, as in the authors' code, https://github.com/facebookresearch/mae).
    Deviations: the encoder's positions are its own, learnt ones in `vit`, where the authors' are fixed; the decoder is
    by default half as wide as `vit` and a third as deep, as theirs beside ViT-L, and not 512 wide and 8 deep.

    Args:
        backbone: an encoder of patches, such as `vit`.
        mask_ratio: share of the patches that are hidden, in (0, 1); at least one is hidden and one is shown.
        decoder_dim: width of the decoder, a multiple of 4 and of `decoder_heads`.
        decoder_depth: its attention blocks, >= 1.
        decoder_heads: of each attention, >= 1.
        standardize: whether each patch's pixels are standardised before they are compared.

    Raises:
        ValueError: the backbone does not encode patches, or a patch to be standardised is a single number.
    """

    num_views = 1
    backbone: PatchBackbone

    def __init__(
        self,
        backbone: PatchBackbone,
        *,
        mask_ratio: float = 0.75,
        decoder_dim: int = 96,
        decoder_depth: int = 2,
        decoder_heads: int = 6,
        standardize: bool = True,
    ):
        super().__init__(backbone)
        if not isinstance(backbone, PatchBackbone):
            raise ValueError(f"hides patches, which {type(backbone).__name__} does not encode one by one; use vit")
        if not 0 < mask_ratio < 1:
            raise ValueError(f"mask_ratio = {mask_ratio} is not in (0, 1)")
        check_at_least(1, decoder_dim=decoder_dim, decoder_depth=decoder_depth, decoder_heads=decoder_heads)
        for name, divisor in (("4", 4), (f"decoder_heads = {decoder_heads}", decoder_heads)):
            if decoder_dim % divisor:
                raise ValueError(f"decoder_dim = {decoder_dim} is no multiple of {name}")
        self.mask_ratio = mask_ratio
        self.decoder_dim = decoder_dim
        self.decoder_depth = decoder_depth
        self.decoder_heads = decoder_heads
        self.standardize = standardize
        channels, height, width = backbone.patch_shape
        if standardize and channels * height * width == 1:
            raise ValueError(
                "a patch is one number, which cannot be standardised; use standardize = false or a larger patch"
            )
        self.narrow = nn.Linear(backbone.feature_dim, decoder_dim)
        self.hidden_token = nn.Parameter(torch.randn(1, 1, decoder_dim) * 0.02)
        self.decoder = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    decoder_dim, decoder_heads, 4 * decoder_dim, 0.0, "gelu", batch_first=True, norm_first=True
                )
                for _ in range(decoder_depth)
            ),
            nn.LayerNorm(decoder_dim),
        )
        self.to_pixels = nn.Linear(decoder_dim, channels * height * width)

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """The mean over images of `sample_loss`."""
        return {"loss": self.sample_loss(views).mean()}

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B]: mean squared error over the pixels of each image's hidden patches."""
        (images,) = views
        patches = patches_of(images.float(), self.backbone.patch_shape)
        shown, hidden = self.draw(len(images), patches.shape[1], images.device)
        painted = self.paint(images, shown)
        wanted = patches.gather(1, hidden.unsqueeze(2).expand(-1, -1, patches.shape[2]))
        if self.standardize:
            wanted = (wanted - wanted.mean(2, keepdim=True)) / (wanted.var(2, keepdim=True) + 1e-6).sqrt()
        given = painted.gather(1, hidden.unsqueeze(2).expand(-1, -1, patches.shape[2]))
        return (given.float() - wanted).square().mean(dim=(1, 2))

    def draw(self, num_images: int, num_patches: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """i64 [B, k] patches that are shown and i64 [B, P - k] that are hidden, each image's its own."""
        if num_patches < 2:
            raise ValueError("the image is one patch, of which none can be hidden; make the backbone's patch smaller")
        num_shown = min(max(1, int(num_patches * (1 - self.mask_ratio))), num_patches - 1)
        order = torch.rand(num_images, num_patches, device=device).argsort(dim=1)
        return order[:, :num_shown], order[:, num_shown:]

    def paint(self, images: Tensor, shown: Tensor) -> Tensor:
        """[B, P, C h w]: the decoder's pixels of every patch of [B, C, H, W], given those i64 [B, k] that are shown."""
        rows, columns = (
            size // side for size, side in zip(images.shape[2:], self.backbone.patch_shape[1:], strict=True)
        )
        tokens = self.narrow(self.backbone.encode(images, shown))
        places = shown.unsqueeze(2).expand(-1, -1, self.decoder_dim)
        every = self.hidden_token.to(tokens.dtype).expand(len(images), rows * columns, -1)
        every = every.scatter(1, places, tokens[:, 1:]) + grid_positions(rows, columns, self.decoder_dim).to(tokens)
        return self.to_pixels(self.decoder(torch.cat([tokens[:, :1], every], dim=1))[:, 1:])


def patches_of(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """f32 [B, P, C h w]: the patches of f32 [B, C, H, W], row by row; each is flattened as (C, h, w)."""
    return F.unfold(images, shape[1:], stride=shape[1:]).transpose(1, 2)


def grid_positions(rows: int, columns: int, dim: int) -> Tensor:
    """f32 [rows * columns, dim]: sines and cosines of the column, then of the row; wavelengths from 2 pi to 20,000 pi.

    As in the authors' code: a quarter of `dim`, a multiple of 4, for each of the four.
    """
    rates = 10_000.0 ** -(torch.arange(dim // 4) / (dim / 4))
    of_row, of_column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.flatten().unsqueeze(1) * rates for place in (of_column, of_row)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)

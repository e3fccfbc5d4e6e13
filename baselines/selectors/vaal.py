"""Selection by a discriminator in the latent space of a variational autoencoder."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from baselines.selectors.ranking import highest
from harness.api import Pool, Selector
from harness.seeding import seeded


class VAAL(Selector):
    """VAAL, Sinha, Ebrahimi & Darrell 2019, https://arxiv.org/abs/1904.00370.

    A variational autoencoder of all images and a discriminator of labelled from unlabelled latent vectors are trained
    against each other; the unlabelled images that look the least labelled are picked. Follows the released code in
    networks and hyper-parameters; its VAE learns from nothing but the images, as there. Deviates from it where it
    parts from the paper: reconstruction and KL divergence are both per pixel and image (there one is averaged and
    the other summed, about 10^3 apart, and the latent code collapses), and images are scored as they are, not under a
    training augmentation. Batches are drawn with replacement; images are resized to a multiple of 16 pixels. Ties are
    broken at random.

    Args:
        epochs: passes over the pool, > 0; each step takes a labelled and an unlabelled batch.
        batch_size: of both, >= 2.
        lr: of both Adams, > 0.
        beta: weight of the KL divergence, >= 0.
        adversary_weight: weight of the VAE's adversarial loss, >= 0.
        latent_dim: >= 1.
        width: channels of the first convolution, >= 1; the others have 2, 4 and 8 times as many.
        image_size: the largest, a multiple of 16; smaller images keep to the next multiple of 16 above theirs.
    """

    reads = frozenset({"images"})
    vae_steps: ClassVar[int] = 2
    """For each of the discriminator; as released."""

    def __init__(
        self,
        *,
        epochs: float = 100,
        batch_size: int = 128,
        lr: float = 5e-4,
        beta: float = 1.0,
        adversary_weight: float = 1.0,
        latent_dim: int = 32,
        width: int = 128,
        image_size: int = 32,
    ):
        for name, value, least in (
            ("batch_size", batch_size, 2),
            ("beta", beta, 0),
            ("adversary_weight", adversary_weight, 0),
            ("latent_dim", latent_dim, 1),
            ("width", width, 1),
        ):
            if value < least:
                raise ValueError(f"{name} = {value} is not >= {least}")
        for name, value in (("epochs", epochs), ("lr", lr)):
            if value <= 0:
                raise ValueError(f"{name} = {value} is not > 0")
        if image_size < 16 or image_size % 16:
            raise ValueError(
                f"image_size = {image_size} is not a multiple of 16, such as {max(16, image_size // 16 * 16)}"
            )
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.beta = beta
        self.adversary_weight = adversary_weight
        self.latent_dim = latent_dim
        self.width = width
        self.image_size = image_size

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        device = pool.images.device
        _, channels, height, width = pool.images.shape
        size = min(self.image_size, 16 * math.ceil(max(height, width) / 16))
        conditions = self._conditions(pool).to(device)
        with seeded(int(torch.randint(2**31 - 1, (), generator=rng)), "vaal"):
            vae = VAE(channels, size, self.latent_dim, self.width, conditions.shape[1]).to(device)
            discriminator = make_discriminator(self.latent_dim + conditions.shape[1]).to(device)
            self._train(vae, discriminator, pool, conditions, size, rng)
        vae.eval()
        discriminator.eval()
        with torch.no_grad():
            parts = [
                discriminator(torch.cat([vae.encode(_load(pool, part, size))[0], conditions[part]], 1)).squeeze(1)
                for part in pool.unlabeled.split(512)
            ]
        return highest(pool, -torch.cat(parts).cpu(), budget, rng=rng)  # the logit: sigmoids would tie

    def _conditions(self, pool: Pool) -> Tensor:
        """f32 [N, c]: what decoder and discriminator know of each image beside its latent code; here nothing, c = 0."""
        return torch.empty(len(pool.images), 0)

    def _train(
        self, vae: VAE, discriminator: nn.Module, pool: Pool, conditions: Tensor, size: int, rng: torch.Generator
    ) -> None:
        vae_optimizer = torch.optim.Adam(vae.parameters(), self.lr)
        discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), self.lr)

        def draw(positions: Tensor) -> tuple[Tensor, Tensor]:
            drawn = positions[torch.randint(len(positions), (self.batch_size,), generator=rng)]
            return _load(pool, drawn, size), conditions[drawn]

        for _ in range(math.ceil(self.epochs * len(pool.images) / self.batch_size)):
            for _ in range(self.vae_steps):
                known, unknown = draw(pool.labeled), draw(pool.unlabeled)
                loss = self._vae_loss(vae, discriminator, *known) + self._vae_loss(vae, discriminator, *unknown)
                vae_optimizer.zero_grad()
                loss.backward()
                vae_optimizer.step()
            with torch.no_grad():
                known_seen, unknown_seen = (torch.cat([vae.encode(x)[0], about], 1) for x, about in (known, unknown))
            loss = label_loss(discriminator(known_seen), 1.0) + label_loss(discriminator(unknown_seen), 0.0)
            discriminator_optimizer.zero_grad()
            loss.backward()
            discriminator_optimizer.step()

    def _vae_loss(self, vae: VAE, discriminator: nn.Module, images: Tensor, conditions: Tensor) -> Tensor:
        """Negative evidence bound per pixel, plus what the discriminator sees through: all should look labelled."""
        mean, log_variance = vae.encode(images)
        latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        rebuilt = vae.decode(torch.cat([latent, conditions], 1))
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2 / images.numel()
        bound = (rebuilt - images).square().mean() + self.beta * divergence
        return bound + self.adversary_weight * label_loss(discriminator(torch.cat([mean, conditions], 1)), 1.0)


def label_loss(logits: Tensor, target: float) -> Tensor:
    """Cross-entropy of f32 [B, 1] logits of being labelled, against all 1 or all 0."""
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def _load(pool: Pool, positions: Tensor, size: int) -> Tensor:
    """f32 [B, C, size, size] in [0, 1]."""
    images = pool.images[positions].float() / 255
    if images.shape[2:] == (size, size):
        return images
    return interpolate(images, (size, size), mode="bilinear", antialias=True)


class VAE(nn.Module):
    """Convolutions k4 s2 p1 with batch norm down to size / 16, and the same upwards.

    Args:
        channels: C.
        size: H = W, a multiple of 16.
        latent_dim: z.
        width: channels after the first convolution.
        num_conditions: c, what the decoder gets beside the latent vector.
    """

    def __init__(self, channels: int, size: int, latent_dim: int, width: int, num_conditions: int = 0):
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width, 8 * width]
        self.bottom = (8 * width, size // 16, size // 16)
        down: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            down += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.down = nn.Sequential(*down, nn.Flatten())
        self.moments = nn.Linear(math.prod(self.bottom), 2 * latent_dim)
        up: list[nn.Module] = []
        for before, after in zip(widths[:1:-1], widths[-2:0:-1], strict=True):
            up += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.spread = nn.Linear(latent_dim + num_conditions, math.prod(self.bottom))
        self.up = nn.Sequential(*up, nn.ConvTranspose2d(width, channels, 4, 2, 1))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, f32 [B, z] each, of f32 [B, C, H, W]."""
        mean, log_variance = self.moments(self.down(images)).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 20)

    def decode(self, latent: Tensor) -> Tensor:
        """f32 [B, C, H, W] of f32 [B, z + c]."""
        return self.up(self.spread(latent).unflatten(1, self.bottom))


def make_discriminator(input_dim: int) -> nn.Sequential:
    """z + c - 512 - 512 - 1, giving the logit of being labelled."""
    return nn.Sequential(nn.Linear(input_dim, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1))

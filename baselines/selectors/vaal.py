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
    against each other; the unlabelled images that look the least labelled are picked. Follows the released code
    (github.com/sinhasam/vaal) in networks, their initialisation, pixels scaled to [-1, 1] and hyper-parameters; its VAE
    learns from nothing but the images, as there. Deviates:

    - The VAE's loss is the paper's equation for each image: squared errors summed over pixels, beta times the KL
      divergence summed over latent numbers, `adversary_weight` times the adversary's cross-entropy, and the mean of
      that over images. The code averages the first over pixels and images and sums the second over the batch: against
      the squared errors of 32 x 32 colour images its KL divergence weighs 393,216 times as much as in the equation,
      with which the latent code collapses, and its adversary 3,072 times.
    - Images are seen and scored as they are, where the code flips half of them, in both, and scored in evaluation mode,
      where it leaves batch norm in training mode.
    - A labelled and an unlabelled batch go through the VAE together. Alone, as there, batch norm takes from each what
      tells it from the other: where dark images are labelled, the bright ones of a pool of both were picked less often
      than by chance.
    - Batches are drawn with replacement.
    - Images become square, of a multiple of 16 pixels and of `image_size` at most.

    Ties are broken at random.

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

        def draw(positions: Tensor) -> Tensor:
            return positions[torch.randint(len(positions), (self.batch_size,), generator=rng)]

        for _ in range(math.ceil(self.epochs * len(pool.images) / self.batch_size)):
            for _ in range(self.vae_steps):
                drawn = torch.cat([draw(pool.labeled), draw(pool.unlabeled)])
                images = _load(pool, drawn, size)
                loss = self._vae_loss(vae, discriminator, images, conditions[drawn])
                vae_optimizer.zero_grad()
                loss.backward()
                vae_optimizer.step()
            with torch.no_grad():
                seen = torch.cat([vae.encode(images)[0], conditions[drawn]], 1)
            known, unknown = discriminator(seen).chunk(2)
            loss = label_loss(known, 1.0) + label_loss(unknown, 0.0)
            discriminator_optimizer.zero_grad()
            loss.backward()
            discriminator_optimizer.step()

    def _vae_loss(self, vae: VAE, discriminator: nn.Module, images: Tensor, conditions: Tensor) -> Tensor:
        """Negative evidence bound, plus what the discriminator sees through: all should look labelled."""
        mean, log_variance = vae.encode(images)
        latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        rebuilt = vae.decode(torch.cat([latent, conditions], 1))
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance) / 2
        bound = self._bound((rebuilt - images).square(), divergence)
        return bound + self.adversary_weight * label_loss(discriminator(torch.cat([mean, conditions], 1)), 1.0)

    def _bound(self, errors: Tensor, divergence: Tensor) -> Tensor:
        """[]: the negative evidence bound of an image; f32 [B, C, H, W] squared errors, f32 [B, z] divergences."""
        return (errors.sum() + self.beta * divergence.sum()) / len(errors)


def label_loss(logits: Tensor, target: float) -> Tensor:
    """Cross-entropy of f32 [B, 1] logits of being labelled, against all 1 or all 0."""
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def _load(pool: Pool, positions: Tensor, size: int) -> Tensor:
    """f32 [B, C, size, size] in [-1, 1]."""
    images = pool.images[positions].float() / 127.5 - 1
    if images.shape[2:] == (size, size):
        return images
    return interpolate(images, (size, size), mode="bilinear", antialias=True)


class VAE(nn.Module):
    """Convolutions k4 s2 p1 with batch norm down to size / 16; from size / 8 three such upwards, and one of 1 x 1.

    Kaiming-normal weights and zero biases where the released code's initialisation reaches: in the convolutions
    downwards and the layer that the decoder begins with.

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
        self.top = (8 * width, size // 8, size // 8)
        down: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            down += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.down = nn.Sequential(*down, nn.Flatten())
        self.moments = nn.Linear(math.prod(self.top) // 4, 2 * latent_dim)
        up: list[nn.Module] = []
        for before, after in zip(widths[:1:-1], widths[-2:0:-1], strict=True):
            up += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.spread = nn.Linear(latent_dim + num_conditions, math.prod(self.top))
        self.up = nn.Sequential(*up, nn.ConvTranspose2d(width, channels, 1))
        kaiming(self.down)
        kaiming(self.spread)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, f32 [B, z] each, of f32 [B, C, H, W]."""
        mean, log_variance = self.moments(self.down(images)).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 20)

    def decode(self, latent: Tensor) -> Tensor:
        """f32 [B, C, H, W] of f32 [B, z + c]."""
        return self.up(self.spread(latent).unflatten(1, self.top))


def make_discriminator(input_dim: int) -> nn.Sequential:
    """z + c - 512 - 512 - 1, Kaiming-normal, giving the logit of being labelled."""
    layers = nn.Sequential(nn.Linear(input_dim, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1))
    kaiming(layers)
    return layers


def kaiming(module: nn.Module) -> None:
    """Kaiming-normal weights and zero biases of its linear layers and convolutions, those upwards left as they are."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

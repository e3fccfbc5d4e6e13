"""Hand-made pools for tests: whatever a test gives is what the selector sees; reading anything else fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.api import Augmentation, Images, Pool, Selector


@dataclass
class FakeModel:
    """A `PoolModel` of given answers. Sample counts above what was given repeat the given samples."""

    given: dict[str, Tensor | None]

    def _answer(self, name: str) -> Tensor:
        answer = self.given[name]
        if answer is None:
            raise AssertionError(f"the selector read {name}, which this pool does not offer")
        return answer

    def features(self) -> Tensor:
        return self._answer("features")

    def penultimate(self) -> Tensor:
        return self._answer("penultimate")

    def last_layer(self, penultimate: Tensor) -> Tensor:
        """The linear layer, with a bias, that comes nearest to the given logits."""
        inputs = F.pad(self._answer("penultimate").double(), (0, 1), value=1)
        weight = torch.linalg.lstsq(inputs, self._answer("logits").double(), driver="gelsd").solution
        return (F.pad(penultimate.double(), (0, 1), value=1) @ weight).float()

    def logits(self) -> Tensor:
        return self._answer("logits")

    def ssl_loss(self, num_draws: int) -> Tensor:
        return self._answer("ssl_loss")

    def companion_outputs(self) -> Tensor:
        return self._answer("companion_outputs")

    def stochastic_logits(self, num_samples: int) -> Tensor:
        samples = self._answer("stochastic")
        return samples[torch.arange(num_samples) % len(samples)]

    def augmented_logits(self, num_samples: int, views: Augmentation | None = None) -> Tensor:
        samples = self._answer("augmented")
        return samples[torch.arange(num_samples) % len(samples)]


def make_pool(
    *,
    features: Tensor | None = None,
    penultimate: Tensor | None = None,
    logits: Tensor | None = None,
    labels: Tensor | None = None,
    labeled: Sequence[int] | Tensor = (),
    num_classes: int | None = None,
    stochastic: Tensor | None = None,
    augmented: Tensor | None = None,
    ssl_loss: Tensor | None = None,
    companion_outputs: Tensor | None = None,
    images: Tensor | None = None,
) -> Pool:
    """A pool of N images with the given parts.

    Args:
        features: f32 [N, D].
        penultimate: f32 [N, D']; the features if None.
        logits: f32 [N, K].
        labels: i64 [N], the classes of all images, of which the pool gets those of `labeled`; all 0 if None.
        labeled: positions that are labelled.
        num_classes: K; from the logits or the labels if None.
        stochastic: f32 [n, N, K].
        augmented: f32 [n, N, K].
        ssl_loss: f32 [N].
        companion_outputs: f32 [N, ...].
        images: u8 [N, C, H, W]; one grey pixel each if None.
    """
    given = {
        "features": features,
        "penultimate": features if penultimate is None else penultimate,
        "logits": logits,
        "stochastic": stochastic,
        "augmented": augmented,
        "ssl_loss": ssl_loss,
        "companion_outputs": companion_outputs,
    }
    axis = {"stochastic": 1, "augmented": 1}
    sizes = {part.shape[axis.get(name, 0)] for name, part in given.items() if part is not None}
    sizes |= {len(part) for part in (labels, images) if part is not None}
    assert len(sizes) == 1, f"the parts disagree on N: {sizes}"
    (n,) = sizes
    if labels is None:
        labels = torch.zeros(n, dtype=torch.int64)
    if num_classes is None:
        num_classes = logits.shape[-1] if logits is not None else int(labels.max()) + 1
    is_labeled = torch.zeros(n, dtype=torch.bool)
    is_labeled[torch.as_tensor(labeled, dtype=torch.int64)] = True
    positions = is_labeled.nonzero().squeeze(1)
    return Pool(
        images=Images(torch.full((n, 1, 1, 1), 128, dtype=torch.uint8) if images is None else images),
        labeled=positions,
        unlabeled=(~is_labeled).nonzero().squeeze(1),
        labels=labels[positions],
        num_classes=num_classes,
        model=FakeModel(given),
    )


def picks_of(selector: Selector, pool: Pool, budget: int, seed: int = 0) -> Tensor:
    """i64 [budget]: the picks from the pool in the form in which the harness shows it to the selector."""
    return selector.select(selector.as_shown(pool), budget, rng=rng(seed))


def rng(seed: int = 0) -> torch.Generator:
    """A seeded generator."""
    return torch.Generator().manual_seed(seed)


def blobs(n: int, dim: int, *, num_clusters: int = 5, spread: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(f32 [n, dim], i64 [n]): points around random centres, and which centre."""
    g = rng(seed)
    cluster = torch.randint(num_clusters, (n,), generator=g)
    centers = torch.randn(num_clusters, dim, generator=g)
    return centers[cluster] + spread * torch.randn(n, dim, generator=g), cluster


def valid(picks: Tensor, pool: Pool, budget: int) -> bool:
    """Whether these are `budget` distinct unlabelled positions."""
    return (
        picks.dtype == torch.int64
        and picks.shape == (budget,)
        and len(picks.unique()) == budget
        and bool(torch.isin(picks, pool.unlabeled).all())
    )

"""Selection by a discriminator in a latent space that knows the predicted loss."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from baselines.selectors.loss_prediction import LossPrediction, check_loss_prediction
from baselines.selectors.vaal import VAAL
from harness.api import Companion, Pool


class TAVAAL(VAAL):
    """Task-aware VAAL, Kim, Park, Kim & Chun 2021, https://arxiv.org/abs/2002.04709.

    VAAL whose decoder and discriminator are also given each image's rank by predicted loss, in (0, 1), from a network
    trained beside the classifier as in `learning_loss`, with the cross-entropy of pairs in place of the hinge. Follows
    the released code (github.com/cubeyoung/TA-VAAL), its loss of the VAE too: the mean over pixels of the squared
    errors, the mean over latent numbers of the KL divergences and the adversary's cross-entropy, so that, of 3,072
    pixels and 32 latent numbers, the divergence weighs 96 times as much as in an evidence bound. One step of the VAE
    for each of the discriminator; the rank is the sigmoid of the prediction. Deviates: the discriminator reads the rank
    where there it reads the unbounded prediction; the first step's rank, a uniform draw there, is the prediction too;
    pixels are scaled to [-1, 1], where there each channel has mean 0 and variance 1; and as `vaal` does in views, mode,
    batches and sizes. Needs `classifier: finetune`. Ties are broken at random.

    Args:
        epochs: passes over the pool, > 0; each step takes a labelled and an unlabelled batch.
        batch_size: of both, >= 2.
        lr: of both Adams, > 0.
        beta: weight of the KL divergence, >= 0.
        adversary_weight: weight of the VAE's adversarial loss, >= 0.
        latent_dim: >= 1.
        width: channels of the first convolution, >= 1; the others have 2, 4 and 8 times as many.
        image_size: the largest, a multiple of 16; smaller images keep to the next multiple of 16 above theirs.
        hidden_dim: of the loss prediction's layer on each stage, >= 1.
        weight: of its loss beside the classifier's, >= 0.
        gradient_share: the share of the classifier's training after which it no longer shapes the encoder, in [0, 1].
    """

    reads = frozenset({"images", "companion_outputs"})
    vae_steps: ClassVar[int] = 1

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
        hidden_dim: int = 128,
        weight: float = 1.0,
        gradient_share: float = 0.6,
    ):
        super().__init__(
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            beta=beta,
            adversary_weight=adversary_weight,
            latent_dim=latent_dim,
            width=width,
            image_size=image_size,
        )
        check_loss_prediction(hidden_dim, weight, gradient_share)
        self.hidden_dim = hidden_dim
        self.weight = weight
        self.gradient_share = gradient_share

    def companion(self, stage_shapes: list[tuple[int, ...]]) -> Companion:
        """See `Selector.companion`."""
        return LossPrediction(
            stage_shapes,
            hidden_dim=self.hidden_dim,
            pair_loss=cross_entropy,
            weight=self.weight,
            gradient_share=self.gradient_share,
        )

    def _conditions(self, pool: Pool) -> Tensor:
        """f32 [N, 1]: the rank of each image."""
        return pool.companion_outputs.sigmoid().unsqueeze(1)

    def _bound(self, errors: Tensor, divergence: Tensor) -> Tensor:
        """[]: both as means over their numbers."""
        return errors.mean() + self.beta * divergence.mean()


def cross_entropy(gap: Tensor, is_higher: Tensor) -> Tensor:
    """f32 [P]: of sigmoid(p_i - p_j), as the probability that l_i > l_j, against whether it is so (RankCGAN)."""
    return binary_cross_entropy_with_logits(gap, is_higher.float(), reduction="none")

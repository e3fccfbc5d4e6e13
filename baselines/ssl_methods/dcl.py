"""Decoupled contrastive learning."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.ssl_methods.hyperparameters import check_positive
from baselines.ssl_methods.simclr import SimCLR
from harness.api import Backbone


def decoupled_contrast(z_a: Tensor, z_b: Tensor, temperature: float, sigma: float | None = None) -> Tensor:
    """The decoupled loss of every image: the mean over its two views of Eq. (6) of DCL.

    NT-Xent without the positive pair in the denominator: -w cos(z_a, z_b) / temperature + the logarithm of the sum of
    exp(cos / temperature) over both views of all other images.

    Args:
        z_a: f32 [B, D], projections of the first views; normalised here; B >= 2.
        z_b: f32 [B, D], of the second views of the same images.
        temperature: > 0.
        sigma: of the von Mises-Fisher weights w = 2 - B softmax(cos(z_a, z_b) / sigma), which no gradient passes
            through, > 0; None weighs all images alike, w = 1.

    Returns:
        f32 [B]; its mean is the batch's loss.
    """
    batch = len(z_a)
    with torch.autocast(z_a.device.type, enabled=False):
        z = F.normalize(torch.cat([z_a, z_b]).float(), dim=1)
        own = torch.eye(batch, dtype=torch.bool, device=z.device).repeat(2, 2)  # both views of the image itself
        negative = (z @ z.T / temperature).masked_fill(own, float("-inf")).logsumexp(dim=1)  # [2B]
        cosine = (z[:batch] * z[batch:]).sum(dim=1)
        weight = 1.0 if sigma is None else 2 - batch * (cosine.detach() / sigma).softmax(dim=0)
        return negative.view(2, batch).mean(dim=0) - weight * cosine / temperature


class DCL(SimCLR):
    """DCL, Yeh et al. 2022, https://arxiv.org/abs/2110.06848.

    SimCLR whose denominator leaves out the positive pair, so that easy pairs do not damp the gradient and small
    batches do. With `sigma` its weighted form, DCLW: pairs that are unlike count for more. The paper's loss was read as
    Lightly quotes and implements it, where no gradient passes through the weights; views are normalised together, as
    in our `simclr`. Heads are those of CIFAR recipes.

    Args:
        backbone: the encoder.
        temperature: tau, > 0.
        sigma: of DCLW's weights, > 0, as in 0.5; None is DCL.
        hidden_dim: width of the hidden layers of the head, >= 1.
        projection_dim: D of the projections, >= 1.
        depth: linear layers in the head; 0 contrasts the features themselves.
        batch_norm: normalise the hidden layers.
        output_norm: also normalise the projections, with weights.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: float = 0.1,
        sigma: float | None = None,
        hidden_dim: int = 512,
        projection_dim: int = 128,
        depth: int = 2,
        batch_norm: bool = True,
        output_norm: bool = False,
    ):
        super().__init__(
            backbone,
            temperature=temperature,
            hidden_dim=hidden_dim,
            projection_dim=projection_dim,
            depth=depth,
            batch_norm=batch_norm,
            output_norm=output_norm,
        )
        if sigma is not None:
            check_positive(sigma=sigma)
        self.sigma = sigma

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Mean decoupled loss over both views of the batch."""
        return {"loss": self.sample_loss(views).mean()}

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B]: the decoupled loss of each image against this batch."""
        return decoupled_contrast(*self._project(views), self.temperature, self.sigma)

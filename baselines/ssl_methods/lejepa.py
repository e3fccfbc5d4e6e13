"""LeJEPA and its sketched regularisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.ssl_methods.heads import mlp
from baselines.ssl_methods.hyperparameters import check_at_least, check_depth, check_share
from baselines.ssl_methods.multi_crop import NUM_GLOBAL_VIEWS, forward_by_size
from harness.api import Backbone, SSLMethod

LARGEST_T, NUM_KNOTS = 3.0, 17
"""Where characteristic functions are compared: so many points of [0, LARGEST_T], as in the authors' code."""


def epps_pulley(samples: Tensor) -> Tensor:
    """How far each column is from a standard normal law: N times the weighted squared distance of both laws'
    characteristic functions, integrated over [-3, 3] by trapezoids of which the negative half mirrors the other.

    Args:
        samples: f32 [..., N, M].

    Returns:
        f32 [..., M], >= 0; its expectation does not grow with N where the law is normal.
    """
    t = torch.linspace(0, LARGEST_T, NUM_KNOTS, device=samples.device)
    normal = (-t.square() / 2).exp()  # the characteristic function, and the weight
    angles = samples.unsqueeze(-1) * t
    error = (angles.cos().mean(dim=-3) - normal).square() + angles.sin().mean(dim=-3).square()
    return 2 * torch.trapezoid(error * normal, t, dim=-1) * samples.shape[-2]


def sigreg(z: Tensor, num_directions: int) -> Tensor:
    """f32 []: mean of `epps_pulley` over random directions, and over views, of f32 [V, B, D]."""
    directions = F.normalize(torch.randn(z.shape[-1], num_directions, device=z.device), dim=0)
    return epps_pulley(z @ directions).mean()


class LeJEPA(SSLMethod):
    """LeJEPA, Balestriero & LeCun 2025, https://arxiv.org/abs/2511.08544.

    The views of an image predict the mean of its two global ones (invariance), and the embeddings of a batch are to be
    an isotropic Gaussian in random directions (SIGReg), which keeps them from collapsing: no negatives, no momentum
    encoder, no stopped gradient. Follows the authors' code (https://github.com/rbalestr-lab/lejepa); the paper itself
    could not be read. Deviations: two global views, where their smallest example takes the mean of four alike; the
    directions come from torch's generator instead of one that counts steps. The loss is no mean over images.

    Args:
        backbone: the encoder; with local views of another size, one that accepts any size.
        weight: lambda of SIGReg against invariance, in [0, 1].
        num_directions: drawn anew in every step, >= 1.
        hidden_dim: width of the projector's hidden layers, >= 1.
        projection_dim: D, >= 1.
        depth: linear layers in the projector, 1 to 100.
        num_local_views: views beyond the two global ones, >= 0; 6 in the paper. The augmentation makes them smaller
            (`multi_crop`).
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        weight: float = 0.05,
        num_directions: int = 1024,
        hidden_dim: int = 2048,
        projection_dim: int = 128,
        depth: int = 3,
        num_local_views: int = 0,
    ):
        super().__init__(backbone)
        check_share(weight=weight)
        check_at_least(1, num_directions=num_directions, hidden_dim=hidden_dim, projection_dim=projection_dim)
        check_depth(depth)
        check_at_least(0, num_local_views=num_local_views)
        self.weight = weight
        self.num_directions = num_directions
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.depth = depth
        self.num_local_views = num_local_views
        self.num_views = NUM_GLOBAL_VIEWS + num_local_views
        self.projector = mlp(backbone.feature_dim, *[hidden_dim] * (depth - 1), projection_dim)

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """The weighted sum, and its two parts before weighting."""
        features = torch.cat(forward_by_size(self.backbone, views))
        with torch.autocast(features.device.type, enabled=False):
            z = self.projector(features.float()).view(len(views), -1, self.projection_dim)
            invariance = (z - z[:NUM_GLOBAL_VIEWS].mean(dim=0)).square().mean()
            gaussian = sigreg(z, self.num_directions)
        loss = self.weight * gaussian + (1 - self.weight) * invariance
        return {"loss": loss, "invariance": invariance, "sigreg": gaussian}

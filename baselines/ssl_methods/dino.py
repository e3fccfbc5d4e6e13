"""DINO."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.ssl_methods.heads import CosineLayer, mlp
from baselines.ssl_methods.hyperparameters import check_at_least, check_positive, check_share
from baselines.ssl_methods.momentum import follow, momentum_copy, rising_momentum
from baselines.ssl_methods.multi_crop import NUM_GLOBAL_VIEWS, cross_view_entropy, forward_by_size
from harness.api import Backbone, SSLMethod


class DINO(SSLMethod):
    """DINO, Caron et al. 2021, https://arxiv.org/abs/2104.14294.

    A student matches the centred and sharpened output of its momentum average, the teacher, for another view. As
    described, and averaged over pairs of views as in the authors' code. The gains of the last layer stay 1 (their
    `norm_last_layer`), and it learns from the start (theirs waits an epoch). The head starts as torch's linear layers
    do; theirs from a normal distribution of deviation 0.02, cut at 2 (the absolute value), with zero biases. They clip
    the gradient of each parameter at a norm of 3, `clip_norm` that of all together; weight decay stays, theirs rises
    from 0.04 to 0.4. Widths, batch normalisation, temperatures and start momentum are those of CIFAR recipes.

    Args:
        backbone: the encoder; with local views of another size, one that accepts any size.
        num_prototypes: K, outputs, >= 1; 65,536 in the paper.
        student_temperature: tau_s, > 0.
        teacher_temperature: tau_t after the warm-up, > 0; up to 0.07 in the paper.
        warmup_teacher_temperature: tau_t at the start, > 0.
        warmup: share of the training during which tau_t moves linearly, in [0, 1]; 0.1 in the paper.
        center_momentum: m of the centre, in [0, 1].
        momentum: of the teacher at the start, in [0, 1]; it rises to 1; 0.996 in the paper.
        hidden_dim: width of the head's two hidden layers, >= 1.
        bottleneck_dim: width of its output before the last layer, >= 1.
        batch_norm: normalise the hidden layers; not in the paper's transformers.
        num_local_views: views beyond the two global ones, >= 0, which only the student sees. The augmentation makes
            them smaller (`multi_crop`).
    """

    center: Tensor
    progress: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_prototypes: int = 2048,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        warmup_teacher_temperature: float = 0.04,
        warmup: float = 0.1,
        center_momentum: float = 0.9,
        momentum: float = 0.99,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        batch_norm: bool = True,
        num_local_views: int = 0,
    ):
        super().__init__(backbone)
        check_positive(student_temperature=student_temperature, teacher_temperature=teacher_temperature)
        check_positive(warmup_teacher_temperature=warmup_teacher_temperature)
        check_share(warmup=warmup, center_momentum=center_momentum, momentum=momentum)
        check_at_least(1, num_prototypes=num_prototypes, hidden_dim=hidden_dim, bottleneck_dim=bottleneck_dim)
        check_at_least(0, num_local_views=num_local_views)
        self.num_prototypes = num_prototypes
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.warmup_teacher_temperature = warmup_teacher_temperature
        self.warmup = warmup
        self.center_momentum = center_momentum
        self.momentum = momentum
        self.hidden_dim = hidden_dim
        self.bottleneck_dim = bottleneck_dim
        self.batch_norm = batch_norm
        self.num_local_views = num_local_views
        self.num_views = NUM_GLOBAL_VIEWS + num_local_views
        widths = (backbone.feature_dim, hidden_dim, hidden_dim, bottleneck_dim)
        self.head = nn.Sequential(
            mlp(*widths, batch_norm=batch_norm, activation=nn.GELU), CosineLayer(bottleneck_dim, num_prototypes)
        )
        self.teacher_backbone, self.teacher_head = momentum_copy(backbone), momentum_copy(self.head)
        self.register_buffer("center", torch.zeros(num_prototypes))
        self.register_buffer("progress", torch.zeros(()))
        self._teacher_mean: Tensor | None = None

    def _current_teacher_temperature(self) -> Tensor:
        """f32 []: tau_t at the present progress of the training."""
        share = (self.progress / self.warmup).clamp(max=1) if self.warmup > 0 else torch.ones_like(self.progress)
        return torch.lerp(
            torch.full_like(share, self.warmup_teacher_temperature),
            torch.full_like(share, self.teacher_temperature),
            share,
        )

    def _outputs(self, backbone: nn.Module, head: nn.Module, views: list[Tensor]) -> Tensor:
        """f32 [V, B, K], before any temperature."""
        features = torch.cat(forward_by_size(backbone, views))
        return head(features).view(len(views), -1, self.num_prototypes)

    def _distill(self, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The loss f32 [B] of each image and the teacher's mean output f32 [K]."""
        student = self._outputs(self.backbone, self.head, views)
        with torch.no_grad():
            teacher = self._outputs(self.teacher_backbone, self.teacher_head, views[:NUM_GLOBAL_VIEWS])
            targets = ((teacher - self.center) / self._current_teacher_temperature()).softmax(dim=2)
        losses = cross_view_entropy(targets, F.log_softmax(student / self.student_temperature, dim=2))  # Eq. (3)
        return losses, teacher.mean(dim=(0, 1))

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Mean of Eq. (3) over images and pairs of views."""
        losses, self._teacher_mean = self._distill(views)
        return {"loss": losses.mean()}

    def sample_loss(self, views: list[Tensor]) -> Tensor:
        """f32 [B]: the loss of each image."""
        return self._distill(views)[0]

    def before_training(self) -> None:
        """Begins the schedule of the teacher's temperature."""
        self.progress.zero_()

    def after_step(self, progress: float) -> None:
        """Moves the teacher and the centre, Eq. (4)."""
        momentum = rising_momentum(self.momentum, progress)
        follow(self.teacher_backbone, self.backbone, momentum)
        follow(self.teacher_head, self.head, momentum)
        if self._teacher_mean is not None:
            self.center.lerp_(self._teacher_mean, 1 - self.center_momentum)
            self._teacher_mean = None
        self.progress.fill_(progress)

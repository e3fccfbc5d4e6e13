"""What the tests of SSL methods share: a small encoder, views of a few images, and the harness's step."""

import torch
from torch import nn

from harness.api import Backbone


class Encoder(Backbone):
    """A convolution, perhaps normalised, and global pooling: it accepts images of any size."""

    def __init__(self, image_shape=(3, 16, 16), *, width=8, batch_norm=True):
        super().__init__()
        norm = [nn.BatchNorm2d(width)] if batch_norm else []
        convolution = nn.Conv2d(image_shape[0], width, kernel_size=3, stride=2)
        self.layers = nn.Sequential(convolution, *norm, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.feature_dim = 4 * width

    def forward(self, images):
        return self.layers(images)


def new(method, *, image_shape=(3, 16, 16), batch_norm=True, seed=0, **hyperparameters):
    torch.manual_seed(seed)
    return method(Encoder(image_shape, batch_norm=batch_norm), **hyperparameters)


def make_views(num_views=2, *, batch=6, shape=(3, 16, 16), seed=0):
    """Noisy views of the same images; the seed changes images and noise."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, *shape, generator=rng)
    return [images + 0.3 * torch.randn(images.shape, generator=rng) for _ in range(num_views)]


def vectors(*shape, seed=0, unit=False):
    """f64, from a seed; of unit length if asked."""
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / drawn.norm(dim=-1, keepdim=True) if unit else drawn


def train(method, num_steps, *, first_step=0, lr=0.05, total_steps=10):
    """The losses of some steps, made as the harness makes them; a step's views depend on its number alone."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr)
    losses = []
    for step in range(first_step, first_step + num_steps):
        torch.manual_seed(step)
        loss = method.loss(make_views(method.num_views, seed=step))["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / total_steps)
        losses.append(loss.item())
    return losses


def assert_same_function(ours, reference, *inputs, rtol=1e-4, atol=1e-5):
    """Both functions have the same values (one or many) and gradients at the inputs, which are f64."""
    values, gradients = [], []
    for function in (ours, reference):
        leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
        value = function(*leaves).double()
        weights = torch.arange(1.0, value.numel() + 1, dtype=torch.float64).view(value.shape)
        values.append(value)
        gradients.append(torch.autograd.grad((value * weights).sum(), leaves))
    assert torch.allclose(*values, rtol=rtol, atol=atol)
    for mine, theirs in zip(*gradients, strict=True):
        assert torch.allclose(mine, theirs, rtol=10 * rtol, atol=atol)

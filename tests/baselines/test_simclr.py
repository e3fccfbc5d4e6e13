"""NT-Xent against a loop over Eq. (1) and another library; the projection head."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import nn

from baselines.backbones.dcnn3 import DCNN3
from baselines.ssl_methods.simclr import SimCLR, nt_xent

TEMPERATURES = [0.05, 0.2, 0.5, 1.0]


def projections(batch=7, dim=5, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, dim, generator=rng, dtype=torch.float64).requires_grad_() for _ in range(2)]


def nt_xent_by_loops(z_a, z_b, temperature):
    """Eq. (1) of the SimCLR paper, term by term: l(i, j) averaged over both views of each image."""
    z = [*z_a, *z_b]
    batch = len(z_a)

    def similarity(u, v):
        return torch.dot(u, v) / (u.norm() * v.norm())

    def ell(i, j):
        others = [torch.exp(similarity(z[i], z[k]) / temperature) for k in range(2 * batch) if k != i]
        return -torch.log(torch.exp(similarity(z[i], z[j]) / temperature) / sum(others))

    return torch.stack([(ell(k, k + batch) + ell(k + batch, k)) / 2 for k in range(batch)])


def gradients(loss, parameters):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_nt_xent_is_eq_1(temperature):
    z = projections()
    ours, reference = nt_xent(*z, temperature), nt_xent_by_loops(*z, temperature)
    assert torch.allclose(ours.double(), reference, rtol=1e-4, atol=1e-5)
    weights = torch.arange(1.0, 8.0, dtype=torch.float64)  # every image's loss, not only their sum
    a, b = gradients((ours.double() * weights).sum(), z), gradients((reference * weights).sum(), z)
    assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_nt_xent_is_that_of_pytorch_metric_learning(temperature):
    z = [tensor.detach().float().requires_grad_() for tensor in projections(batch=33, dim=16)]
    ours = nt_xent(*z, temperature).mean()
    theirs = NTXentLoss(temperature)(torch.cat(z), torch.arange(33).repeat(2))
    assert torch.allclose(ours, theirs, rtol=1e-5)
    assert torch.allclose(gradients(ours, z), gradients(theirs, z), rtol=1e-3, atol=1e-7)


def test_nt_xent_of_a_case_known_by_hand():
    """Two images whose views agree and which are orthogonal: each of the 4 terms is log(e^(1/t) + 2) - 1/t."""
    z = torch.eye(2)
    expected = math.log(math.exp(1 / 0.5) + 2) - 1 / 0.5
    assert torch.allclose(nt_xent(z, 3 * z, 0.5), torch.full((2,), expected))


def test_nt_xent_under_autocast_keeps_single_precision():
    z = [tensor.detach().float() for tensor in projections(batch=33)]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = nt_xent(*z, 0.05)
    assert torch.equal(mixed, nt_xent(*z, 0.05))


def new(**hyperparameters):
    torch.manual_seed(0)
    return SimCLR(DCNN3((3, 16, 16), width=4), **hyperparameters)


def views(seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(6, 3, 16, 16, generator=rng) for _ in range(2)]


@pytest.mark.parametrize(
    ("depth", "sizes"), [(0, []), (1, [(64, 9)]), (2, [(64, 20), (20, 9)]), (3, [(64, 20), (20, 20), (20, 9)])]
)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_head_has_the_asked_depth(depth, sizes, batch_norm):
    method = new(depth=depth, hidden_dim=20, projection_dim=9, batch_norm=batch_norm)
    kinds = [type(layer) for layer in method.projector]
    linear = [layer for layer in method.projector if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == sizes
    assert kinds.count(nn.ReLU) == max(0, depth - 1)
    assert kinds.count(nn.BatchNorm1d) == (max(0, depth - 1) if batch_norm else 0)


def test_head_ends_with_what_its_source_ends_with():
    lightly, ual = new(output_norm=True), new(depth=1, batch_norm=False, output_relu=True, init="glorot")
    assert [type(layer).__name__ for layer in lightly.projector] == [
        "Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d",
    ]  # fmt: skip
    assert lightly.projector[-1].affine
    assert [type(layer).__name__ for layer in ual.projector] == ["Linear", "ReLU"]
    dense = ual.projector[0]
    assert not dense.bias.any()
    assert float(dense.weight.detach().abs().max()) <= (6 / (dense.in_features + dense.out_features)) ** 0.5
    assert float(ual.projector(torch.randn(9, dense.in_features)).detach().min()) == 0


def test_head_of_depth_0_contrasts_the_features():
    method, (a, b) = new(depth=0, temperature=0.3), views()
    expected = nt_xent(method.backbone(a), method.backbone(b), 0.3).mean()
    assert torch.allclose(method.loss([a, b])["loss"], expected, rtol=1e-5)


def test_sample_loss_is_nt_xent_of_each_image():
    method = new(temperature=0.2, batch_norm=False)
    a, b = views()
    z_a, z_b = (method.projector(method.backbone(view)) for view in (a, b))
    assert torch.allclose(method.sample_loss([a, b]), nt_xent_by_loops(z_a, z_b, 0.2), rtol=1e-4)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": 0.0}, "temperature = 0.0 is not > 0"),
        ({"temperature": float("nan")}, "temperature = nan is not > 0"),
        ({"depth": -1}, "depth = -1 is not >= 0"),
        ({"hidden_dim": 0}, "hidden_dim = 0 is not >= 1"),
        ({"projection_dim": 0}, "projection_dim = 0 is not >= 1"),
    ],
)
def test_impossible_values_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        new(**setting)

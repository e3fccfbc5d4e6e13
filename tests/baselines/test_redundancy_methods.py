"""Barlow Twins and VICReg against loops over their equations, cases known by hand and another library."""

import pytest
import torch
from lightly import loss as lightly_loss
from ssl_training import assert_same_function, make_views, new, vectors

from baselines.ssl_methods.barlow_twins import BarlowTwins, cross_correlation
from baselines.ssl_methods.vicreg import VICReg, covariance, variance

SMALL = {"hidden_dim": 12, "projection_dim": 5}


def projected(method, views):
    return [method.projector(method.backbone(view)) for view in views]


# --- Barlow Twins ---


def cross_correlation_by_loops(z_a, z_b):
    """Eq. (2), its z centred along the batch."""
    batch, dim = z_a.shape
    z_a = z_a - sum(z_a) / batch
    z_b = z_b - sum(z_b) / batch

    def entry(i, j):
        over = sum(z_a[n, i] * z_b[n, j] for n in range(batch))
        under_a, under_b = sum(z_a[n, i] ** 2 for n in range(batch)), sum(z_b[n, j] ** 2 for n in range(batch))
        return over / (under_a.sqrt() * under_b.sqrt())

    return torch.stack([torch.stack([entry(i, j) for j in range(dim)]) for i in range(dim)])


def test_cross_correlation_is_eq_2():
    assert_same_function(cross_correlation, cross_correlation_by_loops, vectors(6, 4), vectors(6, 4, seed=1))


def test_cross_correlation_is_that_of_numpy():
    z_a, z_b = vectors(50, 3), vectors(50, 3, seed=1) + 100
    expected = torch.corrcoef(torch.cat([z_a, z_b], dim=1).T)[:3, 3:]
    assert torch.allclose(cross_correlation(z_a, z_b).double(), expected, atol=1e-4)


def test_barlow_twins_is_eq_1():
    method = new(BarlowTwins, redundancy_weight=0.1, **SMALL)
    views = make_views()
    correlation = cross_correlation_by_loops(*(z.double() for z in projected(method, views)))
    invariance = sum((1 - correlation[i, i]) ** 2 for i in range(5))
    redundancy = sum(correlation[i, j] ** 2 for i in range(5) for j in range(5) if i != j)
    logged = method.loss(views)
    assert logged["invariance"].item() == pytest.approx(invariance.item(), rel=1e-4)
    assert logged["redundancy"].item() == pytest.approx(redundancy.item(), rel=1e-4)
    assert logged["loss"].item() == pytest.approx((invariance + 0.1 * redundancy).item(), rel=1e-4)


def test_barlow_twins_is_that_of_lightly():
    theirs = lightly_loss.BarlowTwinsLoss(lambda_param=0.005)
    method = new(BarlowTwins, **SMALL)
    views = make_views(batch=32)
    weight = method.backbone.layers[0].weight
    ours, expected = method.loss(views)["loss"], theirs(*projected(method, views))
    assert torch.allclose(ours, expected, rtol=1e-2)  # its normalisation has an epsilon
    (mine,), (other,) = (torch.autograd.grad(loss, weight) for loss in (ours, expected))
    assert torch.nn.functional.cosine_similarity(mine.flatten(), other.flatten(), dim=0) > 0.999


def test_barlow_twins_of_equal_and_of_repeated_dimensions():
    """Orthogonal columns: no loss. The same column twice: two off-diagonal ones."""
    columns = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert torch.allclose(cross_correlation(columns, 3 * columns + 1), torch.eye(2), atol=1e-6)
    assert torch.allclose(cross_correlation(columns[:, [0, 0]], columns[:, [0, 0]]), torch.ones(2, 2), atol=1e-6)


# --- VICReg ---


def column_variance(column):
    mean = sum(column) / len(column)
    return sum((entry - mean) ** 2 for entry in column) / (len(column) - 1)


def variance_by_loops(z):
    """Eqs. (1) and (2), gamma 1 and epsilon 1e-4."""
    shortfalls = [torch.clamp(1 - (column_variance(column) + 1e-4).sqrt(), min=0) for column in z.T]
    return sum(shortfalls) / len(shortfalls)


def covariance_by_loops(z):
    """Eqs. (3) and (4)."""
    batch, dim = z.shape
    mean = sum(z) / batch
    matrix = sum(torch.outer(row - mean, row - mean) for row in z) / (batch - 1)
    return sum(matrix[i, j] ** 2 for i in range(dim) for j in range(dim) if i != j) / dim


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_variance_and_covariance_are_eqs_1_to_4(scale):
    z = scale * vectors(7, 4)
    assert_same_function(variance, variance_by_loops, z)
    assert_same_function(covariance, covariance_by_loops, z)


def test_variance_and_covariance_of_cases_known_by_hand():
    collapsed = torch.ones(4, 3)
    assert variance(collapsed).item() == pytest.approx(0.99)  # 1 - sqrt(1e-4)
    assert covariance(collapsed) == 0
    repeated = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]])
    assert variance(repeated) == 0
    assert covariance(repeated).item() == pytest.approx((4 / 3) ** 2)


def test_vicreg_is_eq_6():
    method = new(VICReg, invariance_weight=3.0, variance_weight=2.0, covariance_weight=0.5, **SMALL)
    views = make_views()
    z_a, z_b = (z.double() for z in projected(method, views))
    invariance = sum((a - b) ** 2 for a, b in zip(z_a.flatten(), z_b.flatten(), strict=True)) / z_a.numel()
    var = variance_by_loops(z_a) + variance_by_loops(z_b)
    cov = covariance_by_loops(z_a) + covariance_by_loops(z_b)
    logged = method.loss(views)
    for name, expected in (("invariance", invariance), ("variance", var), ("covariance", cov)):
        assert logged[name].item() == pytest.approx(expected.item(), rel=1e-4)
    assert logged["loss"].item() == pytest.approx((3 * invariance + 2 * var + 0.5 * cov).item(), rel=1e-4)


def test_vicreg_is_that_of_lightly():
    """Which follows the authors' code, where the variance is halved."""
    theirs = lightly_loss.VICRegLoss(lambda_param=25.0, mu_param=50.0, nu_param=1.0)
    method = new(VICReg, **SMALL)
    views = make_views(batch=32)
    weight = method.backbone.layers[0].weight
    ours, expected = method.loss(views)["loss"], theirs(*projected(method, views))
    assert torch.allclose(ours, expected, rtol=1e-4)
    (mine,), (other,) = (torch.autograd.grad(loss, weight) for loss in (ours, expected))
    assert torch.allclose(mine, other, rtol=1e-3, atol=1e-5)


# --- both ---


@pytest.mark.parametrize("method", [BarlowTwins, VICReg])
def test_there_is_no_loss_per_image(method):
    with pytest.raises(NotImplementedError, match=method.__name__):
        new(method, **SMALL).sample_loss(make_views())


@pytest.mark.parametrize("method", [BarlowTwins, VICReg])
def test_projector_of_depth_1_is_linear(method):
    (layer,) = new(method, depth=1, projection_dim=7).projector
    assert layer.weight.shape == (7, 32)


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        (BarlowTwins, {"redundancy_weight": -1.0}, "redundancy_weight = -1.0 is not >= 0"),
        (BarlowTwins, {"depth": 0}, "depth = 0 is not >= 1"),
        (BarlowTwins, {"hidden_dim": 0}, "hidden_dim = 0 is not >= 1"),
        (VICReg, {"invariance_weight": -1.0}, "invariance_weight = -1.0 is not >= 0"),
        (VICReg, {"variance_weight": float("nan")}, "variance_weight = nan is not >= 0"),
        (VICReg, {"covariance_weight": -1.0}, "covariance_weight = -1.0 is not >= 0"),
        (VICReg, {"projection_dim": 0}, "projection_dim = 0 is not >= 1"),
    ],
)
def test_impossible_values_are_refused(method, setting, message):
    with pytest.raises(ValueError, match=message):
        new(method, **setting)

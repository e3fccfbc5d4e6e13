"""LeJEPA against another library, and its statistic against the integral that it approximates."""

import numpy as np
import pytest
import torch
from lightly.loss.lejepa_loss import LeJEPALoss, SIGReg
from scipy.integrate import quad
from ssl_training import assert_same_function, make_views, new, vectors

from baselines.ssl_methods.lejepa import LeJEPA, epps_pulley, sigreg

SMALL = {"num_directions": 40, "hidden_dim": 12, "projection_dim": 5}


def statistic_by_integration(samples):
    def difference(t):
        return abs(np.exp(1j * t * samples).mean() - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)

    return len(samples) * quad(difference, -3, 3)[0]


def test_statistic_is_the_weighted_distance_of_characteristic_functions():
    samples = vectors(20, 3) * torch.tensor([1.0, 0.2, 3.0]) + torch.tensor([0.0, 1.0, -0.5])
    expected = [statistic_by_integration(column) for column in samples.T.numpy()]
    np.testing.assert_allclose(epps_pulley(samples), expected, rtol=0.02)  # 17 knots


def test_statistic_is_small_for_a_normal_law_alone():
    normal = vectors(4000, 1)
    others = [0.5 * normal, normal + 0.5, normal.sign(), 3.46 * (torch.rand(4000, 1, dtype=torch.float64) - 0.5)]
    own, *rest = (float(epps_pulley(samples)) for samples in (normal, *others))
    assert own < 1
    assert min(rest) > 5


def test_sigreg_is_that_of_lightly():
    def seeded(function):
        def run(z):
            torch.manual_seed(3)
            return function(z.float())

        return run

    assert_same_function(seeded(lambda z: sigreg(z, 50)), seeded(SIGReg(num_vectors=50)), vectors(2, 30, 6), atol=1e-4)


@pytest.mark.parametrize("num_local_views", [0, 2])
def test_loss_is_that_of_lightly(num_local_views):
    method = new(LeJEPA, weight=0.1, num_local_views=num_local_views, **SMALL)
    views = make_views(method.num_views, batch=16)
    z = method.projector(method.backbone(torch.cat(views))).view(len(views), 16, 5)
    torch.manual_seed(7)
    ours = method.loss(views)
    torch.manual_seed(7)
    gaussian = SIGReg(num_vectors=40)(z)
    invariance = sum(((view - (z[0] + z[1]) / 2) ** 2).mean() for view in z) / len(views)
    assert torch.allclose(ours["sigreg"], gaussian, rtol=1e-4)
    assert torch.allclose(ours["invariance"], invariance, rtol=1e-4)
    assert torch.allclose(ours["loss"], 0.1 * gaussian + 0.9 * invariance, rtol=1e-4)
    if num_local_views:
        torch.manual_seed(7)
        theirs = LeJEPALoss(0.1, sigreg_num_vectors=40)(local_proj=z[2:], global_proj=z[:2])
        assert torch.allclose(ours["loss"], theirs, rtol=1e-4)


def test_training_makes_collapsed_embeddings_gaussian():
    """Without SIGReg the views agree best where all embeddings are equal."""
    torch.manual_seed(0)
    spread = {}
    for weight in (0.0, 0.5):
        z = (0.1 * torch.randn(1, 128, 4)).requires_grad_()
        optimizer = torch.optim.Adam([z], lr=0.05)
        for _ in range(120):
            optimizer.zero_grad()
            (weight * sigreg(z, 32) + (1 - weight) * z.square().mean() * 1e-3).backward()
            optimizer.step()
        spread[weight] = z.detach()[0].T.cov().diagonal().sqrt()
    assert float(spread[0.0].max()) < 0.1
    assert torch.allclose(spread[0.5], torch.ones(4), atol=0.25)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"weight": 1.5}, r"weight = 1.5 is not in \[0, 1\]"),
        ({"num_directions": 0}, "num_directions = 0 is not >= 1"),
        ({"depth": 0}, "depth = 0 is not >= 1"),
        ({"num_local_views": -1}, "num_local_views = -1 is not >= 0"),
    ],
)
def test_impossible_values_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        new(LeJEPA, **setting)

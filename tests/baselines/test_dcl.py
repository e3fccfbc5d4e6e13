"""The decoupled loss against loops over its equation and another library."""

import pytest
import torch
from lightly import loss as lightly_loss
from ssl_training import assert_same_function, make_views, new, vectors

from baselines.ssl_methods.dcl import DCL, decoupled_contrast
from baselines.ssl_methods.simclr import nt_xent

HEAD = {"hidden_dim": 12, "projection_dim": 5}


def by_loops(z_a, z_b, temperature, sigma):
    """Eq. (6), term by term, averaged over both views of each image."""
    views = [z_a / z_a.norm(dim=1, keepdim=True), z_b / z_b.norm(dim=1, keepdim=True)]
    batch, losses = len(z_a), []
    alike = [torch.dot(views[0][i], views[1][i]) for i in range(batch)]
    for i in range(batch):
        weight = 1.0
        if sigma is not None:
            mean = sum(torch.exp(cosine.detach() / sigma) for cosine in alike) / batch
            weight = 2 - torch.exp(alike[i].detach() / sigma) / mean
        for k in range(2):
            others = [torch.dot(views[k][i], views[v][j]) for v in range(2) for j in range(batch) if j != i]
            negative = torch.log(sum(torch.exp(cosine / temperature) for cosine in others))
            losses.append(-weight * alike[i] / temperature + negative)
    return torch.stack(losses).view(batch, 2).mean(1)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("sigma", [None, 0.5])
def test_loss_is_eq_6(temperature, sigma):
    assert_same_function(
        lambda a, b: decoupled_contrast(a, b, temperature, sigma),
        lambda a, b: by_loops(a, b, temperature, sigma),
        vectors(6, 4),
        vectors(6, 4, seed=1),
    )


@pytest.mark.parametrize("sigma", [None, 0.3])
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
def test_loss_is_that_of_lightly(sigma):
    theirs = lightly_loss.DCLLoss(0.2) if sigma is None else lightly_loss.DCLWLoss(0.2, sigma)
    assert_same_function(
        lambda a, b: decoupled_contrast(a, b, 0.2, sigma).mean(),
        lambda a, b: theirs(a.float(), b.float()),
        vectors(33, 8),
        vectors(33, 8, seed=1),
    )


def test_an_easy_pair_keeps_its_gradient():
    """What the paper is about: in NT-Xent a pair that is alike already damps the repulsion of its image."""
    z_a = vectors(2, 8).float().requires_grad_()
    z_b = z_a.detach() + 0.01 * vectors(2, 8, seed=1).float()  # two images are the smallest batch
    coupled, decoupled = (
        torch.autograd.grad(loss(z_a, z_b, 0.1).sum(), z_a)[0].norm() for loss in (nt_xent, decoupled_contrast)
    )
    assert decoupled > 10 * coupled


def test_under_autocast_keeps_single_precision():
    z = vectors(9, 16).float(), vectors(9, 16, seed=1).float()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = decoupled_contrast(*z, 0.05, 0.5)
    assert torch.equal(mixed, decoupled_contrast(*z, 0.05, 0.5))


def test_the_method_contrasts_its_projections():
    method, views = new(DCL, temperature=0.3, sigma=0.5, **HEAD), make_views()
    z = method.projector(method.backbone(torch.cat(views))).double().chunk(2)
    expected = by_loops(*z, 0.3, 0.5)
    assert torch.allclose(method.sample_loss(views).double(), expected, rtol=1e-4)
    assert torch.allclose(method.loss(views)["loss"].double(), expected.mean(), rtol=1e-4)


@pytest.mark.parametrize("setting", ["temperature", "sigma"])
def test_impossible_values_are_refused(setting):
    with pytest.raises(ValueError, match=f"{setting} = 0.0 is not > 0"):
        new(DCL, **{setting: 0.0})

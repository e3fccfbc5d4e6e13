"""NNCLR against loops over its pseudo-code; its queue step by step; neighbours against another library."""

import pytest
import torch
from lightly.models.modules import NNMemoryBankModule
from ssl_training import assert_same_function, make_views, new, train, vectors
from torch.nn.functional import normalize

from baselines.ssl_methods.nnclr import NNCLR, nearest_keys, neighbor_contrast

SMALL = {"queue_size": 24, "hidden_dim": 12, "projection_dim": 5, "predictor_dim": 9}


def contrast_by_loops(neighbors, predictions, temperature):
    losses = []
    for i, neighbor in enumerate(neighbors):
        scores = [torch.exp(torch.dot(neighbor, prediction) / temperature) for prediction in predictions]
        losses.append(-torch.log(scores[i] / sum(scores)))
    return torch.stack(losses)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_contrast_is_that_of_the_pseudo_code(temperature):
    assert_same_function(
        lambda n, p: neighbor_contrast(n, p, temperature),
        lambda n, p: contrast_by_loops(n, p, temperature),
        vectors(6, 4, unit=True),
        vectors(6, 4, seed=1, unit=True),
    )


def expected_loss(method, views):
    projections = [method.projector(method.backbone(view)) for view in views]
    predictions = [normalize(method.predictor(z), dim=1).double() for z in projections]
    near = []
    for z in projections:
        best = [max(method.queue.keys, key=lambda key, row=row: float(row @ key)) for row in z.detach()]
        near.append(torch.stack(best).double())
    return (contrast_by_loops(near[0], predictions[1], 0.1) + contrast_by_loops(near[1], predictions[0], 0.1)) / 2


def test_the_method_is_the_pseudo_code():
    method, views = new(NNCLR, **SMALL), make_views()
    train(method, 3)  # so that the queue holds more than its start
    expected = expected_loss(method, views)
    assert torch.allclose(method.sample_loss(views).double(), expected, rtol=1e-4)
    assert torch.allclose(method.loss(views)["loss"].double(), expected.mean(), rtol=1e-4)


def test_neighbours_are_those_of_lightly():
    keys, z = vectors(24, 5, seed=1, unit=True).float(), vectors(7, 5, unit=True).float()
    theirs = NNMemoryBankModule(size=(24, 5))
    theirs(z)  # makes its bank
    theirs.bank = keys.clone()
    assert torch.equal(nearest_keys(z, keys), theirs(z))


def test_first_views_enter_the_queue_after_the_step():
    method, views = new(NNCLR, **SMALL), make_views()
    before = method.queue.keys.clone()
    method.loss(views)
    assert torch.equal(method.queue.keys, before)
    method.eval()
    method.loss(views)
    expected = normalize(method.projector(method.backbone(views[0])), dim=1)
    method.after_step(0.5)
    assert torch.allclose(method.queue.keys[:6], expected, atol=1e-6)
    assert torch.equal(method.queue.keys[6:], before[6:])


def test_no_gradient_passes_through_neighbours():
    """The projector of a view is trained through its prediction alone: with a constant predictor not at all."""
    method = new(NNCLR, **SMALL)
    torch.nn.init.zeros_(method.predictor[-1].weight)
    method.loss(make_views())["loss"].backward()
    assert not any(parameter.grad.any() for parameter in method.projector.parameters())


@pytest.mark.parametrize("setting", ["queue_size", "hidden_dim", "projection_dim", "depth", "predictor_dim"])
def test_impossible_values_are_refused(setting):
    with pytest.raises(ValueError, match=f"{setting} = 0 is not >= 1"):
        new(NNCLR, **{setting: 0})

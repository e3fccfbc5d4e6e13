"""Passes with dropout: what they draw, and that nothing is computed twice."""

from __future__ import annotations

import pytest
import torch
from test_heads import runtime
from torch import nn

from baselines.backbones.dcnn3 import DCNN3
from baselines.backbones.resnet18 import ResNet18
from baselines.backbones.vgg16 import VGG16
from baselines.backbones.vit import ViT
from harness.api import Backbone, Images
from harness.config.trial import ClassifierConfig
from harness.seeding import seeded
from harness.trial.dropout import dropped
from harness.trial.heads import FinetunedModel, Predictor
from harness.trial.models import Encoder, HeadModel, PoolOutputs, TunedModel

IMAGES = Images(torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))
SMALL = {
    "dcnn3": lambda rate: DCNN3((3, 16, 16), width=2, dropout=rate),
    "resnet18": lambda rate: ResNet18((3, 16, 16), dropout=rate),
    "vgg16": lambda rate: VGG16((3, 16, 16), dropout=rate),
    "vit": lambda rate: ViT((3, 16, 16), patch=4, dim=16, depth=2, heads=2, dropout=rate),
}


class Twice(Backbone):
    """Dropout in the middle as well, or the last layer used again before it is the last."""

    feature_dim = 8

    def __init__(self, *, shared: bool):
        super().__init__()
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8))
        self.drop = nn.Dropout(0.5)
        self.early = self.drop if shared else nn.Dropout(0.5)
        self.second = nn.Linear(8, 8)

    def forward(self, images):
        return self.drop(self.second(self.early(self.first(images))))


class NotLast(Twice):
    def __init__(self):
        super().__init__(shared=False)
        self.drop = nn.Identity()


def tuned(backbone):
    torch.manual_seed(1)
    return TunedModel(FinetunedModel(backbone, 4).eval(), runtime(), {"pool": IMAGES})


def fixed(backbone):
    torch.manual_seed(1)
    head = nn.Linear(backbone.feature_dim, 4)
    encoder = Encoder(backbone.eval(), "", runtime(), {"pool": IMAGES}, ClassifierConfig(), 0)
    return HeadModel(encoder, Predictor(lambda x: x, lambda x: head(x).detach()))


def outputs_of(model):
    encoder = Encoder(model.backbone, "", runtime(), {"pool": IMAGES}, ClassifierConfig(), 0, pretrained=False)
    return PoolOutputs(encoder, model, None, None, seed=0)


def seen_by(backbone, monkeypatch):
    """How many images each pass of the backbone sees, from here on."""
    seen = []
    forward = type(backbone).forward
    monkeypatch.setattr(type(backbone), "forward", lambda self, x: seen.append(len(x)) or forward(self, x))
    return seen


def passes_of_the_whole_network(model, number):
    """Written out: every sample a pass of everything."""
    for layer in model.backbone.dropouts():
        layer.train()
    with seeded(0, "pool/stochastic"), torch.no_grad():
        images = IMAGES[torch.arange(len(IMAGES))].float() / 255
        samples = torch.stack([model.logits_of(images) for _ in range(number)])
    model.network.eval()
    return samples


@torch.no_grad()
@pytest.mark.parametrize("make_model", [tuned, fixed])
@pytest.mark.parametrize("name", ["dcnn3", "resnet18", "vgg16"])
def test_where_dropout_is_last_one_pass_serves_all_samples(name, make_model, monkeypatch):
    model = make_model(SMALL[name](0.3))
    outputs = outputs_of(model)
    features = outputs.features()
    seen = seen_by(model.backbone, monkeypatch)
    samples = outputs.stochastic_logits(3000)
    assert seen == ([1, 12] if make_model is tuned else [1])
    assert not any(module.training for module in model.network.modules())
    # logits = W (mask * x / 0.7) + b, mask Bernoulli of 0.7: their mean and variance in closed form
    contributions = [model.logits_from(torch.diag(x)) - model.logits_from(torch.zeros(1, len(x))) for x in features]
    variance = 0.3 / 0.7 * torch.stack([each.square().sum(0) for each in contributions])
    expected = model.logits_from(features)
    assert ((samples.mean(0) - expected).abs() < 6 * (variance / 3000).sqrt() + 1e-5).all()
    assert samples.var(0) == pytest.approx(variance, rel=0.25, abs=1e-8)


@pytest.mark.parametrize("make_model", [tuned, fixed])
def test_samples_differ_and_come_from_the_seed(make_model):
    model = make_model(SMALL["dcnn3"](0.3))
    samples = outputs_of(model).stochastic_logits(3)
    assert torch.equal(samples, outputs_of(model).stochastic_logits(3))
    assert not torch.equal(samples[0], samples[1])


@pytest.mark.parametrize("rate", [1e-6, 0.1, 0.25, 0.75, 1 - 1e-6])
@pytest.mark.parametrize("shape", [(601, 77), (3,), (0, 5)])
def test_each_feature_is_dropped_by_itself(rate, shape):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0)) + 1
    rng = torch.Generator().manual_seed(1)
    given = dropped(values, rate, rng)
    expected = min(max(rate, 1 / 65536), 1 - 1 / 65536)
    is_dropped = given == 0
    torch.testing.assert_close(given[~is_dropped], values[~is_dropped] / (1 - expected), rtol=2e-4, atol=0)
    if values.numel() < 1000:
        return
    assert not torch.equal(dropped(values, rate, rng), given) or rate in (1e-6, 1 - 1e-6)
    bound = 5 * (expected * (1 - expected)) ** 0.5
    lanes = is_dropped.flatten().double()
    for lane in (lanes, *(lanes[place::4] for place in range(4))):  # four features share a draw of 64 bits
        assert abs(float(lane.mean()) - expected) < bound / len(lane) ** 0.5 + 2e-5
    neighbours = (lanes[1:] - expected) * (lanes[:-1] - expected)
    assert abs(float(neighbours.mean())) < 5 * expected * (1 - expected) / len(lanes) ** 0.5 + 1e-6


@pytest.mark.parametrize("make_model", [tuned, fixed])
@pytest.mark.parametrize(
    "make_backbone",
    [lambda: SMALL["vit"](0.2), NotLast, lambda: Twice(shared=False), lambda: Twice(shared=True)],
    ids=["vit", "not last", "two layers", "one layer twice"],
)
def test_where_anything_comes_after_a_dropout_every_sample_is_a_pass(make_backbone, make_model, monkeypatch):
    model = make_model(make_backbone())
    expected = passes_of_the_whole_network(model, 5)
    seen = seen_by(model.backbone, monkeypatch)
    assert torch.allclose(outputs_of(model).stochastic_logits(5), expected, atol=1e-5)
    assert [count for count in seen if count > 1] == [12] * 5


def test_a_network_without_dropout_is_refused():
    with pytest.raises(ValueError, match="this backbone has none"):
        outputs_of(tuned(SMALL["dcnn3"](0.0))).stochastic_logits(2)

"""What a selector is shown: features that stay what they are, and what the last layer of the round's model reads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from trials import Bench, configure

from baselines.backbones.dcnn3 import DCNN3
from baselines.selectors.badge import GradientDistance
from harness.api import Selector
from harness.config.schema import ConfigError
from harness.config.trial import ClassifierConfig
from harness.trial import heads

HEADS = ("linear", "mlp", "logistic", "ridge", "kernel_ridge", "svm", "knn")


def a_head(name, **settings):
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 4
    inputs = torch.randn(40, 6, generator=rng) + 2 * F.one_hot(labels, 6)
    config = ClassifierConfig(name=name, epochs=5, hidden_dim=8, **settings)
    state = heads.fit(config, inputs, labels, 4, seed=0)
    return heads.predictor(config, state, inputs, labels, 4), 3 + 5 * torch.randn(30, 6, generator=rng)


@pytest.mark.parametrize("name", HEADS)
def test_the_last_layer_makes_the_logits_of_what_it_reads(name):
    predict, x = a_head(name)
    hidden = predict.penultimate(x)
    assert torch.equal(predict.last(hidden), predict(x))
    assert hidden.shape == (30, 8 if name == "mlp" else 6)
    if name == "mlp":
        assert (hidden >= 0).all()


LINEAR = [name for name in HEADS if "linear_layer" in ClassifierConfig(name=name).traits]


@pytest.mark.parametrize("name", HEADS)
def test_a_last_layer_is_linear_where_a_head_says_so(name):
    predict, x = a_head(name)
    a, b = predict.penultimate(x).split(15)
    mean = (predict.last(a) + predict.last(b)) / 2
    assert torch.allclose(predict.last((a + b) / 2), mean, atol=1e-3) == (name in LINEAR)


@pytest.mark.parametrize("head", sorted(set(HEADS) - set(LINEAR)))
@pytest.mark.parametrize("selector", ["badge", "bait", "alfa_mix", "refine", "skactiveml/Badge"])
def test_a_selector_that_derives_by_the_last_layers_weights_asks_for_a_linear_one(head, selector):
    with pytest.raises(ConfigError, match=f"needs a linear last layer, which {head} does not give"):
        configure(selector=selector, classifier=head)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("standardize", [True, False])
def test_badges_embedding_is_the_gradient_of_the_heads_last_layer(name, standardize):
    predict, x = a_head(name, standardize=standardize)
    inputs = predict.penultimate(x)
    zero, logits = predict.last(torch.zeros(1, inputs.shape[1])), predict.last(inputs)
    weight = (predict.last(torch.eye(inputs.shape[1])) - zero).T.requires_grad_()  # of the last layer, read off it
    gradients = []
    for one in inputs:
        scores = weight @ one + zero[0]
        loss = F.cross_entropy(scores[None], scores.argmax()[None])
        gradients.append(torch.autograd.grad(loss, weight)[0].flatten())
    expected = torch.cdist(torch.stack(gradients).double(), torch.stack(gradients).double()).square()
    every = torch.arange(len(x))
    got = GradientDistance(logits, inputs).block(every, every)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


class Bright(DCNN3):
    """Of images that are mostly bright it makes no numbers."""

    def forward(self, images):
        is_dark = images.mean((1, 2, 3)) < 0
        return super().forward(images) / is_dark[:, None]


@pytest.mark.parametrize("head", ["logistic", "ridge", "kernel_ridge", "knn"])
def test_features_that_are_no_numbers_end_the_trial_in_one_line_whatever_reads_them(fresh, head):
    config = configure(backbone=f"{__name__}:Bright", ssl_method="none", classifier=head)
    with pytest.raises(ValueError, match=r"Bright makes NaN or infinite features of \d+ of 194 pool images"):
        fresh().run(config)


class Watching(Selector):
    """Notes what it was shown."""

    seen: list = []  # noqa: RUF012

    def select(self, pool, budget, *, rng):
        """The first of them."""
        self.seen.append((pool.features, pool.penultimate, pool.logits, pool.last_layer(pool.penultimate)))
        return pool.unlabeled[:budget]


@pytest.mark.parametrize(
    ("settings", "fixed"),
    [
        ({"classifier": {"name": "finetune", "epochs": 2}}, True),
        ({"classifier": {"name": "finetune", "epochs": 2}, "ssl_method": "none"}, False),
        ({"mode": "joint", "classifier": {"name": "finetune", "epochs": 2}}, False),
        ({"classifier": "linear"}, True),
    ],
)
def test_features_are_the_pretrained_encoders_in_every_round(cache, tmp_path, monkeypatch, settings, fixed):
    monkeypatch.setattr(Watching, "seen", [])
    Bench(cache, tmp_path / "stages").run(configure(**settings, selector=f"{__name__}:Watching"))
    first, second = Watching.seen
    assert torch.equal(first[0], second[0]) == fixed
    for features, penultimate, logits, again in Watching.seen:
        torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-4)
        if settings["classifier"] == "linear":
            assert torch.equal(penultimate, features)  # as they are, though the head standardises its inputs
        else:
            assert torch.equal(penultimate, features) != fixed


@pytest.mark.parametrize("head", ["linear", "logistic", "ridge", "kernel_ridge", "svm", "knn"])
def test_distances_are_those_of_the_encoder_whatever_a_head_makes_of_a_dimension(head):
    """Of few labelled images a dimension that hardly varies would be blown up by their deviation."""
    rng = torch.Generator().manual_seed(0)
    inputs = torch.rand(8, 5, generator=rng) * torch.tensor([1, 1, 1, 1, 1e-3])
    labels, others = torch.arange(8) % 4, torch.rand(60, 5, generator=rng)
    config = ClassifierConfig(name=head, epochs=5)
    predict = heads.predictor(config, heads.fit(config, inputs, labels, 4, seed=0), inputs, labels, 4)
    assert torch.equal(
        torch.cdist(predict.penultimate(others), predict.penultimate(inputs)), torch.cdist(others, inputs)
    )

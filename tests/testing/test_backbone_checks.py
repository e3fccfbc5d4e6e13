"""Every check of a backbone is tried on backbones that break one promise."""

import random

import numpy as np
import pytest
import torch
from good_plugins import GoodBackbone, assert_found, broken, checks_of
from torch import nn

from harness.testing.backbones import check_backbone


@pytest.mark.parametrize(
    "plugin", [GoodBackbone, lambda image_shape: TwoStages(image_shape), lambda image_shape: DropsOut(image_shape)]
)
def test_a_plugin_that_keeps_every_promise_passes(plugin):
    check_backbone(plugin)


class Unused(GoodBackbone):
    """Has a layer too many."""

    def __init__(self, image_shape):
        super().__init__(image_shape)
        self.classifier = nn.Linear(6, 10)


class FromNumpy(GoodBackbone):
    """Draws its weights from another generator."""

    def __init__(self, image_shape):
        super().__init__(image_shape)
        self.conv.weight.data *= float(np.random.rand())  # noqa: NPY002


class BatchStatistics(GoodBackbone):
    """Normalises by the batch even in evaluation mode."""

    def __init__(self, image_shape):
        super().__init__(image_shape)
        self.norm = nn.BatchNorm2d(6, track_running_stats=False)


class HiddenState(GoodBackbone):
    """Keeps a running mean that a checkpoint does not hold."""

    mean = 0.0

    def forward(self, images):
        if self.training:
            self.mean = images.mean().item()
        return super().forward(images) - self.mean


def _forward(change):
    return broken(GoodBackbone, forward=lambda self, images: change(GoodBackbone.forward(self, images)))


def _forward_in_place(self, images):
    return GoodBackbone.forward(self, images.clamp_(0))


class OnlyRGB(GoodBackbone):
    """Ignores the number of channels."""

    def __init__(self, image_shape):
        super().__init__((3, 32, 32))


class TwoStages(GoodBackbone):
    """Has two stages."""

    def stages(self):
        return [self.conv, self.norm]


class RegistersLate(TwoStages):
    """Calls a layer first that is registered last."""

    def __init__(self, image_shape):
        super().__init__(image_shape)
        self.stem = nn.Conv2d(image_shape[0], image_shape[0], 1)

    def forward(self, images):
        return super().forward(self.stem(images))


class TrainsAnyway(TwoStages):
    """Sets the mode of its layers itself."""

    def train(self, mode=True):
        super().train(mode)
        self.norm.train(mode)
        return self


class DropsOut(GoodBackbone):
    """Leaves out features at random in training."""

    def forward(self, images):
        return nn.functional.dropout(super().forward(images), 0.5, self.training)


class OwnGenerator(GoodBackbone):
    """Leaves out features at random in training, by a generator that a checkpoint does not hold."""

    def __init__(self, image_shape):
        super().__init__(image_shape)
        self.rng = np.random.default_rng(0)

    def forward(self, images):
        return super().forward(images) * (self.rng.random() if self.training else 0.5)


def _scaled_at_random(draw):
    def forward(self, images):
        return GoodBackbone.forward(self, images) * (1 + draw() if self.training else 1)

    return broken(GoodBackbone, forward=forward)


def _fit_from_numpy(self, images, shown):
    nn.init.constant_(self.conv.weight, float(np.random.rand()))  # noqa: NPY002


def _fit_to_nothing(self, images, shown):
    nn.init.constant_(self.conv.weight, float("nan"))


BROKEN = [
    ("stages_are_in_order", broken(GoodBackbone, stages=lambda self: (self,)), "not a list of modules"),
    ("stages_are_in_order", broken(GoodBackbone, stages=lambda self: []), "[], not a list of modules"),
    ("stages_are_in_order", broken(GoodBackbone, stages=lambda self: [nn.ReLU()]), "stage 1 is not a module of"),
    (
        "stages_are_in_order",
        broken(GoodBackbone, stages=lambda self: [self.norm, self.conv]),
        "calls the stages in the order [2, 1]",
    ),
    ("stages_are_in_order", broken(GoodBackbone, stages=lambda self: [self.conv, self.conv]), "listed twice"),
    ("frozen_stages_stay_as_they_are", RegistersLate, "freeze = 1: a gradient reaches what is frozen"),
    ("frozen_stages_stay_as_they_are", TrainsAnyway, "freeze = 2: what is frozen is not in evaluation mode"),
    ("features_have_the_promised_shape", _forward(lambda features: features[:, :5]), "feature_dim promises (4, 6)"),
    ("runs_in_half_precision", _forward(lambda features: features + torch.pdist(features).sum()), "for 'BFloat16'"),
    ("features_have_the_promised_shape", _forward(lambda features: features.double()), "torch.float64"),
    ("features_have_the_promised_shape", _forward(lambda features: (features - 9).log()), "not finite"),
    ("features_have_the_promised_shape", broken(GoodBackbone, forward=_forward_in_place), "modified its input"),
    ("features_have_the_promised_shape", OnlyRGB, "image_shape (1, 32, 32): raised RuntimeError"),
    ("gradients_reach_every_parameter", Unused, "no gradient reaches classifier.weight"),
    ("gradients_reach_every_parameter", _forward(lambda features: features * 0), "no gradient reaches conv.weight"),
    ("same_seed_same_weights", FromNumpy, "conv.weight differs"),
    ("training_draws_from_torch_alone", _scaled_at_random(random.random), "the global generator of random"),
    (
        "training_draws_from_torch_alone",
        _scaled_at_random(np.random.rand),
        "the global generator of numpy",
    ),
    ("training_draws_from_torch_alone", _scaled_at_random(lambda: random.random() < 1e-6), "generator of random"),
    ("training_draws_from_torch_alone", _scaled_at_random(np.random.default_rng().random), "depends on a generator"),
    ("features_do_not_depend_on_the_batch", BatchStatistics, "depend on the batch"),
    ("state_dict_restores_the_backbone", HiddenState, "not in state_dict"),
    ("state_dict_restores_the_backbone", OwnGenerator, "not in state_dict"),
    ("fit_needs_images_alone", broken(GoodBackbone, fit=lambda self, images, shown: None), "leaves the weights as"),
    ("fit_needs_images_alone", broken(GoodBackbone, fit=_fit_from_numpy), "its weights differ"),
    ("fit_needs_images_alone", broken(GoodBackbone, fit=_fit_to_nothing), "its features are not finite"),
]


@pytest.mark.parametrize(("name", "plugin", "words"), BROKEN)
def test_a_broken_promise_is_found(name, plugin, words):
    assert_found("backbones", name, plugin, words)


def test_every_check_is_tried_on_a_broken_plugin():
    assert {name for name, *_ in BROKEN} >= set(checks_of("backbones"))

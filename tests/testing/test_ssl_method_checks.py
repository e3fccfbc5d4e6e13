"""Every check of an SSL method is tried on methods that break one promise."""

import numpy as np
import pytest
import torch
from good_plugins import GoodMethod, GoodQueue, assert_found, broken, checks_of
from torch import nn

from harness.testing.ssl_methods import check_ssl_method


@pytest.mark.parametrize("plugin", [GoodMethod, lambda backbone: GoodMethod(backbone, dim=3)])
def test_a_plugin_that_keeps_every_promise_passes(plugin):
    check_ssl_method(plugin)


class WrongEncoder(GoodMethod):
    """Puts its head where the encoder belongs."""

    def __init__(self, backbone, *, dim: int = 8):
        super().__init__(backbone, dim=dim)
        self.encoder, self.backbone = backbone, nn.Linear(3, 3)


class OtherEncoder(GoodMethod):
    """Trains a copy, and keeps the initial encoder."""

    def __init__(self, backbone, *, dim: int = 8):
        super().__init__(backbone, dim=dim)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, backbone.feature_dim))

    def sample_loss(self, views):
        a, b = (self.head(self.encoder(view)) for view in views)
        return (a - b).square().mean(1)


def _loss(change):
    """A method whose loss is changed."""
    return broken(GoodMethod, loss=lambda self, views: change(GoodMethod.sample_loss(self, views)))


def _modifies_views(self, views):
    views[0].mul_(2)
    return GoodMethod.loss(self, views)


def _one_view(self, views):
    return GoodMethod.loss(self, [views[0], views[0].flip(3)])


def _views_together(self, views):
    a, b = self.head(self.backbone(torch.cat(views))).chunk(2)
    return (a - b).square().mean(1)


def _in_the_precision_it_gets(self, views):
    """Uniformity of the projections, which autocast hands on in bfloat16; torch.pdist does not take that."""
    a, b = (self.head(self.backbone(view)) for view in views)
    return {"loss": (a - b).square().mean() + torch.pdist(a).square().mul(-2).exp().mean().log()}


def _overflows(self, views):
    a, b = (self.head(self.backbone(view)) for view in views)
    return {"loss": (a - b).square().mean() + (a.dtype == torch.bfloat16) * a.new_tensor(torch.inf)}


class HalfQueue(GoodQueue):
    """Keeps projections in a buffer as they come."""

    def loss(self, views):
        losses = super().loss(views)
        self.latest = self.head(self.backbone(views[0])).detach()
        return losses


def _noisy(self, views):
    return {"loss": GoodMethod.loss(self, views)["loss"] * (1 + np.random.rand())}  # noqa: NPY002


def _loss_with_step(self, views):
    self.step = getattr(self, "step", 0) + 1
    return {"loss": GoodMethod.loss(self, views)["loss"] * self.step}


class ForgetfulQueue(GoodQueue):
    """Leaves the queue's pointer out of the checkpoint."""

    def __init__(self, backbone, *, dim: int = 8):
        super().__init__(backbone, dim=dim)
        del self.filled
        self.filled = torch.zeros((), dtype=torch.int64)


class CountsItsLosses(GoodMethod):
    """Keeps in its state how often it was asked for a loss."""

    def __init__(self, backbone, *, dim: int = 8):
        super().__init__(backbone, dim=dim)
        self.register_buffer("calls", torch.zeros(()))

    def sample_loss(self, views):
        self.calls += 1
        return super().sample_loss(views)


def _training_mode(self, views):
    self.train()
    return GoodMethod.sample_loss(self, views)


def _one_module_in_training_mode(self, views):
    self.backbone.layers[1].train()
    return GoodMethod.sample_loss(self, views)


def _doubled_in_place(self, views):
    a, b = (self.head(self.backbone(view.clone())) for view in views)
    if not self.training:
        views[1].mul_(2)
    return (a - b).square().mean(1)


BROKEN = [
    ("method_keeps_its_encoder", broken(GoodMethod, num_views="2"), "num_views is '2'"),
    ("method_keeps_its_encoder", WrongEncoder, "self.backbone is not the encoder"),
    ("loss_trains_the_encoder", broken(GoodMethod, loss=GoodMethod.sample_loss), "does not return a dict"),
    ("loss_trains_the_encoder", _loss(lambda losses: {"loss": losses}), "'loss' is not a scalar"),
    ("loss_trains_the_encoder", _loss(lambda losses: {"loss": losses.mean(), "a": losses}), "'a' is not a scalar"),
    ("loss_trains_the_encoder", _loss(lambda losses: {"loss": losses.mean() / 0}), "'loss' is inf"),
    ("loss_trains_the_encoder", OtherEncoder, "no gradient of the loss reaches backbone.layers.0.weight"),
    ("loss_trains_the_encoder", broken(GoodMethod, loss=_modifies_views), "modified the views"),
    ("every_view_counts", broken(GoodMethod, loss=_one_view), "does not depend on view 1"),
    ("every_view_counts", broken(GoodMethod, num_views=3, sample_loss=lambda self, views: views[3]), "IndexError"),
    ("views_may_differ_in_size", broken(GoodMethod, sample_loss=_views_together), "Sizes of tensors must match"),
    ("trains_in_half_precision", broken(GoodMethod, loss=_in_the_precision_it_gets), "not implemented for 'BFloat16'"),
    ("trains_in_half_precision", broken(GoodMethod, loss=_overflows), "'loss' is"),
    ("trains_in_half_precision", HalfQueue, "source and destination dtypes match"),
    (
        "order_of_images_is_irrelevant",
        _loss(lambda losses: {"loss": (losses * torch.arange(16)).mean()}),
        "in another order",
    ),
    (
        "sample_loss_splits_the_loss",
        broken(GoodMethod, sample_loss=lambda self, views: GoodMethod.sample_loss(self, views).mean()),
        "not [B]",
    ),
    ("sample_loss_splits_the_loss", _loss(lambda losses: {"loss": losses.sum()}), "sample_loss has mean"),
    ("sample_loss_changes_nothing", CountsItsLosses, "sample_loss changes calls"),
    ("sample_loss_changes_nothing", broken(GoodMethod, sample_loss=_training_mode), "changes the mode of the method"),
    (
        "sample_loss_changes_nothing",
        broken(GoodMethod, sample_loss=_one_module_in_training_mode),
        "sample_loss changes the mode of backbone.layers.1",
    ),
    ("sample_loss_changes_nothing", broken(GoodMethod, sample_loss=_doubled_in_place), "sample_loss changes the views"),
    (
        "training_lowers_the_loss",
        _loss(lambda losses: {"loss": 2 * losses.mean().detach() - losses.mean()}),  # its gradient points uphill
        "after 40 steps",
    ),
    ("same_seed_same_training", broken(GoodMethod, loss=_noisy), "of the same torch seed"),
    ("state_dict_resumes_the_training", broken(GoodMethod, loss=_loss_with_step), "not in state_dict"),
    ("state_dict_resumes_the_training", ForgetfulQueue, "not in state_dict"),
]


@pytest.mark.parametrize(("name", "plugin", "words"), BROKEN)
def test_a_broken_promise_is_found(name, plugin, words):
    assert_found("ssl_methods", name, plugin, words)


def test_every_check_is_tried_on_a_broken_plugin():
    assert {name for name, *_ in BROKEN} >= set(checks_of("ssl_methods"))


def test_a_method_with_a_queue_passes():
    """Its loss is no mean over images and its state is more than weights."""
    check_ssl_method(GoodQueue)

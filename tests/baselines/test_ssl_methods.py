"""What every trained SSL method does beyond the conformance checks: precision, grey images, checkpoints, memory."""

import gc

import pytest
import torch
from ssl_training import Encoder, make_views, new, train

import baselines
from baselines.ssl_methods.mae import MAE
from harness.api import SemiSupervisedMethod, SupervisedMethod, TaughtMethod
from harness.plugins import registry

SMALL = {
    "barlow_twins": {"hidden_dim": 12, "projection_dim": 5},
    "byol": {"hidden_dim": 12, "projection_dim": 5},
    "dcl": {"hidden_dim": 12, "projection_dim": 5},
    "dino": {"num_prototypes": 9, "hidden_dim": 12, "bottleneck_dim": 5},
    "lejepa": {"hidden_dim": 12, "projection_dim": 5},
    "moby": {"queue_size": 20, "hidden_dim": 12, "projection_dim": 5},
    "moco_v2": {"queue_size": 20, "hidden_dim": 12, "projection_dim": 5, "bn_splits": 2},
    "nnclr": {"queue_size": 20, "hidden_dim": 12, "projection_dim": 5},
    "self_classifier": {"num_classes": 4, "hidden_dim": 12, "projection_dim": 5},
    "simclr": {"hidden_dim": 12, "projection_dim": 5},
    "simsiam": {"hidden_dim": 6, "projection_dim": 12},
    "swav": {"num_prototypes": 9, "hidden_dim": 12, "projection_dim": 5, "queue_size": 10},
    "vicreg": {"hidden_dim": 12, "projection_dim": 5},
}
"""Sizes with which a step takes milliseconds."""

TARGETS = {"byol": "target", "dino": "teacher_backbone", "moby": "key_encoder", "moco_v2": "key_encoder"}
"""Where each method keeps its momentum encoder."""


def method_of(name, **options):
    return new(registry.find_plugin("ssl_methods", name), **SMALL[name], **options)


def test_every_trained_method_is_tested_here():
    """But for those that learn from labels or a teacher, or hide patches, which have files of their own."""
    classes = {name: registry.find_plugin("ssl_methods", name) for name in baselines.BUILTINS["ssl_methods"]}
    apart = (SupervisedMethod, SemiSupervisedMethod, TaughtMethod, MAE)
    trained = {name for name, cls in classes.items() if cls.num_views > 0 and not issubclass(cls, apart)}
    assert trained == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_the_loss_under_autocast_is_near_that_of_single_precision(name):
    full, mixed = method_of(name), method_of(name)
    views = make_views(full.num_views)
    torch.manual_seed(0)
    expected = full.loss(views)["loss"]
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        loss = mixed.loss(views)["loss"]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=0.1, abs=0.05)
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in mixed.parameters())
    mixed.after_step(0.5)


@pytest.mark.parametrize("name", SMALL)
def test_grey_images(name):
    method = method_of(name, image_shape=(1, 16, 16))
    assert method.loss(make_views(method.num_views, shape=(1, 16, 16)))["loss"].isfinite()


@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_in_the_middle_changes_nothing(name):
    method, resumed = method_of(name), method_of(name, seed=1)
    train(method, 3)
    resumed.load_state_dict(method.state_dict())
    after, going_on = train(resumed, 3, first_step=3), train(method, 3, first_step=3)
    assert after == going_on
    for key, value in method.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


@pytest.fixture
def few_objects():
    """Hides what exists from the garbage collector, so that counting what is new is fast."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.usefixtures("few_objects")
def test_steps_leave_nothing_behind(name):
    method = method_of(name)

    def num_tensors():
        gc.collect()
        return sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())

    train(method, 2)
    before = num_tensors()
    assert before > 0
    train(method, 5, first_step=2)
    assert num_tensors() <= before


@pytest.mark.parametrize("name", SMALL)
def test_every_trained_weight_receives_a_gradient(name):
    method = method_of(name)
    method.loss(make_views(method.num_views))["loss"].backward()
    assert [key for key, p in method.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("name", TARGETS)
def test_the_momentum_encoder_is_no_part_of_what_is_trained_or_used(name):
    method = method_of(name)
    target = getattr(method, TARGETS[name])
    online = {id(parameter) for parameter in method.backbone.parameters()}
    assert online.isdisjoint(map(id, target.parameters()))
    assert not any(parameter.requires_grad for parameter in target.parameters())
    assert isinstance(method.backbone, Encoder)


@pytest.mark.parametrize("name", TARGETS)
def test_the_momentum_encoder_keeps_its_own_statistics(name):
    """A step in training mode moves them towards the batch; an average of the online ones would lag behind."""
    method = method_of(name)
    train(method, 1, lr=0.0)
    target = getattr(method, TARGETS[name])
    found = next(buffer for key, buffer in target.named_buffers() if key.endswith("running_mean"))
    assert not torch.equal(found, torch.zeros_like(found))

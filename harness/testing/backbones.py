"""The checks of a backbone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.api import Backbone, Images
from harness.seeding import generator, seeded
from harness.testing.common import (
    Check,
    Factory,
    draws_only_from_its_generator,
    global_seed,
    half_precision,
    image_shapes,
    new_backbone,
    run_checks,
    when,
)


def check_backbone(plugin: Factory, *, exempt: Mapping[str, str] | None = None) -> None:
    """Checks a backbone: shapes, gradients, seeds, and that the features of an image do not depend on its batch.

    Args:
        plugin: the class, or a function of `image_shape`.
        exempt: see `check_dataset`.

    Raises:
        AssertionError: a promise is broken; names the plugin and the check.
    """
    run_checks("backbones", plugin, BACKBONE_CHECKS, exempt)


def _normalised(batch: int, image_shape: tuple[int, ...]) -> Tensor:
    """f32 [B, C, H, W], or [B, D], of mean 0 and variance 1."""
    return torch.randn(batch, *image_shape, generator=generator(0, "images"))


def features_have_the_promised_shape(plugin: Factory) -> None:
    """f32 [B, feature_dim], finite, for colour and grey images and more than one size."""
    for image_shape in image_shapes(plugin):
        with when(f"image_shape {image_shape}"):
            backbone, images = new_backbone(plugin, image_shape), _normalised(4, image_shape)
            before = images.clone()
            features = backbone(images)
            expected = (4, backbone.feature_dim)
            assert features.shape == expected, (
                f"features have shape {tuple(features.shape)}, feature_dim promises {expected}"
            )
            assert features.dtype == torch.float32, f"features are {features.dtype}, not torch.float32"
            assert features.isfinite().all(), "features are not finite"
            assert torch.equal(images, before), "it modified its input"


def gradients_reach_every_parameter(plugin: Factory) -> None:
    """No parameter is left out of the features."""
    backbone, images = new_backbone(plugin, image_shapes(plugin)[0]), _normalised(4, image_shapes(plugin)[0])
    backbone(images.requires_grad_()).square().sum().backward()  # so that one without parameters has a gradient
    for name, parameter in backbone.named_parameters():
        reached = parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()
        assert reached or not parameter.requires_grad, f"no gradient reaches {name}"


def runs_in_half_precision(plugin: Factory) -> None:
    """Under bfloat16 autocast, in which trials run where it is fast, features and gradients are finite."""
    backbone = new_backbone(plugin, image_shapes(plugin)[0])
    with half_precision():
        features = backbone(_normalised(4, image_shapes(plugin)[0]).requires_grad_())
    assert features.isfinite().all(), "features are not finite"
    features.float().square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"


def same_seed_same_weights(plugin: Factory) -> None:
    """Initial weights come from torch's global generator alone."""
    states = []
    for other_seed in (1, 2):
        with global_seed(other_seed):
            states.append(new_backbone(plugin, image_shapes(plugin)[0]).state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), f"{name} differs between two models of the same torch seed"


def _features(backbone: Backbone, images: Tensor) -> Tensor:
    """f32 [B, D] under a fixed seed of torch's global generator, without gradients."""
    with seeded(0, "forward"), torch.no_grad():
        return backbone(images)


def training_draws_from_torch_alone(plugin: Factory) -> None:
    """What a forward pass in training draws, as dropout does, comes from torch's global generator alone."""
    backbone, images = new_backbone(plugin, image_shapes(plugin)[0]).train(), _normalised(4, image_shapes(plugin)[0])
    draws_only_from_its_generator(lambda: _features(copy.deepcopy(backbone), images))


def features_do_not_depend_on_the_batch(plugin: Factory) -> None:
    """In evaluation mode an image has the same features alone and in a batch."""
    backbone, images = new_backbone(plugin, image_shapes(plugin)[0]).eval(), _normalised(4, image_shapes(plugin)[0])
    with torch.no_grad():
        together = backbone(images)
        alone = torch.cat([backbone(image[None]) for image in images])
    assert torch.allclose(together, alone, rtol=1e-3, atol=1e-4), "in evaluation mode features depend on the batch"


def state_dict_restores_the_backbone(plugin: Factory) -> None:
    """A model of other weights that loads the state gives the same features, in training too; statistics are in it."""
    images = _normalised(4, image_shapes(plugin)[0])
    trained, restored = (new_backbone(plugin, image_shapes(plugin)[0], seed) for seed in (0, 1))
    with torch.no_grad():
        trained(images * 2 + 1)
    restored.load_state_dict(trained.state_dict())
    for training in (False, True):
        a, b = (_features(backbone.train(training), images) for backbone in (trained, restored))
        assert torch.allclose(a, b), "after load_state_dict the features differ: some state is not in state_dict"


@contextmanager
def _outputs_of(modules: list[nn.Module]) -> Iterator[list[tuple[int, Any]]]:
    """Collects (position in the list, output) of the modules, in the order in which they are called inside."""
    called: list[tuple[int, Any]] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output, position=position: called.append((position, output)))
        for position, module in enumerate(modules)
    ]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def fit_needs_images_alone(plugin: Factory) -> None:
    """`fit`, where it is defined, reads images, draws from torch's global generator and sets the weights."""
    image_shape = image_shapes(plugin)[0]
    if not new_backbone(plugin, image_shape).is_fitted():
        return
    store = torch.randint(256, (40, *image_shape), generator=generator(0, "images"), dtype=torch.uint8)
    states = []
    for seed in (0, 0, 1):
        backbone = new_backbone(plugin, image_shape).eval()
        with seeded(seed, "fit"):
            backbone.fit(Images(store), lambda images: images.float() / 64 - 2)
        assert backbone(_normalised(4, image_shape)).isfinite().all(), "fitted, its features are not finite"
        states.append([value.flatten() for value in backbone.state_dict().values()])
    first, again, other = (torch.cat(state) for state in states)
    assert torch.equal(first, again), "fitted twice under the same torch seed, its weights differ"
    untouched = torch.cat([value.flatten() for value in new_backbone(plugin, image_shape).state_dict().values()])
    assert not torch.equal(other, untouched), "fit() leaves the weights as they were"


def stages_are_in_order(plugin: Factory) -> None:
    """`stages` are distinct modules of the network, called once per batch, one after the other; outputs [B, ...]."""
    backbone = new_backbone(plugin, image_shapes(plugin)[0])
    stages = backbone.stages()
    assert isinstance(stages, list) and stages, f"stages() is {stages!r}, not a list of modules"
    assert len(set(stages)) == len(stages), "a stage is listed twice"
    inside = set(backbone.modules())
    for number, stage in enumerate(stages, start=1):
        assert stage in inside, f"stage {number} is not a module of the backbone"
    with torch.no_grad(), _outputs_of(stages) as called:
        backbone(_normalised(4, image_shapes(plugin)[0]))
    order = [position + 1 for position, _ in called]
    assert order == list(range(1, len(stages) + 1)), f"a forward pass calls the stages in the order {order}"
    for position, output in called:
        assert isinstance(output, Tensor) and len(output) == 4, f"the output of stage {position + 1} is not [B, ...]"


def frozen_stages_stay_as_they_are(plugin: Factory) -> None:
    """With `freeze` nothing trains a stage or what is before it, nor moves its statistics, in a deep copy neither."""
    images = _normalised(4, image_shapes(plugin)[0])
    num_stages = len(new_backbone(plugin, image_shapes(plugin)[0]).stages())
    for freeze in dict.fromkeys((1, num_stages, True)):
        with when(f"freeze = {freeze}"):
            backbone = new_backbone(plugin, image_shapes(plugin)[0])
            backbone.freeze(freeze)
            backbone = copy.deepcopy(backbone).train()
            stage = backbone if freeze is True else backbone.stages()[freeze - 1]
            with _outputs_of([stage]) as called:
                backbone(images)
                backbone(images * 2 + 1)
                backbone.eval()(images)
            (_, trained), _, (_, evaluated) = called
            assert not trained.requires_grad, "a gradient reaches what is frozen"
            assert torch.equal(trained, evaluated), "what is frozen is not in evaluation mode, or its statistics move"


BACKBONE_CHECKS: tuple[Check, ...] = (
    features_have_the_promised_shape,
    gradients_reach_every_parameter,
    runs_in_half_precision,
    same_seed_same_weights,
    training_draws_from_torch_alone,
    features_do_not_depend_on_the_batch,
    state_dict_restores_the_backbone,
    fit_needs_images_alone,
    stages_are_in_order,
    frozen_stages_stay_as_they_are,
)

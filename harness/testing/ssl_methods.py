"""The checks of an SSL method."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from harness.api import (
    UNKNOWN,
    Backbone,
    SemiSupervisedMethod,
    SSLMethod,
    SupervisedMethod,
    TaughtMethod,
    UnlabeledBatch,
)
from harness.seeding import generator, seeded
from harness.testing.common import (
    NUM_CLASSES,
    VIEW_SHAPE,
    Check,
    Factory,
    global_seed,
    half_precision,
    new_method,
    run_checks,
)


def check_ssl_method(plugin: Factory, *, exempt: Mapping[str, str] | None = None) -> None:
    """Checks an SSL method: its losses, that it trains, and that a checkpoint holds all of its state.

    Args:
        plugin: the class, or a function of `backbone`.
        exempt: see `check_dataset`. With `num_views = 0` nothing is trained and nothing need be exempted.

    Raises:
        AssertionError: a promise is broken; names the plugin and the check.
    """
    run_checks("ssl_methods", plugin, SSL_METHOD_CHECKS, exempt)


_BATCH_SIZE = 16


def _views(num_views: int, seed: int = 0) -> list[Tensor]:
    """`num_views` noisy views of the same 16 images; the seed changes the noise alone."""
    coarse = torch.randn(_BATCH_SIZE, 3, 4, 4, generator=generator(0, "images"))
    images = nn.functional.interpolate(coarse, VIEW_SHAPE[1:])
    rng = generator(seed, "noise")
    return [images + 0.3 * torch.randn(images.shape, generator=rng) for _ in range(num_views)]


def _labels(method: SSLMethod) -> Tensor:
    """i64 [B]; of a method that learns from the whole pool too, half of them UNKNOWN."""
    labels = torch.arange(_BATCH_SIZE) // 2 % NUM_CLASSES
    if isinstance(method, TaughtMethod) or (isinstance(method, SupervisedMethod) and not method.labeled_only):
        labels[_BATCH_SIZE // 2 :] = UNKNOWN
    return labels


def _losses(method: SSLMethod, views: list[Tensor], order: Tensor | None = None) -> dict[str, Tensor]:
    """The losses as the harness asks for them, by the method's contract; `order` is that of the images in `views`."""
    labels = _labels(method)
    if isinstance(method, SupervisedMethod):
        return method.labeled_loss(views, labels if order is None else labels[order])
    if isinstance(method, SemiSupervisedMethod | TaughtMethod):
        with torch.random.fork_rng(devices=[]), seeded(0, "classifier"):
            classifier = nn.Sequential(method.backbone, nn.Linear(method.backbone.feature_dim, NUM_CLASSES))
        if isinstance(method, SemiSupervisedMethod):
            places = torch.arange(_BATCH_SIZE) if order is None else order
            unlabeled = UnlabeledBatch(views, rows=2 * places + 1, total=2 * _BATCH_SIZE)  # every second image
            return method.joint_loss(classifier, _views(1, seed=2)[0], labels, unlabeled)
        scores = 3 * torch.randn(_BATCH_SIZE, NUM_CLASSES, generator=generator(0, "scores"))
        whole = slice(None) if order is None else order
        return method.taught_loss(classifier, views, scores[whole], labels[whole])
    return method.loss(views)


def _loss(method: SSLMethod, views: list[Tensor], order: Tensor | None = None) -> Tensor:
    """The loss f32 [] of the method as it is now; the method itself is not advanced."""
    with seeded(0, "loss"):
        return _losses(copy.deepcopy(method), views, order)["loss"].detach()


def _train(method: SSLMethod, num_steps: int) -> list[float]:
    """The losses of a few steps, as the harness's loop makes them."""
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for step in range(num_steps):
        with seeded(step, "train"):
            loss = _losses(method, _views(method.num_views, seed=step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / num_steps)
        losses.append(loss.item())
    return losses


def method_keeps_its_encoder(plugin: Factory) -> None:
    """`backbone` is an encoder and `num_views` a number."""
    method = new_method(plugin)
    assert isinstance(method.num_views, int) and method.num_views >= 0, f"num_views is {method.num_views!r}"
    assert isinstance(method.backbone, Backbone), "self.backbone is not the encoder"
    features = method.backbone(_views(1)[0])
    assert features.shape == (_BATCH_SIZE, method.backbone.feature_dim), "self.backbone does not encode images"


def loss_trains_the_encoder(plugin: Factory) -> None:
    """`loss` is a finite scalar whose gradient reaches the whole encoder; all else in the dict is scalar too."""
    method = new_method(plugin)
    views = _views(method.num_views)
    before = [view.clone() for view in views]
    losses = _losses(method, views)
    assert isinstance(losses, dict) and "loss" in losses, "loss() does not return a dict with 'loss'"
    for name, value in losses.items():
        assert isinstance(value, Tensor) and value.shape == (), f"{name!r} is not a scalar tensor"
        assert value.isfinite(), f"{name!r} is {value.item()}"
    losses["loss"].backward()
    for name, parameter in method.backbone.named_parameters():
        reached = parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()
        assert reached, f"no gradient of the loss reaches backbone.{name}"
    assert all(map(torch.equal, views, before)), "loss() modified the views"


def every_view_counts(plugin: Factory) -> None:
    """The loss depends on each of the `num_views` views."""
    method = new_method(plugin)
    views, others = _views(method.num_views), _views(method.num_views, seed=1)
    for view in range(method.num_views):
        changed = [*views[:view], others[view], *views[view + 1 :]]
        assert _loss(method, changed) != _loss(method, views), f"the loss does not depend on view {view}"


def views_may_differ_in_size(plugin: Factory) -> None:
    """A smaller last view is taken; methods that train the classifier, and may mix images, need views of one size."""
    method = new_method(plugin)
    if isinstance(method, SemiSupervisedMethod | TaughtMethod):
        return
    *views, last = _views(method.num_views)
    small = nn.functional.avg_pool2d(last, 2)
    loss = _loss(method, [*views, small])
    assert loss.isfinite(), f"with a last view of {list(small.shape[2:])} the loss is {loss.item()}"


def trains_in_half_precision(plugin: Factory) -> None:
    """Two steps under bfloat16 autocast, as trials make them: everything is finite, and nothing refuses the type."""
    method = new_method(plugin)
    views = _views(method.num_views)
    for progress in (0.5, 1.0):
        with half_precision(), seeded(0, "loss"):
            losses = _losses(method, views)
        for name, value in losses.items():
            assert value.isfinite(), f"{name!r} is {value.item()}"
        losses["loss"].backward()
        for name, parameter in method.backbone.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), f"the gradient of backbone.{name}"
        method.after_step(progress)
    if method.has_sample_loss():
        with half_precision(), seeded(0, "loss"), torch.no_grad():
            assert method.sample_loss(views).isfinite().all(), "sample_loss is not finite"


def order_of_images_is_irrelevant(plugin: Factory) -> None:
    """The same images in another order have the same loss."""
    method = new_method(plugin)
    views = _views(method.num_views)
    order = torch.randperm(_BATCH_SIZE, generator=generator(0, "order"))
    a, b = _loss(method, views), _loss(method, [view[order] for view in views], order)
    assert torch.allclose(a, b, rtol=1e-4, atol=1e-5), f"the loss is {a:.6g}, in another order {b:.6g}"


def sample_loss_splits_the_loss(plugin: Factory) -> None:
    """`sample_loss`, where it is defined, is f32 [B], finite, and its mean is the loss without labels."""
    method = new_method(plugin)
    views = _views(method.num_views)
    if not method.has_sample_loss():
        return
    with seeded(0, "loss"):
        per_image = copy.deepcopy(method).sample_loss(views)
    assert per_image.shape == (_BATCH_SIZE,), f"sample_loss has shape {tuple(per_image.shape)}, not [B]"
    assert per_image.dtype == torch.float32, f"sample_loss is {per_image.dtype}, not torch.float32"
    assert per_image.isfinite().all(), "sample_loss is not finite"
    with seeded(0, "loss"):
        mean, loss = per_image.mean(), copy.deepcopy(method).loss(views)["loss"]
    assert torch.allclose(mean, loss, rtol=1e-4, atol=1e-5), f"sample_loss has mean {mean:.6g}, the loss is {loss:.6g}"


def sample_loss_changes_nothing(plugin: Factory) -> None:
    """Asked in evaluation mode, as for selectors, `sample_loss` leaves state, modes and views as they were."""
    method = new_method(plugin).eval()
    if not method.has_sample_loss():
        return
    views, state = _views(method.num_views), copy.deepcopy(method.state_dict())
    before, modes = [view.clone() for view in views], [module.training for module in method.modules()]
    with seeded(0, "loss"), torch.no_grad():
        method.sample_loss(views)
    for name, value in method.state_dict().items():
        assert torch.equal(value, state[name]), f"sample_loss changes {name}"
    for (name, module), mode in zip(method.named_modules(), modes, strict=True):
        assert module.training == mode, f"sample_loss changes the mode of {name or 'the method'}"
    assert all(map(torch.equal, views, before)), "sample_loss changes the views"


def training_lowers_the_loss(plugin: Factory) -> None:
    """Forty steps on sixteen images make the loss smaller."""
    losses = _train(new_method(plugin), num_steps=40)
    start, end = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    assert end < start, f"after 40 steps on 16 images the loss went from {start:.4g} to {end:.4g}"


def same_seed_same_training(plugin: Factory) -> None:
    """Weights and losses come from torch's global generator alone."""
    runs = []
    for other_seed in (1, 2):
        with global_seed(other_seed):
            runs.append(_train(new_method(plugin), num_steps=3))
    assert runs[0] == runs[1], f"two runs of the same torch seed have losses {runs[0]} and {runs[1]}"


def state_dict_resumes_the_training(plugin: Factory) -> None:
    """A fresh method that loads a state goes on as the first one does: queues, pointers and averages are in there."""
    method, resumed = new_method(plugin), new_method(plugin, seed=1)
    _train(method, num_steps=3)
    resumed.load_state_dict(method.state_dict())
    going_on, after = _train(method, num_steps=3), _train(resumed, num_steps=3)
    assert np.allclose(going_on, after, rtol=1e-4, atol=1e-6), (
        f"losses go on as {going_on}, after load_state_dict as {after}: some state is not in state_dict"
    )


def _when_trained(check: Check) -> Check:
    """The check, passed by methods that do not train."""

    def checked(plugin: Factory) -> None:
        if new_method(plugin).num_views > 0:
            check(plugin)

    checked.__name__, checked.__doc__ = check.__name__, check.__doc__
    return checked


SSL_METHOD_CHECKS: tuple[Check, ...] = (
    method_keeps_its_encoder,
    *map(
        _when_trained,
        (
            loss_trains_the_encoder,
            every_view_counts,
            views_may_differ_in_size,
            trains_in_half_precision,
            order_of_images_is_irrelevant,
            sample_loss_splits_the_loss,
            sample_loss_changes_nothing,
            training_lowers_the_loss,
            same_seed_same_training,
            state_dict_resumes_the_training,
        ),
    ),
)

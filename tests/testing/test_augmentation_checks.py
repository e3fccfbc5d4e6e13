"""Every check of an augmentation is tried on augmentations that break one promise."""

import itertools
from functools import partial

import pytest
import torch
from good_plugins import GoodAugmentation, assert_found, broken, checks_of

from harness.testing.augmentations import check_augmentation


@pytest.mark.parametrize("plugin", [GoodAugmentation, partial(GoodAugmentation, strength=0.0)])
def test_a_plugin_that_keeps_every_promise_passes(plugin):
    check_augmentation(plugin)


_instances = itertools.count()


def _call(change):
    """An augmentation whose output is changed."""

    def call(self, images, *, view, rng):
        return change(GoodAugmentation.__call__(self, images, view=view, rng=rng))

    return broken(GoodAugmentation, __call__=call)


def _in_place(self, images, *, view, rng):
    images.mul_(0)
    return images.float()


def _divides_floats_too(self, images, *, view, rng):
    return images / 255


def _only_first_view(self, images, *, view, rng):
    return GoodAugmentation.__call__(self, images, view=[0][view], rng=rng)


def _remembers(self, images, *, view, rng):
    self.strength /= 2
    return GoodAugmentation.__call__(self, images, view=view, rng=rng)


def _one_draw(self, images, rng):
    return torch.rand(1, generator=rng)


def _reseeded(self, images, rng):
    return torch.rand(len(images), 1, 1, 1, generator=torch.Generator().manual_seed(rng.initial_seed()))


BROKEN = [
    (
        "what_draws_nothing_is_always_the_same",
        broken(GoodAugmentation, draws=False),
        "`draws` is false, and views of one image differ",
    ),
    ("output_is_a_batch_of_images", _call(lambda out: out.double()), "torch.float64"),
    ("output_is_a_batch_of_images", _call(lambda out: out.to("meta")), "on meta, the input on cpu"),
    (
        "output_is_a_batch_of_images",
        _call(lambda out: out[:, :2]),
        "torch.uint8 [4, 3, 32, 32]: the output has",
    ),
    ("output_is_a_batch_of_images", _call(lambda out: out[:, :, 1:]), "(H, W) of output and input"),
    ("output_is_a_batch_of_images", _call(lambda out: out[:, :, : out.shape[2] // 2]), "(H, W) of output and input"),
    ("output_is_a_batch_of_images", _call(lambda out: out * 1.5), "not within [0, 1]"),
    ("output_is_a_batch_of_images", _call(lambda out: out / 0 * 0), "reaches from nan"),
    (
        "output_is_a_batch_of_images",
        _call(lambda out: out.expand(-1, 3, -1, -1)),
        "[3, 1, 8, 8]: the output has",
    ),
    ("output_is_a_batch_of_images", broken(GoodAugmentation, __call__=_only_first_view), "raised IndexError"),
    ("input_is_not_modified", broken(GoodAugmentation, __call__=_in_place), "modified its torch.uint8 input"),
    ("integers_and_floats_agree", broken(GoodAugmentation, __call__=_divides_floats_too), "u8 and f32 input differ"),
    ("same_seed_same_output", broken(GoodAugmentation, __call__=_remembers), "called again"),
    (
        "same_seed_same_output",
        broken(GoodAugmentation, __init__=lambda self: setattr(self, "strength", 1 / (2 + next(_instances)))),
        "for the same images and seed",
    ),
    (
        "output_needs_no_global_generator",
        broken(GoodAugmentation, draw=lambda self, images, rng: torch.rand(len(images), 1, 1, 1)),
        "global generator of torch",
    ),
    ("every_image_has_its_own_draw", broken(GoodAugmentation, draw=_one_draw), "share one draw"),
    ("every_image_has_its_own_draw", broken(GoodAugmentation, draw=_reseeded), "every batch gets the same draws"),
]


def test_an_augmentation_may_make_images_of_half_the_sides_or_of_one_size():
    check_augmentation(_call(lambda out: torch.nn.functional.avg_pool2d(out, 2)))
    check_augmentation(_call(lambda out: torch.nn.functional.adaptive_avg_pool2d(out, (5, 6))))


@pytest.mark.parametrize(("name", "plugin", "words"), BROKEN)
def test_a_broken_promise_is_found(name, plugin, words):
    assert_found("augmentations", name, plugin, words)


def _in_view_1(plugin):
    """An augmentation that does nothing, but in view 1 what `plugin` does."""

    def call(self, images, *, view, rng):
        return (self.in_view_1 if view == 1 else GoodAugmentation(strength=0.0))(images, view=view, rng=rng)

    init = lambda self: setattr(self, "in_view_1", plugin())  # noqa: E731
    return broken(GoodAugmentation, __init__=init, __call__=call, draws=plugin.draws)


@pytest.mark.parametrize(("name", "plugin", "words"), BROKEN)
def test_a_promise_that_is_broken_in_another_view_is_found(name, plugin, words):
    assert_found("augmentations", name, _in_view_1(plugin), words)
    with pytest.raises(AssertionError, match="view 1: "):
        check_augmentation(_in_view_1(plugin))


def test_what_one_view_leaves_to_the_next_is_found():
    def call(self, images, *, view, rng):
        self.strength = [self.strength, 0.9, 0.9, 0.9][view]  # of view 0 it depends on what was asked before
        return GoodAugmentation.__call__(self, images, view=view, rng=rng)

    plugin = broken(GoodAugmentation, __call__=call)
    assert_found("augmentations", "same_seed_same_output", plugin, "view 0: called again")


def test_every_check_is_tried_on_a_broken_plugin():
    assert {name for name, *_ in BROKEN} >= set(checks_of("augmentations"))

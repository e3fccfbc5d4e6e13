"""The checks of an augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps

import torch
from torch import Tensor

from harness.seeding import generator
from harness.testing.common import Check, Factory, draws_only_from_its_generator, run_checks, when


def check_augmentation(
    plugin: Factory, *, exempt: Mapping[str, str] | None = None, device: torch.device | str = "cpu"
) -> None:
    """Checks an augmentation: shapes, types, range, and where its randomness comes from.

    Args:
        plugin: the class, or a function of no arguments.
        exempt: see `check_dataset`.
        device: where the images lie.

    Raises:
        AssertionError: a promise is broken; names the plugin and the check.
    """
    run_checks("augmentations", plugin, AUGMENTATION_CHECKS, exempt, device=torch.device(device))


_BATCHES = ((4, 3, 32, 32), (1, 3, 9, 12), (3, 1, 8, 8), (5, 1, 13, 7))
"""[B, C, H, W] that an augmentation must take: one image, one channel, odd and unequal sides."""

_VIEWS = range(4)
"""The views of an image that are looked at, each held to every promise."""


def _batch(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """u8 [B, C, H, W]."""
    return torch.randint(256, shape, generator=generator(0, "images")).to(torch.uint8).to(device)


def _augment(plugin: Factory, images: Tensor, view: int, seed: int = 0) -> Tensor:
    return plugin()(images, view=view, rng=generator(seed, "augment", images.device))


def output_is_a_batch_of_images(plugin: Factory, device: torch.device, view: int) -> None:
    """f32 in [0, 1] on the input's device, of a size that the input's and the view determine.

    That is one fixed size, or a share of the input's sides, all of them where nothing else was asked for.
    """
    sizes = []
    for shape in _BATCHES:
        images = _batch(shape, device)
        for given in (images, images / 255):
            with when(f"{given.dtype} {list(shape)}"):
                out = _augment(plugin, given, view)
                assert out.dtype == torch.float32, f"the output is {out.dtype}, not torch.float32"
                assert out.device == images.device, f"the output is on {out.device}, the input on {images.device}"
                assert out.ndim == 4 and out.shape[:2] == shape[:2], f"the output has shape {list(out.shape)}"
                low, high = out.min().item(), out.max().item()
                assert low >= 0 and high <= 1, f"the output reaches from {low} to {high}, not within [0, 1]"
                sizes.append((tuple(out.shape[2:]), tuple(shape[2:])))
    sides = [(after, before) for size, given_size in sizes for after, before in zip(size, given_size, strict=True)]
    least, most = max((a - 0.5) / b for a, b in sides), min((a + 0.5) / b for a, b in sides)
    fixed = len({size for size, _ in sizes}) == 1
    assert fixed or least <= most, f"(H, W) of output and input: {sorted(set(sizes))}"


def input_is_not_modified(plugin: Factory, device: torch.device, view: int) -> None:
    """The images handed in stay as they were."""
    for images in (_batch(_BATCHES[0], device), _batch(_BATCHES[0], device) / 255):
        before = images.clone()
        for seed in range(4):
            _augment(plugin, images, view, seed)
        assert torch.equal(images, before), f"it modified its {images.dtype} input"


def output_needs_no_global_generator(plugin: Factory, device: torch.device, view: int) -> None:
    """Randomness comes from `rng` alone."""
    images = _batch(_BATCHES[0], device)
    draws_only_from_its_generator(lambda: _augment(plugin, images, view))


def same_seed_same_output(plugin: Factory, device: torch.device, view: int) -> None:
    """Equal images and seeds give equal results, and an augmentation keeps nothing from one call to the next."""
    images, augmentation = _batch(_BATCHES[0], device), plugin()
    asked = (view, *_VIEWS, view)
    first, *_, again = (augmentation(images, view=each, rng=generator(0, "augment", device)) for each in asked)
    assert torch.equal(first, again), "called again with the same images and seed, it returns other images"
    assert torch.equal(first, _augment(plugin, images, view)), "for the same images and seed the results differ"


def integers_and_floats_agree(plugin: Factory, device: torch.device, view: int) -> None:
    """u8 in 0 .. 255 and the same images as f32 in [0, 1] give the same result."""
    images = _batch(_BATCHES[0], device)
    for seed in range(4):
        a, b = _augment(plugin, images, view, seed), _augment(plugin, images / 255, view, seed)
        assert torch.allclose(a, b, rtol=0, atol=1e-5), f"u8 and f32 input differ by up to {(a - b).abs().max():.3g}"


def every_image_has_its_own_draw(plugin: Factory, device: torch.device, view: int) -> None:
    """A random operation treats the copies of an image in a batch differently, and two batches too.

    An operation that gives the same for every seed is deterministic and may treat all alike.
    """
    copies = _batch((1, 3, 16, 16), device).expand(32, -1, -1, -1)
    batches = [_augment(plugin, copies, view, seed) for seed in range(8)]
    if all(torch.equal(batches[0], batch) for batch in batches):
        return
    assert any((batch != batch[0]).any() for batch in batches), "all images of a batch share one draw"
    rng = generator(0, "augment", device)
    in_turn = [plugin()(copies, view=view, rng=rng) for _ in range(8)]
    assert any((batch != in_turn[0]).any() for batch in in_turn), "every batch gets the same draws from one generator"


def what_draws_nothing_is_always_the_same(plugin: Factory, device: torch.device, view: int) -> None:
    """Where `draws` is false, a view does not depend on the generator; it is then made once."""
    if not plugin().draws:
        images = _batch(_BATCHES[0], device)
        one, two = (_augment(plugin, images, view, seed) for seed in (1, 2))
        assert torch.equal(one, two), "`draws` is false, and views of one image differ"


def _in_every_view(check: Check) -> Check:
    """The check, of one view after the other."""

    @wraps(check)
    def checked(plugin: Factory, device: torch.device) -> None:
        for view in _VIEWS:
            with when(f"view {view}"):
                check(plugin, device, view)

    return checked


AUGMENTATION_CHECKS: tuple[Check, ...] = tuple(
    map(
        _in_every_view,
        (
            output_is_a_batch_of_images,
            input_is_not_modified,
            output_needs_no_global_generator,
            same_seed_same_output,
            integers_and_floats_agree,
            every_image_has_its_own_draw,
            what_draws_nothing_is_always_the_same,
        ),
    )
)

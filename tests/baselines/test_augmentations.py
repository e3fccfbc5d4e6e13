"""Operations against torchvision image by image, recipes by their parts, plugins by their promises."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from baselines import BUILTINS
from baselines.augmentations import operation
from baselines.augmentations.blur import Blur, gaussian
from baselines.augmentations.brightness import Brightness
from baselines.augmentations.by_view import ByView
from baselines.augmentations.center_crop import CenterCrop
from baselines.augmentations.color_jitter import ColorJitter, turn_hue
from baselines.augmentations.contrast import Contrast
from baselines.augmentations.crop import Crop
from baselines.augmentations.cutout import Cutout
from baselines.augmentations.flip import Flip
from baselines.augmentations.grayscale import Grayscale
from baselines.augmentations.identity import Identity
from baselines.augmentations.multi_crop import MultiCrop
from baselines.augmentations.noise import Noise
from baselines.augmentations.operation import Operation
from baselines.augmentations.pad_crop import PadCrop
from baselines.augmentations.pair import Pair
from baselines.augmentations.rotate import Rotate
from baselines.augmentations.simclr import SimCLR
from baselines.augmentations.simclr_ual import SimCLRUAL
from baselines.augmentations.sobel import Sobel
from baselines.augmentations.solarize import Solarize
from baselines.augmentations.strong import Strong
from baselines.augmentations.weak import Weak
from baselines.augmentations.weak_strong import WeakStrong
from harness.api import Augmentation
from harness.plugins import registry
from harness.plugins.registry import PluginSpec

SHAPES = [(6, 3, 32, 32), (5, 1, 28, 20), (4, 3, 9, 15)]


NESTED = ("pair", "by_view", "multi_crop")
"""Those that are made of others, which the builder constructs."""


def build(name: str) -> Augmentation:
    return registry.build(PluginSpec("augmentations", name))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=generator(seed))


@pytest.fixture(params=["torch", "numba"])
def path(request, monkeypatch) -> str:
    """Runs a test on the torch path and with the compiled kernels."""
    monkeypatch.setattr(operation, "_NUMBA_INSTALLED", request.param == "numba")
    return request.param


def apply(op: Operation, images: Tensor, parameters: dict[str, Tensor], monkeypatch) -> Tensor:
    """The operation on given parameters, through its public call and so on either path."""
    monkeypatch.setattr(op, "draw", lambda images, rng: parameters)
    return op(images, view=0, rng=generator())


def centred_half(H: int, W: int) -> tuple[int, int, int, int]:
    """(top, left, height, width); an odd rest is larger below and to the right."""
    height, width = round(H / 2), round(W / 2)
    return (H - height) // 2, (W - width) // 2, height, width


# Each operation against torchvision's function for one image, on the same parameters.
# Tolerance 1e-5: sums of f32 in another order, on values in [0, 1].

OPERATIONS = {
    "crop": (
        Crop(),
        lambda image, p, i: tv.resized_crop(
            image, p["top"][i], p["left"][i], p["height"][i], p["width"][i], list(image.shape[1:]), antialias=True
        ),
    ),
    "center_crop": (
        CenterCrop(keep=0.5),
        lambda image, p, i: tv.resized_crop(image, *centred_half(*image.shape[1:]), list(image.shape[1:])),
    ),
    "flip": (Flip(), lambda image, p, i: tv.horizontal_flip(image) if p["chosen"][i] else image),
    "pad_crop": (
        PadCrop(padding=4),
        lambda image, p, i: tv.crop(tv.pad(image, [4]), int(p["top"][i]), int(p["left"][i]), *image.shape[1:]),
    ),
    "rotate": (
        Rotate(degrees=90),
        lambda image, p, i: tv.rotate(image, float(p["angle"][i]), interpolation=tv.InterpolationMode.BILINEAR),
    ),
    "brightness": (Brightness(strength=0.8), lambda image, p, i: tv.adjust_brightness(image, float(p["factor"][i]))),
    "contrast": (Contrast(strength=0.8), lambda image, p, i: tv.adjust_contrast(image, float(p["factor"][i]))),
    "grayscale": (
        Grayscale(probability=0.5),
        lambda image, p, i: tv.rgb_to_grayscale(image, len(image)) if p["chosen"][i] else image,
    ),
    "solarize": (
        Solarize(probability=0.5),
        lambda image, p, i: tv.solarize(image, 0.5) if p["threshold"][i] == 0.5 else image,
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_equals_torchvision(name, shape, path, monkeypatch):
    op, reference = OPERATIONS[name]
    images = random_images(*shape)
    parameters = op.draw(images, generator(1))
    expected = torch.stack([reference(image, parameters, i) for i, image in enumerate(images)])
    torch.testing.assert_close(apply(op, images, parameters, monkeypatch), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_color_jitter_equals_torchvision_in_every_order(shape, path, monkeypatch):
    op = ColorJitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.5, probability=1)
    order = torch.tensor([[a, b, c, d] for a in range(4) for b in range(4) for c in range(4) for d in range(4)])
    order = order[(order.sort(1).values == torch.arange(4)).all(1)]
    assert len(order) == 24
    images = random_images(24, *shape[1:])
    parameters = op.draw(images, generator(1)) | {"order": order}
    adjust = [tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue]
    amounts = torch.cat((parameters["factors"], parameters["turn"][:, None]), 1)
    expected = []
    for i, image in enumerate(images):
        for step in order[i]:
            image = adjust[step](image, float(amounts[i, step]))
        expected.append(image)
    # Where two channels nearly tie, rounding decides which sixth of the circle a hue is in; both give the same colour
    # up to rounding, which a strong contrast enlarges.
    torch.testing.assert_close(apply(op, images, parameters, monkeypatch), torch.stack(expected), atol=2e-5, rtol=0)


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
@pytest.mark.parametrize("shape", SHAPES)
def test_blur_equals_torchvision(shape, kernel_size, path, monkeypatch):
    images = random_images(*shape)
    sigma = torch.linspace(0.3, 2, len(images))
    blurred = apply(Blur(), images, {"weights": gaussian(sigma, kernel_size // 2)}, monkeypatch)
    expected = torch.stack(
        [tv.gaussian_blur(image, [kernel_size] * 2, [float(s)] * 2) for image, s in zip(images, sigma, strict=True)]
    )
    torch.testing.assert_close(blurred, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("height", [9, 16, 28, 32, 39, 40, 64, 96, 224])
def test_the_blurs_filter_is_as_wide_as_in_simclrs_code(height):
    """data_util.py: `kernel_size=height // 10`, `radius = int(kernel_size / 2)`, `radius * 2 + 1`; ours is never 1."""
    taps = Blur().draw(torch.zeros(1, 3, height, 32), generator())["weights"].shape[1]
    assert taps == max(3, int((height // 10) / 2) * 2 + 1)


@pytest.mark.parametrize("size", [5, 16, 50])
def test_a_bicubic_crop_equals_torchvision(size, path, monkeypatch):
    """Which uses a = -1/2 where it is antialiased, as Pillow and TensorFlow do."""
    images = random_images(8, 3, 24, 32)
    op = Crop(size=size, interpolation="bicubic")
    p = op.draw(images, generator(2))
    boxes = zip(images, *(side.tolist() for side in p.values()), strict=True)
    how = {"interpolation": tv.InterpolationMode.BICUBIC, "antialias": True}
    expected = torch.stack([tv.resized_crop(image, *box, [size, size], **how).clamp(0, 1) for image, *box in boxes])
    torch.testing.assert_close(apply(op, images, p, monkeypatch), expected, atol=1e-5, rtol=0)
    assert float((apply(Crop(size=size), images, p, monkeypatch) - expected).abs().max()) > 0.01


def test_a_bicubic_centre_crop_equals_pillow(path):
    images = random_images(1, 1, 32, 32)
    ours = CenterCrop(keep=0.5, interpolation="bicubic")(images, view=0, rng=generator())
    middle = Image.fromarray(images[0, 0, 8:24, 8:24].numpy())
    theirs = np.array(middle.resize((32, 32), Image.Resampling.BICUBIC)).clip(0, 1)
    torch.testing.assert_close(ours[0, 0], torch.from_numpy(theirs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [5, 16, 50])
def test_crop_to_another_size_equals_torchvision(size, path, monkeypatch):
    images = random_images(8, 3, 24, 32)
    op = Crop(size=size)
    p = op.draw(images, generator(2))
    expected = torch.stack(
        [
            tv.resized_crop(
                image, p["top"][i], p["left"][i], p["height"][i], p["width"][i], [size, size], antialias=True
            )
            for i, image in enumerate(images)
        ]
    )
    torch.testing.assert_close(apply(op, images, p, monkeypatch), expected, atol=1e-5, rtol=0)


def test_hue_of_primary_colours():
    red, green, blue = torch.eye(3)
    turned = turn_hue(torch.stack((red, green, blue))[:, :, None, None], torch.full((3,), 1 / 3))
    torch.testing.assert_close(turned[:, :, 0, 0], torch.stack((green, blue, red)))


# Operations that torchvision has no function for: hand-made cases.


def test_sobel_of_an_edge_and_of_a_corner():
    edge = torch.zeros(1, 1, 4, 4)
    edge[..., 2:] = 1
    assert torch.equal(Sobel()(edge, view=0, rng=generator())[0, 0], torch.tensor([[0.0, 1, 1, 0]] * 4))
    ramp = torch.linspace(0, 1, 5).repeat(1, 3, 5, 1)
    slope = Sobel()(ramp.mT, view=0, rng=generator())
    torch.testing.assert_close(slope[:, :, 1:-1], torch.full((1, 3, 3, 5), 0.5))  # two pixels apart: 2 x 1 / 4


def test_cutout_covers_one_square(monkeypatch):
    op = Cutout(area=0.25)
    parameters = {"row": torch.tensor([4, 0]), "column": torch.tensor([4, 7])}
    covered = apply(op, torch.zeros(2, 3, 8, 8), parameters, monkeypatch)
    expected = torch.zeros(2, 3, 8, 8)
    expected[0, :, 2:6, 2:6] = 0.5
    expected[1, :, :2, 5:] = 0.5
    assert torch.equal(covered, expected)


def test_noise_has_the_asked_spread():
    noisy = Noise(std=0.1)(torch.full((16, 3, 32, 32), 0.5), view=0, rng=generator())
    assert noisy.mean().item() == pytest.approx(0.5, abs=0.003)
    assert noisy.std().item() == pytest.approx(0.1, rel=0.02)


# Draws.


@pytest.mark.parametrize(
    ("op", "shape"),
    [(Crop(), (32, 32)), (Crop(scale=(0.5, 1)), (20, 50)), (Crop(scale=(0.01, 0.02)), (7, 3)), (Crop(), (1, 1))],
)
def test_crop_boxes_lie_inside_and_spread(op, shape):
    H, W = shape
    p = op.draw(torch.zeros(4000, 1, H, W), generator())
    assert (p["height"] >= 1).all()
    assert (p["width"] >= 1).all()
    assert (p["top"] >= 0).all()
    assert (p["left"] >= 0).all()
    assert (p["top"] + p["height"]).max() == H
    assert (p["left"] + p["width"]).max() == W


def test_crop_draws_area_and_ratio_uniformly():
    p = Crop(scale=(0.1, 0.3)).draw(torch.zeros(1, 1, 1, 1).expand(20_000, 1, 400, 400), generator())
    area, log_ratio = p["height"] * p["width"] / 400**2, (p["width"] / p["height"]).log() / math.log(4 / 3)
    # A uniform draw's quartiles; 20,000 draws put them within 0.01 of the range. Every box of these areas fits.
    quartiles = torch.tensor([0.25, 0.5, 0.75])
    torch.testing.assert_close(area.float().quantile(quartiles), 0.1 + 0.2 * quartiles, atol=0.004, rtol=0)
    torch.testing.assert_close(log_ratio.float().quantile(quartiles), 2 * quartiles - 1, atol=0.04, rtol=0)


def test_crop_falls_back_to_the_largest_box():
    p = Crop(scale=(1, 1), ratio=(0.5, 0.5)).draw(torch.zeros(3, 1, 20, 40), generator())
    assert {name: values.tolist() for name, values in p.items()} == {
        "top": [0] * 3,
        "left": [15] * 3,
        "height": [20] * 3,
        "width": [10] * 3,
    }


def test_color_jitter_draws_its_ranges_and_every_order():
    p = ColorJitter(brightness=0.4, contrast=2.0, saturation=0.0, hue=0.1, probability=0.8).draw(
        torch.zeros(20_000, 1, 1, 1), generator()
    )
    untouched = (p["factors"] == 1).all(1) & (p["turn"] == 0)
    assert untouched.float().mean().item() == pytest.approx(0.2, abs=0.01)
    touched = p["factors"][~untouched]
    torch.testing.assert_close(touched.amin(0), torch.tensor([0.6, 0.0, 1.0]), atol=0.01, rtol=0)
    torch.testing.assert_close(touched.amax(0), torch.tensor([1.4, 3.0, 1.0]), atol=0.01, rtol=0)
    assert p["turn"].abs().max().item() == pytest.approx(0.1, abs=0.001)
    counts = p["order"].unique(dim=0, return_counts=True)[1]
    assert len(counts) == 24
    assert counts.min() > 0.85 * 20_000 / 24


@pytest.mark.parametrize("op", [Flip(probability=0.3), Grayscale(probability=0.3)])
def test_probability(op):
    assert op.draw(torch.zeros(20_000, 1, 1, 1), generator())["chosen"].float().mean().item() == pytest.approx(
        0.3, abs=0.01
    )


@pytest.mark.parametrize(
    "op",
    [
        Flip(probability=0),
        ColorJitter(probability=0),
        Brightness(probability=0),
        Contrast(probability=0),
        Grayscale(probability=0),
        Blur(probability=0),
        Solarize(probability=0),
        Identity(),
    ],
)
def test_images_that_are_not_chosen_stay_exactly_as_they_are(op, path):
    images = random_images(4, 3, 12, 10)
    assert torch.equal(op(images, view=0, rng=generator()), images)


# Every plugin, on both paths.


@pytest.mark.parametrize("name", BUILTINS["augmentations"])
def test_both_paths_make_the_same_images_from_the_same_seed(name, monkeypatch):
    augmentation = build(name)
    for shape in SHAPES:
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(3))
        views = []
        for numba in (False, True):
            monkeypatch.setattr(operation, "_NUMBA_INSTALLED", numba)
            views.append(augmentation(images, view=1, rng=generator(4)))
        # Solarization inverts a value within rounding of its threshold on one path only; nothing else may differ.
        differing = (views[0] - views[1]).abs() > 2e-5
        assert differing.float().mean() <= (1e-3 if name in ("strong", "weak_strong") else 0)


@pytest.mark.parametrize("name", BUILTINS["augmentations"])
def test_bytes_and_floats_give_the_same_and_stay_unmodified(name, path):
    augmentation = build(name)
    for shape in [*SHAPES, (0, 3, 8, 8), (2, 3, 1, 1), (2, 1, 2, 5)]:
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(3))
        floats = images / 255
        before = images.clone(), floats.clone()
        views = [augmentation(source, view=0, rng=generator(4)) for source in (images, floats)]
        assert torch.equal(images, before[0])
        assert torch.equal(floats, before[1])
        for view in views:
            assert view.shape == shape
            assert view.dtype == torch.float32
            assert ((view >= 0) & (view <= 1)).all()
            assert view.data_ptr() != floats.data_ptr() or floats.numel() == 0
        assert (((views[0] - views[1]).abs() > 2e-5).float().mean() <= 1e-3) or images.numel() == 0


@pytest.mark.parametrize("name", ["crop", "simclr", "strong", "simclr_ual", "pair"])
def test_an_image_does_not_depend_on_threads_or_autocast(name, path):
    augmentation = build(name)
    images = random_images(37, 3, 16, 16)
    threads = torch.get_num_threads()
    views = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            with torch.autocast("cpu", torch.bfloat16):
                views.append(augmentation(images, view=0, rng=generator()))
    finally:
        torch.set_num_threads(threads)
    views.append(augmentation(images.requires_grad_(), view=0, rng=generator()))
    assert not views[2].requires_grad
    torch.testing.assert_close(views[0], views[2], atol=1e-6, rtol=0)
    torch.testing.assert_close(views[1], views[2], atol=1e-6, rtol=0)


def test_images_in_channels_last_order_give_the_same(path):
    images = random_images(5, 3, 16, 12)
    view = SimCLR()(images.to(memory_format=torch.channels_last), view=0, rng=generator())
    assert torch.equal(view, SimCLR()(images, view=0, rng=generator()))


@pytest.mark.parametrize("images", [torch.zeros(3, 8, 8), torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, 8, 8).double()])
def test_other_shapes_and_types_are_refused(images, path):
    with pytest.raises(ValueError, match="images of"):
        Flip()(images, view=0, rng=generator())


# Recipes.


def steps(recipe) -> list[str]:
    return [type(step).__name__ for step in recipe.steps]


def test_recipes_are_what_their_papers_list():
    assert steps(SimCLR()) == ["Crop", "Flip", "ColorJitter", "Grayscale"]
    assert steps(SimCLR(blur=0.5)) == ["Crop", "Flip", "ColorJitter", "Grayscale", "Blur"]
    assert steps(SimCLR(solarize=0.2)) == ["Crop", "Flip", "ColorJitter", "Grayscale", "Solarize"]
    assert steps(SimCLRUAL()) == ["CenterCrop", "Lighten", "Fade"]
    assert steps(Weak()) == ["Flip", "PadCrop"]
    assert steps(Strong()) == ["Crop", "Flip", "ColorJitter", "Grayscale", "Blur", "Solarize"]
    jitter = SimCLR().steps[2]
    assert [jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue] == pytest.approx([0.4, 0.4, 0.4, 0.1])


def test_simclr_ual_goes_from_no_change_to_white_and_from_no_change_to_grey(path, monkeypatch):
    images = random_images(400, 3, 8, 8)
    _, lighten, fade = SimCLRUAL().steps
    light, factor = lighten.draw(images, generator())["light"], fade.draw(images, generator())["factor"]
    for drawn in (light, factor):  # uniform in [0, 1]
        assert float((drawn.sort().values - torch.linspace(0, 1, 400)).abs().max()) < 0.08
    lightened = apply(lighten, images, {"light": light}, monkeypatch)
    assert torch.equal(lightened, (images + light[:, None, None, None]).clamp(max=1))
    faded = apply(fade, images, {"factor": factor}, monkeypatch)
    expected = torch.stack([tv.adjust_contrast(i, float(f)) for i, f in zip(images, factor, strict=True)])
    torch.testing.assert_close(faded, expected, atol=1e-5, rtol=0)


def test_weak_strong_is_weak_in_view_zero_and_strong_in_the_others():
    images = random_images(6, 3, 16, 16)
    for view, expected in enumerate((Weak(), Strong(), Strong())):
        made = WeakStrong()(images, view=view, rng=generator())
        assert torch.equal(made, expected(images, view=view, rng=generator()))


def test_pair_applies_first_then_second():
    image = torch.zeros(1, 1, 1, 4)
    invert, cover = Solarize(threshold=0), Cutout(area=1)
    assert Pair(first=cover, second=Brightness(strength=0))(image, view=0, rng=generator()).max() == 0.5
    assert Pair(first=Solarize(threshold=0.9), second=invert)(image, view=0, rng=generator()).min() == 1
    assert Pair(first=invert, second=Solarize(threshold=0.9))(image, view=0, rng=generator()).max() == 0


def test_by_view_gives_each_view_its_augmentation_and_the_last_to_all_others():
    images = random_images(5, 3, 8, 8)
    views = (Brightness(strength=0.5), Grayscale(probability=1), Solarize())
    by_view = ByView(views=views)
    for view, expected in enumerate((*views, views[-1], views[-1])):
        out = by_view(images, view=view, rng=generator(3))
        assert torch.equal(out, expected(images, view=view, rng=generator(3)))


def test_multi_crop_has_two_global_views_and_then_local_ones_that_are_counted_anew():
    images = random_images(5, 3, 16, 24)
    first, second = Solarize(), Grayscale(probability=1)
    small = [Crop(scale=(0.1, 0.2), size=0.5), Crop(scale=(0.1, 0.2), size=6)]
    multi_crop = MultiCrop(global_views=ByView(views=(first, second)), local_views=ByView(views=tuple(small)))
    for view, expected in enumerate((first, second, *small, small[1])):
        out = multi_crop(images, view=view, rng=generator(view))
        assert torch.equal(out, expected(images, view=view, rng=generator(view)))
    assert [tuple(multi_crop(images, view=v, rng=generator()).shape[2:]) for v in (1, 2, 3)] == [
        (16, 24),
        (8, 12),
        (6, 6),
    ]


def test_the_local_views_of_multi_crop_are_half_as_large_by_default():
    multi_crop = build("multi_crop")
    images = random_images(5, 3, 32, 32)
    assert [multi_crop(images, view=view, rng=generator()).shape[-1] for view in range(4)] == [32, 32, 16, 16]
    boxes = multi_crop.local_views.steps[0].draw(torch.zeros(500, 3, 32, 32), generator())
    share = boxes["height"] * boxes["width"] / 32**2
    assert 0.03 < float(share.min()) < float(share.max()) < 0.17  # SwAV's 0.05 to 0.14, rounded to pixels


@pytest.mark.parametrize("name", ["views", "local_views"])
def test_what_is_no_augmentation_is_refused_by_the_augmentations_of_views(name):
    with pytest.raises(ValueError, match=r"'flip' must be an Augmentation; the builder in harness\.plugins"):
        ByView(views=(Crop(), "flip")) if name == "views" else MultiCrop(global_views=Crop(), local_views="flip")


def test_pair_points_to_the_builder_when_it_is_given_a_name():
    with pytest.raises(ValueError, match=r"first = 'crop'.*harness\.plugins"):
        Pair()
    with pytest.raises(ValueError, match="second = 3"):
        Pair(first=Flip(), second=3)  # type: ignore[arg-type]


# Hyper-parameters.


@pytest.mark.parametrize(
    ("cls", "mistake"),
    [
        (Crop, {"scale": (0, 1)}),
        (Crop, {"scale": (0.5, 0.2)}),
        (Crop, {"ratio": 1.0}),
        (Crop, {"size": 0}),
        (Crop, {"size": 1.5}),
        (Crop, {"size": True}),
        (Crop, {"interpolation": "cubic"}),
        (CenterCrop, {"interpolation": "nearest"}),
        (CenterCrop, {"keep": 1.5}),
        (PadCrop, {"padding": -1}),
        (Flip, {"probability": 1.1}),
        (Rotate, {"degrees": 200}),
        (ColorJitter, {"hue": 0.6}),
        (ColorJitter, {"saturation": "strong"}),
        (Brightness, {"strength": -0.1}),
        (Contrast, {"strength": math.nan}),
        (Grayscale, {"probability": True}),
        (Blur, {"kernel_size": 4}),
        (Blur, {"sigma": (0.0, 2.0)}),
        (Solarize, {"threshold": 128}),
        (Noise, {"std": -1}),
        (Cutout, {"area": 2}),
        (SimCLR, {"strength": 3}),
        (SimCLR, {"blur": -1}),
        (SimCLR, {"solarize": 2}),
        (SimCLR, {"saturation": -0.1}),
        (SimCLRUAL, {"keep": 0}),
        (SimCLRUAL, {"brightness": 1.5}),
        (SimCLRUAL, {"contrast": -0.5}),
        (Weak, {"padding": 2000}),
        (Strong, {"scale": (0.2, 1.2)}),
    ],
)
def test_impossible_hyper_parameters_are_named(cls, mistake):
    [name] = mistake
    with pytest.raises(ValueError, match=f"{name} = .*must be"):
        cls(**mistake)


def test_blur_wider_than_the_image_is_refused(path):
    with pytest.raises(ValueError, match="kernel_size = 9 must be at most 7 for 4 x 6 images"):
        Blur(kernel_size=9)(torch.zeros(1, 1, 4, 6), view=0, rng=generator())


@pytest.mark.parametrize("name", BUILTINS["augmentations"])
def test_hyper_parameters_are_keyword_only_and_kept(name):
    augmentation = build(name)
    for parameter in list(inspect.signature(type(augmentation)).parameters.values()):
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if name not in NESTED:
            assert getattr(augmentation, parameter.name) == parameter.default

"""RandAugment against torchvision's, image by image and operation by operation."""

import pytest
import torch
from torchvision.transforms import InterpolationMode, autoaugment

from baselines.augmentations.rand_augment import SIGNED, STEPS, UNSIGNED, RandAugment

SHEARS, MOVES = ("ShearX", "ShearY"), ("TranslateX", "TranslateY")
NAMES = (*SHEARS, *MOVES, "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
NAMES += ("Identity", "Posterize", "Solarize", "AutoContrast", "Equalize")


def images(channels, seed=0):
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randint(256, (4, channels, 8, 7), generator=rng).float()
    return torch.nn.functional.interpolate(coarse, (24, 20), mode="bilinear").to(torch.uint8)


def reference(image, name, magnitude, sign):
    values, signed = autoaugment.RandAugment()._augmentation_space(STEPS, tuple(image.shape[1:]))[name]
    value = float(values[magnitude]) if values.ndim else 0.0
    return autoaugment._apply_op(image, name, sign * value if signed else value, InterpolationMode.NEAREST, None)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("magnitude", [0, 9, 30])
@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_each_operation_is_torchvisions(number, magnitude, channels):
    batch, sign = images(channels), -1 if magnitude == 9 and number < len(SIGNED) else 1
    operation = torch.full((len(batch), 1), number)
    share = torch.full((len(batch), 1), sign * magnitude / (STEPS - 1))
    ours = RandAugment().apply(batch / 255, operation, share).mul(255).round()
    expected = torch.stack([reference(image, NAMES[number], magnitude, sign) for image in batch]).float()
    if number < 5:
        assert (ours != expected).float().mean() < 0.01  # a pixel between two others may come from either
    else:
        assert (ours - expected).abs().max() <= 1  # torchvision's first and second version round differently


def test_operations_follow_one_another_and_differ_by_image():
    batch, augmentation = images(3), RandAugment(num_ops=2)
    drawn = augmentation.draw(batch, torch.Generator().manual_seed(3))
    ours = augmentation.apply(batch / 255, **drawn).mul(255).round()
    for image, result, names, shares in zip(batch, ours, drawn["operation"], drawn["share"], strict=True):
        for number, share in zip(names.tolist(), shares.tolist(), strict=True):
            image = reference(image, NAMES[number], 9, 1 if share > 0 else -1)
        assert ((result - image).abs() > 2).float().mean() < 0.01
    assert len(drawn["operation"].unique(dim=0)) > 1


def test_draws_are_even():
    batch = torch.zeros(4000, 1, 2, 2)
    drawn = RandAugment(num_ops=1).draw(batch, torch.Generator().manual_seed(0))
    shares = drawn["operation"].flatten().bincount(minlength=len(NAMES)) / len(batch)
    assert (shares - 1 / len(NAMES)).abs().max() < 0.02
    signs = drawn["share"][drawn["operation"] < len(SIGNED)] > 0
    assert abs(signs.float().mean() - 0.5) < 0.03
    assert drawn["share"].abs().unique().tolist() == pytest.approx([0.3])
    assert (drawn["share"][drawn["operation"] >= len(SIGNED)] > 0).all()


def test_random_magnitudes_are_fixmatchs():
    batch = torch.zeros(4000, 1, 2, 2)
    drawn = RandAugment(num_ops=1, magnitude=None).draw(batch, torch.Generator().manual_seed(0))
    still = (drawn["operation"] == len(SIGNED)).float().mean()
    assert abs(still - (0.5 + 0.5 / len(NAMES))) < 0.03  # half are not done, and of the others some do nothing
    assert len(drawn["share"].abs().unique()) > 5
    every = torch.cat([drawn["operation"], (drawn["share"].abs() * 30).round().long()], dim=1)
    done = every[every[:, 0] != len(SIGNED)].unique(dim=0)
    assert len(done) == len(NAMES) - 1  # one magnitude for each


@pytest.mark.parametrize("wrong", [{"num_ops": 0}, {"magnitude": 31}, {"probability": 1.5}])
def test_impossible_values_are_named(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        RandAugment(**wrong)


def test_there_are_fourteen_operations():
    assert len(SIGNED) + len(UNSIGNED) == len(NAMES) == 14

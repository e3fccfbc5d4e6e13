"""MAE against loops over its authors' code, and what it promises: the encoder sees nothing of what is hidden."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from baselines.backbones.dcnn3 import DCNN3
from baselines.backbones.vit import ViT
from baselines.ssl_methods.mae import MAE, grid_positions, patches_of

SHAPE = (3, 8, 12)  # six patches of 4 pixels


def new(**settings):
    torch.manual_seed(0)
    return MAE(ViT(SHAPE, patch=4, dim=12, depth=2, heads=2), decoder_dim=8, decoder_heads=2, **settings).eval()


def images(number=5, seed=0):
    return torch.randn(number, *SHAPE, generator=torch.Generator().manual_seed(seed))


def test_patches_are_cut_row_by_row():
    picture = torch.arange(3 * 8 * 12.0).reshape(1, *SHAPE)
    expected = [picture[0, :, y : y + 4, x : x + 4].flatten() for y in (0, 4) for x in (0, 4, 8)]
    assert torch.equal(patches_of(picture, (3, 4, 4))[0], torch.stack(expected))


def test_positions_are_those_of_the_authors():
    """`get_2d_sincos_pos_embed` of their util/pos_embed.py, in loops: the first half is of the column."""
    expected = []
    for row in range(2):
        for column in range(3):
            vector = []
            for place in (column, row):
                angles = [place / 10000 ** (k / 4) for k in range(4)]
                vector += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            expected.append(vector)
    np.testing.assert_allclose(grid_positions(2, 3, 16), expected, atol=1e-6)


def test_an_encoder_that_is_shown_all_patches_is_the_encoder():
    vit, batch = new().backbone, images()
    every = torch.arange(6).expand(5, -1)
    assert torch.equal(vit.encode(batch, every)[:, 0], vit(batch))
    turned = vit.encode(batch, every.flip(1))  # tokens carry their places with them
    torch.testing.assert_close(turned[:, 1:].flip(1), vit.encode(batch)[:, 1:], rtol=1e-4, atol=1e-5)


def test_what_is_hidden_is_not_seen():
    method, batch = new(), images()
    shown = torch.tensor([[0], [5], [2], [2], [3]])
    before = method.paint(batch, shown)
    patches = patches_of(batch, (3, 4, 4))
    other = torch.randn(patches.shape).scatter(
        1, shown.unsqueeze(2).expand(-1, -1, 48), patches.gather(1, shown.unsqueeze(2).expand(-1, -1, 48))
    )
    changed = nn.functional.fold(other.transpose(1, 2), SHAPE[1:], 4, stride=4)
    assert not torch.equal(changed, batch)
    torch.testing.assert_close(method.paint(changed, shown), before)
    assert not torch.allclose(method.paint(images(seed=1), shown), before)


@pytest.mark.parametrize("standardize", [False, True])
def test_loss_is_that_of_the_hidden_patches_alone(standardize):
    method, batch = new(standardize=standardize, mask_ratio=0.5), images()
    torch.manual_seed(3)
    ours = method.sample_loss([batch])
    torch.manual_seed(3)
    order = torch.rand(5, 6).argsort(dim=1)
    for i in range(5):
        painted = method.paint(batch[i : i + 1], order[i : i + 1, :3])[0]
        errors = []
        for patch in order[i, 3:].tolist():
            row, column = divmod(patch, 3)
            wanted = batch[i, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten().double()
            if standardize:
                wanted = (wanted - wanted.mean()) / (wanted.var() + 1e-6) ** 0.5
            errors.append(float((painted[patch].detach().double() - wanted).square().mean()))
        assert ours[i].item() == pytest.approx(np.mean(errors), rel=1e-4)


@pytest.mark.parametrize(("ratio", "num_shown"), [(0.01, 5), (0.5, 3), (0.75, 1), (0.99, 1)])
def test_every_image_hides_its_own_share(ratio, num_shown):
    shown, hidden = new(mask_ratio=ratio).draw(500, 6, torch.device("cpu"))
    assert shown.shape == (500, num_shown)
    assert torch.equal(torch.cat([shown, hidden], 1).sort(1).values, torch.arange(6).expand(500, -1))
    counts = torch.bincount(shown.flatten(), minlength=6).double()
    expected = 500 * num_shown / 6
    assert float(((counts - expected) ** 2 / expected).sum()) < 20.5  # the 0.999 quantile with 5 degrees of freedom


@pytest.mark.parametrize(("shape", "patch"), [((1, 4, 4), 1), ((3, 4, 4), 1), ((1, 4, 4), 2)])
@pytest.mark.parametrize("standardize", [True, False])
def test_the_loss_of_the_smallest_patches_is_a_number_or_refused(shape, patch, standardize):
    encoder = ViT(shape, patch=patch, dim=12, depth=1, heads=2)
    if standardize and shape[0] * patch**2 == 1:
        with pytest.raises(
            ValueError, match="a patch is one number, which cannot be standardised; use standardize = false"
        ):
            MAE(encoder, decoder_dim=8, decoder_heads=2)
        return
    method = MAE(encoder, decoder_dim=8, decoder_heads=2, standardize=standardize)
    assert method.loss([torch.randn(3, *shape)])["loss"].isfinite()


def test_what_cannot_be_masked_is_refused():
    with pytest.raises(ValueError, match="which DCNN3 does not encode one by one; use vit"):
        MAE(DCNN3((3, 32, 32)))
    whole = MAE(ViT((3, 8, 8), patch=8, dim=12, heads=2))
    with pytest.raises(ValueError, match="the image is one patch"):
        whole.loss([torch.zeros(2, 3, 8, 8)])
    for setting, message in (
        ({"mask_ratio": 1.0}, "mask_ratio = 1.0 is not in"),
        ({"decoder_dim": 10}, "decoder_dim = 10 is no multiple of 4"),
        ({"decoder_dim": 16, "decoder_heads": 3}, "decoder_dim = 16 is no multiple of decoder_heads = 3"),
        ({"decoder_depth": 0}, "decoder_depth = 0 is not >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            MAE(ViT((3, 8, 8), dim=12, heads=2), **setting)

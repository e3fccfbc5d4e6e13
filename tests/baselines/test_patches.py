"""Random whitened patches against their definition, patch by patch, and in a trial."""

import math

import pytest
import torch
from trials import configure, rounds_of

from baselines.backbones.patches import Patches
from harness.api import Images
from harness.config.schema import ConfigError

EPSILON, CONTRAST, ALPHA = 0.1, 0.01, 0.3
STORE = torch.randint(256, (60, 2, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def shown(images):
    return images.float() / 100 - 1


def fitted(seed=0):
    """On images that are one patch each, so that the patches that were drawn are known: all of them, once."""
    torch.manual_seed(seed)
    about = {"num_patches": 20, "size": 3, "threshold": ALPHA, "epsilon": EPSILON, "contrast": CONTRAST}
    backbone = Patches((2, 3, 3), stride=1, num_samples=len(STORE), grid=1, **about)
    backbone.fit(Images(STORE), shown)
    return backbone.eval()


def whitened():
    """f64 [60, 18]: z of each image, by Coates, Lee & Ng 2011, section 3.1."""
    patches = torch.stack(
        [(x - x.mean()) / math.sqrt(x.var(correction=0) + CONTRAST) for x in shown(STORE).double().flatten(1)]
    )
    values, directions = torch.linalg.eigh(torch.cov(patches.T))
    zca = directions @ torch.diag(1 / torch.sqrt(values + EPSILON)) @ directions.T
    return torch.stack([zca @ (patch - patches.mean(0)) for patch in patches])


def test_features_are_what_the_paper_writes():
    features = fitted()(shown(STORE)).double()
    z = whitened()
    every = torch.stack([torch.clamp(z @ (one / one.norm()) - ALPHA, min=0) for one in z], dim=1)
    distance = torch.cdist(features.T, every.T)
    assert distance.min(dim=1).values.max() < 1e-4  # each filter is one of the patches
    assert len(distance.argmin(dim=1).unique()) > 10
    assert (features > 0).any(dim=0).all()


@pytest.mark.parametrize(("stride", "grid", "side"), [(1, 2, 9), (2, 2, 9), (1, 3, 8), (1, 1, 4)])
def test_maps_are_averaged_over_the_cells_of_a_grid(stride, grid, side):
    one, whole = fitted(), Patches((2, side, side), num_patches=20, size=3, stride=stride, grid=grid, contrast=CONTRAST)
    whole.load_state_dict(one.state_dict())
    images = torch.randn(5, 2, side, side, generator=torch.Generator().manual_seed(1))
    places = range(0, side - 2, stride)
    maps = torch.stack([torch.stack([one(images[:, :, r : r + 3, c : c + 3]) for c in places]) for r in places])
    count = len(places)
    cells = [slice(cell * count // grid, -(-(cell + 1) * count // grid)) for cell in range(grid)]
    expected = torch.stack([maps[rows, columns].mean((0, 1)) for rows in cells for columns in cells], dim=2)
    torch.testing.assert_close(whole(images), expected.flatten(1), rtol=1e-4, atol=1e-5)


def test_many_images_are_encoded_in_parts_and_alike():
    backbone = Patches((3, 32, 32), num_patches=100)
    images = torch.randn(40, 3, 32, 32)
    with torch.no_grad():
        together = backbone(images)
        assert torch.allclose(together[17:18], backbone(images[17:18]), atol=1e-6)


def test_the_same_seed_draws_the_same_patches():
    assert torch.equal(fitted().filters.weight, fitted().filters.weight)
    assert not torch.equal(fitted().filters.weight, fitted(1).filters.weight)


@pytest.mark.parametrize("wrong", [{"epsilon": 0.0}, {"size": 1}, {"grid": 0}, {"threshold": -1.0}])
def test_impossible_values_are_named(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        Patches((3, 32, 32), **wrong)


def test_patches_larger_than_the_image_are_refused():
    with pytest.raises(ValueError, match="6x6 pixels are larger than images of 5x8"):
        Patches((1, 5, 8))


# --- in a trial ---

SETTINGS = {
    "backbone": {"name": "patches", "size": 3, "num_patches": 30, "num_samples": 2000},
    "ssl_method": "none",
    "labels": {"start": 60},
    "classifier": "ridge",
}


def test_a_trial_fits_them_once_and_counts_the_time(fresh):
    bench = fresh()
    rows, first = bench.run(configure(**SETTINGS))
    assert first["time/pretrain_seconds"] > 0
    assert first["stage/pretrain_cached"] == 0
    again, second = bench.run(configure(**SETTINGS, classifier__name="logistic"))
    assert second["stage/pretrain_cached"] == 1
    assert second["time/pretrain_seconds"] == first["time/pretrain_seconds"]
    assert rounds_of(again)[0][3].stages["pretrain"] == rounds_of(rows)[0][3].stages["pretrain"]
    assert rounds_of(rows)[0][2]["val/accuracy"] > 0.7  # digits; chance is 0.1
    _, other = bench.run(configure(**SETTINGS, data__fraction=0.2))
    assert other["stage/pretrain_cached"] == 0  # other images, other patches


def test_they_choose_for_a_network_that_learns_from_scratch(fresh):
    chooser = {"backbone": SETTINGS["backbone"], "ssl_method": "none"}
    tuned = {"ssl_method": "none", "classifier": {"name": "finetune", "epochs": 1}}
    _, totals = fresh().run(configure(**tuned, selection=chooser, selector="typiclust"))
    assert totals["time/selection_encoder_seconds"] > 0


@pytest.mark.parametrize("method", ["simclr", "byol"])
def test_nothing_trains_them(method):
    with pytest.raises(ConfigError, match="patches is fitted to the pool and needs no training; use none"):
        configure(**{**SETTINGS, "ssl_method": method})

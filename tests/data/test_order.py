"""A position must mean nothing: not of a label, not of a score, and not of images that nobody may look at."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from trials import configure, results

from harness.api import Dataset, Images, Source, Split
from harness.data import splits
from harness.data.splits import Splitting, open_data
from harness.plugins import registry

CLASSES, EACH = 4, 100


def picture(label: int, number: int) -> np.ndarray:
    """u8 [8, 8, 3]: one of a kind, and of a brightness by its class."""
    rng = np.random.default_rng([label, number])
    return (rng.integers(0, 60, (8, 8, 3)) + 50 * label).astype(np.uint8)


def folder(path, split):
    """Images in a folder for each class, as people keep them."""
    for label in range(CLASSES):
        (path / split / f"class{label}").mkdir(parents=True)
        for number in range(EACH):
            Image.fromarray(picture(label, number)).save(path / split / f"class{label}" / f"{number:03}.png")


def archive(path):
    """The same in one file, sorted by class."""
    pixels = np.stack([picture(label, number) for label in range(CLASSES) for number in range(EACH)])
    labels = np.repeat(np.arange(CLASSES), EACH)
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Data sets that hold their images class by class, and the one that is embedded."""
    path = tmp_path_factory.mktemp("sorted")
    for split in ("train", "val", "test"):
        folder(path / "own", split)
    folder(path, "carved")
    archive(path / "images.npz")
    specs = {
        "folder with all splits": {"name": "image_folder", "path": str(path / "own"), "size": 8},
        "folder without": {"name": "image_folder", "path": str(path / "carved"), "size": 8},
        "npz": {"name": "npz", "path": str(path / "images.npz")},
        "digits": {"name": "digits"},
    }
    return {name: registry.build(registry.as_spec("datasets", spec)) for name, spec in specs.items()}


def keys(images: Images) -> set[bytes]:
    return {image.numpy().tobytes() for image in images[torch.arange(len(images))]}


def agreement(labels: Tensor, known: int, rng: torch.Generator) -> float:
    """How often the nearest of `known` labels by position is right, over the others."""
    bought = torch.randperm(len(labels), generator=rng)[:known]
    others = torch.ones(len(labels), dtype=torch.bool)
    others[bought] = False
    positions = others.nonzero().flatten()
    nearest = bought[(positions[:, None] - bought).abs().argmin(1)]
    return float((labels[nearest] == labels[positions]).double().mean())


@pytest.mark.parametrize("name", ["folder with all splits", "folder without", "npz", "digits"])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_the_nearest_label_by_position_is_right_by_chance_alone(tmp_path, sources, name, fraction):
    splitting = Splitting(fraction=fraction, val=None if name == "folder with all splits" else 0.2)
    data, oracle = open_data(sources[name], name, splitting, cache=tmp_path, with_test=True, device="cpu")
    pool = oracle.with_budget(len(oracle)).reveal(torch.arange(len(oracle)))
    assert data.test_labels is not None
    rng = torch.Generator().manual_seed(0)
    for labels in (pool, data.val_labels, data.test_labels):
        chance = float((torch.bincount(labels).double() / len(labels)).square().sum())
        share = np.mean([agreement(labels, max(5, len(labels) // 10), rng) for _ in range(20)])
        deviation = math.sqrt(chance * (1 - chance) / len(labels))
        assert share == pytest.approx(chance, abs=4 * deviation), name


def test_evenly_spaced_positions_are_no_stratified_sample(tmp_path, sources):
    _, oracle = open_data(
        sources["npz"], "npz", Splitting(val=0.2), cache=tmp_path, with_test=False, device="cpu"
    )  # sorted by class, every eighth would be of each class equally often
    labels = oracle.with_budget(len(oracle)).reveal(torch.arange(0, len(oracle), 8))
    assert torch.bincount(labels, minlength=CLASSES).unique().numel() > 1


def test_another_order_is_another_fingerprint(tmp_path, sources, monkeypatch):
    def opened(folder):
        cache = tmp_path / folder
        return open_data(sources["digits"], "digits", Splitting(), cache=cache, with_test=False, device="cpu")[0]

    first, again = opened("one"), opened("two")
    monkeypatch.setattr(splits, "in_random_order", lambda rows, *_: rows)
    other = opened("three")
    everything = torch.arange(len(first.pool))
    assert torch.equal(first.pool[everything], again.pool[everything])
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert keys(first.pool) == keys(other.pool)


class Stand(Dataset):
    """Digits as arrays, whose test images may be exchanged."""

    pixels = torch.empty(0)
    labels = torch.empty(0)
    val: tuple[Tensor, Tensor] | None = None
    test: tuple[Tensor, Tensor] | None = None
    version = 0

    def identity(self):
        return f"{self.version} {len(self.pixels)}"

    def open(self):
        parts = {"train": (self.pixels, self.labels), "val": self.val, "test": self.test}
        splits = {
            name: Split(len(images), lambda start, stop, images=images: images[start:stop], labels)
            for name, (images, labels) in ((name, part) for name, part in parts.items() if part)
        }
        return Source(tuple(self.pixels.shape[1:]), tuple("0123456789"), splits)


def noise_like(images: Tensor) -> Tensor:
    return torch.randint(256, images.shape, generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@pytest.mark.parametrize("own", [True, False], ids=["own validation and test images", "carved ones"])
def test_nothing_but_test_figures_depends_on_the_test_images(tmp_path, monkeypatch, fresh, own):
    source = registry.build(registry.as_spec("datasets", "digits")).open().splits["train"]
    pixels, labels = source.read(0, source.num_images), source.labels.long()
    monkeypatch.setattr(Stand, "labels", labels[500:] if own else labels)
    monkeypatch.setattr(Stand, "pixels", pixels[500:] if own else pixels)
    monkeypatch.setattr(Stand, "val", (pixels[300:500], labels[300:500]) if own else None)
    monkeypatch.setattr(Stand, "test", (pixels[:300], labels[:300]) if own else None)
    parts = {"fraction": 0.2} | ({} if own else {"val": 0.2})
    config = configure(
        dataset="test_order:Stand", data=parts, selector="low_ssl_loss", labels__rounds=1, pretrain__epochs=1
    )
    honest, _ = fresh().run(config, with_test=True)
    if own:
        monkeypatch.setattr(Stand, "test", (noise_like(pixels[:300]), labels[:300]))
    else:
        splitting = Splitting(**parts)
        data, _ = open_data(Stand(), "stand", splitting, cache=tmp_path, with_test=True, device="cpu")
        shown = data.test[torch.arange(len(data.test))].flatten(1)
        is_test = (pixels.flatten(1)[:, None] == shown).all(2).any(1)
        monkeypatch.setattr(Stand, "pixels", torch.where(is_test[:, None, None, None], noise_like(pixels), pixels))
    monkeypatch.setattr(Stand, "version", 1)
    other, _ = fresh().run(config, with_test=True)

    def without_test(rows):
        return [
            (
                kind,
                step,
                {name: value for name, value in metrics.items() if not name.startswith("test/")},
                details.selected,
            )
            for kind, step, metrics, details in results(rows)
        ]

    assert without_test(honest) == without_test(other)
    assert honest[-1][2]["test/accuracy"] != other[-1][2]["test/accuracy"]

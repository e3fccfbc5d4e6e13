"""The checks of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.api import SOURCE_SPLITS, Dataset, Source, Split
from harness.data.source import check_types
from harness.data.splits import Splitting, open_data
from harness.seeding import generator
from harness.testing.common import Check, Factory, global_seed, run_checks, when


def check_dataset(plugin: Factory, *, exempt: Mapping[str, str] | None = None) -> None:
    """Checks a data set: what it says about itself and what it reads. Opens it, so its files must be there.

    Every image is read several times: of a large data set a small copy of its format will do.

    Args:
        plugin: the class, or a function of no arguments.
        exempt: name of a check -> why it cannot hold. A check that passes although exempted is an error.

    Raises:
        AssertionError: a promise is broken; names the plugin and the check.
    """
    run_checks("datasets", plugin, DATASET_CHECKS, exempt)


def identity_is_stable(plugin: Factory) -> None:
    """`identity` is a text, the same on every call and for every instance."""
    dataset = plugin()
    identity = dataset.identity()
    assert isinstance(identity, str) and identity, f"identity() is {identity!r}, not a text"
    assert dataset.identity() == identity, "identity() changes from one call to the next"
    assert plugin().identity() == identity, "two instances of equal hyper-parameters have different identities"


def source_is_complete(plugin: Factory) -> None:
    """A labelled `train` split, distinct class names, labels i64 in 0 .. K-1; or `train` alone, without labels.

    Shape and dtype are those of images, or of features where it `gives_features`.
    """
    dataset = plugin()
    source = dataset.open()
    check_types(source)
    of_images = len(source.image_shape) == 3 and source.image_shape[0] in (1, 3) and source.dtype == torch.uint8
    of_features = len(source.image_shape) == 1 and source.dtype in (torch.float16, torch.float32)
    about = f"image_shape is {source.image_shape}, dtype {source.dtype}, gives_features {dataset.gives_features}"
    assert of_features if dataset.gives_features else of_images, about
    for name, split in source.splits.items():
        with when(f"split {name!r}"):
            assert split.num_images > 0, "it has no images"
    names = source.class_names
    if not dataset.has_labels:
        assert not names, f"has_labels is false, and there are class_names: {names}"
        assert list(source.splits) == ["train"], f"has_labels is false, and the splits are {sorted(source.splits)}"
        assert source.splits["train"].labels is None, "has_labels is false, and 'train' has labels"
        return
    assert len(names) >= 2 and len(set(names)) == len(names), f"class_names are not two or more distinct names: {names}"
    assert "train" in source.splits, f"there is no split 'train' among {sorted(source.splits)}"
    for name, split in source.splits.items():
        with when(f"split {name!r}"):
            assert name in SOURCE_SPLITS, f"a split is one of {', '.join(SOURCE_SPLITS)}"
            if split.labels is None:
                assert name == "unlabeled", "it has no labels"
                continue
            assert split.labels.dtype == torch.int64, f"labels are {split.labels.dtype}, not torch.int64"
            assert split.labels.shape == (split.num_images,), (
                f"labels have shape {tuple(split.labels.shape)} for {split.num_images} images"
            )
            low, high = int(split.labels.min()), int(split.labels.max())
            assert low >= 0 and high < len(names), f"labels reach from {low} to {high} with {len(names)} class names"


NUM_OPENINGS = 5
"""Beside the first: of two classes in an order by chance all find the same one once in 32 times."""


def opened_anew_it_says_the_same(plugin: Factory) -> None:
    """Every opening gives the same classes, and splits of the same labels, files and names."""
    first = _told(plugin().open())
    for seed in range(NUM_OPENINGS):
        with global_seed(seed):
            again = _told(plugin().open())
        for what in first | again:
            assert first.get(what) == again.get(what), f"opened anew, it has other {what}"


def _told(source: Source) -> dict[str, Any]:
    """What a source says of its images: what it is called in messages -> plain values."""
    told: dict[str, Any] = {"class_names": list(source.class_names), "splits": sorted(source.splits)}
    for name, split in source.splits.items():
        told[f"labels of {name!r}"] = None if split.labels is None else split.labels.tolist()
        told[f"files of {name!r}"] = None if split.files is None else list(split.files)
        told[f"names of {name!r}"] = None if split.names is None else list(split.names)
    return told


def _pieces(split: Split, size: int = 5) -> list[tuple[int, int]]:
    """(start, stop) of the pieces that it is read in, the last of which is shorter."""
    last = split.num_images - min(3, split.num_images)
    return [*((start, min(start + size, last)) for start in range(0, last, size)), (last, split.num_images)]


def pieces_have_the_promised_shape(plugin: Factory) -> None:
    """`read(start, stop)` is u8 [stop - start, C, H, W], and the images of a piece do not depend on its borders.

    Of features it is [stop - start, D] of the source's dtype, all of them finite.
    """
    source = plugin().open()
    for name, split in source.splits.items():
        with when(f"split {name!r}"):
            for start, stop in _pieces(split):
                images = _read(source, split, start, stop)
                alone = torch.cat([_read(source, split, index, index + 1) for index in range(start, stop)])
                assert torch.equal(images, alone), f"read({start}, {stop}) differs from reading one image at a time"


def _read(source: Source, split: Split, start: int, stop: int) -> Tensor:
    """A piece, after checking that it is what the source promises."""
    images = split.read(start, stop)
    assert images.dtype == source.dtype, f"read({start}, {stop}) gives {images.dtype}, not {source.dtype}"
    assert not source.dtype.is_floating_point or images.isfinite().all(), "features are not finite"
    assert images.shape == (stop - start, *source.image_shape), (
        f"read({start}, {stop}) has shape {tuple(images.shape)}, image_shape is {source.image_shape}"
    )
    return images


NUM_THREADS = 8


def threads_read_the_same(plugin: Factory) -> None:
    """Several threads that read at once, and a source opened anew, get what one thread got."""
    source, again = plugin().open(), plugin().open()
    for name, split in source.splits.items():
        pieces, read = _pieces(split), again.splits[name].read
        with when(f"split {name!r}"), ThreadPoolExecutor(NUM_THREADS) as threads:
            for first in range(0, len(pieces), NUM_THREADS):  # some at a time: not all images need fit into memory
                some = pieces[first : first + NUM_THREADS]
                in_turn = [split.read(*piece) for piece in some] * 4
                at_once = threads.map(read, *zip(*some * 4, strict=True))
                assert all(map(torch.equal, in_turn, at_once)), "threads that read at once get other images"


class _LabelsOf(Dataset):
    """The labels of a source, and one black pixel for each image."""

    def __init__(self, source: Source):
        self.source = source

    def identity(self) -> str:
        return "labels"

    def open(self) -> Source:
        def read(start: int, stop: int) -> Tensor:
            return torch.zeros(stop - start, 1, 1, 1, dtype=torch.uint8)

        parts = {name: Split(split.num_images, read, split.labels) for name, split in self.source.splits.items()}
        return Source((1, 1, 1), self.source.class_names, parts)


def positions_predict_no_label(plugin: Factory) -> None:
    """The harness can split it, and of no part the nearest image by position names the class better than chance.

    Nor worse, as it would where classes alternate. Images are not decoded for this; without labels there is nothing to
    predict.
    """
    dataset = plugin()
    if not dataset.has_labels:
        return
    source = dataset.open()
    least, total = len(source.class_names), source.splits["train"].num_images
    splitting = Splitting(
        val=None if "val" in source.splits else max(least, total // 10),
        test=None if "test" in source.splits else max(0.2, least / total),
    )
    with TemporaryDirectory() as folder:
        cache, labels_of = Path(folder), _LabelsOf(source)
        data, oracle = open_data(labels_of, "labels", splitting, cache=cache, with_test=True, device="cpu")
        pool = oracle.with_budget(len(oracle)).reveal(torch.arange(len(oracle)))
        for part, labels in (("pool", pool), ("validation", data.val_labels), ("test", data.test_labels)):
            assert labels is not None
            rng = generator(0, part)
            by_chance = [_neighbours_alike(labels[torch.randperm(len(labels), generator=rng)]) for _ in range(100)]
            share, mean, deviation = _neighbours_alike(labels), np.mean(by_chance), np.std(by_chance)
            assert abs(share - mean) <= 5 * deviation, (
                f"of the {part} images {share:.1%} have the class of the one before them, by chance {mean:.1%} would"
            )


def _neighbours_alike(labels: Tensor) -> float:
    return float((labels[1:] == labels[:-1]).double().mean())


DATASET_CHECKS: tuple[Check, ...] = (
    identity_is_stable,
    source_is_complete,
    opened_anew_it_says_the_same,
    pieces_have_the_promised_shape,
    threads_read_the_same,
    positions_predict_no_label,
)

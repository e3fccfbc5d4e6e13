"""Every check of a data set is tried on data sets that break one promise."""

import itertools
import random
import time
from dataclasses import replace

import pytest
import torch
from good_plugins import GoodDataset, assert_found, broken, checks_of

from harness.api import Source, Split
from harness.testing.datasets import check_dataset


class GoodFeatures(GoodDataset):
    """Vectors in place of images."""

    gives_features = True

    def read(self, start, stop):
        return torch.arange(start, stop)[:, None] * torch.ones(5, dtype=torch.float16)

    def open(self):
        return Source((5,), self.class_names, {"train": self.train()}, torch.float16)


@pytest.mark.parametrize("plugin", [GoodDataset, GoodFeatures])
def test_a_plugin_that_keeps_every_promise_passes(plugin):
    check_dataset(plugin)


def _opened(**changes):
    """A data set whose train split differs."""

    def train(self):
        fields = {"num_images": 12, "read": self.read, "labels": torch.arange(12) % 2}
        return Split(**(fields | changes))

    return broken(GoodDataset, train=train)


def _told(**changes):
    """A data set that says something else of itself."""
    return broken(GoodDataset, open=lambda self: replace(GoodDataset().open(), **changes))


class SharedCursor(GoodDataset):
    """Two threads move one cursor."""

    def read(self, start, stop):
        self.start, self.stop = start, stop
        time.sleep(0.001)
        return super().read(self.start, self.stop)


_ids = itertools.count()


class ShuffledClasses(GoodDataset):
    """Names its classes in another order each time."""

    def open(self):
        names = random.sample(self.class_names, 2)
        return Source(self.image_shape, tuple(names), {"train": self.train()})


def _sixty(**changes):
    """A data set of sixty images whose train split differs, by functions that are called at each opening."""

    def train(self):
        fields = {"read": self.read, "labels": torch.arange(60) // 7 % 2}
        return Split(60, **(fields | {name: change() for name, change in changes.items()}))

    return broken(GoodDataset, train=train)


def _floats_alone(start, stop):
    images = GoodDataset().read(start, stop)
    return images.float() if (start, stop) == (47, 48) else images


def _one_image_of_many_changes():
    number = next(_ids) % 256

    def read(start, stop):
        images = GoodDataset().read(start, stop)
        if start <= 50 < stop:
            images[50 - start] = number
        return images

    return read


BROKEN = [
    ("identity_is_stable", broken(GoodDataset, identity=lambda self: 7), "is 7, not a text"),
    ("identity_is_stable", broken(GoodDataset, identity=lambda self: str(next(_ids))), "from one call to the next"),
    ("identity_is_stable", broken(GoodDataset, identity=lambda self: str(id(self))), "two instances"),
    ("source_is_complete", broken(GoodDataset, open=lambda self: {"train": self.train()}), "returned dict"),
    ("source_is_complete", broken(GoodDataset, image_shape=(8, 8)), "image_shape is (8, 8)"),
    ("source_is_complete", broken(GoodDataset, gives_features=True), "gives_features True"),
    ("source_is_complete", broken(GoodFeatures, gives_features=False), "gives_features False"),
    ("source_is_complete", _opened(files=["a.png"]), "files of split 'train' are not as many"),
    ("source_is_complete", _opened(names=["a.png"]), "names of split 'train' are not as many"),
    ("source_is_complete", _opened(labels=[0, 1] * 6), "labels of split 'train' is of type list, not Tensor"),
    ("source_is_complete", broken(GoodDataset, class_names=(0, 1)), "one of class_names is of type int, not str"),
    ("source_is_complete", _told(notes="hello"), "notes is 'hello', not a tuple"),
    ("source_is_complete", _told(tally={"skiped": 3}), "tally has 'skiped'; did you mean 'skipped'?"),
    ("source_is_complete", broken(GoodDataset, class_names=("cat", "cat")), "distinct names"),
    (
        "source_is_complete",
        broken(GoodDataset, open=lambda self: Source((3, 8, 8), self.class_names, {"test": self.train()})),
        "no split 'train' among ['test']",
    ),
    (
        "source_is_complete",
        broken(
            GoodDataset,
            open=lambda self: Source((3, 8, 8), self.class_names, {"train": self.train(), "dev": self.train()}),
        ),
        "split 'dev': a split is one of train, val, test, unlabeled",
    ),
    ("source_is_complete", _opened(num_images=0, labels=torch.arange(0)), "has no images"),
    ("source_is_complete", _opened(labels=None), "has no labels"),
    ("source_is_complete", _opened(labels=(torch.arange(12) % 2).int()), "torch.int32"),
    ("source_is_complete", _opened(labels=torch.arange(11) % 2), "(11,) for 12 images"),
    ("source_is_complete", _opened(labels=torch.arange(12)), "reach from 0 to 11"),
    ("opened_anew_it_says_the_same", ShuffledClasses, "opened anew, it has other class_names"),
    (
        "opened_anew_it_says_the_same",
        _sixty(labels=lambda: torch.randint(2, (60,))),
        "opened anew, it has other labels of 'train'",
    ),
    (
        "opened_anew_it_says_the_same",
        _sixty(names=lambda: [str(next(_ids)) for _ in range(60)]),
        "opened anew, it has other names of 'train'",
    ),
    (
        "opened_anew_it_says_the_same",
        _sixty(files=lambda: [f"{next(_ids)}.png" for _ in range(60)]),
        "opened anew, it has other files of 'train'",
    ),
    (
        "pieces_have_the_promised_shape",
        _sixty(read=lambda: _floats_alone),
        "split 'train': read(47, 48) gives torch.float32, not torch.uint8",
    ),
    (
        "pieces_have_the_promised_shape",
        _opened(read=lambda start, stop: torch.zeros(stop - start, 3, 8, 8)),
        "torch.float32",
    ),
    (
        "pieces_have_the_promised_shape",
        broken(GoodDataset, image_shape=(1, 8, 8)),
        "image_shape is (1, 8, 8)",
    ),
    (
        "pieces_have_the_promised_shape",
        _opened(read=lambda start, stop: GoodDataset().read(0, stop - start)),
        "differs from reading one image at a time",
    ),
    (
        "pieces_have_the_promised_shape",
        broken(GoodFeatures, read=lambda self, start, stop: torch.full((stop - start, 5), torch.nan).half()),
        "features are not finite",
    ),
    ("threads_read_the_same", SharedCursor, "threads that read at once"),
    ("threads_read_the_same", _sixty(read=_one_image_of_many_changes), "threads that read at once"),
    (
        "positions_predict_no_label",
        _opened(labels=(torch.arange(12) == 5).long()),
        "raised ValueError: data: too few training images in 1 class",
    ),
]


@pytest.mark.parametrize(("name", "plugin", "words"), BROKEN)
def test_a_broken_promise_is_found(name, plugin, words):
    assert_found("datasets", name, plugin, words)


def test_every_check_is_tried_on_a_broken_plugin():
    assert {name for name, *_ in BROKEN} >= set(checks_of("datasets"))
